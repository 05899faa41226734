"""Music made from nothing, for tests and benchmarks: chords, melodies and drums, each seed another piece."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

Wave = NDArray[np.float32]
Floats = NDArray[np.float64]
RATE: Final = 16_000
SCALE: Final = (0, 2, 4, 5, 7, 9, 11)
#: Piano, organ and strings play chords; the band adds a melody and drums; melody and drums are alone.
KINDS: Final = ("piano", "organ", "strings", "melody", "band", "drums")
_ORGAN: Final = {1: 1.0, 2: 0.7, 3: 0.4, 4: 0.5, 6: 0.2, 8: 0.3}
_TOP: Final = 7600.0  #: hertz: nothing is made that would alias


def music(kind: str, seconds: float, seed: int, peak: float = 0.5) -> Wave:
    """A piece of one of the `KINDS` at 16 kHz, at 70 to 150 beats a minute."""
    rng = np.random.default_rng(seed)
    beat = 60 / rng.uniform(70, 150)
    made = np.zeros(round((seconds + 4 * beat + 1) * RATE))
    if kind != "drums":
        _play(made, kind, seconds, beat, rng)
    if kind in {"drums", "band"}:
        made = made / max(1e-9, np.max(np.abs(made)))
        _drum(made, seconds, beat, rng)
    made = made[: round(seconds * RATE)]
    return np.asarray(peak * made / np.max(np.abs(made)), np.float32)


def _play(made: Floats, kind: str, seconds: float, beat: float, rng: np.random.Generator) -> None:
    """A chord for each bar, or eight notes of a melody, or both."""
    root = rng.uniform(110, 220)
    for bar in range(int(seconds / (4 * beat)) + 1):
        degree = int(rng.choice([0, 3, 4, 5]))
        if kind != "melody":
            for step in (degree, degree + 2, degree + 4):
                _add(made, bar * 4 * beat, _note(_pitch(root, step), 4 * beat, kind, rng))
        if kind in {"melody", "band"}:
            for n in range(8):
                note = _note(_pitch(root, 7 + int(rng.integers(7))), beat / 2, kind, rng)
                _add(made, bar * 4 * beat + n * beat / 2, 0.7 * note)


def _pitch(root: float, step: int) -> float:
    """Hertz of a step of the major scale."""
    return float(root * 2 ** (SCALE[step % 7] / 12 + step // 7))


def _note(hertz: float, seconds: float, kind: str, rng: np.random.Generator) -> Floats:
    """One note, with 10 ms to come and 30 to go."""
    time = np.arange(round(seconds * RATE)) / RATE
    made = np.zeros(len(time))
    for n in range(1, 16):
        phase = rng.uniform(0, 2 * np.pi)
        if n * hertz > _TOP:
            break
        if kind == "organ":
            made += _ORGAN.get(n, 0.0) * np.sin(2 * np.pi * n * hertz * time + phase)
        elif kind in {"strings", "melody"}:  # a vibrato of 0.4 %, 5.5 times a second
            made += np.sin(2 * np.pi * n * hertz * (time + 1e-4 * np.sin(34.6 * time)) + phase) / n
        else:
            made += np.exp(-time * (1 + 0.6 * n)) * np.sin(2 * np.pi * n * hertz * time + phase) / n**1.2
    ends = np.clip(np.minimum(time / 0.01, (time[-1] - time) / 0.03), 0, 1)
    return np.asarray(made * ends, np.float64)


def _drum(made: Floats, seconds: float, beat: float, rng: np.random.Generator) -> None:
    """Bass drum, snare and hi-hat."""
    time = np.arange(round(0.3 * RATE)) / RATE
    for n in range(int(2 * seconds / beat)):
        hit = 0.2 * np.diff(rng.standard_normal(len(time)) * np.exp(-60 * time), prepend=0)
        if n % 4 == 0:
            hit += 0.8 * np.sin(2 * np.pi * (50 * time - 3 * np.exp(-30 * time))) * np.exp(-12 * time)
        if n % 4 == 2:
            hit += 0.5 * rng.standard_normal(len(time)) * np.exp(-20 * time)
        _add(made, n * beat / 2, hit)


def _add(made: Floats, at: float, sound: Floats) -> None:
    """Mix it in at that time; what hangs over the end is lost."""
    begin = round(at * RATE)
    room = made[begin : begin + len(sound)]
    room += sound[: len(room)]
