"""A file straight to the server's storage, in parts (`POST /v1/uploads`).

What was sent before a break is not sent again, also by a new process: the Idempotency-Key is made from
the file's own bytes and name, so the server finds the upload that was begun for them. It knows it for
a day. The addresses of the parts are secrets; nothing here prints one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any, Final

import httpx2

from cli.client import (
    TIMEOUT,
    BadFile,
    Client,
    Envelope,
    NotOurs,
    Refused,
    SentFile,
    is_loopback,
    sendable_name,
)
from core.domain import Options, Terms

PIECE: Final = 1024 * 1024
#: Uploads of these same bytes that may have been used up, or given up, within the server's memory.
MAX_BEGUN: Final = 100
#: Rounds in a row in which no part arrived.
FRUITLESS: Final = 5
#: Another process has sent the same file, and was faster.
TAKEN: Final = frozenset({"upload_used", "upload_aborted", "upload_expired"})
Progress = Callable[[int, int], None]
#: An upload as the server shows it.
Parcel = dict[str, Any]


class NoStorage(Refused):
    """The storage does not take the parts."""

    def __init__(self) -> None:
        detail = (
            "the storage did not take a part of the file; run the command again to go on, or leave --direct"
        )
        super().__init__(0, {"code": "storage_unreachable", "detail": detail})


def submit(
    client: Client,
    path: Path,
    options: Options | None = None,
    on_upload: Progress = lambda _sent, _total: None,
    *,
    terms: Terms | None = None,
) -> Envelope:
    """Send a file in parts and return its analysis. Raises what `Client.submit` does, and NoStorage."""
    size, sha256 = _digest(path)
    wanted = {"size_bytes": size, "filename": sendable_name(path), "sha256": sha256}
    for number in count():
        try:
            parcel = _begin(client, wanted, number)
            if parcel["status"] not in {"open", "completed"} and number < MAX_BEGUN:
                continue
            if parcel["status"] != "completed":
                _send(client, path, parcel, on_upload)
                client.post(f"v1/uploads/{parcel['id']}/complete")
            return client.submit_named({"upload_id": parcel["id"]}, options, terms)
        except Refused as refused:
            if refused.code not in TAKEN or number >= MAX_BEGUN:
                raise
    raise AssertionError  # count() has no end


def _digest(path: Path) -> tuple[int, str]:
    found = hashlib.sha256()
    with SentFile(path, lambda _read, _total: None) as file:
        while piece := file.read(PIECE):
            found.update(piece)
        if not file.size:
            raise BadFile("The file is empty")
        return file.size, found.hexdigest()


def _begin(client: Client, wanted: Parcel, number: int) -> Parcel:
    """The upload of these bytes: a new one, or the one that was begun before."""
    name = hashlib.sha256(str(wanted["filename"]).encode()).hexdigest()[:16]
    key = f"direct-{wanted['sha256']}-{name}-{number}"
    return _parcel(client.post("v1/uploads", wanted, {"Idempotency-Key": f'"{key}"'}))


def _parcel(response: httpx2.Response) -> Parcel:
    found = response.json()
    if not isinstance(found, dict) or not {"id", "status", "parts", "part_bytes"} <= set(found):
        raise NotOurs("the server answered, but not with an upload")
    return found


def _send(client: Client, path: Path, parcel: Parcel, on_upload: Progress) -> None:
    """Send what is missing; ask for new addresses when the old ones have died."""
    fruitless = 0
    while missing := [part for part in parcel["parts"] if not part["received"]]:
        arrived = _send_some(path, parcel, missing, on_upload)
        fruitless = 0 if arrived else fruitless + 1
        if fruitless == FRUITLESS:
            raise NoStorage
        client.rest(fruitless)
        parcel = _parcel(client.get(f"v1/uploads/{parcel['id']}"))


def _send_some(path: Path, parcel: Parcel, missing: list[Parcel], on_upload: Progress) -> int:
    """Send parts until one fails; how many arrived."""
    total = sum(part["size_bytes"] for part in parcel["parts"])
    sent = total - sum(part["size_bytes"] for part in missing)
    local = all(is_loopback(part["url"]) for part in missing if part["url"])
    arrived = 0
    with (
        httpx2.Client(timeout=TIMEOUT, trust_env=not local) as storage,
        SentFile(path, lambda _read, _total: None) as file,
    ):
        for part in missing:
            if part["url"] is None or not _put(storage, file, parcel["part_bytes"], part):
                break
            arrived, sent = arrived + 1, sent + part["size_bytes"]
            on_upload(sent, total)
    return arrived


def _put(storage: httpx2.Client, file: SentFile, part_bytes: int, part: Parcel) -> bool:
    """Whether the storage took it. Raises BadFile when the file is no longer what it was."""
    file.seek((part["number"] - 1) * part_bytes)
    data = bytearray()
    while len(data) < part["size_bytes"] and (piece := file.read(part["size_bytes"] - len(data))):
        data += piece
    if len(data) != part["size_bytes"]:
        raise BadFile("The file changed while it was being sent")
    try:
        return storage.put(part["url"], content=bytes(data)).is_success
    except httpx2.TransportError:
        return False
