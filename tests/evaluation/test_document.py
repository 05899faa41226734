"""Figures, sentences, tables and plots of whole evaluations, from given scores."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from core.domain import Label, Modality, Variant
from core.evidence import DetectorIdentity
from evaluation import control, document, markdown, write
from evaluation.document import Evaluation
from evaluation.figures import Figures
from evaluation.manifest import Entry
from evaluation.measured import Measured
from evaluation.panel import NOT_WANTED, Panel, Subject
from tests.evaluation.made import broken, entry, measured, panel

ROUNDS = 60


class Identified:
    """What the document asks of an opened detector."""

    def __init__(self, modality: Modality, *, test_only: bool = False) -> None:
        self.identity = DetectorIdentity(
            id=modality.value, modality=modality, version="local", digest="sha256:" + "0" * 64,
            fake_label="fake", test_only=test_only,
        )  # fmt: skip
        self.threshold = 0.9


def files(
    count: int, *, gap: float = 0.3, leak: float = 0.0, people: int = 10
) -> Iterator[tuple[Entry, Measured]]:
    """As many of each kind, whose scores lie `gap` apart, and whose loudness `leak` standard deviations."""
    generator = np.random.default_rng(3)
    for n in range(2 * count):
        label = "fake" if n % 2 else "real"
        score = float(np.clip(0.35 + gap * (n % 2) + 0.1 * generator.normal(), 0, 1))
        numbers = {"loudness": generator.normal() + leak * (n % 2), "duration": generator.normal()}
        name = f"{n}.mp4"
        delivered = {Variant.CRF_35: max(0.0, score - 0.2 * (n % 2)), Variant.HALF: score}
        yield (
            entry(name, label, f"person {n // 2 % people}"),
            measured(name, [score] * 4, statistics=numbers, delivered=delivered, trace=score),
        )


def evaluated(
    found: list[tuple[Entry, Measured]], opened: Panel | None = None, **asked: object
) -> Evaluation:
    entries = [one for one, _ in found]
    return document.evaluate(
        entries,
        {one.sha256: one for _, one in found},
        opened or panel(),
        source="labels.csv",
        rounds=ROUNDS,
        **asked,  # type: ignore[arg-type]
    )


def of(evaluation: Evaluation, subject: Subject) -> Figures:
    return next(one for one in evaluation.subjects if one.subject is subject)


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    """One partition for the control: five take most of the time, and steady its figures alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(control, "REPEATS", 1)
        yield


@pytest.fixture(scope="module")
def good() -> Evaluation:
    return evaluated(list(files(30)), by_group=True)


def test_a_detector_that_tells_them_apart(good: Evaluation) -> None:
    video = of(good, Subject.VIDEO)
    assert video.auc.value is not None
    assert video.auc.value > 0.95
    assert video.auc.low is not None
    assert video.control.beaten is True
    assert "better than the shortcut control" in video.control.words
    assert (video.counts.scored_real, video.counts.scored_fake, video.counts.scored_intervals) == (
        30,
        30,
        240,
    )
    points = {(one.point, one.source): one for one in video.points}
    assert points["fpr_1", "cross-fitted"].fpr.reason == "not enough data: 30 unaltered files, 100 are needed"
    assert points["fpr_5", "cross-fitted"].fpr.value is not None
    assert points["seed", "in force"].threshold == 0.6


def test_a_detector_that_learned_the_microphone_is_found_out() -> None:
    """Files that loudness alone tells apart: to rank them is no skill."""
    found = of(evaluated(list(files(30, gap=0.1, leak=4.0))), Subject.VIDEO)
    assert found.control.control.value is not None
    assert found.control.control.value > 0.95
    assert found.control.beaten is False
    assert "say little about manipulation" in found.control.words


def test_the_control_learns_nothing_from_noise(good: Evaluation) -> None:
    assert good.control.auc.value == pytest.approx(0.5, abs=0.25)
    assert good.control.features == ("duration", "loudness")


def test_verdicts_are_counted_by_label(good: Evaluation) -> None:
    verdict = of(good, Subject.VERDICT)
    table = verdict.verdicts[-1]
    assert sum(table.real.values()) == sum(table.fake.values()) == 30
    flagged = next(one for one in verdict.points if one.point == table.point)
    assert flagged.recall.value == pytest.approx(table.fake["DEEPFAKE"] / 30)
    assert verdict.abstention.answered.value == pytest.approx(
        1 - (table.real["INCONCLUSIVE"] + table.fake["INCONCLUSIVE"]) / 60
    )


def test_groups_have_their_own_figures_or_a_reason(good: Evaluation) -> None:
    groups = of(good, Subject.VIDEO).groups
    assert [one.group for one in groups][:2] == ["person 0", "person 1"]
    assert groups[0].counts.files == 6
    assert groups[0].auc.reason == "not enough data: 3 unaltered and 3 altered, 5 of each are needed"
    assert of(evaluated(list(files(30))), Subject.VIDEO).groups == ()


def test_delivery_that_costs_recall_shows(good: Evaluation) -> None:
    rungs = {one.delivery: one for one in good.ladder if one.subject is Subject.VIDEO}
    assert rungs["original"].auc == rungs["half"].auc
    assert rungs["crf_35"].change_real == 0
    assert rungs["crf_35"].change_fake == pytest.approx(-0.2, abs=0.01)
    assert rungs["crf_35"].auc.value is not None
    assert rungs["original"].auc.value is not None
    assert rungs["crf_35"].auc.value < rungs["original"].auc.value - 0.05
    assert (rungs["crf_28"].scored, rungs["crf_28"].failed) == (0, 60)


