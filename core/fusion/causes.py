"""Reasons in words: what stood in the way of a score or of a verdict, and the command that mends it."""

from __future__ import annotations

from typing import Final

from core.domain import Frozen, Modality, Reason

#: How people call the two modalities.
NAMES: Final = {Modality.VIDEO: "picture", Modality.AUDIO: "sound"}

_WORDS: Final[dict[Reason, str]] = {
    Reason.NOT_ANALYZED: "no detector has looked at it",
    Reason.NO_VIDEO_STREAM: "the file has no picture",
    Reason.NO_AUDIO_STREAM: "the file has no sound",
    Reason.NO_FACE: "no face is visible",
    Reason.FACE_TOO_SMALL: "the face is too small to judge",
    Reason.BLURRED: "the face is too blurred to judge",
    Reason.OCCLUDED: "the face is covered",
    Reason.TOO_DARK: "the face is too dark to judge",
    Reason.TOO_SHORT: "there is too little of it to judge",
    Reason.OUT_OF_DOMAIN: "it is unlike anything the detector was made for",
    Reason.SILENCE: "there is silence",
    Reason.NO_SPEECH: "there is sound but no voice",
    Reason.NO_DETECTOR_WEIGHTS: "this server holds no usable weights for a detector",
    Reason.DETECTOR_FAILED: "the detector failed",
    Reason.DECODE_ERROR: "parts of the file could not be decoded",
    Reason.NO_NEW_FRAME: "the picture stands still and no new frame begins",
    Reason.CUT_SHORT: "the file ends before its header says it does",
    Reason.WORKER_LOST: "the worker that should have scored it was lost",
    Reason.LOW_COVERAGE: "too little of it was scored to say more",
    Reason.CONFLICTING_MODALITIES: (
        "picture and sound contradict each other, and the suspicion is not strong enough to overrule that"
    ),
    Reason.BETWEEN_THRESHOLDS: "the scores are too high for real and too low for fake",
    Reason.NOTHING_SCORED: "no part of the file could be scored",
    Reason.MANIPULATION_TRACE: "there are traces of manipulation, which alone prove nothing",
    Reason.UNSTABLE_UNDER_REENCODING: "a re-encoded, scaled or cropped copy of it gets another verdict",
    Reason.MUSIC: "music covers the voice",
    Reason.CLIPPED: "the sound is overdriven",
    Reason.NARROW_BAND: "the sound has a telephone's band, which the detector was not made for",
}

_MENDS: Final[dict[Reason, str]] = {Reason.NO_DETECTOR_WEIGHTS: "deepdefend models pull"}


class Cause(Frozen):
    """One reason with what it applies to."""

    reason: Reason
    modality: Modality | None = None  #: null: the whole file
    intervals: int | None = None  #: how many intervals it left without a score
    decisive: bool = False  #: it is why the verdict is INCONCLUSIVE
    special_mend: str | None = None  #: replaces the usual command of the reason

    @property
    def text(self) -> str:
        """One sentence for people, without figures."""
        words = _WORDS[self.reason]
        subject = f"{NAMES[self.modality].capitalize()}: " if self.modality else ""
        return f"{subject}{words if subject else words[0].upper() + words[1:]}."

    @property
    def words(self) -> str:
        """The bare clause, to be used inside a sentence."""
        return _WORDS[self.reason]

    @property
    def mend(self) -> str | None:
        """The one command that removes the cause, where there is one."""
        return self.special_mend or _MENDS.get(self.reason)
