"""The list of labelled files: a CSV with the columns `path`, `label` and, if wanted, `group`.

All of it is checked before anything is decoded, and every fault is named with its line, so that nobody
waits an hour for the news that line 900 has a typing error.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from core.domain import Frozen, Label

COLUMNS: Final = ("path", "label", "group")
NEEDED: Final = frozenset({"path", "label"})
#: Faults shown; whoever has more of them has one.
SHOWN: Final = 20
#: Ten thousand files at 1.6 kB a line. A larger one is something else under this name.
MAX_BYTES: Final = 16 * 1024 * 1024
_PIECE: Final = 1024 * 1024


class BadManifest(Exception):
    """The list of files cannot be used; `problems` says why, line by line."""

    def __init__(self, source: str, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        more = f"\n  … and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        super().__init__(f"{source} cannot be used:\n  " + "\n  ".join(self.problems[:SHOWN]) + more)


class Entry(Frozen):
    """One labelled file."""

    name: str  #: as the list has it
    path: Path
    label: Label
    group: str | None = None  #: what belongs together: a person, a source, a method
    sha256: str


class _Row(NamedTuple):
    line: int
    cells: Mapping[str, str]


def read(manifest: Path) -> tuple[Entry, ...]:
    """The labelled files in the order of the list; paths are relative to it. Raises BadManifest."""
    rows = _rows(manifest)
    problems = [problem for row in rows for problem in _faults(row, manifest.parent)]
    if problems:
        raise BadManifest(manifest.name, problems)
    entries = [_entry(row, manifest.parent) for row in rows]
    problems = list(_doubles(rows, entries))
    if problems:
        raise BadManifest(manifest.name, problems)
    return tuple(entries)


def _rows(manifest: Path) -> list[_Row]:
    reader = csv.reader(io.StringIO(_text(manifest), newline=""), strict=True)
    try:
        header = [cell.strip().lower() for cell in next(reader, [])]
        _check_header(manifest.name, header)
        rows = [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except csv.Error as error:
        raise BadManifest(manifest.name, [f"line {reader.line_num}: {error}"]) from error
    uneven = [
        f"line {line}: {len(cells)} cells under {len(header)} columns"
        for line, cells in rows
        if len(cells) != len(header)
    ]
    if uneven:
        raise BadManifest(manifest.name, uneven)
    if not rows:
        raise BadManifest(manifest.name, ["it names no file"])
    return [
        _Row(line, {name: cell.strip() for name, cell in zip(header, cells, strict=True)})
        for line, cells in rows
    ]


def _text(manifest: Path) -> str:
    """The text; the byte order mark that Excel writes is not part of it."""
    try:
        with manifest.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise BadManifest(manifest.name, [f"it cannot be read: {error.strerror}"]) from error
    if len(raw) > MAX_BYTES:
        raise BadManifest(manifest.name, [f"it has more than {MAX_BYTES // 1024 // 1024} MiB"])
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise BadManifest(manifest.name, [f"line {line}: it is not UTF-8"]) from error
    if "\0" in text:
        raise BadManifest(manifest.name, [f"line {text.count(chr(10), 0, text.index(chr(0))) + 1}: a NUL"])
    return text


def _check_header(source: str, header: Sequence[str]) -> None:
    problems = []
    if not any(header):
        raise BadManifest(source, ["it is empty; its first line is `path,label` or `path,label,group`"])
    unknown = [name for name in header if name not in COLUMNS]
    if unknown:
        problems.append(
            f"line 1: unknown column {', '.join(map(repr, unknown))}; known: {', '.join(COLUMNS)}"
        )
    problems += [f"line 1: column {name!r} twice" for name in COLUMNS if header.count(name) > 1]
    problems += [f"line 1: no column {name!r}" for name in COLUMNS if name in NEEDED - set(header)]
    if problems:
        raise BadManifest(source, problems)


def _faults(row: _Row, root: Path) -> Iterator[str]:
    if row.cells["label"] not in set(Label):
        yield f"line {row.line}: label {row.cells['label']!r}; it is real or fake"
    if not row.cells["path"]:
        yield f"line {row.line}: no path"
        return
    path = root / row.cells["path"]
    try:
        if not path.is_file():
            yield f"line {row.line}: {row.cells['path']!r} is {'no file' if path.exists() else 'not there'}"
    except OSError as error:  # a name that no file system takes
        yield f"line {row.line}: {row.cells['path'][:80]!r}: {error.strerror}"


def _entry(row: _Row, root: Path) -> Entry:
    path = root / row.cells["path"]
    try:
        digest = digest_of(path)
    except OSError as error:
        fault = f"line {row.line}: {row.cells['path']!r} cannot be read: {error.strerror}"
        raise BadManifest(str(root), [fault]) from error
    return Entry(
        name=row.cells["path"],
        path=path,
        label=Label(row.cells["label"]),
        group=row.cells.get("group") or None,
        sha256=digest,
    )


def digest_of(path: Path) -> str:
    """SHA-256 of a file in hexadecimal. May raise OSError."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            found.update(piece)
    return found.hexdigest()


def _doubles(rows: Sequence[_Row], entries: Sequence[Entry]) -> Iterator[str]:
    """The same bytes under two lines would count twice, and under two labels contradict themselves."""
    first: dict[str, _Row] = {}
    for row, entry in zip(rows, entries, strict=True):
        earlier = first.setdefault(entry.sha256, row)
        if earlier is not row:
            labels = "" if earlier.cells["label"] == entry.label else ", with another label"
            yield f"line {row.line}: the same bytes as line {earlier.line}{labels}"
