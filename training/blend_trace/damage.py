"""What happens to pictures on their way, drawn once and done alike to a real face and its fake.

Whatever the two did not share would be learned instead of the blending: size, codec, light, blur.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import cv2
import numpy as np
from numpy.random import Generator

from training.blend_trace.codecs import Codec, recode
from training.blend_trace.faces import Picture, Portrait
from workers.media.faces import Detection

#: Shorter sides of a face's box that are drawn from, in pixels, evenly on a logarithmic scale.
SMALLEST, LARGEST = 56.0, 200.0
#: Codecs of training, worst and best quality drawn; WebP, HEVC and VP9 are kept for the tables.
LEARNED: Final = {Codec.JPEG: (35, 98), Codec.H264: (36, 16), Codec.MPEG4: (14, 2)}
SHARES: Final = (0.45, 0.35, 0.2)
#: Landmarks of a poorer picture lie elsewhere by about this much, in sides of the box.
JITTER: Final = 0.012
INTERPOLATIONS: Final = (cv2.INTER_AREA, cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC)


@dataclass(frozen=True)
class Damage:
    """One way, drawn; every part of it can be absent."""

    box: float  #: shorter side of the face's box in pixels when it is stored
    interpolation: int
    gains: tuple[float, float, float]  #: of each colour
    gamma: float
    slope: tuple[float, float]  #: light across and down the picture, as parts of its mean
    blur: float  #: sigma in pixels of the stored picture; 0: none
    sharpen: float  #: amount; 0: none
    noise: float  #: sigma in grey levels; 0: none
    codecs: tuple[tuple[Codec, int], ...]
    flip: bool
    jitter: float
    seed: int  #: of the noise and the jitter, so that both of a pair get the same

    def apply(self, face: Portrait) -> Picture:
        """The face's crop, 256 x 256 x 3, after all of it."""
        stored = self.stored(face)
        placed = jittered(stored.face, self.jitter, np.random.default_rng(self.seed))
        crop = replace(stored, face=placed).crop()
        return np.ascontiguousarray(crop[:, ::-1]) if self.flip else crop

    def stored(self, face: Portrait) -> Portrait:
        """The face in its surroundings after all of it."""
        rng = np.random.default_rng(self.seed)
        stored = face.scaled(min(self.box, face.box), self.interpolation)
        picture = self._exposed(stored.picture)
        if self.blur:
            picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), self.blur), np.float32)
        if self.sharpen:
            picture = picture + self.sharpen * (picture - cv2.GaussianBlur(picture, (0, 0), 1.0))
        if self.noise:
            picture = picture + rng.normal(0, self.noise, picture.shape).astype(np.float32)
        stills = np.asarray(np.clip(picture + 0.5, 0, 255), np.uint8)
        for codec, quality in self.codecs:
            stills = recode(stills, codec, quality)
        return stored.with_picture(stills)

    def _exposed(self, picture: Picture) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        """Gamma, colour and a slope of light, as floats."""
        levels = 255 * (np.arange(256) / 255) ** self.gamma
        table = (levels[:, None] * np.array(self.gains)).astype(np.float32)
        out = cv2.LUT(picture, table[None])
        if self.slope == (0.0, 0.0):
            return np.asarray(out, np.float32)
        height, width = picture.shape[:2]
        across = np.linspace(-0.5, 0.5, width, dtype=np.float32) * self.slope[0]
        down = np.linspace(-0.5, 0.5, height, dtype=np.float32) * self.slope[1]
        return np.asarray(out * (1 + across[None, :, None] + down[:, None, None]), np.float32)


def draw(rng: Generator) -> Damage:
    """One of the ways of training."""
    light = rng.random() < 0.4
    soft, hard = rng.random() < 0.35, rng.random() < 0.2
    base = rng.uniform(0.85, 1.15)
    return Damage(
        box=float(np.exp(rng.uniform(np.log(SMALLEST), np.log(LARGEST)))),
        interpolation=INTERPOLATIONS[int(rng.integers(len(INTERPOLATIONS)))],
        gains=_triple(base * rng.uniform(0.88, 1.12, 3)),
        gamma=float(np.exp(rng.uniform(-0.4, 0.4))),
        slope=(float(rng.uniform(-0.5, 0.5)), float(rng.uniform(-0.4, 0.4))) if light else (0.0, 0.0),
        blur=float(rng.uniform(0.3, 1.3)) if soft else 0.0,
        sharpen=float(rng.uniform(0.2, 1.2)) if hard else 0.0,
        noise=float(rng.uniform(1, 8)) if rng.random() < 0.4 else 0.0,
        codecs=tuple(_codec(rng) for _ in range(int(rng.choice(3, p=(0.15, 0.55, 0.3))))),
        flip=bool(rng.random() < 0.5),
        jitter=JITTER,
        seed=int(rng.integers(2**31)),
    )


def stored_as(box: float, *codecs: tuple[Codec, int]) -> Damage:
    """A face at this size through these codecs and nothing else."""
    return Damage(
        box=box, interpolation=cv2.INTER_AREA, gains=(1.0, 1.0, 1.0), gamma=1.0, slope=(0.0, 0.0), blur=0.0,
        sharpen=0.0, noise=0.0, codecs=codecs, flip=False, jitter=0.0, seed=0,
    )  # fmt: skip


def jittered(face: Detection, jitter: float, rng: Generator) -> Detection:
    """The face with landmarks a little off."""
    reach = jitter * min(face.box[2:])
    placed = [(x + rng.normal(0, reach), y + rng.normal(0, reach)) for x, y in face.landmarks]
    return replace(face, landmarks=(placed[0], placed[1], placed[2], placed[3], placed[4]))


def _codec(rng: Generator) -> tuple[Codec, int]:
    codec = list(LEARNED)[int(rng.choice(len(SHARES), p=SHARES))]
    worst, best = LEARNED[codec]
    return codec, round(worst + (best - worst) * rng.random())


def _triple(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue
