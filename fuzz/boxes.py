"""Where the fields are that say how large, how long and where: offsets in MP4, Matroska, RIFF and Ogg."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import Final, NamedTuple


class Field(NamedTuple):
    """A number in a file: where, how many bytes, and whether its last byte comes first."""

    name: str
    offset: int
    size: int
    little: bool = False


_CONTAINERS: Final = frozenset({
    b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"udta", b"moof", b"traf", b"mvex", b"dinf",
})  # fmt: skip
#: Box -> (offset in its content, size) of what it declares, version 0.
_DECLARED: Final[dict[bytes, tuple[tuple[str, int, int], ...]]] = {
    b"mvhd": (("timescale", 12, 4), ("duration", 16, 4)),
    b"mdhd": (("timescale", 12, 4), ("duration", 16, 4)),
    b"tkhd": (("duration", 20, 4), ("width", 76, 4), ("height", 80, 4), ("matrix", 40, 4)),
    b"stsd": (("count", 4, 4), ("entry", 8, 4), ("codec", 12, 4), ("width", 40, 2), ("height", 42, 2)),
    b"elst": (("count", 4, 4), ("length", 8, 4), ("start", 12, 4), ("rate", 16, 4)),
    b"hdlr": (("kind", 8, 4),),
    b"dref": (("count", 4, 4), ("flags", 16, 4)),
    b"trun": (("flags", 0, 4), ("count", 4, 4), ("offset", 8, 4)),
    b"tfhd": (("flags", 0, 4), ("track", 4, 4)),
}
#: Sample tables: an entry count after four bytes, then numbers of four.
_TABLES: Final = frozenset({b"stts", b"stsz", b"stco", b"stsc", b"ctts", b"stss", b"co64", b"trun"})
#: Matroska ids by what they hold; found by their bytes, which are rare enough elsewhere.
_EBML: Final = {
    "segment": b"\x18\x53\x80\x67", "seek": b"\x11\x4d\x9b\x74", "info": b"\x15\x49\xa9\x66",
    "tracks": b"\x16\x54\xae\x6b", "cluster": b"\x1f\x43\xb6\x75", "cues": b"\x1c\x53\xbb\x6b",
    "duration": b"\x44\x89", "scale": b"\x2a\xd7\xb1", "width": b"\xb0\x82", "height": b"\xba\x82",
    "private": b"\x63\xa2", "simple block": b"\xa3", "default duration": b"\x23\xe3\x83",
}  # fmt: skip
_RIFF: Final = {
    b"RIFF": (4,), b"LIST": (4,), b"avih": (4, 8, 24, 40, 44), b"strh": (4, 28, 40), b"strf": (4, 12, 16),
    b"idx1": (4, 12, 16), b"fmt ": (4, 8, 10, 12, 20), b"data": (4,),
}  # fmt: skip


def boxes(
    data: bytes, start: int = 0, end: int | None = None, depth: int = 0
) -> Iterator[tuple[bytes, int, int]]:
    """Every MP4 box as (type, offset, size), containers before what is in them."""
    end = len(data) if end is None else end
    while start + 8 <= end and depth < 12:
        size, kind = struct.unpack_from(">I4s", data, start)
        if size < 8 or start + size > end or not kind.isascii():
            return
        yield kind, start, size
        if kind in _CONTAINERS:
            yield from boxes(data, start + 8, start + size, depth + 1)
        start += size


def sizes(data: bytes) -> list[Field]:
    """The numbers by which a reader finds the end of something."""
    if data[:4] == b"\x1aE\xdf\xa3":
        return [Field(f"{name} size", at + len(_EBML[name]), 1) for name, at in _elements(data)]
    if data[:4] == b"RIFF":
        return [Field(f"{name!r} size", at + 4, 4, little=True) for name, at in _chunks(data)]
    if data[:4] == b"OggS":
        return [Field("segments", m.start() + 26, 1) for m in re.finditer(b"OggS", data)]
    if data[:3] == b"ID3":
        return [Field("tag size", 6, 4)]
    return [Field(f"{kind!r} size", at, 4) for kind, at, _ in boxes(data)]


def declarations(data: bytes) -> list[Field]:
    """What a file says of durations, pictures, rates and kinds."""
    if data[:4] == b"\x1aE\xdf\xa3":
        wide = {
            "duration": (3, 8),
            "scale": (4, 3),
            "width": (2, 2),
            "height": (2, 2),
            "default duration": (4, 4),
        }
        return [Field(n, at + wide[n][0], wide[n][1]) for n, at in _elements(data) if n in wide]
    if data[:4] == b"RIFF":
        return [Field(f"{n!r}+{o}", at + o, 4, little=True) for n, at in _chunks(data) for o in _RIFF[n][1:]]
    if data[:4] == b"OggS":
        return [
            Field(name, m.start() + offset, size, little=True)
            for m in re.finditer(b"OggS", data)
            for name, offset, size in (("flags", 5, 1), ("granule", 6, 8), ("serial", 14, 4), ("page", 18, 4))
        ]
    if data[:4] == b"fLaC":
        return [Field("blocks", 8, 4), Field("frames", 12, 6), Field("rate", 18, 3), Field("samples", 21, 5)]
    return [
        Field(f"{kind!r} {name}", at + 8 + offset, size)
        for kind, at, length in boxes(data)
        for name, offset, size in _DECLARED.get(kind, ())
        if offset + size + 8 <= length
    ]


def tables(data: bytes) -> list[Field]:
    """Entry counts and entries of sample tables; Matroska's blocks and AVI's index serve as theirs."""
    if data[:4] == b"\x1aE\xdf\xa3":
        return [Field("block time", at + 3, 2) for name, at in _elements(data) if name == "simple block"]
    found = [
        Field(f"{kind!r} {(place - 4) // 4}", at + 8 + place, 4)
        for kind, at, length in boxes(data)
        if kind in _TABLES
        for place in range(4, min(length - 12, 400), 4)
    ]
    if data[:4] == b"RIFF" and (index := data.find(b"idx1")) > 0:
        found += [Field("index", at, 4, little=True) for at in range(index + 8, len(data) - 4, 4)]
    return found


def _elements(data: bytes) -> list[tuple[str, int]]:
    return [
        (name, match.start())
        for name, mark in _EBML.items()
        for match in re.finditer(re.escape(mark), data)
        if match.start() + 16 < len(data)
    ]


def _chunks(data: bytes) -> list[tuple[bytes, int]]:
    return [
        (name, match.start())
        for name in _RIFF
        for match in re.finditer(re.escape(name), data)
        if match.start() + 48 < len(data)
    ]
