"""The manipulation trace: what it adds up to, and what it may do to a verdict."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain import Modality, Reason, Verdict
from core.evidence import TraceFinding
from core.fusion.inputs import IntervalEvidence
from core.fusion.judgement import Judgement, Standing
from core.fusion.trace import summarize_trace
from core.fusion.verdict import decide, judge, traced
from tests.core.fusion.samples import FACTS, Cell, rows

D, R, I = Verdict.DEEPFAKE, Verdict.REAL, Verdict.INCONCLUSIVE  # noqa: E741 - a table's letters
ORDER = [R, I, D]
FAR, NO_FACE, SILENCE = Reason.OUT_OF_DOMAIN, Reason.NO_FACE, Reason.SILENCE
#: Its threshold here; scores are the trace detector's own.
THRESHOLD = 0.8


def marked(evidence: list[IntervalEvidence], cells: Sequence[Cell]) -> list[IntervalEvidence]:
    """The rows with what the trace detector says of each."""
    return [
        row.model_copy(update={"video": row.video.model_copy(update={"trace": finding(cell)})})
        for row, cell in zip(evidence, cells, strict=True)
    ]


def finding(cell: Cell) -> TraceFinding:
    known = {"score": None, "reason": cell} if isinstance(cell, Reason) else {"score": cell, "reason": None}
    return TraceFinding.model_validate({"detector": "own/trace", "threshold": THRESHOLD, **known})


def judged(video: list[Cell] | None, audio: list[Cell] | None, trace: Sequence[Cell]) -> Judgement:
    return judge(marked(rows(video, audio), trace), facts=FACTS)


@pytest.mark.parametrize(
    ("video", "audio", "without", "verdict"),
    [
        ([0.1] * 5, None, R, I),
        ([0.1] * 5, [0.1] * 5, R, I),
        ([NO_FACE] * 5, [0.1] * 5, R, I),  # the other detector saw no face worth a score
        ([0.65] * 5, [0.1] * 5, I, D),  # near, and the clear voice no longer overrules it
        ([0.1] * 5, [0.65] * 5, I, D),  # the same the other way round: the picture is not clear
        ([0.55] * 5, None, I, I),
        ([0.55] * 5, [0.1] * 5, I, I),
        ([NO_FACE] * 5, [SILENCE] * 5, I, I),
        ([Reason.NO_DETECTOR_WEIGHTS] * 5, [0.1] * 5, I, I),
        ([0.8] * 5, [0.1] * 5, D, D),
        ([0.1] * 5, [0.8] * 5, D, D),
    ],
)
def test_what_a_trace_does(
    video: list[Cell], audio: list[Cell] | None, without: Verdict, verdict: Verdict
) -> None:
    assert judged(video, audio, [0.1] * 5).verdict is without
    judgement = judged(video, audio, [0.95] * 5)
    assert judgement.verdict is verdict
    assert Reason.MANIPULATION_TRACE in judgement.reasons


def test_where_it_costs_real_it_is_the_decisive_reason_and_is_called_a_trace() -> None:
    judgement = judged([0.1] * 5, [0.1] * 5, [0.95] * 5)
    assert [cause.reason for cause in judgement.causes if cause.decisive] == [Reason.MANIPULATION_TRACE]
    assert "deepfake" not in judgement.causes[0].text.lower()
    assert judgement.standings == {Modality.VIDEO: Standing.UNCLEAR, Modality.AUDIO: Standing.CLEAR}
    assert judgement.confidence is None


def test_beside_another_reason_it_is_not_the_decisive_one() -> None:
    judgement = judged([0.55] * 5, None, [0.95] * 5)
    assert [(cause.reason, cause.decisive) for cause in judgement.causes[:2]] == [
        (Reason.BETWEEN_THRESHOLDS, True),
        (Reason.MANIPULATION_TRACE, False),
    ]


def test_where_it_never_looked_there_is_nothing() -> None:
    judgement = judge(rows([0.1] * 5), facts=FACTS)
    assert judgement.trace is None
    assert judgement.verdict is R


def test_outside_its_domain_it_says_nothing_and_counts_as_nothing() -> None:
    judgement = judged([0.1] * 6, None, [FAR] * 6)
    assert judgement.verdict is R
    assert judgement.trace is not None
    assert (judgement.trace.score, judgement.trace.found) == (None, False)
    assert judgement.trace.null_reasons == {FAR: 6}


def test_a_mean_over_less_than_half_of_the_faces_is_no_trace() -> None:
    assert not found([0.85, FAR, FAR])
    assert found([0.85, FAR])
    assert found([0.85, NO_FACE, NO_FACE])  # there was no face to look at


def found(cells: list[Cell]) -> bool:
    evidence = summarize_trace(marked(rows([0.1] * len(cells)), cells))
    assert evidence is not None
    return evidence.found


def test_two_intervals_in_ten_minutes_are_found_where_they_are_and_one_is_not() -> None:
    rng = random.Random(2)  # noqa: S311 - a fixed sample
    quiet: list[Cell] = [rng.betavariate(2, 6) for _ in range(300)]
    assert not found(quiet)
    quiet[140] = 0.9999
    assert not found(quiet)
    quiet[141] = 0.9999
    evidence = summarize_trace(marked(rows([0.1] * 300), quiet))
    assert evidence is not None
    assert evidence.found
    assert evidence.run is not None
    assert evidence.run.interval == "280.0-284.0"
    assert evidence.score is not None
    assert evidence.score < 0.4


def test_the_stricter_of_two_thresholds_holds() -> None:
    evidence = marked(rows([0.1] * 4), [0.85] * 4)
    trace = evidence[2].video.trace
    assert trace is not None
    changed = evidence[2].video.model_copy(update={"trace": trace.model_copy(update={"threshold": 0.9})})
    evidence[2] = evidence[2].model_copy(update={"video": changed})
    summary = summarize_trace(evidence)
    assert summary is not None
    assert (summary.threshold, summary.found) == (0.9, False)


# Properties.
scores = st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.5, 0.6, 0.7, 0.8, 0.95, 1.0]))
cells = st.one_of(scores, scores, st.sampled_from([NO_FACE, Reason.BLURRED, FAR]))
tables = st.integers(1, 16).flatmap(
    lambda n: st.tuples(*[st.lists(cells, min_size=n, max_size=n) for _ in range(3)])
)


@given(tables, st.data())
def test_more_trace_never_lowers_the_verdict(
    table: tuple[list[Cell], list[Cell], list[Cell]], data: st.DataObject
) -> None:
    video, audio, trace = table
    before = judged(video, audio, trace)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.sampled_from(range(len(trace))))
        cell = trace[place]
        trace[place] = data.draw(st.floats(THRESHOLD if isinstance(cell, Reason) else cell, 1))
    after = judged(video, audio, trace)
    assert ORDER.index(after.verdict) >= ORDER.index(before.verdict)


@given(tables)
def test_a_trace_alone_never_makes_a_deepfake(table: tuple[list[Cell], list[Cell], list[Cell]]) -> None:
    """Nor does it anywhere where neither picture nor sound is at least near on its own."""
    video, audio, trace = table
    alone = judge(rows(video, audio), facts=FACTS)
    judgement = judged(video, audio, trace)
    if judgement.verdict is D:
        assert {Standing.FAKE, Standing.NEAR} & set(alone.standings.values())
    assert judged([NO_FACE] * len(trace), None, trace).verdict is I


@given(tables)
def test_a_trace_changes_no_score_and_no_mean(table: tuple[list[Cell], list[Cell], list[Cell]]) -> None:
    video, audio, trace = table
    with_, without = judged(video, audio, trace), judge(rows(video, audio), facts=FACTS)
    assert (with_.video, with_.audio) == (without.video, without.audio)
    assert with_.combined_score == without.combined_score


@given(st.sampled_from(Standing), st.sampled_from(Standing))
def test_the_table_of_a_trace_only_rises(picture: Standing, sound: Standing) -> None:
    standings = {Modality.VIDEO: picture, Modality.AUDIO: sound}
    before, after = decide(picture, sound), decide(*traced(standings).values())
    assert ORDER.index(after) >= ORDER.index(before)
    assert after is not R
    assert traced(standings)[Modality.AUDIO] is sound
