"""The whole evaluation as one JSON document: what the Markdown and the plots are made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from core.domain import Frozen, Modality
from core.evidence import DetectorIdentity
from evaluation import against, control, figures, ladder, operating
from evaluation.against import Against
from evaluation.control import Control
from evaluation.delivery import LOOKING
from evaluation.estimates import ROUNDS
from evaluation.figures import Figures
from evaluation.ladder import Rung
from evaluation.manifest import Entry
from evaluation.measured import Measured
from evaluation.panel import Absent, Conditions, Panel, Subject
from evaluation.samples import FileResult, of_file

#: Of the document. Raised when fields change their meaning.
FORMAT: Final = 1
#: Name of the threshold that blend-trace brings itself.
OWN: Final = "its own"


class Evaluation(Frozen):
    """Detectors and verdict on one list of labelled files."""

    format: int = FORMAT
    made_at: datetime
    source: str  #: name of the list
    conditions: Conditions
    absent: dict[Subject, Absent]
    control: Control
    subjects: tuple[Figures, ...]
    ladder: tuple[Rung, ...] = ()
    against: Against | None = None
    files: tuple[FileResult, ...]

    @property
    def test_only(self) -> bool:
        """Detectors made for tests took part: the figures mean nothing."""
        return self.conditions.test_only


def evaluate(
    entries: Sequence[Entry],
    measured: Mapping[str, Measured],
    panel: Panel,
    *,
    source: str,
    by_group: bool = False,
    earlier: Evaluation | None = None,
    rounds: int = ROUNDS,
) -> Evaluation:
    """All figures of what was measured; beside those of an `earlier` evaluation where one is given."""
    conditions = panel.conditions
    frames = panel.setup.options.frames_per_interval
    results = [
        of_file(entry, measured[entry.sha256], panel.identities, frames_per_interval=frames)
        for entry in entries
    ]
    baseline = control.fit(results, rounds=rounds)
    subjects = tuple(
        figures.of_subject(
            results,
            subject,
            detector=_identity(panel, subject),
            absent=panel.absent.get(subject),
            control=baseline,
            thresholds=_thresholds(panel, subject),
            by_group=by_group,
            rounds=rounds,
        )
        for subject in Subject
        if subject in panel.setup.wanted
    )
    looking = [one for one in subjects if one.subject in LOOKING and one.counts.scored]
    return Evaluation(
        made_at=datetime.now(UTC),
        source=source,
        conditions=conditions,
        absent=panel.absent,
        control=baseline,
        subjects=subjects,
        ladder=tuple(
            rung
            for one in looking
            for rung in ladder.climb(results, measured, one.subject, one.abstention.threshold, rounds=rounds)
        ),
        against=None if earlier is None else _against(earlier, results, subjects, rounds),
        files=tuple(results),
    )


def _against(
    earlier: Evaluation, results: Sequence[FileResult], subjects: Sequence[Figures], rounds: int
) -> Against:
    return against.compare(
        earlier.files,
        earlier.subjects,
        results,
        subjects,
        conditions=earlier.conditions.digest,
        rounds=rounds,
    )


def _identity(panel: Panel, subject: Subject) -> DetectorIdentity | None:
    detector = None if subject is Subject.VERDICT else getattr(panel, subject.value)
    return None if detector is None else detector.identity


def _thresholds(panel: Panel, subject: Subject) -> dict[str, float]:
    """From where on the service takes a score of this subject for more than chance, by operating point."""
    if subject is Subject.TRACE:
        return {OWN: panel.trace.threshold if panel.trace is not None else 0.5}
    modality = Modality.AUDIO if subject is Subject.AUDIO else Modality.VIDEO
    deciding = [one.identity for one in (panel.video, panel.audio) if one is not None]
    return operating.thresholds_of(deciding, modality)
