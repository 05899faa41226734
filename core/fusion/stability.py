"""Does the verdict survive delivery? Which intervals to measure again, and what remains of it then.

Copies of the file's suspicious and of some of its quiet parts (core.domain.Variant) are scored as the
original was. The rule: with the scores of those intervals replaced by a variant's, the verdict is reached
again; where any variant leads to another one, DEEPFAKE or REAL becomes INCONCLUSIVE. So this can weaken a
verdict and do nothing else: never strengthen one, never turn it.

A score that a variant does not give (the face became too small, the detector abstains) says nothing about
stability: the original's stands in its place.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Final

from pydantic import Field

from core.domain import Frozen, Modality, Reason, Variant, Verdict
from core.evidence import Probability, VideoFinding
from core.fusion.aggregate import mean
from core.fusion.causes import Cause
from core.fusion.inputs import IntervalEvidence
from core.fusion.judgement import Judgement

#: What bounds the cost: a variant has at most so many intervals and seconds, however long the file is.
MAX_INTERVALS: Final = 12
MAX_SECONDS: Final = 30.0
#: Of them for suspicious intervals, the strongest first, as long as there are quiet ones for the rest.
SUSPICIOUS_INTERVALS: Final = 8
#: Quiet intervals are drawn in neighbouring pairs: the verdict looks at runs.
NEIGHBOURS: Final = 2

Rejudge = Callable[[Sequence[IntervalEvidence]], Judgement]


class Remeasured(Frozen):
    """One interval in one variant."""

    index: int
    score: Probability | None
    reason: Reason | None  #: why there is no score
    trace: Probability | None = None  #: of the trace detector; null: none, or it abstained


class Outcome(Frozen):
    """How one step of the fleet ended."""

    variant: Variant
    intervals: tuple[Remeasured, ...] = ()
    reason: str | None = None  #: stable code: why the variant was not measured
    seconds: float | None = None  #: that the attempt took which measured it


class Spread(Frozen):
    """How the scores of one detector moved; a change is the new score less the old one."""

    intervals: int = Field(description="Intervals with a score before and after")
    lowest: Probability = Field(description="Of the scores in the variant")
    highest: Probability
    mean_change: float = Field(description="Mean of new score less old score")
    max_change: float = Field(description="The largest of them in size, with its sign")


class VariantResult(Frozen):
    """One way of delivering the file again."""

    variant: Variant
    scores: Spread | None = Field(description="Of the deciding detector; null: nothing was measured twice")
    traces: Spread | None = Field(description="Of the trace detector")
    unmeasured: dict[Reason, int] = Field(description="Intervals that lost their score, by reason")
    verdict: Verdict | None = Field(description="With its scores; null: nothing was measured twice")
    flips: bool = Field(description="It is not the original's DEEPFAKE or REAL")
    reason: str | None = Field(description="Why the variant was not measured")
    seconds: float | None = Field(description="Of work that it took")


class Stability(Frozen):
    """What becomes of the verdict in other deliveries of the same file."""

    verdict: Verdict = Field(description="Of the original, before a flip made it INCONCLUSIVE")
    flips: bool = Field(description="At least one variant does not get the original's DEEPFAKE or REAL")
    intervals: tuple[str, ...] = Field(description="Which were measured again", examples=[["4.0-6.0"]])
    max_change: float | None = Field(description="Of the deciding score over all variants, with its sign")
    seconds: float = Field(description="Of work on the variants that were measured")
    variants: tuple[VariantResult, ...]


def to_measure(judgement: Judgement, seed: str) -> tuple[int, ...]:
    """Indices of the intervals to measure again, in order of time; none where no face was scored.

    The same seed draws the same quiet ones.
    """
    rows = [row for row in judgement.intervals if _is_scored(row)]
    suspicious = sorted((row for row in rows if _stands_out(judgement, row)), key=_strength, reverse=True)
    quiet = [row for row in rows if not _stands_out(judgement, row)]
    drawn = _in_pairs(quiet, random.Random(seed))  # noqa: S311 - a sample, no secret
    first, later = suspicious[:SUSPICIOUS_INTERVALS], suspicious[SUSPICIOUS_INTERVALS:]
    chosen: list[IntervalEvidence] = []
    for row in chain(first, drawn, later):
        if len(chosen) < MAX_INTERVALS and sum(one.seconds for one in [*chosen, row]) <= MAX_SECONDS:
            chosen.append(row)
    return tuple(sorted(row.index for row in chosen))


def why_nothing(judgement: Judgement) -> Reason:
    """Why `to_measure` found nothing: the commonest reason of the intervals."""
    return next(iter(judgement.video.null_reasons), Reason.NOTHING_SCORED)


def assess(
    judgement: Judgement, outcomes: Sequence[Outcome], rejudge: Rejudge
) -> tuple[Judgement, Stability]:
    """The verdict that remains, and what was found. `rejudge` reaches a verdict as the original's was."""
    results = tuple(_result(judgement, outcome, rejudge) for outcome in outcomes)
    flips = any(result.flips for result in results)
    measured = {one.index for outcome in outcomes for one in outcome.intervals}
    changes = [result.scores.max_change for result in results if result.scores]
    stability = Stability(
        verdict=judgement.verdict,
        flips=flips,
        intervals=tuple(row.label for row in judgement.intervals if row.index in measured),
        max_change=max(changes, key=abs, default=None),
        seconds=round(sum(outcome.seconds or 0.0 for outcome in outcomes), 3),
        variants=results,
    )
    return (_weakened(judgement) if flips else judgement), stability


