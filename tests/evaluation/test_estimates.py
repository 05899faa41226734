"""Intervals: what they hold, what clusters do to them, and what there is too little of."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation import metrics
from evaluation.estimates import Estimate, Sample, clopper_pearson, estimate, newcombe, rate


def sample(count: int, shift: float, seed: int = 0, cluster: int = 1) -> Sample:
    """`count` files of each kind in clusters of that size, whose members share most of their luck."""
    generator = np.random.default_rng(seed)
    fake = np.arange(2 * count) % 2 == 1
    clusters = np.arange(2 * count) // (2 * cluster)
    shared = generator.normal(size=2 * count)[clusters * 2 + fake]
    own = generator.normal(size=2 * count)
    scores = np.sqrt(0.9) * shared + np.sqrt(0.1) * own if cluster > 1 else own
    return Sample(fake, 1 / (1 + np.exp(-(scores + shift * fake))), clusters)


def auc(found: Sample, rounds: int = 300) -> Estimate:
    return estimate(found, {"auc": (metrics.auc, "auc")}, rounds=rounds)["auc"]


def test_an_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    truth, held = 0.760, 0  # Phi(1 / sqrt 2)
    for seed in range(60):
        found = auc(sample(40, 1.0, seed), rounds=200)
        assert found.low is not None
        assert found.high is not None
        held += found.low <= truth <= found.high
    assert held >= 51


def test_files_of_one_group_are_worth_less() -> None:
    alone, grouped = auc(sample(120, 1.0)), auc(sample(120, 1.0, cluster=12))
    assert alone.low is not None
    assert grouped.low is not None
    assert alone.high is not None
    assert grouped.high is not None
    assert grouped.high - grouped.low > 1.3 * (alone.high - alone.low)


def test_the_same_data_give_the_same_interval() -> None:
    assert auc(sample(20, 1.0)) == auc(sample(20, 1.0))


@pytest.mark.parametrize(("real", "fake"), [(0, 9), (9, 0), (4, 9), (9, 4), (0, 0)])
def test_too_few_of_a_kind_give_a_reason_and_no_figure(real: int, fake: int) -> None:
    kinds = np.array([False] * real + [True] * fake, bool)
    found = auc(Sample(kinds, np.linspace(0, 1, kinds.size), np.arange(kinds.size)))
    assert (found.value, found.low) == (None, None)
    assert found.reason == f"not enough data: {real} unaltered and {fake} altered, 5 of each are needed"


def test_too_few_groups_give_a_figure_without_an_interval() -> None:
    found = sample(20, 1.0)
    few = auc(Sample(found.fake, found.scores, found.clusters % 4))
    assert few.value is not None
    assert (few.low, few.high) == (None, None)


def test_nothing_wrong_in_ten_files_is_no_rate_of_nought() -> None:
    found = rate(np.zeros(10, bool), np.arange(10), of="files")
    assert (found.value, found.low) == (0.0, 0.0)
    assert found.high == pytest.approx(0.3085, abs=1e-4)
    grouped = rate(np.zeros(50, bool), np.arange(50) // 10, of="files")
    assert grouped.high == pytest.approx(0.5218, abs=1e-4), "five groups are five trials"
    assert (
        rate(np.zeros(4, bool), np.arange(4), of="files").reason == "not enough data: 4 files, 5 are needed"
    )


def test_perfect_ranking_of_few_files_is_not_certain() -> None:
    fake = np.arange(12) % 2 == 1
    found = auc(Sample(fake, fake.astype(float), np.arange(12)))
    assert (found.value, found.high) == (1.0, 1.0)
    assert found.low is not None
    assert 0.5 < found.low < 0.8


def test_exact_intervals_match_published_ones() -> None:
    assert clopper_pearson(0.1, 10) == pytest.approx((0.0025, 0.4450), abs=1e-4)
    assert clopper_pearson(1.0, 20)[0] == pytest.approx(0.8316, abs=1e-4)
    low, high = newcombe(0.75, 50, 50)
    assert 0.64 < low < 0.66
    assert 0.82 < high < 0.84
