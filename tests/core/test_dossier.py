"""Who spoke, as the steps of an analysis say it."""

from __future__ import annotations

from typing import Any

from core.dossier import _detectors
from core.models import Step
from tests.core.fusion.samples import VIT, WAV2VEC, fitted

TRACE = VIT.model_copy(update={"id": "own/trace", "fake_label": "manipulation trace"})


def step(**detail: Any) -> Step:
    return Step(detail=detail)


def told(*identities: Any) -> list[Any]:
    return [identity.model_dump(mode="json") for identity in identities]


def test_a_step_names_one_detector_or_several_the_deciding_one_first() -> None:
    rows = [step(), step(detectors=told(VIT, TRACE)), step(detector=told(WAV2VEC)[0])]
    assert _detectors(rows) == (VIT, TRACE, WAV2VEC)


def test_the_list_is_believed_where_a_step_has_both() -> None:
    assert _detectors([step(detector=told(VIT)[0], detectors=told(VIT, TRACE))]) == (VIT, TRACE)


def test_a_detector_of_many_shards_is_named_once_with_its_calibration() -> None:
    rows = [step(detectors=told(fitted(VIT))), step(detectors=told(fitted(VIT))), step(detector=None)]
    assert _detectors(rows) == (fitted(VIT),)


def test_without_steps_nobody_spoke() -> None:
    assert _detectors([]) == ()
    assert _detectors([step(detectors=[])]) == ()
