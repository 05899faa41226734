"""Speech with known cuts: made from real recordings, the way somebody would change what was said.

Recordings are utterances of one person in one place each; every cut is a change of the material, in
seconds of the finished sound. The same seed makes the same material.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple, cast

import av
import numpy as np
from numpy.typing import NDArray
from scipy import signal

Wave = NDArray[np.float32]
Speech = Mapping[str, Sequence[Wave]]  #: speaker -> utterances
RATE: Final = 16_000
FADE: Final = 80  #: samples of a cross-fade: 5 ms
EDGE: Final = 2.2  #: seconds that stay on both sides of a cut: what a background needs to show itself
CODECS: Final = {
    "mp3 48k": ("mp3", "libmp3lame", 48_000),
    "aac 48k": ("mp4", "aac", 48_000),
    "opus 24k": ("ogg", "libopus", 24_000),
}


class Case(NamedTuple):
    """One sound and where it was cut; none: nothing was done to it."""

    group: str
    wave: Wave
    cuts: tuple[float, ...]


def recordings(folder: Path) -> dict[str, list[Wave]]:
    """The utterances of each folder of FLAC or WAV files, by its name."""
    return {
        place.name: [decoded(path.read_bytes()) for path in sorted(place.iterdir())]
        for place in sorted(folder.iterdir())
        if place.is_dir()
    }


def decoded(content: bytes) -> Wave:
    """Any sound file as 16 kHz mono."""
    resampler = av.AudioResampler(format="flt", layout="mono", rate=RATE)
    with av.open(io.BytesIO(content), "r") as container:
        frames = [*container.decode(audio=0), None]
        parts = [part.to_ndarray()[0] for frame in frames for part in resampler.resample(frame)]
    return np.concatenate(parts).astype(np.float32)


def coded(wave: Wave, codec: str) -> Wave:
    """Through one of the `CODECS` and back, brought into line with what went in."""
    container_format, name, bits = CODECS[codec]
    file = io.BytesIO()
    with av.open(file, "w", format=container_format) as container:
        stream = cast("av.AudioStream", container.add_stream(name, rate=RATE, bit_rate=bits, layout="mono"))
        frame = av.AudioFrame.from_ndarray(np.clip(wave, -1, 1)[None], format="fltp", layout="mono")
        frame.sample_rate = RATE
        resampler = av.AudioResampler(
            format=stream.codec_context.format, layout="mono", rate=stream.codec_context.sample_rate
        )
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))
    return _aligned(decoded(file.getvalue()), wave)


def _aligned(heard: Wave, wave: Wave) -> Wave:
    """Encoders put silence before the first sample: shift it away, and keep the length."""
    lags = signal.correlation_lags(len(heard), len(wave))
    late = int(lags[np.argmax(signal.correlate(heard, wave, method="fft"))])
    placed = np.zeros(len(wave), np.float32)
    source = heard[max(0, late) :][: len(wave) - max(0, -late)]
    placed[max(0, -late) :][: len(source)] = source
    return placed


def telephone(wave: Wave) -> Wave:
    """8 kHz and 8 bits by the mu law (ITU-T G.711)."""
    narrow = np.clip(signal.resample_poly(wave, 1, 2), -1, 1)
    steps = np.round(np.sign(narrow) * np.log1p(255 * np.abs(narrow)) / np.log(256) * 127) / 127
    heard = np.sign(steps) * np.expm1(np.abs(steps) * np.log(256)) / 255
    return np.asarray(signal.resample_poly(heard, 2, 1)[: len(wave)], np.float32)


def noisy(wave: Wave, decibels: float, rng: np.random.Generator) -> Wave:
    """With a room's noise that far under the voice: pink, white or in between."""
    spectrum = np.fft.rfft(rng.standard_normal(len(wave)))
    spectrum /= np.maximum(np.arange(len(spectrum)), 20) ** rng.uniform(0, 1)
    return _under(wave, np.fft.irfft(spectrum, len(wave)), decibels)


def humming(wave: Wave, decibels: float, rng: np.random.Generator) -> Wave:
    """With mains hum that far under the voice: 50 or 60 Hz that drift by hundredths, and eight harmonics."""
    drift = np.interp(np.arange(len(wave)), np.arange(0, len(wave) + RATE, RATE), _walk(len(wave), rng))
    phase = 2 * np.pi * np.cumsum(rng.choice([50.0, 60.0]) + drift) / RATE
    made = sum(
        rng.uniform(0.2, 1) / n**0.5 * np.sin(n * phase + rng.uniform(0, 2 * np.pi)) for n in range(1, 9)
    )
    return _under(wave, np.asarray(made), decibels)


def _walk(samples: int, rng: np.random.Generator) -> NDArray[np.float64]:
    seconds = len(range(0, samples + RATE, RATE))
    return rng.uniform(-0.03, 0.03) + 0.004 * np.cumsum(rng.standard_normal(seconds))


