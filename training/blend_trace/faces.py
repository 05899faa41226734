"""Real faces to train and measure on, found as the product finds them, and which person goes where.

A folder holds pictures `PERSON_anything.jpg`, beside which `PERSON_anything.landmarks.csv` may hold 189
points in the template of the Face Research Lab London Set; another holds clips, one person each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from workers.media.crops import align
from workers.media.faces import Detection, FaceDetector, small_bgr
from workers.media.formats import open_input

Picture = NDArray[np.uint8]
Points = NDArray[np.float64]

#: What is kept around a face's box on each side, in shorter sides of the box: a crop reaches 0.3 beyond it.
MARGIN: Final = 0.45
#: Every which frame of a clip is kept: at 25 a second, mouths and lids have moved by then.
STRIDE: Final = 5
TEMPLATE: Final = 189


class Group(StrEnum):
    """Where a face comes from; the two differ in camera, light, size and codec."""

    PORTRAIT = "portrait"
    TALKER = "talker"


#: Parts of the people of a group that are kept for the tables: of seven talkers three, as two say too little.
TESTED: Final = {Group.PORTRAIT: 0.25, Group.TALKER: 0.43}
#: Parts kept for the threshold and the domain.
WATCHED: Final = 0.15


class Part(StrEnum):
    """What a person's faces are used for."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


@dataclass(frozen=True)
class Portrait:
    """One real face with its surroundings, in its own resolution."""

    person: str
    group: Group
    picture: Picture  #: H x W x 3, RGB
    face: Detection
    points: Points | None  #: 189 x 2, in pixels of `picture`

    @property
    def box(self) -> float:
        """Shorter side of the face's box in pixels."""
        return min(self.face.box[2:])

    def scaled(self, box: float, interpolation: int = cv2.INTER_AREA) -> Portrait:
        """The same with a box of this shorter side; the very same where it is none or one pixel away."""
        if abs(box - self.box) < 1:
            return self
        height, width = self.picture.shape[:2]
        size = (max(8, round(width * box / self.box)), max(8, round(height * box / self.box)))
        picture = np.asarray(cv2.resize(self.picture, size, interpolation=interpolation), np.uint8)
        factors = (size[0] / width, size[1] / height)
        points = None if self.points is None else self.points * factors
        return Portrait(self.person, self.group, picture, moved(self.face, (0, 0), factors), points)

    def with_picture(self, picture: Picture) -> Portrait:
        """The same face painted otherwise."""
        return Portrait(self.person, self.group, picture, self.face, self.points)

    def crop(self) -> Picture:
        """256 x 256 x 3 as the product would cut it."""
        return align(self.picture, self.face)


def moved(face: Detection, origin: tuple[float, float], factors: tuple[float, float]) -> Detection:
    """The face in a picture whose corner lay at `origin` and which was scaled by `factors` (x, y)."""
    (x, y), (a, b) = origin, factors
    left, top, width, height = face.box
    placed = [((px - x) * a, (py - y) * b) for px, py in face.landmarks]
    return Detection(
        box=((left - x) * a, (top - y) * b, width * a, height * b),
        confidence=face.confidence,
        landmarks=(placed[0], placed[1], placed[2], placed[3], placed[4]),
    )


def gather(pictures: Path, clips: Path | None) -> list[Portrait]:
    """Every face of both folders. Raises ValueError where there is none at all."""
    detector = FaceDetector()
    found = [*_of_pictures(pictures, detector), *(_of_clips(clips, detector) if clips else ())]
    if not found:
        raise ValueError(f"no face was found in {pictures}")
    return found


def find(rgb: Picture, detector: FaceDetector) -> Detection | None:
    """The largest face of a picture, as the product would find it."""
    small, factor = small_bgr(rgb)
    return next(iter(detector.detect(small, factor)), None)


def cut_out(
    rgb: Picture, face: Detection, person: str, group: Group, points: Points | None = None
) -> Portrait:
    """The face with MARGIN around its box, as far as the picture reaches."""
    left, top, width, height = face.box
    reach = MARGIN * min(width, height)
    x0, y0 = (max(0, int(edge - reach)) for edge in (left, top))
    x1, y1 = int(left + width + reach), int(top + height + reach)
    part = np.ascontiguousarray(rgb[y0:y1, x0:x1])
    kept = None if points is None else points - (x0, y0)
    return Portrait(person, group, part, moved(face, (x0, y0), (1, 1)), kept)


def split(faces: Sequence[Portrait], seed: int) -> dict[Part, list[Portrait]]:
    """Faces by part, no person in two; people of each group drawn by the seed, at least one in each part."""
    where: dict[str, Part] = {}
    for group in Group:
        people = sorted({one.person for one in faces if one.group is group})
        order = [people[n] for n in np.random.default_rng(seed).permutation(len(people))]
        tested = max(1, round(TESTED[group] * len(order)))
        watched = max(1, round(WATCHED * len(order)))
        where |= dict.fromkeys(order, Part.TRAIN)
        where |= dict.fromkeys(order[tested : tested + watched], Part.VALIDATION)
        where |= dict.fromkeys(order[:tested], Part.TEST)
    return {part: [one for one in faces if where[one.person] is part] for part in Part}


def _of_pictures(folder: Path, detector: FaceDetector) -> Iterator[Portrait]:
    for path in sorted(folder.glob("*.jpg")):
        bgr = cv2.imread(str(path))
        if bgr is None:
            continue
        rgb = np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)
        face = find(rgb, detector)
        template = path.with_suffix(".landmarks.csv")
        points = np.loadtxt(template, delimiter=",", skiprows=1) if template.is_file() else None
        if points is not None and points.shape != (TEMPLATE, 2):
            raise ValueError(f"{template.name} holds {points.shape}, not {TEMPLATE} points")
        if face is not None:
            yield cut_out(rgb, face, path.stem.partition("_")[0], Group.PORTRAIT, points)


def _of_clips(folder: Path, detector: FaceDetector) -> Iterator[Portrait]:
    for path in sorted(path for path in folder.iterdir() if path.suffix in {".mpg", ".mp4"}):
        with open_input(str(path)) as container:
            for n, frame in enumerate(container.decode(video=0)):
                if n % STRIDE:
                    continue
                rgb = np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
                face = find(rgb, detector)
                if face is not None:
                    yield cut_out(rgb, face, path.stem, Group.TALKER)
