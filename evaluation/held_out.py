"""What a calibration is worth on files it has not seen: fitted on all folds but one, measured on that one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from core.calibration import HeldOutError
from core.domain import Label
from evaluation.curves import Answers, CannotCalibrate, Floats, Labelled, applied, curve_of

FOLDS: Final = 5
BINS: Final = 10
#: A probability counts no nearer to 0 or 1 in the log loss.
_NEAREST: Final = 1e-6
Bools = npt.NDArray[np.bool_]
FoldsBy = Literal["group", "file"]


class HeldOut(NamedTuple):
    """The errors, and the rate at which a file's mean errs equally on both kinds."""

    reported: HeldOutError
    equal_error: float


def measure(rows: Sequence[Labelled]) -> HeldOut:
    """Errors by folds of groups; by files where that leaves a class out of a fold's training."""
    attempts: list[tuple[FoldsBy, list[list[Labelled]]]] = [
        ("group", folds(rows, lambda row: row.group if row.group is not None else f"file {row.file}")),
        ("file", folds(rows, lambda row: row.file)),
    ]
    by, chosen = next((by, parts) for by, parts in attempts if by == "file" or _trainable(rows, parts))
    before, after, fake, weights, means = _predicted(chosen)
    return HeldOut(
        HeldOutError(
            folds_by=by,
            folds=len(chosen),
            auc=_auc(after, fake, weights),
            brier=_brier(after, fake, weights),
            brier_before=_brier(before, fake, weights),
            log_loss=_log_loss(after, fake, weights),
            log_loss_before=_log_loss(before, fake, weights),
            calibration_error=calibration_error(after, fake, weights),
            calibration_error_before=calibration_error(before, fake, weights),
        ),
        _equal_error(means),
    )


def folds(rows: Sequence[Labelled], key: Callable[[Labelled], str]) -> list[list[Labelled]]:
    """At most FOLDS parts that split no group, filled with the largest groups first, by label and size."""
    groups: dict[str, list[Labelled]] = defaultdict(list)
    for row in rows:
        groups[key(row)].append(row)
    parts: list[list[Labelled]] = [[] for _ in range(FOLDS)]
    for name in sorted(groups, key=lambda name: (-len(groups[name]), name)):
        members = groups[name]
        fake = sum(row.label is Label.FAKE for row in members) * 2 > len(members)
        label = Label.FAKE if fake else Label.REAL
        smallest = min(parts, key=lambda part: (sum(row.label is label for row in part), len(part)))
        smallest.extend(members)
    return [part for part in parts if part]


def _trainable(rows: Sequence[Labelled], parts: Sequence[Sequence[Labelled]]) -> bool:
    """Whether what each fold leaves holds both classes."""
    return len(parts) > 1 and all(
        {row.label for row in rows} == {row.label for row in _others(parts, n)} for n in range(len(parts))
    )


def _others(parts: Sequence[Sequence[Labelled]], left_out: int) -> list[Labelled]:
    return [row for n, part in enumerate(parts) if n != left_out for row in part]


class _Predicted(NamedTuple):
    before: Floats
    after: Floats
    fake: Bools
    weights: Floats
    files: list[tuple[bool, float]]  #: (fake, mean of its interval scores)


def _predicted(parts: Sequence[Sequence[Labelled]]) -> _Predicted:
    """Interval scores of every fold through the curve of the others."""
    before, after, fake, weights, files = [], [], [], [], []
    for n, part in enumerate(parts):
        trained = Answers(_others(parts, n))
        try:
            curve = curve_of(trained)
        except CannotCalibrate:  # it ranks the rest the wrong way round: level, and as bad as that is
            values = np.full_like(Answers(part).scores, 0.5)
        else:
            values = applied(curve, Answers(part).scores, (0.0, 1.0))
        answers = Answers(part)
        means = answers.means(values)
        before.append(answers.means(answers.scores))
        after.append(means)
        fake.append(answers.interval_fake)
        weights.append(_per_file(answers))
        for row, scores in zip(part, answers.split(means), strict=True):
            files.append((row.label is Label.FAKE, float(np.mean([s for s in scores if s is not None]))))
    joined_fake, joined = np.concatenate(fake), np.concatenate(weights)
    for of_class in (joined_fake, ~joined_fake):
        joined[of_class] /= 2 * joined[of_class].sum()
    return _Predicted(np.concatenate(before), np.concatenate(after), joined_fake, joined, files)


def _per_file(answers: Answers) -> Floats:
    """The weight of each interval: one file, one vote."""
    return np.array([1 / row.scored for row in answers.rows for part in row.intervals if part])


def _auc(scores: Floats, fake: Bools, weights: Floats) -> float:
    from sklearn.metrics import roc_auc_score  # noqa: PLC0415 - only whoever calibrates needs it

    return float(roc_auc_score(fake, scores, sample_weight=weights))


def _brier(scores: Floats, fake: Bools, weights: Floats) -> float:
    return float(np.sum(weights * (scores - fake) ** 2))


def _log_loss(scores: Floats, fake: Bools, weights: Floats) -> float:
    inside = np.clip(scores, _NEAREST, 1 - _NEAREST)
    return float(-np.sum(weights * np.log(np.where(fake, inside, 1 - inside))))


def calibration_error(scores: Floats, fake: Bools, weights: Floats) -> float:
    """Expected calibration error, 0 to 1: |mean probability - share of fakes| over BINS of equal weight."""
    order = np.argsort(scores, kind="stable")
    place = np.cumsum(weights[order]) - weights[order] / 2
    bins = np.minimum((place * BINS).astype(int), BINS - 1)
    gap = np.bincount(bins, weights[order] * (scores[order] - fake[order]), BINS)
    return float(np.abs(gap).sum())


def _equal_error(files: Sequence[tuple[bool, float]]) -> float:
    """The rate at which files' means miss as many fakes as they accuse real ones, 0 to 1."""
    real, fake = (np.array([mean for is_fake, mean in files if is_fake is kind]) for kind in (False, True))
    bounds = np.unique(np.concatenate([real, fake, [np.inf]]))
    alarms = np.array([(real >= bound).mean() for bound in bounds])
    misses = np.array([(fake < bound).mean() for bound in bounds])
    closest = int(np.argmin(np.abs(alarms - misses)))
    return float((alarms[closest] + misses[closest]) / 2)
