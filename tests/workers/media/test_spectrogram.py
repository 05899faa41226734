from __future__ import annotations

import wave
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from core.evidence import SOUND_RATE
from workers.media.spectrogram import HEIGHT, WIDTH, draw

Picture = NDArray[np.uint8]


def sound(path: Path, samples: NDArray[np.float64]) -> Path:
    """A WAV file as extraction writes it; samples from -1 to 1."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SOUND_RATE)
        file.writeframes((samples * 32767).astype("<i2").tobytes())
    return path


def tone(hertz: float, seconds: float) -> NDArray[np.float64]:
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * SOUND_RATE)) / SOUND_RATE)


def seen(path: Path) -> Picture:
    """What a viewer makes of it, as brightness."""
    data = draw(path)
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert picture is not None
    return np.asarray(picture, np.uint8)


def test_a_tone_lies_at_its_time_and_height(tmp_path: Path) -> None:
    picture = seen(sound(tmp_path / "a.wav", np.concatenate([tone(1000, 1), tone(6000, 1)])))

    assert picture.shape == (HEIGHT, 200)
    for columns, hertz in ((slice(10, 90), 1000), (slice(110, 190), 6000)):
        brightest = HEIGHT - picture[:, columns].mean(axis=1).argmax()
        assert brightest * 8000 / HEIGHT == pytest.approx(hertz, abs=40)
        assert np.percentile(picture[:, columns], 80) < 40


def test_a_click_does_not_darken_the_rest(tmp_path: Path) -> None:
    samples = 0.02 * tone(1000, 3)
    samples[SOUND_RATE] = 1.0

    assert seen(sound(tmp_path / "a.wav", samples)).max(axis=0).min() > 150


def test_silence_is_dark_and_not_blown_up(tmp_path: Path) -> None:
    assert seen(sound(tmp_path / "zero.wav", np.zeros(SOUND_RATE))).max() < 10
    faint = np.random.default_rng(1).integers(-1, 2, SOUND_RATE) / 32767
    assert seen(sound(tmp_path / "faint.wav", faint)).mean() < 40


@pytest.mark.parametrize("samples", [0, 1, 5, 161])
def test_hardly_any_sound_is_a_picture_too(tmp_path: Path, samples: int) -> None:
    assert seen(sound(tmp_path / "a.wav", np.ones(samples))).shape == (HEIGHT, 1)


def test_a_long_file_of_noise_keeps_its_bounds(tmp_path: Path) -> None:
    path = sound(tmp_path / "a.wav", np.random.default_rng(1).uniform(-1, 1, 60 * SOUND_RATE))

    assert seen(path).shape == (HEIGHT, WIDTH)
    assert len(draw(path)) < 150_000


def test_a_tone_anywhere_in_a_long_file_is_seen(tmp_path: Path) -> None:
    samples = np.zeros(40 * SOUND_RATE)
    samples[25 * SOUND_RATE : 26 * SOUND_RATE] = tone(3000, 1)

    columns = seen(sound(tmp_path / "a.wav", samples)).max(axis=0) > 100

    assert np.flatnonzero(columns)[[0, -1]] * 40 / WIDTH == pytest.approx([25, 26], abs=0.06)
