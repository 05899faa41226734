"""How narrators may speak of manipulation traces: as traces, never as a fake."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from core.domain import Reason
from core.evidence import TraceFinding
from core.fusion.inputs import IntervalEvidence
from core.fusion.judgement import Judgement
from core.fusion.narrators import check, template
from core.fusion.narrators.figures import figures
from core.fusion.verdict import judge
from tests.core.fusion.samples import FACTS, Cell, rows


def judged(traces: Sequence[float | Reason], video: Cell = 0.2) -> Judgement:
    """A clean (or given) picture and sound with what the trace detector says of each interval."""
    plain = rows([video] * len(traces), [0.2] * len(traces))
    return judge([_with_trace(row, trace) for row, trace in zip(plain, traces, strict=True)], facts=FACTS)


def _with_trace(row: IntervalEvidence, trace: float | Reason) -> IntervalEvidence:
    reason = trace if isinstance(trace, Reason) else None
    finding = TraceFinding(
        detector="deepdefend/blend-trace",
        threshold=0.8,
        score=None if isinstance(trace, Reason) else trace,
        reason=reason,
    )
    return row.model_copy(update={"video": row.video.model_copy(update={"trace": finding})})


FOUND = judged([0.1] * 6 + [0.9995] * 4)
NONE = judged([0.1] * 10)
NOWHERE = judged([Reason.OUT_OF_DOMAIN] * 10)


def test_a_trace_takes_the_answer_away_and_is_told_as_one() -> None:
    assert (FOUND.verdict.value, FOUND.reasons[0]) == ("INCONCLUSIVE", Reason.MANIPULATION_TRACE)
    text = template.write(FOUND).text
    assert "Traces of manipulation stand together in [12.0-20.0]." in text
    assert "deepfake" not in text.lower()
    assert check.contradictions(text, figures(FOUND)) == []


def test_no_trace_is_no_praise() -> None:
    text = template.write(NONE).text
    assert "It found none that counts, which proves nothing." in text
    assert check.contradictions(text, figures(NONE)) == []


@pytest.mark.parametrize("judgement", [NOWHERE, judge(rows([0.2] * 3, [0.2] * 3), facts=FACTS)])
def test_a_detector_that_saw_nothing_is_not_spoken_of(judgement: Judgement) -> None:
    text = template.write(judgement).text
    assert "trace" not in text
    assert check.contradictions(text, figures(judgement)) == []


def test_the_figures_say_what_was_found_and_from_where_it_counts() -> None:
    given: dict[str, Any] = figures(FOUND)["manipulation_trace"]
    assert (given["found"], given["counts_from_score"], given["scored_intervals"]) == (True, 0.8, 10)
    assert given["strongest_run"]["interval"] == "12.0-20.0"
    assert figures(judge(rows([0.2] * 3), facts=FACTS))["manipulation_trace"] is None


HEAD = "The verdict is INCONCLUSIVE. "


@pytest.mark.parametrize(
    "words",
    [
        "Traces of manipulation in [12.0-20.0] prove it.",
        "The traces in [12.0-20.0] are those of a deepfake.",
        "A trace of forgery is in [12.0-20.0].",
        "There is a trace in [12.0-20.0] that confirms the suspicion.",
        "Such traces come from faked faces, as in [12.0-20.0].",
        "The trace was made by a synthetic face.",
        "These traces are the proof that was missing.",
        "The traces in [12.0-20.0] leave no doubt about a forgery.",
        "In [12.0-20.0] there is not only a trace but proof.",
        "Traces like those in [12.0-20.0] are nothing but the marks of a deepfake.",
    ],
)
def test_a_trace_is_no_proof(words: str) -> None:
    wrong = check.contradictions(HEAD + words, figures(FOUND))
    assert any(one.startswith("trace: ") for one in wrong), wrong


@pytest.mark.parametrize(
    "words",
    [
        "There are traces of manipulation in [12.0-20.0].",
        "The traces in [12.0-20.0] alone prove nothing, and they are not proof of a deepfake.",
        "The trace scores 0.9995 on average there, that is above 0.8, in [12.0-20.0].",
    ],
)
def test_faithful_ways_to_speak_of_it(words: str) -> None:
    wrong = check.contradictions(HEAD + words, figures(FOUND))
    assert not [one for one in wrong if one.startswith("trace: ")], wrong
