"""Verdicts of measured files: those that the service would give."""

from __future__ import annotations

from core.domain import Modality, OperatingPoint
from evaluation.samples import judged_at
from tests.core.fusion.samples import VIT, WAV2VEC, fitted
from tests.evaluation.made import measured

BOTH = (fitted(VIT), fitted(WAV2VEC))


def test_a_detector_that_was_not_asked_takes_no_share_of_an_operating_point() -> None:
    silent = measured("silent", [0.1] * 4, audio=None)
    whole, alone = (
        judged_at(silent.model_copy(update={"spoke": spoke}), BOTH, OperatingPoint.FPR_5)
        for spoke in ((VIT.id, WAV2VEC.id), (VIT.id,))
    )
    assert (whole.detectors, alone.detectors) == (BOTH, BOTH[:1])
    assert alone.calibrated
    assert BOTH[0].calibration is not None
    limits = {one.share: one for one in BOTH[0].calibration.limits if one.point is OperatingPoint.FPR_5}
    assert alone.thresholds.of(Modality.VIDEO).suspicious == limits[1].suspicious
    assert whole.thresholds.of(Modality.VIDEO).suspicious == limits[2].suspicious
