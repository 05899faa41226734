"""Clean files of every length, scored by noisy detectors: how often the rule accuses by chance.

Interval scores are Beta distributed. Figures and the worse cases are in docs/detection.md.
"""

from __future__ import annotations

import random
from collections import Counter

import pytest

from core.domain import Verdict
from core.fusion.verdict import judge
from tests.core.fusion.samples import FACTS, rows

#: Intervals of 10 s, 1, 10 and 30 minutes, with the number of files simulated.
LENGTHS = [(5, 400), (30, 200), (300, 60), (900, 30)]


def verdicts(alpha: float, beta: float, intervals: int, files: int) -> Counter[Verdict]:
    rng = random.Random(f"{alpha} {beta} {intervals}")  # noqa: S311 - a fixed sample
    clips = ([rng.betavariate(alpha, beta) for _ in range(intervals)] for _ in range(files))
    return Counter(judge(rows(clip), facts=FACTS).verdict for clip in clips)


@pytest.mark.parametrize(("intervals", "files"), LENGTHS)
@pytest.mark.parametrize(("alpha", "beta"), [(2, 8), (0.8, 3.2)], ids=["sd 0.12", "sd 0.18"])
def test_clean_files_of_any_length_are_not_accused(
    alpha: float, beta: float, intervals: int, files: int
) -> None:
    assert verdicts(alpha, beta, intervals, files)[Verdict.DEEPFAKE] <= 0.01 * files


@pytest.mark.parametrize(("intervals", "files"), LENGTHS)
def test_clean_files_of_a_decent_detector_are_called_real(intervals: int, files: int) -> None:
    assert verdicts(2, 8, intervals, files)[Verdict.REAL] >= 0.98 * files


def test_the_means_alone_would_miss_the_splice_that_the_run_finds() -> None:
    rng = random.Random(3)  # noqa: S311 - a fixed sample
    found = 0
    for _ in range(50):
        clip = [rng.betavariate(2, 18) for _ in range(300)]
        place = rng.randrange(299)
        clip[place : place + 2] = [min(1.0, rng.gauss(0.95, 0.02)) for _ in range(2)]
        judgement = judge(rows(clip), facts=FACTS)
        assert judgement.combined_score is not None
        assert judgement.combined_score < 0.2
        found += judgement.verdict is Verdict.DEEPFAKE
    assert found >= 48
