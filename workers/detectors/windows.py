"""Where a sound detector listens: windows over the talk, of the model's own length, every half of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final

from workers.detectors import speech
from workers.detectors.speech import Stretch

#: A window holds 4 s, what the public detectors are trained on (ASVspoof: 64600 samples = 4.04 s),
#: unless the checkpoint names its own length.
WINDOW_SECONDS: Final = 4.0
#: A shorter window gets surrounding sound up to this: below a second the models guess.
MIN_WINDOW_SECONDS: Final = 1.0
#: And up to a multiple of this: detectors batch windows of one length, and seven lengths make full batches.
GRID_SECONDS: Final = 0.5
#: Pauses up to this stay inside a stretch of talk: breath and rhythm are part of a voice.
PAUSE_SECONDS: Final = 1.0
_SLACK: Final = 1e-9


def windows(talk: Sequence[Stretch], seconds: float, longest: float = WINDOW_SECONDS) -> Iterator[Stretch]:
    """The windows a detector hears of a piece so many seconds long, over talk only, in order.

    None is longer than `longest`; one begins every half of that, so that each moment is heard twice and no
    interval depends on one cut; the last one reaches up to the talk's end. Short talk is one window, grown
    into the sound around it to 1, 1.5, ... seconds where there is that much.
    """
    hop = longest / 2
    for begin, end in speech.join(talk, PAUSE_SECONDS):
        first, last = _grow(begin, end, seconds, longest)
        for n in range(max(0, math.ceil((last - first - longest) / hop - _SLACK))):
            yield first + n * hop, first + n * hop + longest
        yield max(first, last - longest), last


def _grow(begin: float, end: float, seconds: float, longest: float) -> Stretch:
    """The talk with as much sound on both sides as makes its length a whole number of grid steps."""
    if end - begin >= longest:
        return begin, end
    wanted = max(MIN_WINDOW_SECONDS, math.ceil((end - begin) / GRID_SECONDS - _SLACK) * GRID_SECONDS)
    wanted = min(wanted, longest)
    first = max(0.0, min(begin - (wanted - (end - begin)) / 2, seconds - wanted))
    return first, min(seconds, first + wanted)
