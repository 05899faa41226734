"""What can be told of a file without looking for any manipulation: the features of the shortcut control.

A detector that ranks files no better than these numbers do may have learned no more than which camera, which
codec or which microphone the altered files come from (Geirhos et al. 2020, "Shortcut learning in deep neural
networks", Nature Machine Intelligence 2).
"""

from __future__ import annotations

import math
import wave
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from core.evidence import SOUND_RATE, Manifest

Numbers = dict[str, float]

#: What each statistic is, for people. The order is that of the control's features.
NAMES: Final = {
    "red": "mean red of the face crops, 0 to 255",
    "green": "mean green",
    "blue": "mean blue",
    "red_spread": "standard deviation of red",
    "green_spread": "standard deviation of green",
    "blue_spread": "standard deviation of blue",
    "saturation": "mean of (max - min of red, green, blue)",
    "sharpness": "log10 of the median variance of the Laplacian of the faces",
    "face_pixels": "median shorter side of the faces' boxes",
    "pixels": "log10 of the pixels of the picture",
    "frame_rate": "frames a second",
    "duration": "log10 of the seconds",
    "bit_rate": "log10 of the bytes a second",
    "loudness": "RMS level of the sound, dBFS",
    "noise_floor": "level of the quietest tenth of it, dBFS",
    "bandwidth": "frequency below which 95% of the sound's energy lies, Hz",
    "centroid": "centre of the sound's spectrum, Hz",
}
#: Crops whose colours are averaged: more of one talker's face say nothing more.
_CROPS: Final = 64
_SECONDS: Final = 60  # of sound
_FRAME: Final = 1024
_ROLLOFF: Final = 0.95
_FLOOR_DBFS: Final = -100.0


def of_file(manifest: Manifest, work: Path) -> Numbers:
    """The statistics that this file has; one without a face or a sound has fewer."""
    found = _of_container(manifest) | _of_faces(manifest, work)
    if manifest.sound_file is not None:
        found |= _of_sound(work / manifest.sound_file)
    return {name: round(found[name], 6) for name in NAMES if name in found and math.isfinite(found[name])}


def _of_container(manifest: Manifest) -> Numbers:
    facts = manifest.facts
    found = {
        "duration": _log(facts.duration),
        "bit_rate": _log(facts.size_bytes / max(facts.duration, 0.001)),
    }
    if facts.video is not None:
        found["pixels"] = _log(facts.video.width * facts.video.height)
        found |= {"frame_rate": facts.video.fps} if facts.video.fps else {}
    return found


def _of_faces(manifest: Manifest, work: Path) -> Numbers:
    faces = [face for frame in manifest.frames for face in frame.faces if face.shard is not None]
    if not faces:
        return {}
    crops = np.load(work / manifest.crop_shards[0].file, mmap_mode="r", allow_pickle=False)[:_CROPS]
    values = np.asarray(crops, np.float32).reshape(-1, 3)
    means, spreads = values.mean(axis=0), values.std(axis=0)
    colours = dict(zip(("red", "green", "blue"), map(float, means), strict=True))
    colours |= dict(zip(("red_spread", "green_spread", "blue_spread"), map(float, spreads), strict=True))
    return colours | {
        "saturation": float((values.max(axis=1) - values.min(axis=1)).mean()),
        "sharpness": _log(float(np.median([face.sharpness for face in faces]))),
        "face_pixels": float(np.median([min(face.box[2:]) for face in faces])),
    }


def _of_sound(path: Path) -> Numbers:
    with wave.open(str(path)) as file:
        raw = file.readframes(_SECONDS * SOUND_RATE)
    samples = np.frombuffer(raw, "<i2").astype(np.float32) / 32768.0
    frames = samples[: len(samples) // _FRAME * _FRAME].reshape(-1, _FRAME)
    if not frames.size or not samples.any():
        return {}
    levels = _decibels(np.mean(np.square(frames), axis=1))
    power = np.square(np.abs(np.fft.rfft(frames * np.hanning(_FRAME), axis=1))).sum(axis=0)
    frequencies = np.fft.rfftfreq(_FRAME, 1 / SOUND_RATE)
    total = power.sum()
    return {
        "loudness": float(_decibels(np.mean(np.square(samples)))),
        "noise_floor": float(np.percentile(levels, 10)),
        "bandwidth": float(frequencies[np.searchsorted(np.cumsum(power), _ROLLOFF * total)]),
        "centroid": float((frequencies * power).sum() / total),
    }


def _decibels(power: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Of a power relative to full scale, with a floor."""
    decibels: npt.NDArray[np.float64] = 10 * np.log10(np.maximum(np.asarray(power, np.float64), 1e-20))
    return np.maximum(decibels, _FLOOR_DBFS)


def _log(value: float) -> float:
    return math.log10(max(value, 1e-6))
