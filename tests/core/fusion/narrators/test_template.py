from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain import Reason, Region, SoundSignal, Verdict
from core.fusion.judgement import Judgement
from core.fusion.narrators import check, template
from core.fusion.narrators.figures import figures
from core.fusion.verdict import judge
from tests.core.fusion.samples import FACTS, VIT, Cell, row, rows

WEIGHTLESS = Reason.NO_DETECTOR_WEIGHTS


def text_of(judgement: Judgement) -> str:
    return template.write(judgement).text


def on(video: list[Cell] | None, audio: list[Cell] | None = None) -> str:
    return text_of(judge(rows(video, audio), facts=FACTS))


def test_a_deepfake_is_told_with_its_figures_and_places() -> None:
    evidence = rows([0.1] * 9, [0.2] * 9)
    evidence[4] = row(
        4,
        0.95,
        0.2,
        regions=[(Region.MOUTH, 0.4, 0.05), (Region.EYES, 0.5, 0.1), (Region.NOSE, 0.01, 0.2)],
    )
    evidence[5] = row(5, 0.93, 0.2)
    text = text_of(judge(evidence, facts=FACTS))
    assert text.startswith(
        "Verdict: DEEPFAKE, with a confidence of 94.0%. The picture is what gives it away."
    )
    assert "[8.0-12.0], averages 0.940" in text
    assert "[8.0-10.0] (picture 0.950, sound 0.200, hiding the eyes and mouth lowers" in text
    assert "nose" not in text


def test_both_modalities_can_give_it_away() -> None:
    assert "The picture and the sound are what gives it away." in on([0.9] * 3, [0.8] * 3)


def test_real_is_told_without_places() -> None:
    text = on([0.1] * 5, [0.2] * 5)
    assert text.startswith("Verdict: REAL, with a confidence of 80.0%.")
    assert "[" not in text


def test_missing_weights_name_the_command_and_show_the_measured_signals() -> None:
    evidence = [row(n, WEIGHTLESS, WEIGHTLESS, signals=[(SoundSignal.MONOTONE_VOICE, 4.0)]) for n in range(7)]
    text = text_of(judge(evidence, facts=FACTS))
    assert text.startswith("Verdict: INCONCLUSIVE. The evidence supports neither answer:")
    assert "no part of the file could be scored" in text
    assert "this server holds no usable weights for a detector" in text
    assert text.count("`deepdefend models pull`") == 1
    assert "monotone voice in [0.0-2.0], [2.0-4.0], [4.0-6.0], [6.0-8.0], [8.0-10.0] and elsewhere" in text
    assert "%" not in text


def test_a_null_modality_is_said_with_its_reason_and_never_with_a_number() -> None:
    text = on([0.1] * 4, [Reason.SILENCE] * 4)
    assert "the sound in 4 intervals, because there is silence" in text
    assert "The sound scores" not in text


def test_a_file_without_sound_is_told_in_one_clause() -> None:
    assert "Not measured: the sound, because the file has no sound." in on([0.1] * 4)


def test_conflict_and_doubt_are_explained() -> None:
    assert "contradict each other" in on([0.65] * 5, [0.2] * 5)
    doubtful = on([0.1, 0.1, 0.97, 0.1, 0.1])
    assert "in the picture, the scores are too high for real and too low for fake" in doubtful
    assert "[4.0-6.0] stands out, but not enough to accuse" in doubtful


def test_scores_are_said_to_be_uncalibrated_only_where_there_are_scores() -> None:
    assert "not calibrated" in on([0.1] * 4)
    assert "not calibrated" not in on([Reason.NO_FACE] * 4)


def test_a_test_detector_is_never_passed_over() -> None:
    toy = VIT.model_copy(update={"test_only": True})
    text = text_of(judge(rows([0.9] * 4), facts=FACTS, detectors=[toy]))
    assert "A detector made for tests took part: this verdict means nothing." in text


def test_many_suspicious_intervals_are_counted_and_the_strongest_named() -> None:
    text = on([0.9] * 40)
    assert "40 of 40 intervals reached a suspicious score, among them" in text
    assert len(re.findall(r"\(picture 0", text)) == 5


def test_one_of_something_is_singular() -> None:
    text = on([0.9])
    assert "over 1 interval with a face" in text
    assert "1 interval of 1 reached" in text


scores = st.floats(0, 1)
cells = st.one_of(scores, scores, st.sampled_from(list(Reason)))
tables = st.integers(1, 30).flatmap(
    lambda n: st.tuples(*[st.lists(cells, min_size=n, max_size=n) for _ in range(2)])
)


@given(tables)
def test_the_template_never_contradicts_its_own_figures(table: tuple[list[Cell], list[Cell]]) -> None:
    judgement = judge(rows(*table), facts=FACTS)
    text = text_of(judgement)
    assert check.contradictions(check.clean(text), figures(judgement)) == []
    assert check.clean(text) == text


@given(tables)
def test_the_template_reads_as_prose(table: tuple[list[Cell], list[Cell]]) -> None:
    text = on(*table)
    assert not re.search(r"None|nan|_|\.\.|  | ,|\(\)|: \.", text)
    assert all(not paragraph[0].islower() and paragraph.endswith(".") for paragraph in text.split("\n\n"))


@pytest.mark.parametrize("verdict", list(Verdict))
def test_exactly_one_verdict_is_named(verdict: Verdict) -> None:
    scores_: dict[Verdict, list[Cell]] = {
        Verdict.DEEPFAKE: [0.9] * 4,
        Verdict.REAL: [0.1] * 4,
        Verdict.INCONCLUSIVE: [0.55] * 4,
    }
    text = on(scores_[verdict])
    assert re.findall(r"\b(?:DEEPFAKE|REAL|INCONCLUSIVE)\b", text) == [verdict.value]
