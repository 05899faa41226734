"""What is submitted in a run: drawn from a seed, so that a run can be asked for again."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeVar

from core.domain import Lane


class Kind(StrEnum):
    """A clip, by what is in it."""

    FACE_AND_VOICE = "face_and_voice"
    FACE = "face"  #: no audio stream
    VOICE = "voice"  #: no video stream
    NO_FACE = "no_face"
    LONG = "long"  #: so many faces that the video branch has several shards
    TRUNCATED = "truncated"  #: index there, data short
    NO_INDEX = "no_index"  #: cut before the index: nothing decodes
    TEXT = "text"  #: no media at all


class Door(StrEnum):
    """How a file comes in."""

    FORM = "form"
    SLOWLY = "slowly"  #: a form that takes seconds, so that something can happen in the middle
    PARTS = "parts"  #: straight to the storage, then by `upload_id`
    URL = "url"  #: by `source_url`


class Fate(StrEnum):
    """What its sender does with it afterwards."""

    KEEP = "keep"
    CANCEL = "cancel"
    DELETE = "delete"


@dataclass(frozen=True, kw_only=True)
class Job:
    """One submission."""

    number: int
    kind: Kind
    door: Door
    fate: Fate
    fate_after: float | None  #: seconds from the answer; None: as soon as it has ended
    lane: Lane
    interval_seconds: float
    frames_per_interval: int
    keyed: bool  #: sent with an `Idempotency-Key`, and again when the connection breaks
    own_bytes: bool  #: else the same bytes as others of its kind, stored once
    deadline_seconds: int | None
    retention_hours: int | None
    stability: bool  #: other deliveries of it are measured between two fusions


#: Shares of a run, in percent where they add up to 100.
KINDS: Final = {
    Kind.FACE_AND_VOICE: 40,
    Kind.FACE: 14,
    Kind.VOICE: 16,
    Kind.NO_FACE: 10,
    Kind.LONG: 2,
    Kind.TRUNCATED: 8,
    Kind.NO_INDEX: 5,
    Kind.TEXT: 5,
}
DOORS: Final = {Door.FORM: 64, Door.SLOWLY: 12, Door.PARTS: 12, Door.URL: 12}
FATES: Final = {Fate.KEEP: 78, Fate.CANCEL: 9, Fate.DELETE: 13}
LANES: Final = {Lane.STANDARD: 50, Lane.INTERACTIVE: 20, Lane.BATCH: 30}
#: Of a keyed submission; the others take what they get, as a careless client does.
KEYED: Final = 0.85
OWN_BYTES: Final = 0.8
SHORT_DEADLINE, ZERO_RETENTION = 0.03, 0.08
#: Each costs six more steps of two decoders.
STABILITY: Final = 0.06

Choice = TypeVar("Choice")


def plan(seed: int, jobs: int) -> list[Job]:
    """The submissions of a run, in their order. The first ones show every kind and every door."""
    draw = random.Random(seed)
    kinds = [*Kind, *(_pick(draw, KINDS) for _ in range(jobs))]
    doors = [*Door, *(_pick(draw, DOORS) for _ in range(jobs))]
    return [_job(draw, number, kinds[number], doors[number % len(doors)]) for number in range(jobs)]


def _job(draw: random.Random, number: int, kind: Kind, door: Door) -> Job:
    return Job(
        number=number,
        kind=kind,
        door=door,
        fate=_pick(draw, FATES),
        fate_after=draw.choice([0.0, draw.uniform(0, 4), draw.uniform(0, 20), None]),
        lane=_pick(draw, LANES),
        interval_seconds=1.0 if kind is Kind.LONG else draw.choice([1.0, 2.0]),
        frames_per_interval=25 if kind is Kind.LONG else draw.choice([2, 3]),
        keyed=draw.random() < KEYED,
        own_bytes=draw.random() < OWN_BYTES,
        deadline_seconds=10 if draw.random() < SHORT_DEADLINE else None,
        retention_hours=0 if draw.random() < ZERO_RETENTION else None,
        stability=draw.random() < STABILITY,
    )


def _pick(draw: random.Random, shares: Mapping[Choice, int]) -> Choice:
    chosen: Sequence[Choice] = draw.choices(list(shares), weights=list(shares.values()))
    return chosen[0]
