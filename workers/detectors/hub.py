"""Fetches checkpoints from the Hugging Face hub: three files, at one commit, with their digests recorded.

huggingface_hub lists the files, sends the headers, follows the redirects and retries; keeping a partial file
between two attempts, which its own `hf_hub_download` does not, is done here.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import io
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote
from uuid import uuid4

from core.domain import Frozen
from core.errors import DetectorUnavailable
from workers.detectors import store

MAIN: Final = "main"
#: Seconds the hub has to answer before it counts as out of reach.
PROBE_SECONDS: Final = 5.0
#: Seconds for the list of files; a hub that needs longer will not deliver 350 MB either.
PLAN_SECONDS: Final = 30.0
#: Called with the bytes that are on the disk and the bytes of all files.
Progress = Callable[[int, int], None]


class RemoteFile(Frozen):
    """One file as the hub describes it."""

    name: str
    size: int
    sha256: str | None  #: of files in large-file storage
    blob: str | None  #: git's own SHA-1 of the others


class Plan(Frozen):
    """What a pull will fetch: known, with its size, before the first byte."""

    id: str
    requested: str
    commit: str
    files: tuple[RemoteFile, ...]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


def hub_answers(timeout: float = PROBE_SECONDS, *, endpoint: str | None = None) -> bool:
    """Whether the hub can be used now; never takes longer than `timeout` seconds, name lookup included."""
    answers = threading.Event()
    done = threading.Event()

    def probe() -> None:
        if _responds(timeout, endpoint):
            answers.set()
        done.set()

    threading.Thread(target=probe, name="hub-probe", daemon=True).start()
    done.wait(timeout)
    return answers.is_set()


def plan(hub_id: str, revision: str | None = None, *, endpoint: str | None = None) -> Plan:
    """Resolve a branch or tag (default: main) to a commit and list what will be fetched.

    Raises DetectorUnavailable: hub_unreachable, unknown_checkpoint, checkpoint_incomplete, pickle_refused.
    """
    from huggingface_hub import HfApi  # noqa: PLC0415 - a second of import, for `pull` alone

    with _translated(hub_id):
        info = HfApi(endpoint=endpoint).model_info(
            hub_id, revision=revision or MAIN, files_metadata=True, timeout=PLAN_SECONDS
        )
    there = {sibling.rfilename: sibling for sibling in info.siblings or ()}
    _check_offer(hub_id, set(there))
    files = tuple(_remote(there[name]) for name in store.FILES)
    return Plan(id=hub_id, requested=revision or MAIN, commit=str(info.sha), files=files)


def pull(
    wanted: Plan, root: Path, *, progress: Progress | None = None, endpoint: str | None = None
) -> store.Record:
    """Fetch into `<root>/<org>--<name>`, which appears whole or not at all; what was there is replaced.

    An interrupted pull goes on where it stopped. Two pulls of one folder wait for each other, and the second
    finds the work done. Raises DetectorUnavailable: hub_unreachable, unknown_checkpoint, wrong_digest,
    checkpoint_damaged, disk_full, unwritable.
    """
    target = root / store.folder_name(wanted.id)
    with _disk_errors(root):
        root.mkdir(parents=True, exist_ok=True)
        with _locked(root / ".pull.lock"):
            record = _already(target, wanted)
            if record is None:
                staging = root / f".pull-{target.name}-{wanted.commit[:12]}"
                staging.mkdir(exist_ok=True)
                _fetch_all(wanted, staging, progress, endpoint)
                record = _write_record(wanted, staging)
                _swap(staging, target)
    return record


def _responds(timeout: float, endpoint: str | None) -> bool:
    import httpx2  # noqa: PLC0415 - huggingface_hub's own client
    from huggingface_hub import constants, get_session  # noqa: PLC0415

    try:
        response = get_session().head(endpoint or constants.ENDPOINT, timeout=timeout, follow_redirects=True)
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError):  # OSError: HF_HUB_OFFLINE is set
        return False
    return not response.is_error


def _check_offer(hub_id: str, names: set[str]) -> None:
    missing = [name for name in store.FILES if name not in names]
    if missing == [store.WEIGHTS] and any(name.endswith(".bin") for name in names):
        raise DetectorUnavailable(
            f"{hub_id} offers its weights only as a pickle (.bin), which can run code on loading; "
            f"only {store.WEIGHTS} is fetched.",
            code="pickle_refused",
        )
    if missing:
        raise DetectorUnavailable(f"{hub_id} offers no {', '.join(missing)}.", code="checkpoint_incomplete")


def _remote(sibling: Any) -> RemoteFile:
    return RemoteFile(
        name=sibling.rfilename,
        size=sibling.size or 0,
        sha256=sibling.lfs.sha256 if sibling.lfs else None,
        blob=sibling.blob_id,
    )


def _already(target: Path, wanted: Plan) -> store.Record | None:
    """The record of the target when it holds exactly what is wanted."""
    try:
        record = store.record_of(target)
        if record is None or record.revision != wanted.commit:
            return None
        store.verify(target)
    except DetectorUnavailable:
        return None
    return record


def _fetch_all(wanted: Plan, staging: Path, progress: Progress | None, endpoint: str | None) -> None:
    _check_space(wanted, staging)
    before = 0
    for file in wanted.files:
        path = staging / file.name
        if not (path.is_file() and _is_right(path, file)):
            _fetch(wanted, file, path, _offset(progress, before, wanted.size), endpoint)
        before += file.size
        if progress is not None:
            progress(before, wanted.size)


def _fetch(
    wanted: Plan, file: RemoteFile, path: Path, report: Callable[[int], None], endpoint: str | None
) -> None:
    """One file, going on from its partial copy; a copy that turns out wrong is fetched once more, whole."""
    part = path.with_name(path.name + ".part")
    resumed = part.is_file() and part.stat().st_size > 0
    if resumed and part.stat().st_size > file.size:
        part.unlink()
    _download(wanted, file, part, report, endpoint)
    if not _is_right(part, file):
        part.unlink()
        if resumed:
            _download(wanted, file, part, report, endpoint)
    if not (part.is_file() and _is_right(part, file)):
        raise DetectorUnavailable(
            f"{file.name} of {wanted.id} does not have the digest that the hub states for it.",
            code="wrong_digest",
        )
    part.rename(path)


def _download(
    wanted: Plan, file: RemoteFile, part: Path, report: Callable[[int], None], endpoint: str | None
) -> None:
    from huggingface_hub import constants  # noqa: PLC0415
    from huggingface_hub.file_download import http_get  # noqa: PLC0415
    from huggingface_hub.utils._headers import build_hf_headers  # noqa: PLC0415
    from huggingface_hub.utils.tqdm import disable_progress_bars  # noqa: PLC0415

    disable_progress_bars("huggingface_hub.http_get")
    url = f"{endpoint or constants.ENDPOINT}/{quote(wanted.id)}/resolve/{wanted.commit}/{file.name}"
    part.touch()
    with Meter(part, report) as meter, _translated(wanted.id):
        have = meter.seek(0, io.SEEK_END)
        headers = {**build_hf_headers(), "Accept-Encoding": "identity"}  # a range of packed bytes is useless
        http_get(url, meter, resume_size=have, headers=headers, expected_size=file.size)


class Meter(io.FileIO):
    """A file that tells its size after every write."""

    def __init__(self, path: Path, report: Callable[[int], None]) -> None:
        super().__init__(path, "r+")
        self._report = report

    def write(self, data: Any, /) -> int:
        """All of `data`: a raw file may write less than it is given."""
        rest = memoryview(data)
        while rest:
            rest = rest[super().write(rest) :]
        self._report(self.tell())
        return len(data)


def _offset(progress: Progress | None, before: int, size: int) -> Callable[[int], None]:
    return (lambda _: None) if progress is None else (lambda done: progress(before + done, size))


def _is_right(path: Path, file: RemoteFile) -> bool:
    """Whether a file is what the hub described: by its SHA-256, else by git's SHA-1, and by its size."""
    if path.stat().st_size != file.size:
        return False
    if file.sha256 is None and file.blob is None:
        return True
    digest = (
        hashlib.sha256()
        if file.sha256
        else hashlib.sha1(b"blob %d\0" % file.size, usedforsecurity=False)  # git's own, the hub has no other
    )
    with path.open("rb") as content:
        while block := content.read(1 << 20):
            digest.update(block)
    return digest.hexdigest() == (file.sha256 or file.blob)