def _under(wave: Wave, other: NDArray[np.float64], decibels: float) -> Wave:
    ratio = np.sqrt(np.mean(np.square(wave, dtype=np.float64)) / np.mean(np.square(other)))
    return np.asarray(wave + other * ratio / 10 ** (decibels / 20), np.float32)


def joined(parts: Sequence[Wave], fade: int) -> tuple[Wave, tuple[float, ...]]:
    """The parts one after another, overlapping by `fade` samples, and the middles of the joints."""
    made, cuts = parts[0], []
    ramp = np.linspace(0, 1, fade, dtype=np.float32)
    for part in parts[1:]:
        cuts.append((len(made) - fade / 2) / RATE)
        middle = made[len(made) - fade :] * (1 - ramp) + part[:fade] * ramp
        made = np.concatenate([made[: len(made) - fade], middle, part[fade:]])
    return made, tuple(cuts)


def removed(wave: Wave, rng: np.random.Generator) -> list[Wave]:
    """Half a second to two are taken out of a sentence."""
    gap = rng.uniform(0.5, min(2.0, len(wave) / RATE - 2 * EDGE - 0.1))
    first = rng.uniform(EDGE, len(wave) / RATE - EDGE - gap)
    return [wave[: round(first * RATE)], wave[round((first + gap) * RATE) :]]


def at_pauses(parts: Sequence[Wave]) -> list[Wave]:
    """The same, by somebody who looks for the quietest 20 ms within a third of a second of each end."""
    first, last = parts
    return [first[: _quiet(first[::-1], len(first))], last[len(last) - _quiet(last, len(last)) :]]


def _quiet(wave: Wave, whole: int) -> int:
    level = signal.fftconvolve(wave[: RATE // 3] ** 2, np.ones(320), "valid")
    return whole - int(np.argmin(level)) - 160


def inserted(wave: Wave, other: Wave, rng: np.random.Generator) -> list[Wave]:
    """1.5 to 3 s of another recording, brought to the same loudness, between two halves."""
    at = round(rng.uniform(EDGE, len(wave) / RATE - EDGE) * RATE)
    length = round(rng.uniform(1.5, min(3.0, len(other) / RATE - 0.1)) * RATE)
    begin = int(rng.integers(0, len(other) - length))
    piece = other[begin : begin + length]
    gain = np.sqrt(np.mean(wave**2) / max(1e-12, float(np.mean(piece**2))))
    return [wave[:at], (piece * gain).astype(np.float32), wave[at:]]


def halves(wave: Wave, change: Callable[[Wave], Wave], rng: np.random.Generator) -> list[Wave]:
    """The second part comes out of another room or codec."""
    at = round(rng.uniform(EDGE, len(wave) / RATE - EDGE) * RATE)
    return [wave[:at], change(wave)[at:]]


def cases(speech: Speech, each: int, seed: int) -> Iterator[Case]:
    """`each` cases per speaker and group."""
    rng = np.random.default_rng(seed)
    for speaker, utterances in speech.items():
        long = [wave for wave in utterances if len(wave) > (2 * EDGE + 1) * RATE]
        others = [
            wave
            for name, waves in speech.items()
            if name != speaker
            for wave in waves
            if len(wave) > 2 * RATE
        ]
        for n in range(each):
            wave = long[n % len(long)]
            yield from _of(wave, long[(n + 1) % len(long)], others[rng.integers(len(others))], rng)


def _of(wave: Wave, same: Wave, other: Wave, rng: np.random.Generator) -> Iterator[Case]:
    """One case of each group."""
    gone = removed(wave, rng)
    foreign = inserted(wave, other, rng)
    for name, fade in (("", 1), (", cross-faded", FADE)):
        yield Case(f"cut-out{name}", *joined(gone, fade))
        yield Case(f"cut-out in pauses{name}", *joined(at_pauses(gone), fade))
        yield Case(f"other utterance{name}", *joined([wave[: len(gone[0])], same[-len(gone[1]) :]], fade))
        yield Case(f"inserted speaker{name}", *joined(foreign, fade))
    for decibels in (30, 20):
        room = halves(wave, partial(noisy, decibels=decibels, rng=rng), rng)
        yield Case(f"another room ({decibels} dB), cross-faded", *joined(room, FADE))
    yield Case("telephone, cross-faded", *joined(halves(wave, telephone, rng), FADE))
    yield Case("mp3 48k, cross-faded", *joined(halves(wave, lambda part: coded(part, "mp3 48k"), rng), FADE))
    for decibels in (20, 30, 40):
        hum = removed(humming(wave, decibels, rng), rng)
        yield Case(f"cut-out under hum ({decibels} dB), cross-faded", *joined(hum, FADE))
