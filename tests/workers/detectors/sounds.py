"""Sound for the tests of this room: real files, and tones, noise and pulses made here."""

from __future__ import annotations

import os
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

Wave = NDArray[np.float32]
RATE = 16_000
ROOT = Path(__file__).parents[3]
SHARED = Path(os.environ.get("DEEPDEFEND_SHARED") or ROOT.parent / "shared")


def shared(name: str) -> Path:
    """A file of the shared media; skips the test where they are not there."""
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"the shared test media are not here: {name}")
    return path


def heard(name: str) -> Wave:
    """The first sound stream of a shared file as 16 kHz mono float32."""
    resampler = av.AudioResampler(format="flt", layout="mono", rate=RATE)
    with av.open(str(shared(name))) as container:
        frames = [*container.decode(audio=0), None]
        parts = [part.to_ndarray()[0] for frame in frames for part in resampler.resample(frame)]
    return np.concatenate(parts).astype(np.float32)


def tone(hertz: float, seconds: float, amplitude: float = 0.3) -> Wave:
    """A sine."""
    return (amplitude * np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE)).astype(
        np.float32
    )


def noise(seconds: float, amplitude: float = 0.1, seed: int = 1) -> Wave:
    """White noise of this RMS."""
    samples = np.random.default_rng(seed).standard_normal(round(seconds * RATE))
    return (amplitude * samples).astype(np.float32)


def voice(hertz: Wave, amplitude: float = 0.2) -> Wave:
    """Twenty falling harmonics of a pitch given for every sample: periodic like a voice, and known."""
    phase = 2 * np.pi * np.cumsum(hertz.astype(np.float64)) / RATE
    total = sum(np.sin(n * phase) * (n * hertz < RATE / 2) / n for n in range(1, 21))
    return np.asarray(amplitude * total / np.max(np.abs(total)), np.float32)


def silence(seconds: float) -> Wave:
    """Exact zeros."""
    return np.zeros(round(seconds * RATE), np.float32)
