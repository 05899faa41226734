"""The order that the parent gives its child: JSON on the command line, nothing else goes in."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Final

#: Faces kept over a whole file; a frame's share of it bounds disk (9 GB of crops) and the manifest.
#: Half an hour at five frames an interval still keeps ten faces in every frame.
FACE_BUDGET: Final = 45_000


@dataclass(frozen=True, kw_only=True)
class Job:
    """Options and the limits that the child enforces before and while it decodes."""

    interval_seconds: float
    frames_per_interval: int
    max_seconds: float
    max_pixels: int
    max_frames: int
    max_streams: int
    max_faces_per_frame: int

    def to_json(self) -> str:
        """One line for argv."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Job:
        """The inverse of `to_json`."""
        return cls(**json.loads(text))
