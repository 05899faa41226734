"""The shortcut control: how well the files can be told apart by what has nothing to do with manipulation.

A logistic regression on colour, sharpness, size, duration, loudness and bandwidth, cross-validated so that no
group is on both sides. A detector has to beat it on the same files, clearly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from core.domain import Frozen, Label
from evaluation import metrics
from evaluation.estimates import FEWEST, ROUNDS, Estimate, Sample, estimate
from evaluation.metrics import Bools, Floats
from evaluation.panel import Subject
from evaluation.samples import FileResult, sample
from evaluation.statistics import NAMES

FOLDS: Final = 5
#: Partitions whose answers are averaged: one alone moves the AUC of forty files by 0.05.
REPEATS: Final = 5


class Control(Frozen):
    """What simple statistics reach, and on what."""

    auc: Estimate
    files: int
    features: tuple[str, ...] = ()
    scores: dict[str, float] = {}  #: out of fold, by SHA-256


class Comparison(Frozen):
    """A detector beside the control, on the files that the detector scored."""

    files: int
    control: Estimate  #: AUC
    ahead: Estimate  #: AUC of the detector minus that of the control
    beaten: bool | None  #: the whole interval of `ahead` lies above 0; null: not enough data

    @property
    def words(self) -> str:
        """What it means, in a sentence."""
        if self.beaten is None:
            return f"The shortcut control could not be held against it: {self.ahead.reason}."
        if self.beaten:
            return "It ranks these files better than the shortcut control does."
        return (
            "It does not clearly beat the shortcut control: colour, sharpness, size, duration, loudness "
            "and bandwidth may tell these files apart as well as it does, so its figures here say little "
            "about manipulation."
        )


def fit(results: Sequence[FileResult], *, rounds: int = ROUNDS) -> Control:
    """Cross-validated scores of the control for every file that was decoded."""
    usable = [one for one in results if one.statistics]
    whole = Sample(
        np.array([one.label is Label.FAKE for one in usable], bool),
        np.zeros(len(usable)),
        _clusters(usable),
    )
    fewest = min(whole.independent(kind=True), whole.independent(kind=False))
    if fewest < FEWEST:
        return Control(auc=Estimate.nothing(whole.lacks() or dependent(fewest)), files=len(usable))
    names, features = _features(usable)
    scores = np.mean([_out_of_fold(features, whole, seed) for seed in range(REPEATS)], axis=0)
    found = Sample(whole.fake, scores, whole.clusters)
    return Control(
        auc=estimate(found, {"auc": (metrics.auc, "auc")}, rounds=rounds)["auc"],
        files=len(usable),
        features=names,
        scores={one.sha256: round(float(score), 6) for one, score in zip(usable, scores, strict=True)},
    )


def compare(
    results: Sequence[FileResult], subject: Subject, control: Control, *, rounds: int = ROUNDS
) -> Comparison:
    """A subject beside the control."""
    shared = [
        one for one in results if one.scores[subject].value is not None and one.sha256 in control.scores
    ]
    own = sample(shared, subject)
    reason = control.auc.reason or own.lacks()
    if reason is not None:
        none = Estimate.nothing(reason)
        return Comparison(files=len(shared), control=none, ahead=none, beaten=None)
    theirs = np.array([control.scores[one.sha256] for one in shared])
    paired = Sample(own.fake, np.column_stack([own.scores, theirs]), own.clusters)
    found = estimate(paired, {"control": (_second, "other"), "ahead": (_ahead, "other")}, rounds=rounds)
    low = found["ahead"].low
    if low is None:
        found["ahead"] = found["ahead"].model_copy(update={"reason": "not enough data for an interval"})
    return Comparison(
        files=len(shared),
        control=found["control"],
        ahead=found["ahead"],
        beaten=None if low is None else low > 0,
    )


def dependent(fewest: int) -> str:
    """Why files do not suffice though there are enough of them."""
    return f"not enough data: {fewest} independent groups of the rarer kind, {FEWEST} are needed"


def _second(fake: Bools, scores: Floats) -> float:
    return metrics.auc(fake, scores[:, 1])


def _ahead(fake: Bools, scores: Floats) -> float:
    return metrics.auc(fake, scores[:, 0]) - metrics.auc(fake, scores[:, 1])


def _clusters(results: Sequence[FileResult]) -> npt.NDArray[np.int64]:
    names = {name: n for n, name in enumerate(dict.fromkeys(one.cluster for one in results))}
    return np.array([names[one.cluster] for one in results], np.int64)


def _features(results: Sequence[FileResult]) -> tuple[tuple[str, ...], Floats]:
    """Files x statistics; what a file lacks is NaN. A statistic that no file has is left out."""
    names = tuple(name for name in NAMES if any(name in one.statistics for one in results))
    rows = [[one.statistics.get(name, np.nan) for name in names] for one in results]
    return names, np.array(rows, float)


def _out_of_fold(features: Floats, whole: Sample, seed: int) -> Floats:
    fewest = min(whole.independent(kind=True), whole.independent(kind=False))
    folds = StratifiedGroupKFold(min(FOLDS, fewest), shuffle=True, random_state=seed)
    scores = np.full(len(whole), np.nan)
    for learned, held in folds.split(features, whole.fake, whole.clusters):
        if metrics.both(whole.fake[learned]):
            model = _model().fit(features[learned], whole.fake[learned])
            scores[held] = model.predict_proba(features[held])[:, 1]
        else:
            scores[held] = whole.fake[learned].mean()
    return scores


def _model() -> Pipeline:
    """That a face or a sound is missing is a statistic as well."""
    return make_pipeline(
        SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True),
        StandardScaler(),
        LogisticRegression(class_weight="balanced", max_iter=2000),
    )
