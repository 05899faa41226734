"""Other deliveries of a file: what is measured again, and that a verdict can only become weaker by it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain import Reason, Variant, Verdict
from core.evidence import TraceFinding
from core.fusion.inputs import IntervalEvidence
from core.fusion.judgement import Judgement
from core.fusion.narrators import template
from core.fusion.stability import (
    MAX_INTERVALS,
    MAX_SECONDS,
    SUSPICIOUS_INTERVALS,
    Outcome,
    Remeasured,
    Stability,
    assess,
    replaced,
    to_measure,
    why_nothing,
)
from core.fusion.verdict import judge
from tests.core.fusion.samples import FACTS, Cell, row, rows

D, R, I = Verdict.DEEPFAKE, Verdict.REAL, Verdict.INCONCLUSIVE  # noqa: E741 - a table's letters
NO_FACE, SMALL = Reason.NO_FACE, Reason.FACE_TOO_SMALL


def judged(evidence: Sequence[IntervalEvidence]) -> Judgement:
    return judge(evidence, facts=FACTS)


def outcome(cells: Sequence[Cell], variant: Variant = Variant.CRF_28) -> Outcome:
    """A variant that gave these scores, or reasons, for the first intervals."""
    return Outcome(
        variant=variant,
        seconds=1.5,
        intervals=tuple(
            Remeasured(index=n, score=None, reason=cell)
            if isinstance(cell, Reason)
            else Remeasured(index=n, score=cell, reason=None)
            for n, cell in enumerate(cells)
        ),
    )


def assessed(before: Sequence[Cell], *after: Sequence[Cell]) -> tuple[Judgement, Stability]:
    return assess(judged(rows(list(before), None)), [outcome(cells) for cells in after], judged)


def with_trace(evidence: IntervalEvidence, score: float | None) -> IntervalEvidence:
    found = TraceFinding(
        detector="trace",
        threshold=0.8,
        score=score,
        reason=None if score is not None else Reason.OUT_OF_DOMAIN,
    )
    return evidence.model_copy(update={"video": evidence.video.model_copy(update={"trace": found})})


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ([0.9] * 5, [[0.85] * 5], D),
        ([0.9] * 5, [[0.85] * 5, [0.2] * 5], I),
        ([0.9] * 5, [[0.55] * 5], I),
        ([0.1] * 5, [[0.3] * 5], R),
        ([0.1] * 5, [[0.3] * 5, [0.9] * 5], I),
        ([0.55] * 5, [[0.9] * 5], I),
        ([0.55] * 5, [[0.1] * 5], I),
        ([0.9] * 5, [[SMALL] * 5], D),  # what could not be measured says nothing
        ([0.9] * 5, [[]], D),
        ([0.1] * 5, [[0.3, SMALL, 0.2, SMALL, SMALL]], R),
    ],
)
def test_a_flip_makes_it_inconclusive_and_nothing_else_moves_it(
    before: list[Cell], after: list[list[Cell]], expected: Verdict
) -> None:
    original = judged(rows(before, None))
    weakened, found = assessed(before, *after)
    assert weakened.verdict is expected
    assert found.verdict is original.verdict
    assert found.flips == (expected is not original.verdict)
    if not found.flips:
        assert weakened == original
        return
    decisive, *others = weakened.causes
    assert (decisive.reason, decisive.decisive, decisive.modality) == (
        Reason.UNSTABLE_UNDER_REENCODING,
        True,
        None,
    )
    assert tuple(others) == original.causes
    assert weakened.confidence is None
    assert weakened.intervals == original.intervals


scores = st.floats(0, 1)
cells = st.one_of(scores, st.sampled_from([NO_FACE, SMALL]))
tables = st.integers(1, 16).flatmap(
    lambda n: st.tuples(
        st.lists(cells, min_size=n, max_size=n),
        st.lists(st.lists(cells, max_size=n), max_size=6),
    )
)


@given(tables)
def test_it_can_weaken_a_verdict_and_do_nothing_else(table: tuple[list[Cell], list[list[Cell]]]) -> None:
    before, after = table
    original = judged(rows(before, None))
    weakened, found = assessed(before, *after)
    assert weakened.verdict in {original.verdict, I}
    if original.verdict is I:
        assert weakened == original
        assert not found.flips
    assert found.flips == any(result.flips for result in found.variants)
    for result in found.variants:
        assert (result.verdict is None) == (result.scores is None)
        if result.flips:
            assert result.verdict is not original.verdict


@given(tables)
def test_a_null_never_replaces_a_score_nor_a_score_a_null(table: tuple[list[Cell], list[list[Cell]]]) -> None:
    before, after = table
    evidence = rows(before, None)
    for new in after:
        for old, row_ in zip(evidence, replaced(evidence, outcome(new)), strict=True):
            assert (old.video.score is None) == (row_.video.score is None)
            assert old.video.reason == row_.video.reason
            assert old.audio == row_.audio


def test_the_report_says_how_far_every_score_moved() -> None:
    _, found = assess(
        judged(rows([0.9, 0.8, 0.9, NO_FACE], None)),
        [
            outcome([0.7, 0.85, SMALL, 0.4], Variant.HALF),
            outcome([SMALL, SMALL, SMALL, NO_FACE], Variant.QUARTER),
            Outcome(variant=Variant.CROPPED, reason="decoder_crashed"),
        ],
        judged,
    )
    half, quarter, cropped = found.variants
    assert half.scores is not None
    assert half.scores.model_dump() == {
        "intervals": 2,
        "lowest": 0.7,
        "highest": 0.85,
        "mean_change": pytest.approx(-0.075),
        "max_change": pytest.approx(-0.2),
    }
    assert half.unmeasured == {SMALL: 1}
    assert (quarter.scores, quarter.verdict, quarter.flips, quarter.unmeasured) == (
        None,
        None,
        False,
        {SMALL: 3},
    )
    assert (cropped.scores, cropped.verdict, cropped.reason) == (None, None, "decoder_crashed")
    assert found.max_change == pytest.approx(-0.2)
    assert found.seconds == 3.0
    assert found.intervals == ("0.0-2.0", "2.0-4.0", "4.0-6.0", "6.0-8.0")


def test_a_trace_is_measured_where_no_detector_scores() -> None:
    evidence = [with_trace(one, 0.9) for one in rows([Reason.NO_DETECTOR_WEIGHTS] * 3, None)]
    assert to_measure(judged(evidence), "seed") == (0, 1, 2)
    moved = Outcome(
        variant=Variant.HALF,
        intervals=tuple(
            Remeasured(index=n, score=None, reason=Reason.NO_DETECTOR_WEIGHTS, trace=trace)
            for n, trace in enumerate([0.5, None, 0.7])
        ),
    )
    _, found = assess(judged(evidence), [moved], judged)
    (result,) = found.variants
    assert result.scores is None
    assert result.traces is not None
    assert (result.traces.intervals, result.traces.lowest, result.traces.highest) == (2, 0.5, 0.7)
    assert result.unmeasured == {}
    after = replaced(evidence, moved)
    assert [one.video.trace and one.video.trace.score for one in after] == [0.5, 0.9, 0.7]


def long(count: int, suspicious: Sequence[int] = (), seconds: float = 2.0) -> Judgement:
    """A judgement on many intervals, the suspicious ones ever more so."""
    cells = [0.7 + n / 10_000 if n in suspicious else 0.1 for n in range(count)]
    evidence = [
        row(n, cell).model_copy(update={"start": n * seconds, "end": (n + 1) * seconds})
        for n, cell in enumerate(cells)
    ]
    return judged(evidence)


def test_the_strongest_suspicious_parts_and_a_sample_of_the_quiet_ones_are_measured() -> None:
    judgement = long(400, suspicious=range(100, 120))
    chosen = to_measure(judgement, "a")
    assert len(chosen) == MAX_INTERVALS
    assert list(chosen) == sorted(chosen)
    assert [n for n in chosen if 100 <= n < 120] == list(range(120 - SUSPICIOUS_INTERVALS, 120))
    quiet = [n for n in chosen if not 100 <= n < 120]
    assert {n // 2 for n in quiet[::2]} == {n // 2 for n in quiet[1::2]}, "in neighbouring pairs"
    assert chosen == to_measure(judgement, "a")
    assert chosen != to_measure(judgement, "b")


def test_a_file_that_is_suspicious_throughout_is_measured_as_far_as_the_bound_goes() -> None:
    assert len(to_measure(long(400, suspicious=range(400)), "a")) == MAX_INTERVALS


@pytest.mark.parametrize("seconds", [1.0, 2.0, 3.3, 5.0])
def test_the_cost_is_bounded_in_seconds_too(seconds: float) -> None:
    chosen = to_measure(long(100, seconds=seconds), "a")
    assert len(chosen) == min(MAX_INTERVALS, int(MAX_SECONDS / seconds))


def test_what_has_no_score_is_not_measured_and_why_is_said() -> None:
    assert to_measure(judged(rows([NO_FACE, NO_FACE, SMALL], None)), "a") == ()
    assert why_nothing(judged(rows([NO_FACE, NO_FACE, SMALL], None))) is NO_FACE
    assert to_measure(judged(rows([NO_FACE, 0.2, SMALL], None)), "a") == (1,)


def test_the_explanation_of_a_flip_needs_no_figure_that_is_not_there() -> None:
    weakened, _ = assessed([0.9] * 5, [0.1] * 5)
    text = template.write(weakened).text
    assert "INCONCLUSIVE" in text
    assert "re-encoded" in text
