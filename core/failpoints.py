"""Fail points: places between two durable actions at which a process can be made to die at once.

`DEEPDEFEND_FAILPOINT` says where: `name`, `name@3` for the third time a process gets there, or
`file:PATH` to look into a file at each point. Whoever dies at the point that the file names removes it
first, so it happens once, whatever starts again; a harness names the next point by writing the file anew.

Settings refuse all of it in production. Where nothing is armed a point costs one comparison.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final, NoReturn

#: Exit status of a process that died at a fail point; no signal and no error of Python gives it.
STATUS: Final = 86
#: `action` of the line on stderr that names the point.
ACTION: Final = "failpoint"
FILE: Final = "file:"


class Point(StrEnum):
    """Every fail point, in the order of an analysis' life, and what lies on either side of it."""

    API_CLAIMED = "api.claimed"  #: the Idempotency-Key is claimed | the body is not read
    UPLOAD_BEGUN = "upload.begun"  #: the storage waits for parts | no row knows of them
    UPLOAD_JOINED = "upload.joined"  #: the parts are an object, read through | its row still says open
    API_STORED = "api.stored"  #: the object is complete in the storage | the work is not yet owed
    API_ACCEPTED = "api.accepted"  #: the work is owed | the caller has no answer
    DISPATCHER_READ = "dispatcher.read"  #: owed steps are read | no message is sent
    DISPATCHER_SENT = "dispatcher.sent"  #: the message is with the broker | its step is not marked so
    DISPATCHER_HEADER = "dispatcher.header"  #: one message of a chord is sent | the others are not
    DISPATCHER_CHORD = "dispatcher.chord"  #: all messages of a chord are sent | its steps are not marked so
    DISPATCHER_REQUEUED = "dispatcher.requeued"  #: steps of the dead are given back | not committed
    WORKER_CLAIMED = "worker.claimed"  #: the step is leased | no work is done
    SOURCE_STORED = "source.stored"  #: the file behind a URL is stored | no row names it
    EXTRACT_STORED = "extract.stored"  #: crops, sound and pictures are stored | no row names them
    EXTRACT_CLOSED = "extract.closed"  #: the branches are owed | the task has not returned
    VIDEO_SCORED = "video.scored"  #: faces are scored | nothing is written
    VIDEO_STORED = "video.stored"  #: pictures of suspicious faces are stored | no row names them
    AUDIO_SCORED = "audio.scored"  #: the voice is scored | nothing is written
    BRANCH_CLOSED = "branch.closed"  #: a branch's results are written | its chord does not count it
    FUSE_CLAIMED = "fuse.claimed"  #: fusion is leased | nothing is judged
    FUSE_DEFERRED = "fuse.deferred"  #: the variants are owed | the task has not returned
    STABILITY_SCORED = "stability.scored"  #: a variant is scored | nothing is written
    FUSE_JUDGED = "fuse.judged"  #: the report is made | it is not written
    FUSE_COMPLETED = "fuse.completed"  #: the analysis has ended | its working files are still stored
    DISPATCHER_TOLD = "dispatcher.told"  #: messages of webhooks are with the broker | not marked so
    WEBHOOK_CLAIMED = "webhook.claimed"  #: the telling is leased | nothing is sent
    WEBHOOK_SENT = "webhook.sent"  #: the receiver has answered | that is not written down
    ERASURE_CONDEMNED = "erasure.condemned"  #: the rows are gone, the objects owed | nothing is deleted
    ERASURE_NOTED = "erasure.noted"  #: what is to go is written down | it is still stored
    ERASURE_DELETED = "erasure.deleted"  #: the objects are gone | there is no receipt


@dataclass
class Trap:
    """Where this process is to die."""

    point: Point
    passes: int = 0  #: times that the point is passed unharmed first


def parse(text: str) -> Trap | Path:
    """The setting as a trap, or as the file that names one. Raises ValueError for an unknown name."""
    if text.startswith(FILE):
        return Path(text.removeprefix(FILE))
    name, _, number = text.partition("@")
    if name not in set(Point):
        raise ValueError(f"no such fail point: {name!r}; there are {', '.join(Point)}")
    if number and not (number.isascii() and number.isdigit() and int(number) > 0):
        raise ValueError(f"after the @ comes how often it is to be reached, not {number!r}")
    return Trap(Point(name), int(number or 1) - 1)


_armed: Trap | Path | None = None


def arm(text: str | None) -> None:
    """Take the setting over for this process. Raises ValueError as `parse` does."""
    global _armed  # noqa: PLW0603 - one setting a process, looked at on hot paths
    _armed = parse(text) if text else None


def reach(point: Point) -> None:
    """Die here, with status 86 and nothing tidied up, if that was asked for."""
    if _armed is None:
        return
    if isinstance(_armed, Path):
        _reach_by_file(_armed, point)
    elif _armed.point is point:
        if _armed.passes == 0:
            _die(point)
        _armed.passes -= 1


def _reach_by_file(file: Path, point: Point) -> None:
    """Only who removes the file dies: of two processes at the point at once, one goes on."""
    with suppress(OSError):
        if file.read_text(encoding="utf-8").strip() == point:
            file.unlink()
            _die(point)


def _die(point: Point) -> NoReturn:
    line = json.dumps({"event": "died at a fail point", "action": ACTION, "point": point, "pid": os.getpid()})
    os.write(2, f"{line}\n".encode())  # not through the log: no lock of it may be waited for
    os._exit(STATUS)
