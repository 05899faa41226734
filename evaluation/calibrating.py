"""A detector's calibration from a list of labelled files, measured by the product's own pipeline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from core.calibration import Calibration
from core.evidence import DetectorIdentity, Probability
from core.fusion.inputs import IntervalEvidence
from evaluation import fitting
from evaluation.curves import CannotCalibrate, Labelled
from evaluation.manifest import Entry
from evaluation.measured import Measured
from evaluation.panel import Panel, Subject
from workers.detectors import calibrations


def calibrate(
    entries: Sequence[Entry],
    measured: Mapping[str, Measured],
    panel: Panel,
    subject: Subject,
    *,
    manifest: str,
) -> Calibration:
    """The calibration of one detector of a raw panel. `manifest`: `sha256:…` of the list.

    Raises CannotCalibrate, also where the detector could not be opened.
    """
    return fitting.fit(
        labelled(entries, measured, subject),
        identity=_identity(panel, subject),
        manifest=manifest,
        interval_seconds=panel.setup.options.interval_seconds,
    )


def labelled(entries: Sequence[Entry], measured: Mapping[str, Measured], subject: Subject) -> list[Labelled]:
    """What the detector answered in each interval of each file that could be decoded."""
    return [
        Labelled(
            file=entry.sha256,
            group=entry.group,
            label=entry.label,
            intervals=tuple(_answers(row, subject) for row in measured[entry.sha256].intervals),
        )
        for entry in entries
        if measured[entry.sha256].facts is not None
    ]


def _answers(row: IntervalEvidence, subject: Subject) -> tuple[Probability, ...]:
    """Those whose mean the interval's score is: of the track's frames, or the score itself for sound."""
    if subject is Subject.VIDEO:
        return tuple(face.score for face in row.video.faces) if row.video.score is not None else ()
    return (row.audio.score,) if row.audio.score is not None else ()


def _identity(panel: Panel, subject: Subject) -> DetectorIdentity:
    detector = panel.video if subject is Subject.VIDEO else panel.audio
    if detector is None:
        raise CannotCalibrate(panel.absent[subject].detail)
    return detector.identity


def store(panel: Panel, subject: Subject, calibration: Calibration) -> Path:
    """Put it beside the weights that it was measured with. May raise OSError."""
    detector = panel.video if subject is Subject.VIDEO else panel.audio
    if detector is None or detector.identity.digest != calibration.weights:
        raise ValueError("a calibration belongs beside its own weights")
    return calibrations.write(detector.checkpoint.folder, calibration)