def test_what_was_not_scored_is_counted_by_its_reason() -> None:
    found = [
        *files(6),
        (entry("broken.mp4", "real"), broken("broken.mp4")),
        (entry("faceless.mp4", "fake"), measured("faceless.mp4", [None, None], audio=None)),
    ]
    evaluation = evaluated(found)
    video = of(evaluation, Subject.VIDEO)
    assert video.counts.unscored == {"undecodable_media": 1, "no_face": 1}
    assert video.abstention.answered.value == pytest.approx(12 / 14, abs=1e-6)
    assert max(share for share, _ in video.abstention.curve) == pytest.approx(12 / 14, abs=1e-6)
    text = markdown.render(evaluation)
    assert "1 file could not be decoded" in text
    assert "| broken.mp4 | real |  | — | — | — | undecodable\\_media: damaged |" in text


def test_one_kind_alone_is_no_comparison() -> None:
    """Every figure is null with its reason, and nothing falls over."""
    found = [pair for pair in files(12) if pair[0].label == "real"]
    evaluation = evaluated(found, by_group=True)
    for figures in evaluation.subjects:
        assert figures.auc.value is None
        assert figures.auc.reason is not None
        assert figures.control.beaten is None
    text = markdown.render(evaluation)
    assert "Nothing can be told apart" in text
    assert not re.search(r"\bnan\b", text, re.IGNORECASE)


def test_old_against_new_on_the_same_files(good: Evaluation) -> None:
    worse = evaluated(list(files(30, gap=0.05)), earlier=good)
    assert worse.against is not None
    change = worse.against.changes[0]
    assert (worse.against.files, change.files, change.only_old, change.only_new) == (60, 60, 0, 0)
    assert change.gain.high is not None
    assert change.gain.high < 0
    verdict = next(one for one in worse.against.changes if one.subject is Subject.VERDICT)
    assert verdict.broken > verdict.mended
    assert "## Old against new" in markdown.render(worse)


def test_relabelled_and_new_files_are_left_out_of_a_comparison(good: Evaluation) -> None:
    changed = [
        (one.model_copy(update={"label": Label.REAL if n == 1 else one.label}), what)
        for n, (one, what) in enumerate(files(31))
    ]
    found = evaluated(changed, earlier=good)
    assert found.against is not None
    assert (found.against.files, found.against.relabelled) == (59, 1)


def test_it_is_written_whole_and_read_again(good: Evaluation, tmp_path: Path) -> None:
    written = write.write(good, tmp_path)
    assert [path.name for path in written] == [
        "evaluation.md", "evaluation.json", "scores.png", "roc.png", "risk-coverage.png", "ladder.png",
        "reliability.png",
    ]  # fmt: skip
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in written[2:])
    assert write.load(tmp_path) == good
    text = written[0].read_text()
    assert all(f"]({path.name})" in text for path in written[2:])
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".part"]


def test_plots_of_an_earlier_run_do_not_stay(good: Evaluation, tmp_path: Path) -> None:
    write.write(good, tmp_path)
    alone = evaluated([pair for pair in files(12) if pair[0].label == "real"])
    write.write(alone, tmp_path)
    assert not (tmp_path / "roc.png").exists()


@pytest.mark.parametrize("content", [None, b"{}", b"not json", b'{"format": 1}'])
def test_what_is_no_evaluation_is_refused(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "evaluation.json").write_bytes(content)
    with pytest.raises(write.NoEvaluation):
        write.load(tmp_path)


def test_names_from_outside_cannot_write_markdown() -> None:
    hostile = "x|`<img src=x>`\n# heading\x1b[31m\u202e.mp4"
    found = [(entry(hostile, "real", "[a](http://b)"), measured(hostile, [0.1]))]
    text = markdown.render(evaluated(found, by_group=True))
    row = next(line for line in text.splitlines() if line.startswith("| x\\|"))
    assert "\\<img" in row
    assert "\n# heading" not in text
    assert not set("\x1b\u202e") & set(text)
    assert "[a](" not in text


def test_test_detectors_are_marked_everywhere() -> None:
    opened = panel()
    opened.video = Identified(Modality.VIDEO, test_only=True)  # type: ignore[assignment]
    evaluation = evaluated(list(files(6)), opened)
    assert evaluation.test_only
    assert markdown.render(evaluation).splitlines()[2].startswith("- **`test_only`")


def test_blend_trace_alone_says_what_it_cannot_say() -> None:
    opened = panel(Subject.TRACE)
    opened.trace = Identified(Modality.VIDEO)  # type: ignore[assignment]
    opened.absent = dict.fromkeys((Subject.VIDEO, Subject.AUDIO), NOT_WANTED)
    evaluation = evaluated(list(files(6)), opened)
    assert [one.subject for one in evaluation.subjects] == [Subject.TRACE]
    assert of(evaluation, Subject.TRACE).points[0].threshold == 0.9
    text = markdown.render(evaluation)
    assert "blend-trace alone was measured" in text
    assert "cannot be DEEPFAKE" in text


def test_missing_detectors_are_named_with_what_mends_them(good: Evaluation) -> None:
    assert "Mend it with `deepdefend models pull`" in markdown.render(good)
