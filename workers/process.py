"""What one worker process is: its boot id, its heart, its detectors. Started by Celery's signals.

Prefork children (extraction, video, audio) start here after the spawn, so nothing is inherited;
the thread pool of fusion has no children and starts in the worker itself.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import signal
from functools import lru_cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from billiard.process import active_children
from celery.signals import (
    celeryd_after_setup,
    worker_process_init,
    worker_process_shutdown,
    worker_ready,
    worker_shutdown,
    worker_shutting_down,
)

from core import fleet, logging
from core.config import settings
from core.db import transaction
from core.domain import Modality
from core.errors import DetectorUnavailable
from core.queue import Queue, parse
from workers import workspace
from workers.heart import Heart

if TYPE_CHECKING:
    from workers.detectors.base import Detector
    from workers.detectors.blend_trace import BlendTrace

log = logging.get(__name__)
#: Set by the parent before it spawns, so that a child knows what it serves.
QUEUES_VARIABLE = "DEEPDEFEND_WORKER_QUEUES"
PR_SET_PDEATHSIG = 1  # prctl(2)
#: From the worker to its children: hand back what you hold. Ignored by one that is still starting.
LET_GO = signal.SIGURG
MODALITY_OF_QUEUE = {Queue.VIDEO: Modality.VIDEO, Queue.AUDIO: Modality.AUDIO}
#: Kinds of work that open files: extraction, and video for variants.
DECODING = frozenset({Queue.EXTRACTION, Queue.VIDEO})


class WorkerState:
    """The state of this process: who it is and what it has loaded."""

    def __init__(self) -> None:
        self.boot_id = secrets.token_hex(8)  # random per start: a restart under the same name is another
        self.queues = os.environ.get(QUEUES_VARIABLE, "").split()
        self.heart = Heart(self.boot_id, settings().steps, announce=self.announce)
        self._loaded: dict[Modality, Detector[Any]] = {}
        self._trace: BlendTrace | None = None

    def start(self) -> None:
        """Load what can be loaded, then beat, whatever went wrong: the first beat announces the process.

        Celery gives work also to a child that failed here, and without a heart it would lose all of it.
        """
        try:
            workspace.sweep()
            for modality in self.modalities():
                self._try_to_load(modality)
            if Modality.VIDEO in self.modalities():
                self.trace()
        finally:
            self.heart.start()

    def _try_to_load(self, modality: Modality) -> None:
        try:
            self.detector(modality)
        except DetectorUnavailable as error:
            log.warning(error.detail, action="no_detector", code=error.code, modality=modality.value)

    def modalities(self) -> list[Modality]:
        """What this process must be able to score."""
        return [modality for queue, modality in MODALITY_OF_QUEUE.items() if queue in self.kinds()]

    def kinds(self) -> set[Queue]:
        """The kinds of work this process does, in whichever lanes."""
        return {parse(name)[0] for name in self.queues}

    def detector(self, modality: Modality) -> Detector[Any]:
        """The loaded detector. Looks again when there was none: weights may have been pulled since.

        Raises DetectorUnavailable.
        """
        if modality not in self._loaded:
            from workers.detectors import registry  # noqa: PLC0415 - torch only where it is needed

            self._loaded[modality] = registry.load(
                modality, settings().models, allow_test=settings().allow_test_detectors
            )
            if self.heart.is_alive():
                self.announce()
        return self._loaded[modality]

    def trace(self) -> BlendTrace | None:
        """The manipulation-trace detector; None where it is switched off or its files are damaged."""
        from workers.detectors import blend_trace  # noqa: PLC0415 - torch only where it is needed

        if self._trace is None:
            try:
                self._trace = blend_trace.open_trace(
                    settings().models, allow_test=settings().allow_test_detectors
                )
            except DetectorUnavailable as error:
                log.warning(error.detail, action="no_trace_detector", code=error.code)
        return self._trace

    def announce(self) -> None:
        """Write this process's fleet row."""
        from workers.media import sandbox  # noqa: PLC0415 - probes the host; only decoders need it

        with transaction() as session:
            fleet.announce(
                session,
                boot_id=self.boot_id,
                queues=self.queues,
                version=version("deepdefend"),
                sandbox=sandbox.level() if self.kinds() & DECODING else None,
                detectors=[*(self._status(modality) for modality in self.modalities()), *self._traces()],
            )

    def _status(self, modality: Modality) -> dict[str, Any]:
        from workers.detectors import registry  # noqa: PLC0415 - torch only where it is needed

        status = registry.status(settings().models, modality, allow_test=settings().allow_test_detectors)
        return status | {"loaded": modality in self._loaded}

    def _traces(self) -> list[dict[str, Any]]:
        if Modality.VIDEO not in self.modalities():
            return []
        from workers.detectors import traces  # noqa: PLC0415 - torch only where it is needed

        status = traces.status(settings().models)
        return [] if status is None else [status | {"loaded": self._trace is not None}]

    def stop(self) -> None:
        """Say goodbye, so that readiness sees it at once."""
        self.heart.stop()
        with transaction() as session:
            fleet.leave(session, self.boot_id)


@lru_cache(maxsize=1)
def this_process() -> WorkerState:
    """The state of this process, made on first use: never before the spawn."""
    return WorkerState()


def die_with_parent() -> None:
    """Ask the kernel to kill this child when its parent dies, so that a kill -9 leaves no orphan."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


@celeryd_after_setup.connect  # type: ignore[untyped-decorator]  # Celery ships no types
def _remember_queues(instance: Any, **_: Any) -> None:
    os.environ[QUEUES_VARIABLE] = " ".join(instance.app.amqp.queues.consume_from)
    # Idle OpenMP threads spin by default and take the cores from the queue beside: on two cores a minute
    # of video with a voice took 29 s instead of 20. Read when torch is loaded, so set before the spawn.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@worker_process_init.connect  # type: ignore[untyped-decorator]
def _start_child(**_: Any) -> None:
    die_with_parent()
    signal.signal(LET_GO, lambda *_: this_process().heart.let_go())
    this_process().start()


@worker_ready.connect  # type: ignore[untyped-decorator]
def _start_threads(sender: Any, **_: Any) -> None:
    if "prefork" not in type(sender.pool).__module__:
        this_process().start()


@worker_shutting_down.connect  # type: ignore[untyped-decorator]
def _let_go(**_: Any) -> None:
    """In the worker's signal handler: what runs goes to others, here and in every child."""
    for child in active_children():
        with contextlib.suppress(ProcessLookupError):
            os.kill(child.pid, LET_GO)
    if this_process.cache_info().currsize:
        this_process().heart.let_go()


@worker_process_shutdown.connect  # type: ignore[untyped-decorator]
def _stop_child(**_: Any) -> None:
    this_process().stop()


@worker_shutdown.connect  # type: ignore[untyped-decorator]
def _stop_threads(sender: Any, **_: Any) -> None:
    if "prefork" not in type(sender.pool).__module__:
        this_process().stop()
