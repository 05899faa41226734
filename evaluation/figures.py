"""All figures of one subject: what it ranks, where it errs, how often it abstains."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from core.domain import Frozen, Label, OperatingPoint, Verdict
from core.evidence import DetectorIdentity
from evaluation import metrics, operating
from evaluation.control import Comparison, Control, compare
from evaluation.estimates import ROUNDS, Estimate, Sample, Statistic, estimate, rate
from evaluation.estimates import Kind as EstimateKind
from evaluation.metrics import Bin
from evaluation.operating import PointFigures
from evaluation.panel import Absent, Subject
from evaluation.samples import FileResult, confidence, interval_sample, sample

Curve = tuple[tuple[float, float], ...]

RANKING: Final[dict[str, tuple[Statistic, EstimateKind]]] = {
    "auc": (metrics.auc, "auc"),
    "eer": (metrics.eer, "other"),
    "average_precision": (metrics.average_precision, "other"),
}
TRUTH: Final[dict[str, tuple[Statistic, EstimateKind]]] = {
    "brier": (metrics.brier, "other"),
    "calibration_error": (metrics.calibration_error, "other"),
}
#: Points of a curve that is kept; more cannot be seen.
CURVE_POINTS: Final = 400


class Counts(Frozen):
    """How many files and intervals there are, and how many were scored."""

    real: int
    fake: int
    scored_real: int
    scored_fake: int
    scored_intervals: int
    unscored: dict[str, int]  #: reason -> files

    @property
    def files(self) -> int:
        """All of them."""
        return self.real + self.fake

    @property
    def scored(self) -> int:
        """Those with a score."""
        return self.scored_real + self.scored_fake


class Abstention(Frozen):
    """What leaving files unanswered costs and buys."""

    threshold: float  #: the answer is fake at or above it
    answered: Estimate  #: share of files with an answer
    risk: Estimate  #: error rate among the answered
    risk_area: Estimate  #: mean error rate over all shares that may be answered, the surest first
    curve: Curve = ()  #: (share of all files answered, error rate among them)


class GroupFigures(Frozen):
    """One group's part."""

    group: str
    counts: Counts
    auc: Estimate
    fpr: Estimate  #: at the threshold in force
    recall: Estimate


class VerdictTable(Frozen):
    """How often each verdict was given at an operating point."""

    point: str
    real: dict[str, int]  #: verdict -> unaltered files
    fake: dict[str, int]  #: verdict -> altered files


class Figures(Frozen):
    """Everything measured of one subject."""

    subject: Subject
    detector: DetectorIdentity | None  #: null for the verdict, and for what could not be opened
    absent: Absent | None
    counts: Counts
    auc: Estimate
    eer: Estimate
    average_precision: Estimate
    brier: Estimate
    calibration_error: Estimate
    interval_auc: Estimate
    points: tuple[PointFigures, ...]
    abstention: Abstention
    control: Comparison
    verdicts: tuple[VerdictTable, ...] = ()  #: of the verdict alone
    groups: tuple[GroupFigures, ...] = ()
    roc: Curve = ()  #: (false-positive rate, recall)
    reliability: tuple[Bin, ...] = ()


def of_subject(
    results: Sequence[FileResult],
    subject: Subject,
    *,
    detector: DetectorIdentity | None,
    absent: Absent | None,
    control: Control,
    thresholds: Mapping[str, float],
    by_group: bool = False,
    rounds: int = ROUNDS,
) -> Figures:
    """The figures of a subject on these files; `thresholds` by operating point are those of the service."""
    threshold = thresholds.get(OperatingPoint.BALANCED.value, next(iter(thresholds.values())))
    found = sample(results, subject)
    ranking = estimate(found, RANKING, rounds=rounds)
    truth = estimate(found, TRUTH, rounds=rounds)
    spread = interval_sample(results, subject)
    is_verdict = subject is Subject.VERDICT
    return Figures(
        subject=subject,
        detector=detector,
        absent=absent,
        counts=counts(results, subject),
        **ranking,
        **truth,
        interval_auc=estimate(spread, {"auc": (metrics.auc, "auc")}, rounds=rounds)["auc"],
        points=_verdict_points(results, rounds) if is_verdict else _points(found, thresholds, rounds),
        abstention=_verdict_abstention(results, rounds)
        if is_verdict
        else _abstention(results, found, subject, threshold, rounds),
        control=compare(results, subject, control, rounds=rounds),
        verdicts=_verdict_tables(results) if is_verdict else (),
        groups=_groups(results, subject, threshold, rounds) if by_group else (),
        roc=_roc(found),
        reliability=metrics.reliability(found.fake, found.scores),
    )


def counts(results: Sequence[FileResult], subject: Subject) -> Counts:
    """How many there are."""
    scored = [one for one in results if one.scores[subject].value is not None]
    reasons = Counter(
        one.scores[subject].reason or "" for one in results if one.scores[subject].value is None
    )
    return Counts(
        real=sum(one.label is Label.REAL for one in results),
        fake=sum(one.label is Label.FAKE for one in results),
        scored_real=sum(one.label is Label.REAL for one in scored),
        scored_fake=sum(one.label is Label.FAKE for one in scored),
        scored_intervals=sum(len(one.scores[subject].intervals) for one in scored),
        unscored=dict(reasons.most_common()),
    )


def _points(found: Sample, thresholds: Mapping[str, float], rounds: int) -> tuple[PointFigures, ...]:
    given = (operating.in_force(found, bound, point, rounds=rounds) for point, bound in thresholds.items())
    fitted = (operating.cross_fitted(found, point, rounds=rounds) for point in OperatingPoint)
    return (*given, *fitted)


