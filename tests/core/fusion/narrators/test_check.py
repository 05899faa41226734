from __future__ import annotations

from typing import Any

import pytest

from core.domain import Reason
from core.fusion.narrators import check
from core.fusion.narrators.figures import figures
from core.fusion.verdict import judge
from tests.core.fusion.samples import FACTS, Cell, rows

FAKE_SCORES: list[Cell] = [*[0.1] * 4, 0.951, 0.957, *[0.1] * 4]


def given_for(video: list[Cell], audio: list[Cell] | None = None) -> dict[str, Any]:
    return figures(judge(rows(video, audio), facts=FACTS))


FAKE = given_for(FAKE_SCORES)
REAL = given_for([0.125] * 10, [0.25] * 10)
OPEN = given_for([0.55] * 10)

GOOD = "The verdict is DEEPFAKE with a confidence of 95.4%. The part [8.0-12.0] averages 0.954."


def test_a_faithful_text_passes() -> None:
    assert check.contradictions(GOOD, FAKE) == []


@pytest.mark.parametrize(
    "words",
    [
        "Two parts stand out: 8.0\u201310.0 and [10.0 - 12.0].",
        "From 8 to 12 seconds the picture is suspicious.",
        "The strongest interval scores 0.957, or 0.96, in [10.0-12.0].",
        "That is 95.7% in [10.0-12.0].",
        "The file lasts 12.5 seconds and has 10 intervals, 2 of them suspicious, as in [8.0-10.0].",
        "Below 0.5 looks real, from 0.6 on it is suspicious, as in [8.0-10.0].",
        "100% of the face time was scored; see [8.0-10.0].",
        "The clip is most likely a deepfake; see [8.0-12.0].",
        "The file is not authentic; see [8.0-12.0].",
        "The sound could not be examined, and the eyes look real enough in [8.0-12.0].",
    ],
)
def test_faithful_ways_to_say_it(words: str) -> None:
    assert check.contradictions(f"DEEPFAKE. {words}", FAKE) == []


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("The confidence is 99%. See [8.0-12.0].", "number: 99%"),
        ("The confidence is 95%, that is nearly 100.0 percent sure: 99.9 per cent.", "number: 99.9%"),
        ("It is ninety-nine percent certain, see [8.0-12.0].", "number: nine percent"),
        ("The picture scores 0.99 in [8.0-12.0].", "number: 0.99"),
        ("The picture scores 1.0 in [8.0-12.0].", "number: 1.0"),
        ("The picture scores 0,954 in [8.0-12.0].", "number: 0,954"),
        ("The mean is -0.271 in [8.0-12.0].", "number: -0.271"),
        ("All 7 intervals agree with [8.0-12.0].", "number: 7"),
        ("The part [14.0-16.0] is suspicious.", "interval: 14-16"),
        ("The part 0.0-20.0 is suspicious.", "interval: 0-20"),
        ("Something is wrong with the mouth.", "interval: none cited"),
        ("But REAL is likelier; see [8.0-12.0].", "verdict: REAL"),
        ("In truth INCONCLUSIVE; see [8.0-12.0].", "verdict: INCONCLUSIVE"),
        ("The file is authentic; see [8.0-12.0].", "claim: The file is authentic"),
        ("This video is clearly real, see [8.0-12.0].", "claim: This video is clearly real"),
        ("It\u2019s genuine, see [8.0-12.0].", "claim: It\u2019s genuine"),
        ("The clip isn't a deepfake, see [8.0-12.0].", "claim: The clip isn't a deepfake"),
        ("The whole recording has not been manipulated [8.0-12.0].", "claim: The whole recording has not"),
        ("See https://example.org/more and [8.0-12.0].", "markup_or_link"),
        ("See www.example and [8.0-12.0].", "markup_or_link"),
        ("Visit evil.com for [8.0-12.0].", "markup_or_link"),
        ("<script>alert(document)</script> [8.0-12.0]", "markup_or_link"),
        ("![x](y) [8.0-12.0]", "markup_or_link"),
    ],
)
def test_contradictions_are_found(words: str, complaint: str) -> None:
    found = check.contradictions(f"DEEPFAKE. {words}", FAKE)
    assert any(problem.startswith(complaint) for problem in found), found


def test_a_text_without_the_verdict_is_rejected() -> None:
    assert "verdict: missing" in check.contradictions("The part [8.0-12.0] averages 0.954.", FAKE)


@pytest.mark.parametrize(
    "words",
    [
        "This video is a deepfake.",
        "The clip appears to be manipulated.",
        "It is not real.",
        "The footage was almost certainly AI-generated.",
        "The verdict should be fake.",
    ],
)
def test_a_real_file_may_not_be_accused_in_prose(words: str) -> None:
    found = check.contradictions(f"REAL. {words}", REAL)
    assert [problem.partition(":")[0] for problem in found] == ["claim"]


def test_a_real_file_may_be_called_real() -> None:
    assert check.contradictions("REAL: the file is very likely genuine, it is not a deepfake.", REAL) == []


@pytest.mark.parametrize(
    "words",
    [
        "The file is real.",
        "The file is a deepfake.",
        "It is not genuine.",
        "The clip can be called real.",
        "The face has been swapped.",
        "The video was altered.",
        "The voice is artificially generated.",
    ],
)
def test_an_abstention_leans_to_no_side(words: str) -> None:
    assert any(p.startswith("claim") for p in check.contradictions(f"INCONCLUSIVE. {words}", OPEN))


def test_an_abstention_may_be_explained() -> None:
    text = "INCONCLUSIVE: the file can not be called real, and it can not be called fake either; 0.550."
    assert check.contradictions(text, OPEN) == []


def test_a_score_of_a_null_modality_cannot_be_invented() -> None:
    given = given_for([0.1] * 4, [Reason.WORKER_LOST] * 4)
    assert check.contradictions("INCONCLUSIVE. The sound scores 0.33.", given)[0] == "number: 0.33"


@pytest.mark.parametrize(
    "words",
    [
        "The picture is not clear, and the sound scores 0.550 on average.",
        "The sound shows signs of cloning.",
        "It does not look so, but the voice is that of a genuine speaker.",
    ],
)
def test_nothing_is_linked_with_a_null_modality(words: str) -> None:
    given = given_for([0.55] * 4, [Reason.WORKER_LOST] * 4)
    assert any(one.startswith("unmeasured") for one in check.contradictions(f"INCONCLUSIVE. {words}", given))
    fair = "INCONCLUSIVE. The picture scores 0.550, and the sound was not measured."
    assert check.contradictions(fair, given) == []


def test_length_and_emptiness() -> None:
    assert "too_long" in check.contradictions("REAL " + "word " * 1000, REAL)
    assert "empty" in check.contradictions("", REAL)


def test_cleaning_strips_what_cannot_be_seen() -> None:
    dirty = "  DEEP\u200bFAKE\x00\x1b[31m \u202eok\u202c\r\n\n\n\n\uff32\uff25\uff21\uff2c \ufeffend\t "
    assert check.clean(dirty) == "DEEPFAKE[31m ok\n\nREAL end"


def test_a_hidden_verdict_word_is_seen_after_cleaning() -> None:
    text = check.clean(f"{GOOD} In truth R\u200bE\u200bA\u200bL.")
    assert "verdict: REAL" in check.contradictions(text, FAKE)
