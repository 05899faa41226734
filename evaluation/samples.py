"""From what was measured of the files to the scores that figures are made of."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np

from core.domain import Frozen, Label, Modality, OperatingPoint, Reason, Verdict
from core.evidence import DetectorIdentity, Probability
from core.fusion.aggregate import mean
from core.fusion.inputs import IntervalEvidence
from core.fusion.judgement import Judgement
from core.fusion.verdict import judge
from evaluation.estimates import Sample
from evaluation.manifest import Entry
from evaluation.measured import Measured
from evaluation.panel import Subject

#: The subjects that give a score to every interval.
DETECTORS: Final = (Subject.VIDEO, Subject.AUDIO, Subject.TRACE)


class Score(Frozen):
    """What one subject says of one file. Value and reason: exactly one is null."""

    value: Probability | None
    reason: str | None
    intervals: tuple[Probability, ...] = ()  #: of the scored ones


class FileResult(Frozen):
    """One file of the list with everything figures are made from."""

    name: str
    sha256: str
    label: Label
    group: str | None
    error: str | None = None  #: code: it could not be decoded
    detail: str | None = None  #: the same in words
    scores: dict[Subject, Score] = {}
    verdicts: dict[OperatingPoint, Verdict] = {}
    confidence: float | None = None  #: of the balanced verdict, 0 to 100
    statistics: dict[str, float] = {}

    @property
    def cluster(self) -> str:
        """What the file belongs to: its group, or itself."""
        return f"group {self.group}" if self.group is not None else f"file {self.sha256}"


def of_file(
    entry: Entry,
    measured: Measured,
    detectors: Sequence[DetectorIdentity],
    *,
    frames_per_interval: int | None = None,
) -> FileResult:
    """The scores and verdicts of one file. One that could not be decoded has none, and says why."""
    known = {
        "name": entry.name,
        "sha256": entry.sha256,
        "label": entry.label,
        "group": entry.group,
        "error": measured.error,
        "detail": measured.detail,
        "statistics": measured.statistics,
    }
    if measured.facts is None:
        lost = Score(value=None, reason=measured.error or Reason.NOT_ANALYZED.value)
        return FileResult(**known, scores=dict.fromkeys(Subject, lost))
    judged = {point: judged_at(measured, detectors, point, frames_per_interval) for point in OperatingPoint}
    scores = {subject: _of_detector(measured.intervals, subject) for subject in DETECTORS}
    balanced = judged[OperatingPoint.BALANCED]
    return FileResult(
        **known,
        scores=scores | {Subject.VERDICT: _of_verdict(balanced)},
        verdicts={point: judgement.verdict for point, judgement in judged.items()},
        confidence=balanced.confidence,
    )


def judged_at(
    measured: Measured,
    detectors: Sequence[DetectorIdentity],
    point: OperatingPoint,
    frames_per_interval: int | None = None,
) -> Judgement:
    """The verdict that the service would give at an operating point. The file must have been decoded."""
    if measured.facts is None:
        raise ValueError("a file that was not decoded cannot be judged")
    return judge(
        measured.intervals,
        facts=measured.facts,
        operating_point=point,
        branches=measured.branches,
        detectors=[one for one in detectors if one.id in measured.spoke],
        frames_per_interval=frames_per_interval,
    )


def _of_detector(intervals: Sequence[IntervalEvidence], subject: Subject) -> Score:
    """The mean over the scored intervals, as reports have it; an unscored one is never averaged in."""
    found = [_interval(row, subject) for row in intervals]
    values = tuple(value for value, _ in found if value is not None)
    if values:
        return Score(value=mean(values), reason=None, intervals=values)
    return Score(value=None, reason=_commonest(reason for _, reason in found if reason))


def _interval(row: IntervalEvidence, subject: Subject) -> tuple[float | None, str | None]:
    if subject is Subject.TRACE:
        trace = row.video.trace
        if trace is not None:
            return trace.score, trace.reason.value if trace.reason else None
        # Where there was no face to score, the trace detector was not asked.
        return None, row.reason(Modality.VIDEO).value
    modality = Modality(subject.value)
    score = row.score(modality)
    return score, None if score is not None else row.reason(modality).value


def _of_verdict(judgement: Judgement) -> Score:
    """How strongly the file is accused: the stronger modality's strongest run, or its mean."""
    sides = (judgement.video, judgement.audio)
    accusations = [side.run.peak for side in sides if side.run] + [
        side.score for side in sides if side.score is not None
    ]
    if accusations:
        return Score(value=max(accusations), reason=None)
    return Score(value=None, reason=_commonest(reason.value for reason in judgement.reasons))


def _commonest(reasons: Iterable[str]) -> str:
    counted = Counter(reasons).most_common(1)
    return counted[0][0] if counted else Reason.NOTHING_SCORED.value


def sample(results: Sequence[FileResult], subject: Subject) -> Sample:
    """The files that the subject scored."""
    scored = [(one, one.scores[subject].value) for one in results]
    kept = [(one, value) for one, value in scored if value is not None]
    return _sample([one for one, _ in kept], [value for _, value in kept])


def interval_sample(results: Sequence[FileResult], subject: Subject) -> Sample:
    """The intervals that the subject scored, under the label of their file, clustered by file or group."""
    spread = [(one, value) for one in results for value in one.scores[subject].intervals]
    return _sample([one for one, _ in spread], [value for _, value in spread])


def _sample(results: Sequence[FileResult], scores: Sequence[float]) -> Sample:
    names = {name: n for n, name in enumerate(dict.fromkeys(one.cluster for one in results))}
    return Sample(
        fake=np.array([one.label is Label.FAKE for one in results], bool),
        scores=np.array(scores, float),
        clusters=np.array([names[one.cluster] for one in results], np.int64),
    )


def confidence(value: float, threshold: float) -> float:
    """How far a score lies from the threshold, relative to what lies on its side: 0 to 1."""
    room = 1 - threshold if value >= threshold else threshold
    return min(1.0, math.fabs(value - threshold) / room) if room > 0 else 1.0
