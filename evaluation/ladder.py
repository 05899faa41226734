"""What delivery does to the figures: the same parts of the same files, as they are and in every variant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from core.domain import Frozen, Label, Variant
from evaluation import metrics, operating
from evaluation.estimates import ROUNDS, Estimate, estimate
from evaluation.measured import Delivery, Measured, trace_of
from evaluation.panel import Subject
from evaluation.samples import FileResult, Score, sample

#: The parts as they were sent.
ORIGINAL: Final = "original"


class Rung(Frozen):
    """One subject on one way of delivery."""

    subject: Subject
    delivery: str  #: ORIGINAL, or a core.domain.Variant
    files: int  #: that were delivered
    scored: int
    failed: int  #: variants that could not be made
    auc: Estimate
    fpr: Estimate  #: at the threshold in force
    recall: Estimate
    change_real: float | None  #: mean of new less old score of unaltered files; null: none was scored twice
    change_fake: float | None


def climb(
    results: Sequence[FileResult],
    measured: Mapping[str, Measured],
    subject: Subject,
    threshold: float,
    *,
    rounds: int = ROUNDS,
) -> tuple[Rung, ...]:
    """A rung for the original and for each variant; nothing where the ladder was not asked for."""
    climbed = [one for one in results if _deliveries(measured[one.sha256])]
    if not climbed:
        return ()
    before = [_scored_as(one, subject, _original(measured[one.sha256], subject)) for one in climbed]
    rungs = [_rung(before, before, subject, ORIGINAL, threshold, 0, rounds)]
    for variant in Variant:
        made = [_variant(measured[one.sha256], variant) for one in climbed]
        after = [
            _scored_as(one, subject, _scores(delivery, subject))
            for one, delivery in zip(climbed, made, strict=True)
        ]
        failed = sum(delivery is None or delivery.error is not None for delivery in made)
        rungs.append(_rung(before, after, subject, variant.value, threshold, failed, rounds))
    return tuple(rungs)


def _deliveries(measured: Measured) -> tuple[Delivery, ...]:
    return measured.delivered.deliveries if measured.delivered is not None else ()


def _variant(measured: Measured, variant: Variant) -> Delivery | None:
    return next((one for one in _deliveries(measured) if one.variant is variant), None)


def _original(measured: Measured, subject: Subject) -> tuple[float, ...]:
    """The scores of the very intervals that were delivered again."""
    chosen = set(measured.delivered.intervals) if measured.delivered is not None else set()
    rows = [row for row in measured.intervals if row.index in chosen]
    scores = [trace_of(row) if subject is Subject.TRACE else row.video.score for row in rows]
    return tuple(score for score in scores if score is not None)


def _scores(delivery: Delivery | None, subject: Subject) -> tuple[float, ...]:
    if delivery is None:
        return ()
    return delivery.trace if subject is Subject.TRACE else delivery.video


def _scored_as(one: FileResult, subject: Subject, scores: tuple[float, ...]) -> FileResult:
    """The file with these scores in place of its own."""
    value = float(np.mean(scores)) if scores else None
    score = Score(value=value, reason=None if scores else "unscored", intervals=scores)
    return one.model_copy(update={"scores": {**one.scores, subject: score}})


def _rung(
    before: Sequence[FileResult],
    after: Sequence[FileResult],
    subject: Subject,
    delivery: str,
    threshold: float,
    failed: int,
    rounds: int,
) -> Rung:
    found = sample(after, subject)
    point = operating.in_force(found, threshold, delivery, rounds=rounds)
    return Rung(
        subject=subject,
        delivery=delivery,
        files=len(after),
        scored=len(found),
        failed=failed,
        auc=estimate(found, {"auc": (metrics.auc, "auc")}, rounds=rounds)["auc"],
        fpr=point.fpr,
        recall=point.recall,
        change_real=_change(before, after, subject, Label.REAL),
        change_fake=_change(before, after, subject, Label.FAKE),
    )


def _change(
    before: Sequence[FileResult], after: Sequence[FileResult], subject: Subject, label: Label
) -> float | None:
    pairs = [
        (old.scores[subject].value, new.scores[subject].value)
        for old, new in zip(before, after, strict=True)
        if old.label is label
    ]
    moves = [new - old for old, new in pairs if old is not None and new is not None]
    return round(float(np.mean(moves)), 6) if moves else None