def _write_record(wanted: Plan, staging: Path) -> store.Record:
    store.check_whole(staging)
    files = store.digests(staging)
    record = store.Record(
        id=wanted.id,
        revision=wanted.commit,
        requested=wanted.requested,
        files=files,
        digest=store.total(files),
        pulled_at=datetime.now(UTC),
    )
    (staging / store.RECORD).write_text(record.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return record


def _swap(staging: Path, target: Path) -> None:
    """Put the new folder in the old one's place.

    A link is replaced, never what it points to; a folder that no pull wrote is a person's own and is kept
    beside the new one under another name.
    """
    unique = uuid4().hex[:8]
    own = target.is_dir() and not target.is_symlink() and not (target / store.RECORD).is_file()
    old = target.with_name(f"{target.name}.replaced-{unique}" if own else f".old-{target.name}-{unique}")
    if target.is_symlink() or target.exists():
        target.rename(old)
    staging.rename(target)
    if old.is_symlink():
        old.unlink()
    elif not own and old.exists():
        shutil.rmtree(old)


def _check_space(wanted: Plan, staging: Path) -> None:
    have = sum(path.stat().st_size for path in staging.iterdir())
    if wanted.size - have > shutil.disk_usage(staging).free:
        raise OSError(errno.ENOSPC, "no space left")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def _disk_errors(root: Path) -> Iterator[None]:
    """The disk's own errors as the product's."""
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise DetectorUnavailable(f"The disk of {root} is full.", code="disk_full") from error
        raise DetectorUnavailable(
            f"{root} cannot be written: {error.strerror}.", code="unwritable"
        ) from error


@contextmanager
def _translated(hub_id: str) -> Iterator[None]:
    """The hub's errors as the product's, one line each."""
    import httpx2  # noqa: PLC0415
    from huggingface_hub import errors  # noqa: PLC0415

    try:
        yield
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.HFValidationError) as error:
        raise DetectorUnavailable(
            f"The hub has no {hub_id} at this revision, or does not show it to you.",
            code="unknown_checkpoint",
        ) from error
    except errors.HfHubHTTPError as error:
        raise DetectorUnavailable(
            f"The hub answered {error.response.status_code} for {hub_id}.", code="hub_unreachable"
        ) from error
    except (httpx2.HTTPError, httpx2.InvalidURL, errors.OfflineModeIsEnabled) as error:
        raise DetectorUnavailable(
            f"The hub does not answer ({type(error).__name__}).", code="hub_unreachable"
        ) from error
    except OSError as error:
        if error.errno is not None:  # the disk's
            raise
        raise DetectorUnavailable(
            f"The hub sent another number of bytes than it announced for {hub_id}.", code="hub_unreachable"
        ) from error
