"""The model store: one folder a checkpoint, with a record of what was pulled and its digests.

`<models.dir>/<org>--<name>/` is what `models pull` writes; `<org>/<name>` and the bare `<name>` are found
as well, and a setting may name any folder. A folder without a record is a person's own: its digest is
computed and reported, its version is `local`. Knows no network and no torch.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from core.domain import Frozen
from core.errors import DetectorUnavailable

CONFIG: Final = "config.json"
PREPROCESSOR: Final = "preprocessor_config.json"
WEIGHTS: Final = "model.safetensors"
#: What a checkpoint consists of; nothing else is downloaded, digested or read.
FILES: Final = (CONFIG, PREPROCESSOR, WEIGHTS)
RECORD: Final = "deepdefend.json"
#: A JSON header above this is an attack or damage; safetensors itself draws the line there.
MAX_HEADER_BYTES: Final = 100_000_000
MAX_JSON_BYTES: Final = 4 * 1024 * 1024  # the largest published config.json (1000 labels) has 70 kB
HUB_ID: Final = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


class FileRecord(Frozen):
    """One file of a checkpoint as it was pulled."""

    sha256: str
    size: int


class Record(Frozen):
    """What `models pull` wrote down beside the files: the pin of this checkpoint."""

    id: str  #: hub id
    revision: str  #: the commit the files come from
    requested: str  #: the branch, tag or commit that was asked for
    files: dict[str, FileRecord]
    digest: str
    pulled_at: datetime


def folder_name(hub_id: str) -> str:
    """The folder below models.dir that `pull` writes for a hub id."""
    return hub_id.replace("/", "--")


def find(name: str, root: Path) -> Path | None:
    """The folder of a hub id or of a path; None when it is not on this machine."""
    if is_path(name):
        folder = Path(name).expanduser()
        return folder if folder.is_dir() else None
    candidates = (root / folder_name(name), root / name, root / name.rpartition("/")[2])
    return next((folder for folder in candidates if folder.is_dir()), None)


def is_path(name: str) -> bool:
    """Whether a setting names a folder rather than a hub id."""
    if name.startswith(("/", "./", "../", "~")) or not HUB_ID.fullmatch(name):
        return True
    return (Path(name) / CONFIG).is_file()


def record_of(folder: Path) -> Record | None:
    """The record of a pulled checkpoint; None for a person's own folder."""
    path = folder / RECORD
    if not path.is_file():
        return None
    try:
        return Record.model_validate_json(path.read_bytes())
    except (ValidationError, OSError) as error:
        raise DetectorUnavailable(
            f"The record {RECORD} of checkpoint {folder.name} cannot be read.", code="checkpoint_damaged"
        ) from error


def digests(folder: Path) -> dict[str, FileRecord]:
    """SHA-256 and size of each file. Raises DetectorUnavailable: checkpoint_incomplete."""
    check_complete(folder)
    return {name: _digest(folder / name) for name in FILES}


def total(files: Mapping[str, FileRecord]) -> str:
    """One digest over all files: `sha256:` of the lines `<sha256>  <name>` in the order of the names."""
    lines = "".join(f"{files[name].sha256}  {name}\n" for name in sorted(files))
    return "sha256:" + hashlib.sha256(lines.encode()).hexdigest()


def verify(folder: Path) -> str:
    """Recompute the total digest and hold it against the record, where there is one.

    Raises DetectorUnavailable: checkpoint_incomplete, checkpoint_damaged, wrong_digest.
    """
    record = record_of(folder)
    check_whole(folder)
    files = digests(folder)
    if record is not None:
        _compare(folder, record, files)
    return total(files)


def check_complete(folder: Path) -> None:
    """Raises DetectorUnavailable (checkpoint_incomplete, pickle_refused) unless every file is there."""
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing == [WEIGHTS] and any(folder.glob("*.bin")):
        raise DetectorUnavailable(
            f"Checkpoint {folder.name} holds its weights as a pickle (.bin), which can run code on loading; "
            f"only {WEIGHTS} is read.",
            code="pickle_refused",
        )
    if missing:
        raise DetectorUnavailable(
            f"Checkpoint {folder.name} lacks {', '.join(missing)}.", code="checkpoint_incomplete"
        )


def check_whole(folder: Path) -> None:
    """Cheap look: both JSON files parse, and the weights are as long as their header says.

    Raises DetectorUnavailable: checkpoint_incomplete, checkpoint_damaged, pickle_refused.
    """
    check_complete(folder)
    read_json(folder, CONFIG)
    read_json(folder, PREPROCESSOR)
    _check_weights(folder)


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """One of the JSON files. Raises DetectorUnavailable: checkpoint_incomplete, checkpoint_damaged."""
    try:
        with (folder / name).open("rb") as file:
            value = json.loads(file.read(MAX_JSON_BYTES + 1)[:MAX_JSON_BYTES])
    except FileNotFoundError as error:
        raise DetectorUnavailable(
            f"Checkpoint {folder.name} lacks {name}.", code="checkpoint_incomplete"
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(folder, f"{name} is not readable JSON") from error
    if not isinstance(value, dict):
        raise _damaged(folder, f"{name} is not a JSON object")
    return value


def checkpoints(root: Path) -> Iterator[Path]:
    """Every folder below models.dir that holds a config.json, two levels deep at most."""
    if root.is_dir():
        found = {path.parent for pattern in ("*", "*/*") for path in root.glob(f"{pattern}/{CONFIG}")}
        yield from sorted(folder for folder in found if not folder.name.startswith("."))


def _digest(path: Path) -> FileRecord:
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return FileRecord(sha256=sha256, size=file.tell())


def _compare(folder: Path, record: Record, files: Mapping[str, FileRecord]) -> None:
    short = [name for name in FILES if name in record.files and files[name].size < record.files[name].size]
    if short:
        raise _damaged(folder, f"{', '.join(short)} is shorter than what was pulled")
    wrong = [name for name in FILES if files[name] != record.files.get(name)]
    if wrong or record.digest != total(files):
        raise DetectorUnavailable(
            f"Checkpoint {folder.name} is not what was pulled: {', '.join(wrong) or RECORD} differs from the "
            "recorded SHA-256.",
            code="wrong_digest",
        )


def _check_weights(folder: Path) -> None:
    """The layout of safetensors: eight bytes of length, a JSON header with offsets, then the data."""
    path = folder / WEIGHTS
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= min(MAX_HEADER_BYTES, size - 8):  # noqa: PLR2004 - the shortest is `{}`
                raise _damaged(folder, f"{WEIGHTS} has no readable header")
            header = json.loads(file.read(length))
        ends = [int(entry["data_offsets"][1]) for key, entry in header.items() if key != "__metadata__"]
    except (
        OSError,
        ValueError,
        OverflowError,
        RecursionError,
        LookupError,
        TypeError,
        AttributeError,
    ) as error:
        raise _damaged(folder, f"{WEIGHTS} has no readable header") from error
    if not ends or size != 8 + length + max(ends):
        raise _damaged(folder, f"{WEIGHTS} is not as long as its header says")


def _damaged(folder: Path, what: str) -> DetectorUnavailable:
    return DetectorUnavailable(f"Checkpoint {folder.name} is damaged: {what}.", code="checkpoint_damaged")
