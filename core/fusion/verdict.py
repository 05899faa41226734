"""The verdict rule: DEEPFAKE, REAL or INCONCLUSIVE, from scores alone.

Each modality first gets a standing. Its `peak` is the highest of: the mean of any significant run of
neighbouring intervals, and the mean over the file where at least `coverage` of the face or speech time
was scored.

    | standing | when                                                                          |
    |----------|-------------------------------------------------------------------------------|
    | fake     | peak >= decisive (0.7)                                                        |
    | near     | suspicious (0.6) <= peak < decisive                                           |
    | clear    | mean < real_below (0.5), no doubtful run, and at least half of the face or    |
    |          | speech time was scored and looks real                                         |
    | unclear  | anything else that has a face or a voice: between the thresholds, too little  |
    |          | scored, not scored at all                                                     |
    | absent   | no face, no voice: nothing to score                                           |

A manipulation trace (`core.fusion.trace`: its own detector, over the picture) is no standing. It moves the
picture's: near becomes fake, so that a clear voice no longer overrules it, and clear or absent become
unclear, so that there is no REAL and a clear face no longer overrules a voice that is near. It accuses of
nothing where no detector does: it never decides alone.

Then the two standings give the verdict (the order of picture and sound does not matter):

    |         | fake     | near         | unclear      | clear                    | absent       |
    |---------|----------|--------------|--------------|--------------------------|--------------|
    | fake    | DEEPFAKE | DEEPFAKE     | DEEPFAKE     | DEEPFAKE                 | DEEPFAKE     |
    | near    |          | DEEPFAKE     | DEEPFAKE     | INCONCLUSIVE (conflict)  | DEEPFAKE     |
    | unclear |          |              | INCONCLUSIVE | INCONCLUSIVE             | INCONCLUSIVE |
    | clear   |          |              |              | REAL                     | REAL         |
    | absent  |          |              |              |                          | INCONCLUSIVE |

A swapped face with a real voice is a deepfake, and so is a cloned voice over a real face: one modality
decides alone, unless it is only near while the other is clear. REAL needs every modality that is there
to be clear, so a lost worker or missing weights can cost an answer but never buy one.

The rule is monotone: raising a score, or scoring at `decisive` or above what was null, or a trace where
there was none, never moves the verdict from DEEPFAKE towards REAL. Order outside a run is no matter; null
scores enter no mean.

Confidence, 0 to 100: for DEEPFAKE 100 x the highest peak; for REAL 100 x (1 - the highest mean of a
modality); for INCONCLUSIVE null, because an abstention has no side to be confident of. It is a distance
on the detectors' own scale and a probability only as far as the detectors are calibrated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from core.domain import Modality, OperatingPoint, Reason, Verdict
from core.evidence import DetectorIdentity, MediaFacts
from core.fusion.aggregate import ModalityEvidence, mean, summarize
from core.fusion.causes import Cause
from core.fusion.inputs import Branch, IntervalEvidence
from core.fusion.judgement import Judgement, Standing
from core.fusion.thresholds import Thresholds, choose
from core.fusion.trace import TraceEvidence, summarize_trace


def judge(
    evidence: Sequence[IntervalEvidence],
    *,
    facts: MediaFacts,
    operating_point: OperatingPoint = OperatingPoint.BALANCED,
    thresholds: Thresholds | None = None,
    branches: Sequence[Branch] = (),
    detectors: Sequence[DetectorIdentity] = (),
    frames_per_interval: int | None = None,
) -> Judgement:
    """The verdict on one file. Rows may come in any order; ValueError when two have the same index.

    Thresholds that are not given are those of the operating point, as far as the detectors honour it.
    """
    rows = tuple(sorted(evidence, key=lambda row: row.index))
    if len({row.index for row in rows}) < len(rows):
        raise ValueError("two rows for one interval")
    thresholds = thresholds or _chosen(rows, detectors, operating_point, frames_per_interval)
    sides = {modality: summarize(rows, modality, thresholds) for modality in Modality}
    alone = {modality: standing(side, thresholds) for modality, side in sides.items()}
    trace = summarize_trace(rows)
    standings = traced(alone) if trace is not None and trace.found else alone
    verdict = decide(*standings.values())
    return Judgement(
        verdict=verdict,
        confidence=_confidence(verdict, tuple(sides.values()), thresholds),
        combined_score=mean(side.score for side in sides.values()),
        video=sides[Modality.VIDEO],
        audio=sides[Modality.AUDIO],
        trace=trace,
        standings=standings,
        causes=(
            *_hindrances(verdict, sides, alone, thresholds),
            *_traces(trace, verdict, decide(*alone.values())),
            *_remarks(sides, facts, branches),
        ),
        operating_point=operating_point,
        thresholds=thresholds,
        facts=facts,
        detectors=tuple(detectors),
        intervals=rows,
    )


def _chosen(
    rows: Sequence[IntervalEvidence],
    detectors: Sequence[DetectorIdentity],
    point: OperatingPoint,
    frames_per_interval: int | None,
) -> Thresholds:
    """Thresholds for the detectors that decide; the length of a file's only interval is its own."""
    tracers = {row.video.trace.detector for row in rows if row.video.trace is not None}
    return choose(
        [one for one in detectors if one.id not in tracers],
        point,
        intervals=rows[-1].index - rows[0].index + 1 if rows else 0,
        interval_seconds=rows[0].seconds if len(rows) > 1 else None,
        frames_per_interval=frames_per_interval,
    )


