"""What the tables are made of: test people's faces and swaps, each way they are stored, each as a crop."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from training.blend_trace.codecs import Codec
from training.blend_trace.damage import LEARNED, stored_as
from training.blend_trace.faces import Group, Picture, Portrait, find
from training.blend_trace.swap import Blending, swap
from workers.media.crops import align
from workers.media.faces import FaceDetector

#: Swaps a taker: as many other people give a face.
GIVERS: Final = 3
#: Every which frame of a test clip gets swaps; all are measured as real.
EVERY: Final = 3


@dataclass(frozen=True)
class Way:
    """How a picture is stored before it is looked at."""

    name: str
    factor: float = 1.0  #: of its own size
    box: float | None = None  #: or scaled until the face's box is this wide, in pixels
    codec: Codec | None = None
    quality: int = 0

    @property
    def unseen(self) -> bool:
        """Whether training never met its codec."""
        return self.codec is not None and self.codec not in LEARNED

    def apply(self, face: Portrait) -> Picture:
        """The stored picture."""
        box = face.box * self.factor if self.box is None else min(self.box, face.box)
        way = stored_as(box, *([(self.codec, self.quality)] if self.codec else []))
        return way.stored(face).picture


WAYS: Final = (
    Way("as it is"),
    Way("half size, JPEG 70", 0.5, codec=Codec.JPEG, quality=70),
    Way("H.264 CRF 23", 0.5, codec=Codec.H264, quality=23),
    Way("H.264 CRF 35", 0.5, codec=Codec.H264, quality=35),
    Way("MPEG-4 q 6", 0.5, codec=Codec.MPEG4, quality=6),
    Way("VP9 CRF 35", 0.5, codec=Codec.VP9, quality=35),
    Way("HEVC CRF 28", 0.5, codec=Codec.HEVC, quality=28),
    Way("WebP 60", 0.5, codec=Codec.WEBP, quality=60),
    Way("face of 128 px", box=128),
    Way("face of 96 px", box=96),
    Way("face of 64 px", box=64),
)


@dataclass(frozen=True)
class Seen:
    """One crop of the tables."""

    person: str  #: whose picture it is: of a swap, the taker
    group: Group
    blending: Blending | None  #: None: real
    way: str
    box: float  #: shorter side of the box that was found, in pixels of the stored picture
    crop: Picture


def tested(faces: Sequence[Portrait]) -> list[tuple[Portrait, Blending | None]]:
    """Test people's real faces and the swaps among them, as yet undamaged."""
    found: list[tuple[Portrait, Blending | None]] = [(one, None) for one in faces]
    takers = [one for one in faces if one.points is not None]
    talkers = [one for one in faces if one.group is Group.TALKER][::EVERY]
    for group in (takers, talkers):
        for n, taker in enumerate(group):
            for giver in _givers(group, n):
                found += [(taker.with_picture(swap(giver, taker, kind)), kind) for kind in Blending]
    return found


def cells(faces: Sequence[Portrait], ways: Sequence[Way] = WAYS) -> Iterator[Seen]:
    """Every test crop, cut as the product cuts it: the face is looked for again after the damage."""
    detector = FaceDetector()
    plain = tested(faces)
    for way in ways:
        for face, blending in plain:
            stored = way.apply(face)
            found = find(stored, detector)
            if found is not None:  # what the product does not find, it does not score
                yield Seen(
                    face.person, face.group, blending, way.name, min(found.box[2:]), align(stored, found)
                )


def crops_of(seen: Sequence[Seen]) -> NDArray[np.uint8]:
    """N x 256 x 256 x 3."""
    return np.stack([one.crop for one in seen])


def _givers(faces: Sequence[Portrait], taker: int) -> list[Portrait]:
    """The next people after the taker, a round; of a clip one frame each and the first frames alone."""
    own = faces[taker].person
    others: dict[str, Portrait] = {}
    for face in (*faces[taker:], *faces[:taker]):
        if face.person != own:
            others.setdefault(face.person, face)
    return list(others.values())[:GIVERS]
