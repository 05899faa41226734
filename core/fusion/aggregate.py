"""From interval rows to one picture of each modality: means, coverage, runs. Null is never averaged in."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

from core.domain import Frozen, Modality, Reason
from core.evidence import Probability
from core.fusion import scan
from core.fusion.inputs import IntervalEvidence, label
from core.fusion.thresholds import Thresholds


class CitedRun(Frozen):
    """A run of neighbouring intervals, placed in time."""

    interval: str  #: `4.0-8.0`, seconds
    start: float
    end: float
    intervals: int  #: how many neighbouring scored intervals it spans
    mean: Probability  #: mean score over them
    peak: Probability  #: highest mean of any significant window inside the modality
    statistic: float  #: standardised sum of its strongest window, in null standard deviations
    threshold: float  #: what a window of that size had to reach in a file of this length


class ModalityEvidence(Frozen):
    """What one modality amounts to over the whole file."""

    modality: Modality
    score: Probability | None  #: mean over scored intervals; null when none was scored
    scored_intervals: int
    suspicious_intervals: int  #: scored at or above `suspicious`
    null_reasons: dict[Reason, int]  #: intervals without a score, by reason
    scorable_seconds: float  #: face time or speech time, whether or not it was scored
    scored_seconds: float
    cleared_seconds: float  #: scored, and below `real_below`
    run: CitedRun | None  #: strong enough to accuse
    doubt: CitedRun | None  #: strong enough to take REAL away

    @property
    def coverage(self) -> float | None:
        """Scored seconds of what could be scored, 0 to 1; null when there was nothing to score."""
        return self.scored_seconds / self.scorable_seconds if self.scorable_seconds else None

    @property
    def cleared(self) -> float:
        """Share of what could be scored that was scored and looks real, 0 to 1."""
        return self.cleared_seconds / self.scorable_seconds if self.scorable_seconds else 0.0


def mean(scores: Iterable[float | None]) -> float | None:
    """Mean of what was measured; null when nothing was. Exactly rounded, so the order is no matter."""
    measured = [score for score in scores if score is not None]
    if not measured:
        return None
    # The division rounds too: without the bounds three times 0.9548… has a mean above its own maximum.
    return min(max(math.fsum(measured) / len(measured), min(measured)), max(measured))


def summarize(
    evidence: Sequence[IntervalEvidence], modality: Modality, thresholds: Thresholds
) -> ModalityEvidence:
    """One modality over intervals in timeline order."""
    limits = thresholds.of(modality)
    scored = [(row, score) for row in evidence if (score := row.score(modality)) is not None]
    unscored = [row for row in evidence if row.score(modality) is None]
    timeline = positions(evidence)
    scores = [row.score(modality) if row else None for row in timeline]

    def cited(bar: scan.Bar) -> CitedRun | None:
        run = scan.strongest_run(scores, bar)
        return None if run is None else cite(run, timeline)

    return ModalityEvidence(
        modality=modality,
        score=mean(score for _, score in scored),
        scored_intervals=len(scored),
        suspicious_intervals=sum(score >= limits.suspicious for _, score in scored),
        null_reasons=dict(Counter(row.reason(modality) for row in unscored).most_common()),
        scorable_seconds=math.fsum(row.scorable_seconds(modality) for row in evidence),
        scored_seconds=math.fsum(row.scorable_seconds(modality) for row, _ in scored),
        cleared_seconds=math.fsum(
            row.scorable_seconds(modality) for row, score in scored if score < limits.real_below
        ),
        run=cited(limits.accusing(thresholds.shortest_run)),
        doubt=cited(limits.doubting),
    )


def positions(evidence: Sequence[IntervalEvidence]) -> list[IntervalEvidence | None]:
    """Rows by timeline position; a missing row is a gap, so that it neither joins nor shortens."""
    rows = {row.index: row for row in evidence}
    return [rows.get(n) for n in range(min(rows, default=0), max(rows, default=-1) + 1)]


def cite(run: scan.Run, timeline: Sequence[IntervalEvidence | None]) -> CitedRun:
    """A run placed in time."""
    rows = [row for row in timeline[run.first : run.last + 1] if row is not None]
    return CitedRun(
        interval=label(rows[0].start, rows[-1].end),
        start=rows[0].start,
        end=rows[-1].end,
        intervals=len(rows),
        mean=run.mean,
        peak=run.peak,
        statistic=run.statistic,
        threshold=run.threshold,
    )