def _verdict_points(results: Sequence[FileResult], rounds: int) -> tuple[PointFigures, ...]:
    judged, fake, clusters = _judged(results)
    return tuple(
        operating.of_verdicts(
            [one.verdicts[point] for one in judged], fake, clusters, point.value, rounds=rounds
        )
        for point in OperatingPoint
    )


def _judged(results: Sequence[FileResult]) -> tuple[list[FileResult], metrics.Bools, metrics.Floats]:
    """The files that have a verdict."""
    judged = [one for one in results if one.verdicts]
    fake = np.array([one.label is Label.FAKE for one in judged], bool)
    names = {name: n for n, name in enumerate(dict.fromkeys(one.cluster for one in judged))}
    return judged, fake, np.array([names[one.cluster] for one in judged], float)


def _verdict_tables(results: Sequence[FileResult]) -> tuple[VerdictTable, ...]:
    judged, _, _ = _judged(results)

    def of(point: OperatingPoint, label: Label) -> dict[str, int]:
        given = Counter(one.verdicts[point].value for one in judged if one.label is label)
        return {verdict.value: given[verdict.value] for verdict in Verdict}

    return tuple(
        VerdictTable(point=point.value, real=of(point, Label.REAL), fake=of(point, Label.FAKE))
        for point in OperatingPoint
    )


def _abstention(
    results: Sequence[FileResult], found: Sample, subject: Subject, threshold: float, rounds: int
) -> Abstention:
    """The detector answers where it has a score; its confidence is the distance from the threshold."""
    answered = np.array([one.scores[subject].value is not None for one in results], bool)
    wrong = (found.scores >= threshold) != found.fake
    sure = np.array([confidence(score, threshold) for score in found.scores], float)
    return _selective(_clusters(results), answered, found, wrong, sure, threshold, rounds)


def _verdict_abstention(results: Sequence[FileResult], rounds: int) -> Abstention:
    """The verdict answers where it is not INCONCLUSIVE; its confidence is the one of the report."""
    point = OperatingPoint.BALANCED
    given = [one.verdicts.get(point, Verdict.INCONCLUSIVE) for one in results]
    answered = np.array([verdict is not Verdict.INCONCLUSIVE for verdict in given], bool)
    kept = [
        (one, verdict) for one, verdict in zip(results, given, strict=True) if verdict.value != "INCONCLUSIVE"
    ]
    fake = np.array([one.label is Label.FAKE for one, _ in kept], bool)
    wrong = np.array([(verdict is Verdict.DEEPFAKE) for _, verdict in kept], bool) != fake
    sure = np.array([one.confidence or 0.0 for one, _ in kept], float)
    clusters = _clusters(results)
    found = Sample(fake, sure, clusters[answered])
    return _selective(clusters, answered, found, wrong, sure, 0.5, rounds)


def _clusters(results: Sequence[FileResult]) -> np.ndarray:
    names = {name: n for n, name in enumerate(dict.fromkeys(one.cluster for one in results))}
    return np.array([names[one.cluster] for one in results], np.int64)


def _selective(
    clusters: np.ndarray,
    answered: metrics.Bools,
    found: Sample,
    wrong: metrics.Bools,
    sure: metrics.Floats,
    threshold: float,
    rounds: int,
) -> Abstention:
    share = rate(answered, clusters, of="files", rounds=rounds)
    risk = rate(wrong, found.clusters, of="answered files", rounds=rounds)
    enough = risk.value is not None
    area = Estimate(value=round(metrics.risk_area(wrong, sure), 6)) if enough else risk
    coverage, risks = metrics.risk_coverage(wrong, sure)
    scale = len(found) / max(len(answered), 1)
    return Abstention(
        threshold=threshold,
        answered=share,
        risk=risk,
        risk_area=area,
        curve=_thinned(coverage * scale, risks),
    )


def _groups(
    results: Sequence[FileResult], subject: Subject, threshold: float, rounds: int
) -> tuple[GroupFigures, ...]:
    names = sorted({one.group for one in results if one.group is not None})
    return tuple(
        _group(name, [one for one in results if one.group == name], subject, threshold, rounds)
        for name in names
    )


def _group(
    name: str, results: Sequence[FileResult], subject: Subject, threshold: float, rounds: int
) -> GroupFigures:
    """Inside a group files are resampled: there is only one group."""
    alone = [one.model_copy(update={"group": None}) for one in results]
    found = sample(alone, subject)
    if subject is Subject.VERDICT:
        judged, fake, clusters = _judged(alone)
        point = operating.of_verdicts(
            [one.verdicts[OperatingPoint.BALANCED] for one in judged], fake, clusters, name, rounds=rounds
        )
    else:
        point = operating.in_force(found, threshold, name, rounds=rounds)
    return GroupFigures(
        group=name,
        counts=counts(alone, subject),
        auc=estimate(found, {"auc": (metrics.auc, "auc")}, rounds=rounds)["auc"],
        fpr=point.fpr,
        recall=point.recall,
    )


def _roc(found: Sample) -> Curve:
    if found.lacks() is not None:
        return ()
    rates, recalls, _ = metrics.roc(found.fake, found.scores)
    return _thinned(rates, recalls)


def _thinned(x: metrics.Floats, y: metrics.Floats) -> Curve:
    if not len(x):
        return ()
    kept = np.unique(np.linspace(0, len(x) - 1, min(len(x), CURVE_POINTS)).astype(int))
    return tuple((round(float(x[n]), 6), round(float(y[n]), 6)) for n in kept.tolist())
