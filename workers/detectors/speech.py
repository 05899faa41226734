"""Where somebody speaks: silero-vad (Silero Team 2021, MIT) run through onnxruntime.

The weights are read out of the installed `silero-vad` wheel; its package is never imported, because it
would bring torch with it. Same samples, same numbers: one thread, one fixed graph, no random state.
"""

from __future__ import annotations

import importlib.metadata
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from functools import lru_cache
from operator import itemgetter
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from core.errors import DetectorUnavailable
from core.evidence import SOUND_RATE

Wave = NDArray[np.float32]  #: mono, 16 kHz, nominally -1 to 1
Stretch = tuple[float, float]  #: start and end in seconds from the first sample of the wave

#: Samples the network judges at a time at 16 kHz, and how many before them it wants to see again.
FRAME: Final = 512
CONTEXT: Final = 64
FRAME_SECONDS: Final = FRAME / SOUND_RATE

#: The defaults of silero-vad 6.2.3 (`get_speech_timestamps`): speech begins at 0.5 and ends 0.15 below
#: it; shorter bursts are not speech, shorter gaps do not end it, and each side gains 30 ms.
BEGIN: Final = 0.5
END: Final = 0.35
MIN_SPEECH_SECONDS: Final = 0.25
MIN_PAUSE_SECONDS: Final = 0.1
PAD_SECONDS: Final = 0.03

#: Frames between two checkpoints: a minute of sound, about 0.2 s of work.
_BATCH: Final = 1875
_WEIGHTS: Final = "silero_vad/data/silero_vad_16k_op15.onnx"


def weights() -> Path:
    """The network's file. Raises DetectorUnavailable when the wheel or the file is not there."""
    mend = "pip install 'silero-vad>=6.2.3,<7'"
    try:
        path = Path(str(importlib.metadata.distribution("silero-vad").locate_file(_WEIGHTS)))
    except importlib.metadata.PackageNotFoundError as missing:
        raise DetectorUnavailable("silero-vad is not installed.", mend=mend) from missing
    if not path.is_file():
        raise DetectorUnavailable(f"The silero-vad wheel has no {Path(_WEIGHTS).name}.", mend=mend)
    return path


@lru_cache(maxsize=1)
def _session() -> Any:
    import onnxruntime  # noqa: PLC0415  (only processes that listen need it)

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # one frame is 0.1 ms of work: threads only cost
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(weights()), options, providers=["CPUExecutionProvider"])


def _nothing() -> None:
    """The checkpoint of a caller that has none."""


def probabilities(waveform: Wave, checkpoint: Callable[[], None] = _nothing) -> NDArray[np.float32]:
    """The probability of speech of every 32 ms frame: float32 [ceil(n / 512)], the last one zero-padded.

    The network carries a state from frame to frame, so a piece gives other numbers than the whole.
    """
    count = -(-len(waveform) // FRAME)
    padded = np.pad(waveform.astype(np.float32), (CONTEXT, count * FRAME - len(waveform)))
    session, rate = _session(), np.array(SOUND_RATE, np.int64)
    state = np.zeros((2, 1, 128), np.float32)
    found = np.zeros(count, np.float32)
    for n in range(count):
        if n % _BATCH == 0:
            checkpoint()
        heard = padded[None, n * FRAME : (n + 1) * FRAME + CONTEXT]
        output, state = session.run(None, {"input": heard, "state": state, "sr": rate})
        found[n] = output[0, 0]
    return found


def stretches(probability: NDArray[np.float32], seconds: float) -> tuple[Stretch, ...]:
    """Speech in order of time, no two touching, none beyond `seconds` (the length of the wave)."""
    long_enough: list[Stretch] = [
        (first * FRAME_SECONDS, last * FRAME_SECONDS)
        for first, last in _runs(probability)
        if (last - first) * FRAME_SECONDS >= MIN_SPEECH_SECONDS
    ]
    padded = [(max(0.0, a - PAD_SECONDS), min(seconds, b + PAD_SECONDS)) for a, b in long_enough]
    return join(padded, 0.0)


def _runs(probability: NDArray[np.float32]) -> list[tuple[int, int]]:
    """Runs of speech frames as (first, one past the last), with hysteresis and short pauses bridged."""
    runs: list[tuple[int, int]] = []
    first: int | None = None
    pause = 0
    for n, p in enumerate(probability):
        if p >= BEGIN:
            first, pause = (n if first is None else first), 0
        elif first is not None and (p < END or pause):
            pause += 1
            if pause * FRAME_SECONDS >= MIN_PAUSE_SECONDS:
                runs.append((first, n + 1 - pause))
                first, pause = None, 0
    if first is not None:
        runs.append((first, len(probability) - pause))
    return runs


def join(parts: Sequence[Stretch], gap: float) -> tuple[Stretch, ...]:
    """Stretches in order of time, with neighbours no more than `gap` seconds apart made one."""
    joined: list[Stretch] = []
    for begin, end in parts:
        if joined and begin - joined[-1][1] <= gap:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((begin, end))
    return tuple(joined)


def between(parts: Sequence[Stretch], begin: float, end: float) -> tuple[Stretch, ...]:
    """Those of the ordered stretches that reach into the time between `begin` and `end`, uncut."""
    first = bisect_right(parts, begin, key=itemgetter(1))
    last = bisect_left(parts, end, lo=first, key=itemgetter(0))
    return tuple(parts[first:last])


def overlap(parts: Sequence[Stretch], begin: float, end: float) -> float:
    """Seconds of the ordered stretches that lie between `begin` and `end`."""
    near = between(parts, begin, end)
    return float(sum(max(0.0, min(b, end) - max(a, begin)) for a, b in near))
