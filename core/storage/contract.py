"""What the product needs of an object storage, and the values that it speaks in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol

from core.domain import Frozen


class StoredPart(Frozen):
    """A part that has arrived."""

    size_bytes: int
    etag: str  #: as S3 has it, with its quotation marks


class Digest(Frozen):
    """What an object is."""

    sha256: str  #: hex
    size_bytes: int


class StoredObject(Frozen):
    """An object as a listing shows it."""

    key: str
    size_bytes: int
    modified: datetime  #: by the storage's clock; of one sent in parts, it may be when that began


class LooseParts(Frozen):
    """Parts in the bucket that were never joined."""

    key: str
    multipart_id: str


class Upload(Protocol):
    """An object being written. Nothing is visible under its key before `complete`."""

    def write(self, data: bytes) -> None:
        """Append bytes; blocks while a full part is sent."""
        ...

    def complete(self) -> None:
        """Make the object visible."""
        ...

    def abort(self) -> None:
        """Forget what was sent. May be called at any time, also twice."""
        ...


class Storage(Protocol):
    """What the product needs of a storage. Every method raises StorageError when it does not answer."""

    def open_upload(self, key: str) -> Upload:
        """Begin to write an object of unknown size."""
        ...

    def upload_file(
        self,
        path: Path,
        key: str,
        *,
        content_type: str = "application/octet-stream",
        checkpoint: Callable[[], None] = lambda: None,
    ) -> None:
        """Copy a local file to `key`. Raises what `checkpoint` raises on the way, and nothing is stored."""
        ...

    def download_file(self, key: str, path: Path, *, checkpoint: Callable[[], None] = lambda: None) -> None:
        """Copy an object to a local file. Raises NotFound, and what `checkpoint` raises on the way."""
        ...

    def read(self, key: str) -> bytes:
        """The whole of a small object. Raises NotFound."""
        ...

    def read_range(self, key: str, start: int, end: int) -> bytes:
        """Bytes `start` (inclusive) to `end` (exclusive). Raises NotFound."""
        ...

    def delete(self, key: str) -> None:
        """Delete one object; a missing one is no error."""
        ...

    def delete_prefix(self, prefix: str) -> int:
        """Delete every object below `prefix`; returns how many there were."""
        ...

    def delete_all(self, keys: Iterable[str]) -> None:
        """Delete these objects; missing ones are no error. Raises StorageError when one of them stays."""
        ...

    def keys(self, prefix: str) -> Iterator[str]:
        """Names of the objects below `prefix`."""
        ...

    def objects(self, prefix: str, *, after: str = "") -> Iterator[StoredObject]:
        """The objects below `prefix` whose names come after `after`, in the order of their names."""
        ...

    def digest(self, key: str, *, checkpoint: Callable[[], None] = lambda: None) -> Digest:
        """Read an object through. Raises NotFound, and what `checkpoint` raises on the way."""
        ...

    def open_parts(self, key: str) -> str:
        """Begin an object that somebody else sends in parts; returns S3's id of it."""
        ...

    def part_url(self, key: str, multipart_id: str, number: int, size_bytes: int, ttl: timedelta) -> str:
        """Address to PUT exactly `size_bytes` to. Whoever has it needs no key: never log it."""
        ...

    def parts(self, key: str, multipart_id: str) -> dict[int, StoredPart]:
        """The parts that have arrived. Raises NotFound once they are joined or dropped."""
        ...

    def join_parts(self, key: str, multipart_id: str, parts: Mapping[int, StoredPart]) -> None:
        """Make one object of them. Raises NotFound, and Conflict when one is not as it was listed."""
        ...

    def abort_parts(self, key: str, multipart_id: str) -> None:
        """Drop what has arrived; nothing there is no error."""
        ...

    def stale_multipart_uploads(self, older_than: timedelta) -> list[LooseParts]:
        """Parts in the bucket whose upload began longer ago, whoever began it."""
        ...

    def check(self) -> None:
        """Raise StorageError unless the bucket answers."""
        ...
