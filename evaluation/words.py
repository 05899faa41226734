"""What an evaluation says, in sentences: read before the tables, and instead of them by most."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from typing import Final

from evaluation.document import Evaluation
from evaluation.estimates import Estimate
from evaluation.figures import Counts, Figures
from evaluation.panel import NOT_WANTED, Subject

NAMES: Final = {
    Subject.VIDEO: "Video detector",
    Subject.AUDIO: "Audio detector",
    Subject.TRACE: "blend-trace",
    Subject.VERDICT: "Verdict",
}
#: Width of an interval of an AUC beyond which it says hardly anything.
WIDE: Final = 0.2


def headlines(evaluation: Evaluation) -> Iterator[str]:
    """The sentences that nobody should miss, the gravest first."""
    if evaluation.test_only:
        yield (
            "**`test_only`: detectors made for tests took part. Their weights are random; every figure of "
            "them, and of the verdict, means nothing.**"
        )
    yield from _missing(evaluation)
    for figures in evaluation.subjects:
        yield f"{NAMES[figures.subject]}: {summary(figures)}"
    lost = [one for one in evaluation.files if one.error is not None]
    if lost:
        yield f"{_count(len(lost), 'file')} could not be decoded; the table of files says why."


def _missing(evaluation: Evaluation) -> Iterator[str]:
    spoke = [figures for figures in evaluation.subjects if figures.detector is not None]
    for subject, absent in evaluation.absent.items():
        if absent != NOT_WANTED and subject in {figures.subject for figures in evaluation.subjects}:
            mend = f" Mend it with `{absent.mend}`." if absent.mend else ""
            yield f"{NAMES[subject]}: not measured ({absent.code}): {plain(absent.detail)}{mend}"
    if [figures.subject for figures in spoke] == [Subject.TRACE]:
        yield (
            "blend-trace alone was measured. It sees traces of pasting one face over another and nothing "
            "else: these figures say nothing of generated video, neural face swaps or cloned voices, and as "
            "blend-trace never accuses alone, the verdict cannot be DEEPFAKE."
        )


def summary(figures: Figures) -> str:
    """One subject in a few sentences."""
    counts = figures.counts
    if not counts.scored:
        return f"no file got a score ({reasons(counts)})."
    said = [f"{_of(counts)} got a score{f' ({reasons(counts)})' if counts.unscored else ''}."]
    if figures.auc.value is None:
        said.append(f"Nothing can be told apart: {figures.auc.reason}.")
    else:
        said.append(f"AUC {shown(figures.auc)}, equal error rate {shown(figures.eer, percent=True)}.")
        said += [_width(figures.auc)] if _width(figures.auc) else []
        said.append(figures.control.words)
    return " ".join(said)


def _width(estimate: Estimate) -> str:
    if estimate.low is None or estimate.high is None:
        return "There are too few files for an interval, so that is an anecdote and no measurement."
    if estimate.high - estimate.low > WIDE:
        return "The interval is wide: more files, from more sources, would say more."
    return ""


def reasons(counts: Counts) -> str:
    """Why files have no score."""
    return ", ".join(f"{reason}: {files}" for reason, files in counts.unscored.items())


def shown(estimate: Estimate, *, percent: bool = False) -> str:
    """A figure with its interval; what is null says why."""
    if estimate.value is None:
        return f"— ({estimate.reason})"
    scale, digits, sign = (100, 1, " %") if percent else (1, 3, "")
    value = f"{scale * estimate.value:.{digits}f}"
    if estimate.low is None or estimate.high is None:
        return f"{value}{sign}"
    return f"{value}{sign} [{scale * estimate.low:.{digits}f}, {scale * estimate.high:.{digits}f}]"


def plain(text: str, limit: int = 120) -> str:
    """Foreign text in a cell of a Markdown table: one line, no markup, nothing invisible."""
    visible = "".join(" " if unicodedata.category(c)[0] in "CZ" else c for c in text)
    cut = visible if len(visible) <= limit else visible[: limit - 1] + "…"
    return "".join(f"\\{c}" if c in "\\`*_{}[]<>()#|!~" else c for c in cut)


def _of(counts: Counts) -> str:
    return (
        f"{counts.scored} of {counts.files} files "
        f"({counts.scored_real} unaltered, {counts.scored_fake} altered)"
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
