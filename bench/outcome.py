"""What a contender hands over: seconds by stage, and its scores, so that the work can be compared as well."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field

from bench.cpu import Descendants, own_seconds

#: Stages that a service pays once, at its start: shown, and left out of the end-to-end figure of both sides.
ONCE = frozenset({"load"})


@dataclass
class Outcome:
    """One run of one contender."""

    contender: str
    stages: dict[str, float] = field(default_factory=dict)  #: seconds by the clock
    cpu: dict[str, float] = field(default_factory=dict)  #: CPU seconds of the process and its children
    frames: dict[str, float] = field(default_factory=dict)  #: presentation time, ms -> fake score of its face
    windows: dict[str, float] = field(default_factory=dict)  #: `begin-end`, ms -> fake score of the voice
    video_score: float | None = None  #: mean over intervals
    audio_score: float | None = None
    wall: float | None = None  #: end to end where stages overlap; None: their sum
    peak_mb: float = 0.0  #: of the contender's own process
    notes: dict[str, str] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time inside to this stage."""
        began, used = time.perf_counter(), own_seconds()
        yield
        self.stages[name] = self.stages.get(name, 0.0) + time.perf_counter() - began
        self.cpu[name] = self.cpu.get(name, 0.0) + own_seconds() - used

    @contextmanager
    def stage_of_children(self, name: str) -> Iterator[None]:
        """The same for work that other processes do."""
        with self.stage(name), Descendants() as others:
            before = self.cpu.get(name, 0.0)
            yield
        self.cpu[name] = before + others.seconds

    @property
    def total(self) -> float:
        """Seconds end to end, models loaded."""
        return self.wall if self.wall is not None else without_load(self.stages)

    def hand_over(self) -> None:
        """Print it as the last line of this process."""
        self.peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        sys.stdout.write("\n" + json.dumps(asdict(self)) + "\n")


def without_load(stages: dict[str, float]) -> float:
    """The sum of the stages that every clip pays."""
    return sum(seconds for name, seconds in stages.items() if name not in ONCE)


def milliseconds(seconds: float) -> str:
    """A time as a key: equal on both sides when it is the same frame."""
    return str(round(seconds * 1000))
