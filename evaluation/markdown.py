"""The evaluation as Markdown: sentences first, then tables, then one line a file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from core.domain import OperatingPoint
from evaluation import words
from evaluation.document import Evaluation
from evaluation.figures import Counts, Figures
from evaluation.panel import Subject
from evaluation.samples import FileResult
from evaluation.statistics import NAMES as STATISTICS
from evaluation.words import plain, shown

#: Files of the last table; all of them are in the JSON.
FILES_SHOWN: Final = 500
Row = Sequence[str]


def render(evaluation: Evaluation, plots: Sequence[tuple[str, str]] = ()) -> str:
    """The document; `plots` are file name and caption, in their order."""
    return "\n".join(_lines(evaluation, plots)) + "\n"


def _lines(evaluation: Evaluation, plots: Sequence[tuple[str, str]]) -> Iterator[str]:
    yield f"# Evaluation on {plain(evaluation.source)}"
    yield ""
    yield from (f"- {line}" for line in words.headlines(evaluation))
    yield ""
    yield from _ranking(evaluation.subjects)
    yield from _points(evaluation.subjects)
    yield from _truth(evaluation.subjects)
    yield from _verdicts(evaluation.subjects)
    yield from _abstention(evaluation.subjects)
    yield from _control(evaluation)
    yield from _ladder(evaluation)
    yield from _against(evaluation)
    for figures in evaluation.subjects:
        yield from _groups(figures)
    for name, caption in plots:
        yield from (f"![{caption}]({name})", "", f"*{caption}*", "")
    yield from _made_by(evaluation)
    yield from _files(evaluation)


def _table(title: str, head: Row, rows: Iterable[Row], note: str = "") -> Iterator[str]:
    body = list(rows)
    if not body:
        return
    yield from (f"## {title}", "")
    if note:
        yield from (note, "")
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    yield from ("| " + " | ".join(row) + " |" for row in body)
    yield ""


def _scored(counts: Counts) -> str:
    return f"{counts.scored} of {counts.files} ({counts.scored_real} + {counts.scored_fake})"


def _ranking(subjects: Sequence[Figures]) -> Iterator[str]:
    yield from _table(
        "Telling altered from unaltered",
        ("", "files scored (unaltered + altered)", "AUC", "equal error rate", "average precision",
         "intervals", "AUC of intervals"),
        (
            (
                words.NAMES[one.subject],
                _scored(one.counts),
                shown(one.auc),
                shown(one.eer, percent=True),
                shown(one.average_precision),
                str(one.counts.scored_intervals) if one.subject is not Subject.VERDICT else "",
                shown(one.interval_auc) if one.subject is not Subject.VERDICT else "",
            )
            for one in subjects
        ),
        "A file's score is the mean over its scored intervals; the verdict's is its strongest accusation. "
        "In brackets: 95% intervals, resampled by group where groups are given. An interval carries the "
        "label of its file, which is unfair to a detector where only a part of the file is altered.",
    )  # fmt: skip


def _points(subjects: Sequence[Figures]) -> Iterator[str]:
    yield from _table(
        "False alarms and recall",
        ("", "operating point", "threshold", "unaltered files flagged", "altered files found"),
        (
            (
                words.NAMES[one.subject],
                f"{point.point}, {point.source}",
                "" if point.threshold is None else f"{point.threshold:.3f}",
                shown(point.fpr, percent=True),
                shown(point.recall, percent=True),
            )
            for one in subjects
            for point in one.points
        ),
        "*In force*: the threshold that the service uses, not chosen on these files. *Cross-fitted*: chosen "
        "on four fifths of these files and tried on the other fifth, five times over. For the verdict, "
        "flagged is DEEPFAKE, of all files that could be decoded.",
    )


def _truth(subjects: Sequence[Figures]) -> Iterator[str]:
    yield from _table(
        "Whether a score means what it says",
        ("", "calibrated", "expected calibration error", "Brier score"),
        (
            (
                words.NAMES[one.subject],
                "yes" if one.detector is not None and one.detector.calibrated else "no",
                shown(one.calibration_error),
                shown(one.brier),
            )
            for one in subjects
            if one.subject is not Subject.VERDICT
        ),
        "0 is perfect. The calibration error has an upward bias that grows as files get few. Both depend on "
        "the share of altered files in the list, which elsewhere is another one.",
    )


def _verdicts(subjects: Sequence[Figures]) -> Iterator[str]:
    tables = [table for one in subjects for table in one.verdicts]
    yield from _table(
        "Verdicts",
        ("operating point", "files", "DEEPFAKE", "INCONCLUSIVE", "REAL"),
        (
            (table.point, kind, *(str(given[name]) for name in ("DEEPFAKE", "INCONCLUSIVE", "REAL")))
            for table in tables
            for kind, given in (("unaltered", table.real), ("altered", table.fake))
        ),
        "Operating points are honoured only by calibrated detectors; without a calibration all are the same.",
    )


def _abstention(subjects: Sequence[Figures]) -> Iterator[str]:
    yield from _table(
        "Abstaining",
        (
            "",
            "files answered",
            "errors among them",
            "mean error over all shares answered",
            "unanswered because",
        ),
        (
            (
                words.NAMES[one.subject],
                shown(one.abstention.answered, percent=True),
                shown(one.abstention.risk, percent=True),
                shown(one.abstention.risk_area, percent=True),
                words.reasons(one.counts) or "—",
            )
            for one in subjects
        ),
        "A detector answers where it has a score, fake at or above its threshold; the verdict answers where "
        "it is not INCONCLUSIVE. The third figure is the area under risk over coverage, the surest first.",
    )


def _control(evaluation: Evaluation) -> Iterator[str]:
    control = evaluation.control
    yield from _table(
        "Against the shortcut control",
        ("", "files", "AUC of the control on them", "AUC ahead of it", "beaten"),
        (
            (
                words.NAMES[one.subject],
                str(one.control.files),
                shown(one.control.control),
                shown(one.control.ahead),
                {True: "yes", False: "**no**", None: "cannot be said"}[one.control.beaten],
            )
            for one in evaluation.subjects
        ),
        f"A logistic regression on {len(STATISTICS)} statistics of colour, sharpness, size, duration, "
        f"loudness and bandwidth, cross-validated. On all {control.files} decoded files its AUC is "
        f"{shown(control.auc)}. It knows nothing of manipulation, and a detector that does not beat it may "
        "not either.",
    )


def _ladder(evaluation: Evaluation) -> Iterator[str]:
    yield from _table(
        "After delivery",
        ("", "delivery", "files scored", "AUC", "unaltered flagged", "altered found",
         "mean change of score, unaltered / altered"),
        (
            (
                words.NAMES[one.subject],
                one.delivery,
                f"{one.scored} of {one.files}" + (f", {one.failed} failed" if one.failed else ""),
                shown(one.auc),
                shown(one.fpr, percent=True),
                shown(one.recall, percent=True),
                f"{_signed(one.change_real)} / {_signed(one.change_fake)}",
            )
            for one in evaluation.ladder
        ),
        "The same parts of the same files (at most 12 intervals and 30 s of each, evenly spread), re-encoded "
        "with x264 at three qualities, at half and a quarter of both sides, and with a tenth cut off each "
        "edge. The sound is left out. Flagged and found at the threshold in force.",
    )  # fmt: skip


def _signed(change: float | None) -> str:
    return "—" if change is None else f"{change:+.3f}"


def _against(evaluation: Evaluation) -> Iterator[str]:
    found = evaluation.against
    if found is None:
        return
    left_out = f" {found.relabelled} have another label now and are left out." if found.relabelled else ""
    yield from _table(
        "Old against new",
        ("", "old", "new", "files", "AUC, old", "AUC, new", "gain", "scored by one alone, old / new",
         "verdicts mended / broken"),
        (
            (
                words.NAMES[one.subject],
                plain(one.old or "—"),
                plain(one.new or "—"),
                str(one.files),
                shown(one.old_auc),
                shown(one.new_auc),
                shown(one.gain),
                f"{one.only_old} / {one.only_new}",
                f"{one.mended} / {one.broken}" if one.subject is Subject.VERDICT else "",
            )
            for one in found.changes
        ),
        f"On the {found.files} files that both evaluations have (the earlier one: conditions "
        f"`{found.old}`).{left_out} The gain is paired: its interval holds 0 where nothing is shown.",
    )  # fmt: skip


def _groups(figures: Figures) -> Iterator[str]:
    yield from _table(
        f"{words.NAMES[figures.subject]} by group",
        (
            "group",
            "files scored",
            "AUC",
            "unaltered files flagged",
            "altered files found",
            "unscored because",
        ),
        (
            (
                plain(one.group),
                _scored(one.counts),
                shown(one.auc),
                shown(one.fpr, percent=True),
                shown(one.recall, percent=True),
                words.reasons(one.counts) or "—",
            )
            for one in figures.groups
        ),
    )


def _made_by(evaluation: Evaluation) -> Iterator[str]:
    conditions = evaluation.conditions
    yield from _table(
        "Measured with",
        ("", "id", "version", "weights", "calibrated"),
        (
            (
                words.NAMES[one.subject],
                plain(one.detector.id),
                plain(one.detector.version),
                f"`{one.detector.digest[:23]}…`",
                "yes" if one.detector.calibrated else "no",
            )
            for one in evaluation.subjects
            if one.detector is not None
        ),
        f"DeepDefend {conditions.version}, {evaluation.made_at:%Y-%m-%d %H:%M} UTC; intervals of "
        f"{conditions.options.interval_seconds:g} s with {conditions.options.frames_per_interval} frames; "
        f"conditions `{conditions.digest}`.",
    )


def _files(evaluation: Evaluation) -> Iterator[str]:
    subjects = [one.subject for one in evaluation.subjects if one.subject is not Subject.VERDICT]
    head = ("file", "label", "group", *(words.NAMES[subject] for subject in subjects), "verdict")
    more = len(evaluation.files) - FILES_SHOWN
    yield from _table(
        "Files",
        head,
        (_file(one, subjects) for one in evaluation.files[:FILES_SHOWN]),
        f"The first {FILES_SHOWN}; {more} more are in the JSON." if more > 0 else "",
    )


def _file(one: FileResult, subjects: Sequence[Subject]) -> Row:
    known = (plain(one.name), one.label.value, plain(one.group or ""))
    if one.error is not None:
        return (*known, *("—" for _ in subjects), plain(f"{one.error}: {one.detail or ''}"))
    scores = [one.scores[subject] for subject in subjects]
    return (
        *known,
        *((score.reason or "") if score.value is None else f"{score.value:.3f}" for score in scores),
        one.verdicts[OperatingPoint.BALANCED].value,
    )
