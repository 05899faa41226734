"""Makes a detector's calibration from labelled files: curve, null, limits, held-out errors."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from core.calibration import Calibration
from core.domain import Label
from core.evidence import DetectorIdentity
from evaluation import chance, held_out
from evaluation.curves import Answers, CannotCalibrate, Labelled, applied, curve_of

#: Fewest files of a class: below, one file more or less moves the 5% false-alarm rate by its own size.
MIN_FILES: Final = 20


def fit(
    rows: Sequence[Labelled],
    *,
    identity: DetectorIdentity,
    manifest: str,
    interval_seconds: float = 2.0,
    made_at: datetime | None = None,
    simulated: int = chance.FILES,
) -> Calibration:
    """The calibration of the detector that gave these answers. `manifest`: `sha256:…` of the labelled list.

    Files without a score do not count. `simulated` files of each length settle the limits. Raises
    CannotCalibrate when a class is missing or too small, when the detector was calibrated already, and when
    it ranks real files above fake ones.
    """
    if identity.calibrated:
        raise CannotCalibrate("These scores are calibrated already; a calibration needs the model's own.")
    scored = sorted((row for row in rows if row.scored), key=lambda row: row.file)
    check(scored)
    answers = Answers(scored)
    curve = curve_of(answers)
    errors = held_out.measure(scored)
    real, fake = (sum(row.scored for row in scored if row.label is label) for label in Label)
    bounds = (1 / (fake + 2), 1 - 1 / (real + 2))  # rule of succession: no count supports more
    values = answers.means(applied(curve, answers.scores, bounds))
    real_scores = [
        file for file, row in zip(answers.split(values), scored, strict=True) if row.label is Label.REAL
    ]
    null = chance.null_of(real_scores, ceiling=bounds[1])
    return Calibration(
        detector=identity.id,
        modality=identity.modality,
        weights=identity.digest,
        curve=curve,
        floor=bounds[0],
        ceiling=bounds[1],
        real_files=len(real_scores),
        fake_files=len(scored) - len(real_scores),
        real_intervals=real,
        fake_intervals=fake,
        interval_seconds=interval_seconds,
        made_at=made_at or datetime.now(UTC),
        manifest=manifest,
        null=null.parameters,
        limits=chance.limits(
            null, files=len(real_scores), equal_error=errors.equal_error, simulated=simulated
        ),
        held_out=errors.reported,
    )


def check(rows: Sequence[Labelled]) -> None:
    """Raises CannotCalibrate unless both classes have MIN_FILES scored files."""
    for label in Label:
        count = sum(row.label is label for row in rows)
        if count < MIN_FILES:
            raise CannotCalibrate(
                f"{count} scored {label.value} files; a calibration needs at least {MIN_FILES} of each kind."
            )
