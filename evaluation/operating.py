"""False alarms and recall at the named operating points: as the service has them, and as these data would."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, Literal

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from core.domain import Frozen, Modality, OperatingPoint, Verdict
from core.evidence import DetectorIdentity
from core.fusion.thresholds import SEED, choose
from evaluation import metrics
from evaluation.estimates import FEWEST, ROUNDS, Estimate, Sample, rate
from evaluation.metrics import Floats

#: Share of unaltered files that an operating point may accuse.
RATES: Final = {OperatingPoint.FPR_1: 0.01, OperatingPoint.FPR_5: 0.05}
FOLDS: Final = 5
REAL_FILES: Final = "unaltered files"
FAKE_FILES: Final = "altered files"


class PointFigures(Frozen):
    """One operating point of one subject."""

    point: str  #: its name; `seed` where nothing was calibrated
    source: Literal["in force", "cross-fitted"]
    threshold: float | None  #: null for a cross-fitted one: each part of the files has another
    fpr: Estimate
    recall: Estimate


def in_force(sample: Sample, threshold: float, point: str, *, rounds: int = ROUNDS) -> PointFigures:
    """What a threshold that was not chosen on these files does to them."""
    return _figures(sample, sample.scores >= threshold, point, "in force", threshold, rounds)


def cross_fitted(sample: Sample, point: OperatingPoint, *, rounds: int = ROUNDS) -> PointFigures:
    """What a threshold chosen on four fifths of the files does to the other fifth, five times over."""
    reason = _too_few(sample, point)
    if reason is not None:
        none = Estimate.nothing(reason)
        return PointFigures(point=point, source="cross-fitted", threshold=None, fpr=none, recall=none)
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0)
    flags = np.zeros(len(sample), bool)
    for learned, held in folds.split(sample.scores, sample.fake, sample.clusters):
        threshold = _chosen(sample.part(learned), point)
        flags[held] = sample.scores[held] >= threshold
    return _figures(sample, flags, point, "cross-fitted", None, rounds)


def _chosen(sample: Sample, point: OperatingPoint) -> float:
    if point in RATES:
        return metrics.threshold_at(sample.scores[~sample.fake], RATES[point])
    found = metrics.equal_threshold(sample.fake, sample.scores)
    return math.inf if math.isnan(found) else found


def _too_few(sample: Sample, point: OperatingPoint) -> str | None:
    lacks = sample.lacks()
    if lacks is not None:
        return lacks
    real, needed = int((~sample.fake).sum()), math.ceil(1 / RATES[point]) if point in RATES else 0
    if real < needed:
        return f"not enough data: {real} unaltered files, {needed} are needed"
    fewest = min(sample.independent(kind=False), sample.independent(kind=True))
    if fewest < FEWEST:
        return f"not enough data: {fewest} independent groups of the rarer kind, {FEWEST} are needed"
    return None


def _figures(
    sample: Sample,
    flags: metrics.Bools,
    point: str,
    source: Literal["in force", "cross-fitted"],
    threshold: float | None,
    rounds: int,
) -> PointFigures:
    real, fake = ~sample.fake, sample.fake
    return PointFigures(
        point=point,
        source=source,
        threshold=threshold,
        fpr=rate(flags[real], sample.clusters[real], of=REAL_FILES, rounds=rounds),
        recall=rate(flags[fake], sample.clusters[fake], of=FAKE_FILES, rounds=rounds),
    )


def of_verdicts(
    verdicts: Sequence[Verdict], fake: metrics.Bools, clusters: Floats, point: str, *, rounds: int = ROUNDS
) -> PointFigures:
    """DEEPFAKE on unaltered and on altered files; an abstention accuses nobody and finds nothing."""
    accused = np.array([verdict is Verdict.DEEPFAKE for verdict in verdicts], bool)
    sample = Sample(fake, accused.astype(float), clusters.astype(np.int64))
    return _figures(sample, accused, point, "in force", None, rounds)


def thresholds_of(detectors: Sequence[DetectorIdentity], modality: Modality) -> dict[str, float]:
    """From where on the service calls an interval of this modality suspicious, by the points it honours.

    A detector that was not calibrated honours none: the seed's one threshold stands for all of them.
    """
    found: dict[str, float] = {}
    for point in OperatingPoint:
        chosen = choose(detectors, point, intervals=1)
        own = chosen.of(modality)
        found[point.value if own.calibrated else SEED] = own.suspicious
    return found
