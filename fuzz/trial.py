"""One damaged file through the extraction that the worker calls, and what must hold afterwards."""

from __future__ import annotations

import logging
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Final

import psutil

from core.config import Limits
from core.domain import Options
from core.errors import MediaError
from fuzz.mutate import Case
from fuzz.trap import Trap
from workers.media import sandbox
from workers.media.attend import Outcome
from workers.media.extract import CODES, PARENT_CODES, extract

#: Tight enough that thousands end in good time, wide enough that honest clips of a second pass.
LIMITS: Final = Limits(
    max_duration=timedelta(seconds=60), max_pixels=1920 * 1088, max_frames=3000,
    decode_seconds=timedelta(seconds=20), decode_memory_bytes=640 << 20,
)  # fmt: skip
OPTIONS: Final = Options(frames_per_interval=2)
MANIFEST: Final = "manifest"
#: Seconds beyond the decoder's own for starting it, clearing away and checking what it wrote.
_GRACE: Final = 15.0
_TRACEBACK: Final = re.compile(r"^\w[\w.]*(?:Error|Exception|Warning|Interrupt|Exit)\b.*", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Result:
    """How one file fared. `faults` is empty when everything held."""

    number: int
    origin: str
    done: tuple[str, ...]
    level: str
    outcome: str  #: `manifest`, or the code of the refusal
    signal: int = 0  #: that ended the decoder
    seconds: float = 0.0
    faults: tuple[str, ...] = ()

    @property
    def same(self) -> tuple[object, ...]:
        """What a smaller file must share with this one to stand for it."""
        return self.outcome, self.signal, self.faults


def attempt(case: Case, folder: Path, trap: Trap, *, level: str, limits: Limits = LIMITS) -> Result:
    """Extract one file in `folder`, which is empty before and after."""
    source, work = folder / "source", folder / "work"
    source.write_bytes(case.content)
    work.mkdir(mode=0o700)
    before = _children()
    started = time.monotonic()
    ended: list[Outcome] = []
    with _observed(ended, level):
        outcome, faults = _extract(source, work, limits)
    seconds = time.monotonic() - started
    faults += [f"the decoder raised {found}" for found in _uncaught(ended)]
    if seconds > limits.decode_seconds.total_seconds() + _GRACE:
        faults.append("the limit of time did not hold")
    faults += [f"left a process: {name}" for name in _children() - before]
    faults += [f"touched the trap: {what}" for what in trap.touched()]
    faults += _disorder(folder, source, case.content)
    shutil.rmtree(work)
    source.unlink()
    return Result(
        number=case.number, origin=case.origin, done=case.done, level=level, outcome=outcome,
        signal=ended[-1].signal if ended else 0, seconds=seconds, faults=tuple(faults),
    )  # fmt: skip


def _extract(source: Path, work: Path, limits: Limits) -> tuple[str, list[str]]:
    """The outcome, and what else was raised."""
    try:
        extract(source, work, options=OPTIONS, limits=limits, require_sandbox=False)
    except MediaError as error:
        known = error.code in CODES | PARENT_CODES
        # An honest decoder's result holds; this one was not taken over.
        if error.__cause__ is not None and error.code == "decoder_crashed":
            return error.code, [f"the result does not hold: {error.__cause__}"[:300]]
        return error.code, [] if known else [f"unknown code {error.code}"]
    except Exception as error:  # noqa: BLE001 - any other exception is what is looked for
        return type(error).__name__, [f"raised {type(error).__name__}: {error}"[:200]]
    return MANIFEST, []


@contextmanager
def _observed(ended: list[Outcome], level: str) -> Iterator[None]:
    """Extraction at this level, with how the decoder ended written down on its way to the product."""
    run, ask = sandbox.run, sandbox.level

    def observe(*arguments: object, **options: object) -> Outcome:
        forward: Callable[..., Outcome] = run
        outcome = forward(*arguments, **options)
        ended.append(replace(outcome, output=outcome.output[-4000:]))
        return outcome

    setattr(sandbox, "run", observe)  # noqa: B010 - a plain assignment is no type's business either
    setattr(sandbox, "level", lambda: level)  # noqa: B010
    logger = logging.getLogger("workers.media")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        setattr(sandbox, "run", run)  # noqa: B010
        setattr(sandbox, "level", ask)  # noqa: B010
        logger.setLevel(before)


def _uncaught(ended: list[Outcome]) -> list[str]:
    """How a decoder that was not ended by a signal crashed: a fault of ours, not FFmpeg's."""
    for outcome in ended:
        if outcome.status not in {0, 3} and "MemoryError" not in outcome.output:
            lines = _TRACEBACK.findall(outcome.output)
            return [(lines[-1] if lines else outcome.output)[-300:]]
    return []


def _children() -> set[str]:
    return {f"{child.pid} {child.name()}" for child in psutil.Process().children(recursive=True)}


def _disorder(folder: Path, source: Path, content: bytes) -> Iterator[str]:
    """What is in the folder that should not be, and whether the file is still what it was."""
    names = {path.name for path in folder.iterdir()}
    for name in sorted(names - {"source", "work"}):
        yield f"left a file: {name}"
    if source.read_bytes() != content:
        yield "changed its input"
    for path in (folder / "work").iterdir():
        if path.is_symlink() or not path.is_file():
            yield f"made something odd: {path.name}"
