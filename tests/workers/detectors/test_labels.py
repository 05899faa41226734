"""Which class is fake: by name only."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import DetectorUnavailable
from workers.detectors.labels import FAKE_WORDS, REAL_WORDS, meaning, resolve


@pytest.mark.parametrize(
    ("labels", "fake"),
    [
        (("Real", "Fake"), 1),
        (("Fake", "Real"), 0),
        (("REAL", "FAKE"), 1),
        (("spoof", "bonafide"), 0),
        (("bona-fide", "spoof"), 1),
        (("Bona Fide", "Spoof"), 1),
        (("BonaFide", "Spoofed"), 1),
        (("synthetic", "genuine"), 0),
        (("human", "AI"), 1),
        (("human-voice", "ai_generated"), 1),
        (("AIGenerated", "Human"), 0),
        (("AI-generated image", "real image"), 0),
        (("real_person", "deepfake_person"), 1),
        ((" fake ", " real "), 0),
    ],
)
def test_the_fake_class_is_found_by_name_in_either_order(labels: tuple[str, str], fake: int) -> None:
    found = resolve(dict(enumerate(labels)), None)
    assert found.indices == (fake,)
    assert found.label == labels[fake]


@pytest.mark.parametrize(
    "labels",
    [
        ("LABEL_0", "LABEL_1"),
        ("0", "1"),
        ("fake", "LABEL_1"),
        ("fake", "deepfake"),
        ("real", "human"),
        ("not_fake", "fake"),
        ("non-human", "human"),
        ("unreal", "real"),
        ("real_or_fake", "other"),
        ("surreal", "fakery"),
        ("", ""),
        ("real", "fake", "background"),
        ("cat", "dog"),
    ],
)
def test_labels_that_do_not_say_are_refused(labels: tuple[str, ...]) -> None:
    with pytest.raises(DetectorUnavailable) as caught:
        resolve(dict(enumerate(labels)), None)
    assert caught.value.code == "ambiguous_labels"


def test_the_message_shows_the_labels_so_that_a_person_can_choose() -> None:
    with pytest.raises(DetectorUnavailable, match="'LABEL_0', 'LABEL_1'"):
        resolve({1: "LABEL_1", 0: "LABEL_0"}, None)


@pytest.mark.parametrize(
    ("chosen", "indices"),
    [("LABEL_1", (1,)), ("label_0", (0,)), ("1", (1,)), (" 0 ", (0,))],
)
def test_the_setting_names_the_class_of_a_checkpoint_that_does_not_say(
    chosen: str, indices: tuple[int, ...]
) -> None:
    assert resolve({0: "LABEL_0", 1: "LABEL_1"}, chosen).indices == indices


def test_the_setting_has_the_last_word_over_labels_that_are_known_to_be_swapped() -> None:
    assert resolve({0: "Real", 1: "Fake"}, "real").indices == (0,)


@pytest.mark.parametrize("chosen", ["", ",", "Fake", "2", "LABEL_0,LABEL_1", "LABEL_0,0,1", "LABEL_1,x"])
def test_a_setting_that_names_no_class_or_every_class_is_refused(chosen: str) -> None:
    with pytest.raises(DetectorUnavailable) as caught:
        resolve({0: "LABEL_0", 1: "LABEL_1"}, chosen)
    assert caught.value.code == "unknown_fake_label"


def test_of_more_than_two_classes_the_fake_ones_are_summed() -> None:
    found = resolve({0: "real", 1: "fake_swap", 2: "synthetic", 3: "human"}, None)
    assert found.indices == (1, 2)
    assert found.label == "fake_swap,synthetic"


def test_several_classes_can_be_named_by_the_setting() -> None:
    assert resolve({0: "original", 1: "Face2Face", 2: "FaceSwap"}, "faceswap, face2face").indices == (1, 2)


@pytest.mark.parametrize("labels", [{}, {0: "fake"}])
def test_a_single_class_cannot_tell_anything(labels: dict[int, str]) -> None:
    with pytest.raises(DetectorUnavailable) as caught:
        resolve(labels, "fake")
    assert caught.value.code == "ambiguous_labels"


@given(
    fake=st.sampled_from(sorted(FAKE_WORDS)),
    real=st.sampled_from(sorted(REAL_WORDS)),
    swap=st.booleans(),
    upper=st.booleans(),
)
def test_every_pair_of_words_is_found_in_any_order_and_case(
    fake: str, real: str, *, swap: bool, upper: bool
) -> None:
    pair = [fake, real] if swap else [real, fake]
    labels = {index: word.upper() if upper else word.title() for index, word in enumerate(pair)}
    assert resolve(labels, None).indices == (0 if swap else 1,)


@given(st.text(max_size=30))
def test_no_label_makes_it_stumble(label: str) -> None:
    assert meaning(label) in {True, False, None}
