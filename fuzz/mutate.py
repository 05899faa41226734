"""Ways to damage a file. All chances come from the generator that is given, so a seed repeats them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final, Literal

from fuzz import boxes
from fuzz.boxes import Field
from fuzz.seeds import CLIPS


@dataclass(frozen=True)
class Chances:
    """What a mutation may draw on."""

    random: Random
    others: Mapping[str, bytes]  #: all seeds, for splices
    bait: Sequence[str]  #: addresses that nobody may open


Mutation = Callable[[bytearray, Chances], bytearray | None]
#: Longest file that comes out; a splice of splices would grow.
_LARGEST: Final = 2_000_000
_EDGES: Final = (
    0,
    1,
    7,
    8,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0xFFFF,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
    1 << 63,
    (1 << 64) - 1,
)


def _place(data: bytearray, chances: Chances) -> tuple[int, int]:
    """A range of up to a quarter of the file."""
    start = chances.random.randrange(len(data))
    return start, min(len(data), start + chances.random.randint(1, max(1, len(data) // 4)))


def flip_bits(data: bytearray, chances: Chances) -> bytearray:
    """Some bits anywhere."""
    for _ in range(chances.random.choice((1, 4, 16, 64, 400))):
        data[chances.random.randrange(len(data))] ^= 1 << chances.random.randrange(8)
    return data


def flip_head(data: bytearray, chances: Chances) -> bytearray:
    """Some bits where the headers are."""
    for _ in range(chances.random.choice((1, 4, 16))):
        data[chances.random.randrange(min(len(data), 1024))] ^= 1 << chances.random.randrange(8)
    return data


def set_bytes(data: bytearray, chances: Chances) -> bytearray:
    """Some bytes to values at the edge of a range."""
    for _ in range(chances.random.choice((1, 8, 64))):
        data[chances.random.randrange(len(data))] = chances.random.choice((0, 1, 0x7F, 0x80, 0xFE, 0xFF))
    return data


def truncate(data: bytearray, chances: Chances) -> bytearray:
    """Cut the end off, sometimes nearly all."""
    least = chances.random.choice((64, len(data), len(data), len(data)))
    return data[: chances.random.randrange(1, least + 1)]


def behead(data: bytearray, chances: Chances) -> bytearray:
    """Cut the beginning off."""
    return data[chances.random.randint(1, min(len(data), 4096)) :]


def zero_range(data: bytearray, chances: Chances) -> bytearray:
    """Silence a range."""
    start, end = _place(data, chances)
    data[start:end] = bytes(end - start)
    return data


def repeat_range(data: bytearray, chances: Chances) -> bytearray:
    """The same bytes several times."""
    start, end = _place(data, chances)
    data[end:end] = data[start:end] * chances.random.choice((1, 2, 5))
    return data


def drop_range(data: bytearray, chances: Chances) -> bytearray:
    """Leave a range out."""
    start, end = _place(data, chances)
    del data[start:end]
    return data


def swap_ranges(data: bytearray, chances: Chances) -> bytearray:
    """Two ranges change places."""
    start, end = _place(data, chances)
    other = chances.random.randrange(len(data))
    part = bytes(data[start:end])
    del data[start:end]
    data[other:other] = part
    return data


def noise_range(data: bytearray, chances: Chances) -> bytearray:
    """Random bytes over a range."""
    start, end = _place(data, chances)
    data[start:end] = chances.random.randbytes(end - start)
    return data


def splice(data: bytearray, chances: Chances) -> bytearray:
    """The beginning of this file and the end of another."""
    other = chances.others[chances.random.choice(sorted(chances.others))]
    return data[: chances.random.randrange(len(data))] + other[chances.random.randrange(max(1, len(other))) :]


def insert_other(data: bytearray, chances: Chances) -> bytearray:
    """A part of another file in the middle of this one."""
    other = bytearray(chances.others[chances.random.choice(sorted(chances.others))] or b"\0")
    start, end = _place(other, chances)
    at = chances.random.randrange(len(data))
    data[at:at] = other[start:end]
    return data


def edit_size(data: bytearray, chances: Chances) -> bytearray | None:
    """Atom, element, chunk and page sizes."""
    return _edit(data, boxes.sizes(bytes(data)), chances)


def edit_declaration(data: bytearray, chances: Chances) -> bytearray | None:
    """Huge or absurd durations, dimensions, rates and kinds."""
    return _edit(data, boxes.declarations(bytes(data)), chances)


def edit_table(data: bytearray, chances: Chances) -> bytearray | None:
    """Entry counts and entries of sample tables and indexes."""
    return _edit(data, boxes.tables(bytes(data)), chances)


def _edit(data: bytearray, fields: Sequence[Field], chances: Chances) -> bytearray | None:
    """Write edge values into one to four of the fields; None where the file has none."""
    if not fields:
        return None
    for field in chances.random.choices(fields, k=chances.random.choice((1, 1, 2, 4))):
        order: Literal["little", "big"] = "little" if field.little else "big"
        old = int.from_bytes(data[field.offset : field.offset + field.size], order)
        new = chances.random.choice(
            (*_EDGES, old + 1, old - 1, old * 2, old // 2, chances.random.getrandbits(64))
        )
        data[field.offset : field.offset + field.size] = (new % (1 << 8 * field.size)).to_bytes(
            field.size, order
        )
    return data


def disguise(data: bytearray, chances: Chances) -> bytearray:
    """A playlist, a list of files or a description of a session that names what nobody may open."""
    bait = chances.random.choice(list(chances.bait))
    text = chances.random.choice((
        f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{bait}\n#EXT-X-ENDLIST\n",
        f"ffconcat version 1.0\nfile '{bait}'\n",
        f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\na=control:{bait}\n",
        f'<?xml version="1.0"?><MPD type="static"><Period><BaseURL>{bait}</BaseURL></Period></MPD>',
        f"[playlist]\nFile1={bait}\n",
        f"RTSPtext{bait}\n",
    ))  # fmt: skip
    return bytearray(text.encode()) + data[: chances.random.choice((0, 0, len(data)))]


def refer(data: bytearray, chances: Chances) -> bytearray | None:
    """An MP4 whose samples lie elsewhere: data references and reference movies."""
    for kind, at, size in boxes.boxes(bytes(data)):
        if kind == b"dref":
            bait = chances.random.choice(list(chances.bait)).encode() + b"\0"
            room = size - 16
            entry = (len(bait) + 12).to_bytes(4, "big") + b"url " + bytes(4) + bait
            data[at + 16 : at + 16 + room] = entry
            data[at : at + 4] = (16 + len(entry)).to_bytes(4, "big")
            return data
    return None


MUTATIONS: Final[dict[str, Mutation]] = {
    found.__name__: found
    for found in (
        flip_bits, flip_head, set_bytes, truncate, behead, zero_range, repeat_range, drop_range, swap_ranges,
        noise_range, splice, insert_other, edit_size, edit_declaration, edit_table, disguise, refer,
    )
}  # fmt: skip


#: What knows the format goes deeper than chance, so it is drawn three times as often.
_LOTS: Final = sorted([*MUTATIONS, *2 * ("edit_size", "edit_declaration", "edit_table")])


@dataclass(frozen=True)
class Case:
    """One damaged file: its number, the seed it came from, what was done to it, and its bytes."""

    number: int
    origin: str
    done: tuple[str, ...]
    content: bytes


def case(number: int, seed: int, seeds: Mapping[str, bytes], bait: Sequence[str]) -> Case:
    """The file with this number: the same for the same seed, seeds and bait."""
    random = Random(f"{seed}:{number}")  # noqa: S311 - damage, not secrets
    # Three of four from the clips made for this: small, and of every kind.
    made = sorted(seeds.keys() & CLIPS.keys()) if random.random() < 0.75 else []
    origin = random.choice(made or sorted(seeds))
    data, done = bytearray(seeds[origin]), []
    chances = Chances(random, seeds, bait)
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        name = random.choice(_LOTS)
        changed = MUTATIONS[name](bytearray(data), chances) if data else None
        if changed is not None:
            data = changed[:_LARGEST]
            done.append(name)
    return Case(number, origin, tuple(done), bytes(data))