def replaced(rows: Iterable[IntervalEvidence], outcome: Outcome) -> tuple[IntervalEvidence, ...]:
    """The evidence with what the variant gave in the place of what the original gave."""
    found = {one.index: one for one in outcome.intervals}
    return tuple(
        row.model_copy(update={"video": _exchanged(row.video, found.get(row.index))}) for row in rows
    )


def _exchanged(video: VideoFinding, new: Remeasured | None) -> VideoFinding:
    if new is None:
        return video
    changes: dict[str, object] = {}
    if video.score is not None and new.score is not None:
        changes["score"] = new.score
    if video.trace is not None and video.trace.score is not None and new.trace is not None:
        changes["trace"] = video.trace.model_copy(update={"score": new.trace})
    return video.model_copy(update=changes)


def _is_scored(row: IntervalEvidence) -> bool:
    return row.video.score is not None or _trace(row) is not None


def _trace(row: IntervalEvidence) -> float | None:
    return row.video.trace.score if row.video.trace else None


def _stands_out(judgement: Judgement, row: IntervalEvidence) -> bool:
    trace, score = row.video.trace, _trace(row)
    traced = trace is not None and score is not None and score >= trace.threshold
    return traced or judgement.is_suspicious(row, Modality.VIDEO)


def _strength(row: IntervalEvidence) -> tuple[float, float]:
    return max(row.video.score or 0.0, _trace(row) or 0.0), -row.index


def _in_pairs(rows: Sequence[IntervalEvidence], draw: random.Random) -> list[IntervalEvidence]:
    groups = [rows[first : first + NEIGHBOURS] for first in range(0, len(rows), NEIGHBOURS)]
    draw.shuffle(groups)
    return list(chain.from_iterable(groups))


def _result(judgement: Judgement, outcome: Outcome, rejudge: Rejudge) -> VariantResult:
    before = {row.index: row for row in judgement.intervals}
    pairs = [(before[one.index], one) for one in outcome.intervals if one.index in before]
    scores = _spread([(row.video.score, one.score) for row, one in pairs])
    traces = _spread([(_trace(row), one.trace) for row, one in pairs])
    lost = [one.reason for row, one in pairs if row.video.score is not None and one.reason is not None]
    told = scores or traces
    verdict = rejudge(replaced(judgement.intervals, outcome)).verdict if told else None
    decided = judgement.verdict is not Verdict.INCONCLUSIVE
    return VariantResult(
        variant=outcome.variant,
        scores=scores,
        traces=traces,
        unmeasured=dict(Counter(lost).most_common()),
        verdict=verdict,
        flips=decided and verdict is not None and verdict is not judgement.verdict,
        reason=outcome.reason,
        seconds=outcome.seconds,
    )


def _spread(pairs: Sequence[tuple[float | None, float | None]]) -> Spread | None:
    both = [(old, new) for old, new in pairs if old is not None and new is not None]
    if not both:
        return None
    changes = [new - old for old, new in both]
    largest: float = max(changes, key=abs)
    return Spread(
        intervals=len(both),
        lowest=min(new for _, new in both),
        highest=max(new for _, new in both),
        mean_change=round(mean(changes) or 0.0, 6),
        max_change=round(largest, 6),
    )


def _weakened(judgement: Judgement) -> Judgement:
    cause = Cause(reason=Reason.UNSTABLE_UNDER_REENCODING, decisive=True)
    update = {"verdict": Verdict.INCONCLUSIVE, "confidence": None, "causes": (cause, *judgement.causes)}
    return judgement.model_copy(update=update)
