from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.fusion.scan import LONGEST, Bar, Run, strongest_run
from core.fusion.thresholds import SEED_NULL

NULL = SEED_NULL
cells = st.one_of(st.floats(0, 1), st.none())


def bar(floor: float = 0.6, shortest: int = 2) -> Bar:
    return Bar(null=NULL, excess=1.5, by_size=True, floor=floor, shortest=shortest)


def scan(scores: Sequence[float | None], *, floor: float = 0.6, shortest: int = 2) -> Run | None:
    return strongest_run(scores, bar(floor, shortest))


def by_definition(scores: Sequence[float | None]) -> float | None:
    """The largest clearance over all windows, straight from the formula, sums written out."""
    n, clearances = len(scores), []
    for first, last in itertools.combinations(range(n + 1), 2):
        window = [score for score in scores[first:last] if score is not None]
        length = last - first
        if length < 2 or len(window) < length or sum(window) / length < 0.6:
            continue
        lags = sum((length - k) * NULL.correlation**k for k in range(1, length))
        z = (sum(window) - length * NULL.mean) / (NULL.sd * math.sqrt(length + 2 * lags))
        clearances.append(z - math.sqrt(2 * math.log(math.e * n / length)))
    best = max(clearances, default=-math.inf)
    return best if best >= 1.5 else None


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=14), st.sets(st.integers(0, 13)))
def test_the_fast_scan_agrees_with_the_definition(thousandths: list[int], holes: set[int]) -> None:
    scores = [None if n in holes else s / 1000 for n, s in enumerate(thousandths)]
    expected, run = by_definition(scores), scan(scores)
    if expected is not None and abs(expected - 1.5) < 1e-6:
        return  # on the edge itself rounding may decide
    assert (run is None) == (expected is None)
    if run is not None and expected is not None:
        assert run.statistic - run.threshold + 1.5 == pytest.approx(expected)


def test_two_intervals_in_three_hundred_are_found_where_they_are() -> None:
    run = scan([0.1] * 150 + [0.95, 0.95] + [0.1] * 148)
    assert run is not None
    assert (run.first, run.last) == (150, 151)
    assert run.mean == run.peak == pytest.approx(0.95)


def test_a_single_interval_is_no_run() -> None:
    assert scan([0.1] * 4 + [1.0] + [0.1] * 4) is None
    assert scan([0.1] * 4 + [1.0] + [0.1] * 4, shortest=1) is not None


def test_a_null_between_ends_the_run() -> None:
    assert scan([0.1, 0.95, 0.95, 0.1]) is not None
    assert scan([0.1, 0.95, None, 0.95, 0.1]) is None


def test_the_threshold_grows_with_the_length_of_the_file() -> None:
    def needed(n: int) -> float:
        run = scan([0.1] * n + [1.0, 1.0])
        assert run is not None
        return run.threshold

    assert needed(3) < needed(28) < needed(298) < needed(898)


def test_a_longer_run_may_be_weaker() -> None:
    assert scan([0.1] * 290 + [0.8] * 2 + [0.1] * 8) is None
    assert scan([0.1] * 290 + [0.8] * 5 + [0.1] * 5) is not None


def test_a_mean_below_the_floor_is_no_run_however_long() -> None:
    assert scan([0.59] * 1000) is None
    assert scan([0.6] * 1000) is not None


def test_a_run_longer_than_the_longest_window_is_still_told_whole() -> None:
    scores = [0.1] * 50 + [0.7] * (3 * LONGEST) + [0.1] * 50
    run = scan(scores)
    assert run is not None
    assert (run.first, run.last) == (50, 50 + 3 * LONGEST - 1)


def test_the_limit_on_window_length_hides_no_accusation() -> None:
    """Of mean 0.6 a window of more than LONGEST holds a shorter one of at least that mean."""
    rng = random.Random(5)  # noqa: S311 - a fixed sample
    for _ in range(20):
        scores = [rng.uniform(0.25, 1.0) for _ in range(600)]
        assert sum(scores) / len(scores) >= 0.6
        assert scan(scores) is not None


@pytest.mark.parametrize("scores", [[], [None], [None, None], [0.99], [0.0, 0.0]])
def test_nothing_to_find(scores: list[float | None]) -> None:
    assert scan(scores) is None


@given(st.lists(cells, min_size=2, max_size=30), st.data())
def test_raising_a_score_never_hides_a_run(scores: list[float | None], data: st.DataObject) -> None:
    place = data.draw(st.sampled_from(range(len(scores))))
    higher = list(scores)
    higher[place] = data.draw(st.floats(scores[place] or 0.0, 1))
    before, after = scan(scores), scan(higher)
    if before is not None:
        assert after is not None
        assert after.peak >= before.peak


@given(st.lists(st.floats(0, 0.5), min_size=4, max_size=60), st.randoms())
def test_order_outside_a_run_does_not_matter(quiet: list[float], shuffler: random.Random) -> None:
    shuffled = list(quiet)
    shuffler.shuffle(shuffled)
    run = [0.1, 0.97, 0.98, 0.1]
    one = scan([*run, *quiet], floor=0.9)
    other = scan([*run, *shuffled], floor=0.9)
    assert one == other
    assert one is not None
