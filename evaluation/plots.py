"""The figures as pictures: PNG by matplotlib's Agg, which needs no screen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure

from core.domain import Label
from evaluation import metrics, words
from evaluation.document import Evaluation
from evaluation.figures import Figures
from evaluation.panel import Subject

DPI: Final = 150
INK, PAPER, FAINT, GRID = "#1d2530", "#ffffff", "#8a93a0", "#e3e7ec"
#: Told apart by people who see no red or no green as well (Okabe & Ito 2008).
REAL, FAKE = "#0072b2", "#d55e00"
COLOURS: Final = {
    Subject.VIDEO: "#0072b2",
    Subject.AUDIO: "#009e73",
    Subject.TRACE: "#cc79a7",
    Subject.VERDICT: "#1d2530",
}
TEST_ONLY: Final = "test_only: random weights, means nothing"


def draw(evaluation: Evaluation, out: Path) -> list[tuple[str, str]]:
    """Write what there is data for; file names and captions in their order."""
    wanted: tuple[tuple[str, str, Callable[[Evaluation], Figure | None]], ...] = (
        ("scores.png", "Scores of unaltered and altered files, and the thresholds in force", _scores),
        ("roc.png", "Recall over false alarms; dashed: the shortcut control", _roc),
        ("risk-coverage.png", "Errors over the share of files answered, the surest first", _risk),
        ("ladder.png", "AUC after delivery, with 95% intervals", _ladder),
        (
            "reliability.png",
            "What came true over what the score said; larger dots are more files",
            _reliability,
        ),
    )
    drawn = []
    for name, caption, make in wanted:
        figure = make(evaluation)
        if figure is None:
            (out / name).unlink(missing_ok=True)  # of an earlier run: not of these figures
            continue
        if evaluation.test_only:
            figure.text(0.995, 0.005, TEST_ONLY, ha="right", va="bottom", fontsize=7, color=FAKE)
        figure.savefig(out / name, dpi=DPI, facecolor=PAPER)
        drawn.append((name, caption))
    return drawn


def _figure(width: float, height: float, columns: int = 1) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = np.atleast_1d(figure.subplots(1, columns, squeeze=True))
    for one in axes:
        _quiet(one)
    return figure, list(axes)


def _quiet(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.tick_params(colors=INK, labelsize=8)
    axes.grid(color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)


def _labels(axes: Axes, x: str, y: str, title: str = "") -> None:
    axes.set_xlabel(x, fontsize=9, color=INK)
    axes.set_ylabel(y, fontsize=9, color=INK)
    if title:
        axes.set_title(title, fontsize=10, color=INK, loc="left")


def _scores(evaluation: Evaluation) -> Figure | None:
    shown = [one for one in evaluation.subjects if one.counts.scored and one.subject is not Subject.VERDICT]
    if not shown:
        return None
    figure, every = _figure(2.2 + 2.6 * len(shown), 3.6, len(shown))
    for axes, figures in zip(every, shown, strict=True):
        _strip(axes, evaluation, figures)
    every[0].set_ylabel("score of the file", fontsize=9, color=INK)
    return figure


def _strip(axes: Axes, evaluation: Evaluation, figures: Figures) -> None:
    """One dot a file, spread sideways by a fixed draw; the line is the median."""
    generator = np.random.default_rng(0)
    for place, (label, colour) in enumerate(((Label.REAL, REAL), (Label.FAKE, FAKE))):
        values = [
            value
            for one in evaluation.files
            if one.label is label and (value := one.scores[figures.subject].value) is not None
        ]
        spread = place + generator.uniform(-0.22, 0.22, len(values))
        axes.scatter(spread, values, s=14, color=colour, alpha=0.55, linewidths=0)
        if values:
            axes.plot([place - 0.3, place + 0.3], [np.median(values)] * 2, color=INK, linewidth=1.6)
    for point in figures.points:
        if point.threshold is not None:
            axes.axhline(point.threshold, color=FAINT, linewidth=1, linestyle="--")
            axes.text(
                1.48, point.threshold, f" {point.point}", fontsize=7, color=FAINT, va="bottom", ha="right"
            )
    counts = figures.counts
    axes.set_xticks([0, 1], [f"unaltered\n{counts.scored_real}", f"altered\n{counts.scored_fake}"])
    axes.set(xlim=(-0.5, 1.5), ylim=(-0.02, 1.02))
    axes.grid(visible=False, axis="x")
    axes.set_title(words.NAMES[figures.subject], fontsize=10, color=INK, loc="left")


def _roc(evaluation: Evaluation) -> Figure | None:
    shown = [one for one in evaluation.subjects if one.roc]
    if not shown:
        return None
    figure, (axes,) = _figure(5.2, 4.6)
    axes.plot([0, 1], [0, 1], color=GRID, linewidth=1)
    for one in shown:
        x, y = zip(*one.roc, strict=True)
        colour = COLOURS[one.subject]
        axes.plot(x, y, color=colour, linewidth=1.8, label=_named(one))
    _control_curve(axes, evaluation)
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    _labels(axes, "unaltered files flagged", "altered files found")
    axes.legend(loc="lower right", fontsize=8, frameon=False)
    return figure


def _named(one: Figures) -> str:
    return f"{words.NAMES[one.subject]}, AUC {one.auc.value:.2f}, n = {one.counts.scored}"


def _control_curve(axes: Axes, evaluation: Evaluation) -> None:
    scores = evaluation.control.scores
    kept = [one for one in evaluation.files if one.sha256 in scores]
    fake = np.array([one.label is Label.FAKE for one in kept], bool)
    if not kept or not metrics.both(fake):
        return
    x, y, _ = metrics.roc(fake, np.array([scores[one.sha256] for one in kept]))
    label = f"shortcut control, AUC {evaluation.control.auc.value:.2f}, n = {len(kept)}"
    axes.plot(x, y, color=FAINT, linewidth=1.4, linestyle="--", label=label)


def _risk(evaluation: Evaluation) -> Figure | None:
    shown = [one for one in evaluation.subjects if one.abstention.curve]
    if not shown:
        return None
    figure, (axes,) = _figure(5.6, 3.8)
    for one in shown:
        x, y = zip(*one.abstention.curve, strict=True)
        style: dict[str, Any] = {"color": COLOURS[one.subject], "linewidth": 1.8}
        axes.step([0, *x], [y[0], *y], where="pre", label=words.NAMES[one.subject], **style)
        axes.plot(x[-1], y[-1], "o", color=COLOURS[one.subject], markersize=5)
    top = max(y for one in shown for _, y in one.abstention.curve)
    axes.set(xlim=(0, 1.02), ylim=(-0.01 * max(top, 0.1), max(0.1, top * 1.1)))
    _labels(axes, "share of all files answered", "errors among them")
    axes.legend(loc="upper left", fontsize=8, frameon=False)
    return figure


def _ladder(evaluation: Evaluation) -> Figure | None:
    """Subjects beside each other on every step."""
    rungs = [one for one in evaluation.ladder if one.auc.value is not None]
    if not rungs:
        return None
    steps = list(dict.fromkeys(one.delivery for one in evaluation.ladder))
    figure, (axes,) = _figure(6.4, 3.8)
    for n, subject in enumerate(dict.fromkeys(one.subject for one in rungs)):
        mine = [one for one in rungs if one.subject is subject]
        places = [steps.index(one.delivery) + 0.12 * n for one in mine]
        colour, values = COLOURS[subject], [one.auc.value or 0.0 for one in mine]
        axes.plot(places, values, "o", color=colour, markersize=5, label=words.NAMES[subject])
        for place, one in zip(places, mine, strict=True):
            if one.auc.low is not None and one.auc.high is not None:
                axes.plot([place, place], [one.auc.low, one.auc.high], color=colour, linewidth=1.4)
    axes.axhline(0.5, color=FAINT, linewidth=1, linestyle="--")
    for place, step in enumerate(steps):
        if step not in {one.delivery for one in rungs}:
            axes.text(place, 0.51, "not enough\ndata", fontsize=7, color=FAINT, ha="center", va="bottom")
    axes.set_xticks(range(len(steps)), [step.replace("_", " ") for step in steps])
    axes.set(xlim=(-0.4, len(steps) - 0.4), ylim=(min(0.4, axes.get_ylim()[0]), 1.02))
    axes.grid(visible=False, axis="x")
    _labels(axes, "", "AUC")
    axes.legend(loc="lower left", fontsize=8, frameon=False)
    return figure


def _reliability(evaluation: Evaluation) -> Figure | None:
    shown: Sequence[Figures] = [
        one for one in evaluation.subjects if one.auc.value is not None and one.subject is not Subject.VERDICT
    ]
    if not shown:
        return None
    figure, (axes,) = _figure(5.2, 4.6)
    axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1)
    for one in shown:
        bins = one.reliability
        x, y = [part.score for part in bins], [part.share for part in bins]
        most = max(part.files for part in bins)
        sizes = [20 + 130 * part.files / most for part in bins]
        axes.plot(x, y, color=COLOURS[one.subject], linewidth=1, alpha=0.6)
        axes.scatter(x, y, s=sizes, color=COLOURS[one.subject], label=words.NAMES[one.subject], alpha=0.8)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.04, 1.04), aspect="equal")
    _labels(axes, "mean score", "share of altered files")
    legend = axes.legend(loc="upper left", fontsize=8, frameon=False)
    for handle in legend.legend_handles:
        if isinstance(handle, PathCollection):
            handle.set_sizes([30])
    return figure
