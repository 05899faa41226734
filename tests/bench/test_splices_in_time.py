"""The simulation behind docs/detection.md, small: it judges as the verdict does, and its bars hold."""

from __future__ import annotations

import numpy as np
import pytest

from bench.splices_in_time import TEN_MINUTES, Quality, calibrated, intervals, limits, rates, spliced
from core.calibration import Calibration
from core.domain import OperatingPoint, Verdict
from core.fusion.judgement import Judgement
from core.fusion.thresholds import Thresholds
from core.fusion.verdict import judge
from evaluation.curves import Floats
from tests.core.fusion.samples import FACTS, rows

FPR_1, FPR_5 = OperatingPoint.FPR_1, OperatingPoint.FPR_5
#: AUC 0.95 a frame; frames 0.4 s apart correlate by 0.2.
QUALITY = Quality(0.95, "frame", 0.2)
#: Files of a kind: a rate of 5% then lies within 1.3 points (two sd), and the seed is fixed.
FILES = 1000


@pytest.fixture(scope="module")
def made() -> Calibration:
    return calibrated(QUALITY, np.random.default_rng(5), simulated=800)


def scores(made: Calibration, count: int, files: int, *, fake: int = 0, seed: int = 6) -> Floats:
    generator = np.random.default_rng(seed)
    where = spliced(files, count, fake, generator) if fake else np.zeros((files, count), bool)
    return intervals(made, QUALITY.scores(where, generator))


def verdict(scores: list[float], made: Calibration, point: OperatingPoint) -> Judgement:
    bounds = Thresholds(video=limits(made, point, len(scores)), operating_point=point.value, calibrated=True)
    return judge(rows(list(scores)), facts=FACTS, thresholds=bounds)


@pytest.mark.parametrize(("count", "files"), [(1, 300), (5, FILES), (30, FILES), (300, 400), (1800, 60)])
@pytest.mark.parametrize(("point", "rate"), [(FPR_1, 1), (FPR_5, 5)])
def test_clean_files_of_any_length_are_accused_at_the_named_rate_at_most(
    made: Calibration, count: int, files: int, point: OperatingPoint, rate: float
) -> None:
    found = rates(scores(made, count, files), limits(made, point, count))
    assert found.accused <= rate + 1


@pytest.mark.parametrize("point", [FPR_1, FPR_5])
def test_four_fake_seconds_in_ten_minutes_are_found(made: Calibration, point: OperatingPoint) -> None:
    found = rates(scores(made, TEN_MINUTES, 500, fake=2), limits(made, point, TEN_MINUTES))
    assert found.flagged >= 90


@pytest.mark.parametrize("fake", [0, 2, 5])
def test_the_simulation_judges_as_the_verdict_does(made: Calibration, fake: int) -> None:
    for one in scores(made, 60, 12, fake=fake, seed=9):
        for point in (FPR_1, FPR_5):
            found, judged = rates(one[None], limits(made, point, 60)), verdict(one.tolist(), made, point)
            assert (judged.verdict is Verdict.DEEPFAKE) == bool(found.accused)
            assert (judged.verdict is not Verdict.REAL) == bool(found.flagged)
