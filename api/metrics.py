"""Prometheus figures, counted in Postgres at every scrape: the truth, the same from every process."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from core import fleet
from core.db import read
from core.domain import AnalysisStatus, Lane, Stage, StepStatus
from core.models import Analysis, Step
from core.outbox import step_lane
from core.queue import names_of
from core.webhooks import outbox
from core.webhooks.domain import OPEN


def exposition() -> bytes:
    """The text format. Raises SQLAlchemy's errors when the database is away."""
    registry = CollectorRegistry(auto_describe=False)
    with read() as session:
        registry.register(_Truth(session))
        return generate_latest(registry)


class _Truth(Collector):
    """One scrape: every figure in the same transaction, so that they agree."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def describe(self) -> Iterable[Metric]:
        """Nothing beforehand: registering must not query."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The figures."""
        yield self._analyses()
        yield self._steps()
        yield self._owed()
        yield self._leases()
        yield self._workers()
        yield from self._webhooks()

    def _analyses(self) -> Metric:
        rows = self._session.execute(select(Analysis.status, func.count()).group_by(Analysis.status))
        counts = {status: count for status, count in rows}  # noqa: C416 - dict() of a Result reads it as a mapping
        gauge = GaugeMetricFamily("deepdefend_analyses", "Analyses by status.", labels=["status"])
        for status in AnalysisStatus:
            gauge.add_metric([status.value], counts.get(status.value, 0))
        return gauge

    def _steps(self) -> Metric:
        query = select(Step.stage, Step.status, func.count()).group_by(Step.stage, Step.status)
        counts = {(stage, status): count for stage, status, count in self._session.execute(query)}
        gauge = GaugeMetricFamily(
            "deepdefend_steps", "Steps by stage and status.", labels=["stage", "status"]
        )
        for stage in Stage:
            for status in StepStatus:
                gauge.add_metric([stage.value, status.value], counts.get((stage.value, status.value), 0))
        return gauge

    def _owed(self) -> Metric:
        """The age of the oldest step that waits: what grows when a queue has no worker."""
        age = func.extract("epoch", func.now() - func.min(Step.created_at))
        query = (
            select(Step.stage, step_lane(), age)
            .join(Analysis, Analysis.id == Step.analysis_id)
            .where(Step.status == StepStatus.PENDING.value)
            .group_by(Step.stage, step_lane())
        )
        ages = {(stage, lane): seconds for stage, lane, seconds in self._session.execute(query)}
        gauge = GaugeMetricFamily(
            "deepdefend_oldest_owed_step_seconds",
            "Age of the oldest pending step; 0 without one.",
            labels=["stage", "lane"],
        )
        for stage in Stage:
            for lane in Lane:
                gauge.add_metric([stage.value, lane.value], float(ages.get((stage.value, lane.value), 0)))
        return gauge

    def _leases(self) -> Metric:
        query = select(func.count()).where(
            Step.status == StepStatus.RUNNING.value, Step.lease_expires < func.now()
        )
        return GaugeMetricFamily(
            "deepdefend_expired_leases", "Steps whose worker has gone silent.", self._session.scalar(query)
        )

    def _webhooks(self) -> Iterator[Metric]:
        """What is not told yet; the age counts from when it could have been sent, not from a failed try."""
        counts, oldest = outbox.backlog(self._session)
        gauge = GaugeMetricFamily(
            "deepdefend_webhook_backlog", "Deliveries that have not ended, by status.", labels=["status"]
        )
        for status in OPEN:
            gauge.add_metric([status.value], counts[status])
        yield gauge
        yield GaugeMetricFamily(
            "deepdefend_webhook_oldest_due_seconds",
            "How long the oldest due delivery waits; 0 without one.",
            oldest,
        )

    def _workers(self) -> Metric:
        processes = fleet.live(self._session)
        gauge = GaugeMetricFamily("deepdefend_workers", "Live worker processes by queue.", labels=["queue"])
        for name in names_of():
            gauge.add_metric([name], sum(name in process.queues for process in processes))
        return gauge
