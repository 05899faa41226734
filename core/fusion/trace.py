"""What the manipulation-trace detector adds up to over a file. It supports or takes REAL away; nothing more.

Its threshold is a face's: at most one of twenty unaltered ones lies above. Over a file it counts when the
mean over at least half of what it could look at reaches the threshold, or when a run of neighbouring
intervals passes the scan of `core.fusion.scan`. Unless it was measured otherwise, the null of that scan is
taken from what the threshold means: in log-odds it lies 1.645 standard deviations above the mean of
unaltered faces, and such a deviation is taken to be 2, so that scores beyond 0.99 count for little more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from core.calibration import log_odds
from core.domain import Frozen, Reason
from core.evidence import Probability, ScoreNull, TraceFinding
from core.fusion import scan
from core.fusion.aggregate import CitedRun, cite, mean, positions
from core.fusion.inputs import NOTHING_TO_SCORE, IntervalEvidence
from core.fusion.scan import Bar
from core.fusion.thresholds import SEED_THRESHOLDS

#: Standard deviation of the log-odds of unaltered faces, and how many of them its threshold lies above.
ASSUMED_SD: Final = 2.0
FIVE_PERCENT: Final = 1.645
#: Share of the faces in its way that a mean must stand on.
COVERAGE: Final = 0.5


class TraceEvidence(Frozen):
    """The manipulation trace over the whole file."""

    detector: str
    threshold: Probability
    score: Probability | None  #: mean over the intervals in its domain; null: none was
    scored_intervals: int
    null_reasons: dict[Reason, int]  #: intervals it said nothing of, by reason
    run: CitedRun | None  #: neighbouring intervals that show it together
    found: bool  #: there is one: the mean or a run says so


def summarize_trace(rows: Sequence[IntervalEvidence]) -> TraceEvidence | None:
    """The trace over intervals in timeline order; null where its detector never looked."""
    looked = [row.video.trace for row in rows if row.video.trace is not None]
    if not looked:
        return None
    # Two shards may have been looked at before and after an update: the stricter threshold holds.
    threshold = max(finding.threshold for finding in looked)
    scores = [finding.score for finding in looked if finding.score is not None]
    score, run = mean(scores), _run(rows, threshold)
    covered = len(scores) >= COVERAGE * sum(_scorable(finding) for finding in looked)
    return TraceEvidence(
        detector=looked[-1].detector,
        threshold=threshold,
        score=score,
        scored_intervals=len(scores),
        null_reasons=dict(
            Counter(finding.reason or Reason.NOT_ANALYZED for finding in looked if finding.score is None)
        ),
        run=run,
        found=run is not None or (score is not None and covered and score >= threshold),
    )


def bar(threshold: float) -> Bar:
    """What a run must reach to be a trace: the seed's rarity, on the trace detector's scale."""
    seed = SEED_THRESHOLDS.video
    null = ScoreNull(
        mean=log_odds(threshold) - FIVE_PERCENT * ASSUMED_SD,
        sd=ASSUMED_SD,
        correlation=seed.null.correlation,
        log_odds=True,
    )
    shortest = SEED_THRESHOLDS.shortest_run
    return Bar(null=null, excess=seed.run_excess, by_size=True, floor=threshold, shortest=shortest)


def _run(rows: Sequence[IntervalEvidence], threshold: float) -> CitedRun | None:
    timeline = positions(rows)
    scores = [row.video.trace.score if row and row.video.trace else None for row in timeline]
    found = scan.strongest_run(scores, bar(threshold))
    return None if found is None else cite(found, timeline)


def _scorable(finding: TraceFinding) -> bool:
    """Whether there was a face to look at."""
    return finding.score is not None or finding.reason not in NOTHING_TO_SCORE
