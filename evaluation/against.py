"""Old against new on the same files: what another version, another calibration or other weights changed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from core.domain import Frozen, Label, OperatingPoint, Verdict
from evaluation import metrics
from evaluation.estimates import ROUNDS, Estimate, Sample, estimate
from evaluation.figures import Figures
from evaluation.metrics import Bools, Floats
from evaluation.panel import Subject
from evaluation.samples import FileResult, sample


class Change(Frozen):
    """One subject then and now, on the files that both scored."""

    subject: Subject
    old: str | None  #: who spoke then; null: the verdict, or nobody
    new: str | None
    files: int  #: that both scored
    only_old: int  #: scored then and not now
    only_new: int
    old_auc: Estimate
    new_auc: Estimate
    gain: Estimate  #: AUC now less AUC then, paired
    mended: int  #: verdicts that were wrong or INCONCLUSIVE and are right now
    broken: int  #: that were right and are not now


class Against(Frozen):
    """Two evaluations beside each other."""

    old: str  #: conditions of the earlier one
    files: int  #: with the same bytes and the same label in both
    relabelled: int  #: with the same bytes and another label: left out
    changes: tuple[Change, ...]


def compare(
    old_files: Sequence[FileResult],
    old_figures: Sequence[Figures],
    files: Sequence[FileResult],
    figures: Sequence[Figures],
    *,
    conditions: str,
    rounds: int = ROUNDS,
) -> Against:
    """What changed since the earlier evaluation, on the files that both have."""
    earlier = {one.sha256: one for one in old_files}
    both = [(earlier[one.sha256], one) for one in files if one.sha256 in earlier]
    same = [(old, new) for old, new in both if old.label is new.label]
    known = {one.subject: one for one in old_figures}
    return Against(
        old=conditions,
        files=len(same),
        relabelled=len(both) - len(same),
        changes=tuple(
            _change(same, known[one.subject], one, rounds) for one in figures if one.subject in known
        ),
    )


def _change(
    pairs: Sequence[tuple[FileResult, FileResult]], before: Figures, after: Figures, rounds: int
) -> Change:
    subject = after.subject
    scored = [
        (old.scores[subject].value is not None, new.scores[subject].value is not None) for old, new in pairs
    ]
    shared = [pair for pair, both in zip(pairs, scored, strict=True) if all(both)]
    found = _paired(shared, subject)
    figures = estimate(
        found,
        {"old": (_then, "other"), "new": (_now, "other"), "gain": (_gain, "other")},
        rounds=rounds,
    )
    verdicts = [(_right(old), _right(new)) for old, new in pairs] if subject is Subject.VERDICT else []
    return Change(
        subject=subject,
        old=_who(before),
        new=_who(after),
        files=len(shared),
        only_old=sum(old and not new for old, new in scored),
        only_new=sum(new and not old for old, new in scored),
        old_auc=figures["old"],
        new_auc=figures["new"],
        gain=figures["gain"],
        mended=sum(new and not old for old, new in verdicts),
        broken=sum(old and not new for old, new in verdicts),
    )


def _paired(pairs: Sequence[tuple[FileResult, FileResult]], subject: Subject) -> Sample:
    """Both scores of each file side by side; the groups are those of now."""
    then = np.array([old.scores[subject].value for old, _ in pairs], float)
    now = sample([new for _, new in pairs], subject)
    return Sample(now.fake, np.column_stack([then, now.scores]), now.clusters)


def _then(fake: Bools, scores: Floats) -> float:
    return metrics.auc(fake, scores[:, 0])


def _now(fake: Bools, scores: Floats) -> float:
    return metrics.auc(fake, scores[:, 1])


def _gain(fake: Bools, scores: Floats) -> float:
    return _now(fake, scores) - _then(fake, scores)


def _right(one: FileResult) -> bool:
    wanted = Verdict.DEEPFAKE if one.label is Label.FAKE else Verdict.REAL
    return one.verdicts.get(OperatingPoint.BALANCED) is wanted


def _who(figures: Figures) -> str | None:
    if figures.detector is None:
        return None
    mark = "calibrated" if figures.detector.calibrated else "uncalibrated"
    return f"{figures.detector.id} {figures.detector.version} {figures.detector.digest[7:19]} ({mark})"
