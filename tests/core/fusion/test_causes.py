from __future__ import annotations

import pytest

from core.domain import Modality, Reason
from core.fusion.causes import Cause


@pytest.mark.parametrize("reason", list(Reason))
@pytest.mark.parametrize("modality", [None, *Modality])
def test_every_reason_has_words_for_every_place(reason: Reason, modality: Modality | None) -> None:
    cause = Cause(reason=reason, modality=modality)
    assert cause.text[0].isupper()
    assert cause.text.endswith(".")
    assert not any(character.isdigit() or character == "_" for character in cause.text)


def test_a_missing_checkpoint_names_the_command_that_mends_it() -> None:
    cause = Cause(reason=Reason.NO_DETECTOR_WEIGHTS, modality=Modality.AUDIO)
    assert cause.mend == "deepdefend models pull"
    assert cause.text == "Sound: this server holds no usable weights for a detector."


def test_what_cannot_be_mended_by_a_command_names_none() -> None:
    assert Cause(reason=Reason.SILENCE).mend is None
