"""What makes sound unfit to be scored, or its score worth less: silence, music, a narrow band, clipping."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from core.domain import Reason
from workers.detectors.signals import channel, music

#: Speech an interval needs to be scored: a quarter of the usual 2 s, about two syllables.
MIN_SPEECH_SECONDS: Final = 0.5
#: Below it nothing is heard: the absolute gate of ITU-R BS.1770-4.
SILENCE_DBFS: Final = -70.0


def notes(measures: Mapping[str, float], spoken: float) -> tuple[Reason, ...]:
    """What to know of a score of sound with these measures and so many seconds of speech."""
    if spoken < MIN_SPEECH_SECONDS:
        return ()
    found = {
        Reason.MUSIC: measures.get("music_lines", 0.0) >= music.UNDER_VOICE,
        Reason.CLIPPED: measures.get("peak_rise_db", channel.CLIPPED_DB) < channel.CLIPPED_DB,
        Reason.NARROW_BAND: measures.get("telephone_band_db", 0.0) < channel.TELEPHONE_DB,
    }
    return tuple(reason for reason, there in found.items() if there)


def unfit(seconds: float, level: float | None, spoken: float, measures: Mapping[str, float]) -> Reason | None:
    """Why no detector may score so many seconds of sound, of which so many are speech; None: it may.

    A telephone's band is withheld: a detector of 16 kHz sound called 77 % of real telephone speech synthetic
    (docs/sound-signals.md). Clipping and music under a voice are noted: nobody has measured that they accuse.
    """
    if seconds < MIN_SPEECH_SECONDS:
        return Reason.TOO_SHORT
    if spoken < MIN_SPEECH_SECONDS:
        return _voiceless(level, spoken, measures.get("music_lines", 0.0))
    return Reason.NARROW_BAND if Reason.NARROW_BAND in notes(measures, spoken) else None


def _voiceless(level: float | None, spoken: float, lines: float) -> Reason:
    """What there is instead of enough voice. Vowels hold still too: beside a voice music must show more."""
    if spoken == 0 and (level is None or level < SILENCE_DBFS):
        return Reason.SILENCE
    if lines >= (music.UNDER_VOICE if spoken else music.ALONE):
        return Reason.MUSIC
    return Reason.TOO_SHORT if spoken else Reason.NO_SPEECH