def peak(side: ModalityEvidence, thresholds: Thresholds) -> float | None:
    """The strongest accusation of one modality, 0 to 1; null when it accuses of nothing."""
    accusations = [side.run.peak] if side.run else []
    covered = (side.coverage or 0) >= thresholds.coverage
    if side.score is not None and covered and side.score >= thresholds.of(side.modality).suspicious:
        accusations.append(side.score)
    return max(accusations, default=None)


def standing(side: ModalityEvidence, thresholds: Thresholds) -> Standing:
    """The first table of this module."""
    limits = thresholds.of(side.modality)
    accusation = peak(side, thresholds)
    if accusation is not None:
        return Standing.FAKE if accusation >= limits.decisive else Standing.NEAR
    if side.coverage is None:
        return Standing.ABSENT
    looks_real = side.score is not None and side.score < limits.real_below and side.doubt is None
    if looks_real and side.cleared >= thresholds.coverage:
        return Standing.CLEAR
    return Standing.UNCLEAR


def traced(standings: Mapping[Modality, Standing]) -> dict[Modality, Standing]:
    """Standings of a file whose picture has a manipulation trace."""
    moved = {
        Standing.NEAR: Standing.FAKE,
        Standing.CLEAR: Standing.UNCLEAR,
        Standing.ABSENT: Standing.UNCLEAR,
    }
    picture = standings[Modality.VIDEO]
    return {**standings, Modality.VIDEO: moved.get(picture, picture)}


def decide(one: Standing, other: Standing) -> Verdict:
    """The second table of this module."""
    pair = {one, other}
    if pair == {Standing.NEAR, Standing.CLEAR}:
        return Verdict.INCONCLUSIVE
    if pair & {Standing.FAKE, Standing.NEAR}:
        return Verdict.DEEPFAKE
    if Standing.UNCLEAR in pair or Standing.CLEAR not in pair:
        return Verdict.INCONCLUSIVE
    return Verdict.REAL


def _confidence(
    verdict: Verdict, sides: tuple[ModalityEvidence, ...], thresholds: Thresholds
) -> float | None:
    match verdict:
        case Verdict.DEEPFAKE:
            return round(100 * max(peak(side, thresholds) or 0 for side in sides), 1)
        case Verdict.REAL:
            return round(100 * (1 - max(side.score or 0 for side in sides)), 1)
        case Verdict.INCONCLUSIVE:
            return None


def _hindrances(
    verdict: Verdict,
    sides: Mapping[Modality, ModalityEvidence],
    standings: Mapping[Modality, Standing],
    thresholds: Thresholds,
) -> list[Cause]:
    """Why there is no firmer verdict, a trace aside."""
    if verdict is not Verdict.INCONCLUSIVE:
        return []
    unclear = [side for modality, side in sides.items() if standings[modality] is Standing.UNCLEAR]
    return _whole(sides, standings) or [_hindrance(side, thresholds) for side in unclear]


def _traces(trace: TraceEvidence | None, verdict: Verdict, otherwise: Verdict) -> list[Cause]:
    """The trace, decisive where there would be REAL without it."""
    if trace is None or not trace.found:
        return []
    decisive = verdict is Verdict.INCONCLUSIVE and otherwise is Verdict.REAL
    return [Cause(reason=Reason.MANIPULATION_TRACE, modality=Modality.VIDEO, decisive=decisive)]


def _remarks(
    sides: Mapping[Modality, ModalityEvidence], facts: MediaFacts, branches: Sequence[Branch]
) -> tuple[Cause, ...]:
    """What was not measured, then what is wrong with the file; each once."""
    causes: list[Cause] = []
    for modality, side in sides.items():
        causes += _gaps(side, [branch for branch in branches if branch.modality is modality])
    return tuple(dict.fromkeys([*causes, *_damage(facts)]))


def _whole(sides: Mapping[Modality, ModalityEvidence], standings: Mapping[Modality, Standing]) -> list[Cause]:
    if all(side.score is None for side in sides.values()):
        return [Cause(reason=Reason.NOTHING_SCORED, decisive=True)]
    if set(standings.values()) == {Standing.NEAR, Standing.CLEAR}:
        return [Cause(reason=Reason.CONFLICTING_MODALITIES, decisive=True)]
    return []


def _hindrance(side: ModalityEvidence, thresholds: Thresholds) -> Cause:
    """What keeps an unclear modality from being clear."""
    thin = (side.coverage or 0) < thresholds.coverage
    undecided = side.score is not None and side.doubt is not None
    reason = Reason.LOW_COVERAGE if thin and not undecided else Reason.BETWEEN_THRESHOLDS
    return Cause(reason=reason, modality=side.modality, decisive=True)


def _gaps(side: ModalityEvidence, branches: Sequence[Branch]) -> list[Cause]:
    """Null intervals by reason; a branch that was lost explains the intervals nobody looked at."""
    mends = {branch.reason: branch.mend for branch in branches}
    gaps = [
        Cause(reason=reason, modality=side.modality, intervals=count, special_mend=mends.get(reason))
        for reason, count in side.null_reasons.items()
        if not (reason is Reason.NOT_ANALYZED and branches)
    ]
    named = {gap.reason for gap in gaps}
    lost = [branch.reason for branch in branches if branch.reason not in named]
    orphans = side.null_reasons.get(Reason.NOT_ANALYZED)
    return gaps + [Cause(reason=reason, modality=side.modality, intervals=orphans) for reason in lost]


def _damage(facts: MediaFacts) -> list[Cause]:
    streams = [stream for stream in (facts.video, facts.audio) if stream is not None]
    causes = [Cause(reason=Reason.CUT_SHORT)] if facts.cut_short else []
    if any(stream.decode_errors for stream in streams):
        causes.append(Cause(reason=Reason.DECODE_ERROR))
    return causes
