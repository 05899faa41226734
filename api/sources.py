"""Where the file of a submission comes from: the form itself, an upload in parts, or an address."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final
from uuid import UUID

from core import urls
from core.analyses import RemoteFile, StoredUpload
from core.config import settings
from core.domain import Frozen
from core.errors import InvalidOption

FILE: Final = "file"
UPLOAD_ID: Final = "upload_id"
SOURCE_URL: Final = "source_url"
SOURCES: Final = (FILE, UPLOAD_ID, SOURCE_URL)
#: Bytes that those which are text may have. An address is bounded like everything that is called.
SOURCE_BOUNDS: Final = {UPLOAD_ID: 64, SOURCE_URL: urls.MAX_LENGTH}


class EarlierUpload(Frozen):
    """Bytes that came by `POST /v1/uploads`; taken in the transaction that submits."""

    upload_id: UUID


Source = StoredUpload | EarlierUpload | RemoteFile


def missing_source() -> InvalidOption:
    """The refusal of a submission without a file."""
    return InvalidOption("send one of `file`, `upload_id` and `source_url`", code="missing_source")


def several_sources() -> InvalidOption:
    """The refusal of a submission with more than one."""
    return InvalidOption("send only one of `file`, `upload_id` and `source_url`", code="several_sources")


def named_source(fields: Mapping[str, Any]) -> EarlierUpload | RemoteFile:
    """The source that is named by text.

    Raises InvalidOption for none, for both, and for what is no id; UnsafeUrl for what must not be called.
    """
    named = [name for name in SOURCE_BOUNDS if name in fields]
    if not named:
        raise missing_source()
    if len(named) > 1:
        raise several_sources()
    (name,) = named
    value = fields[name]
    if not isinstance(value, str):
        raise InvalidOption(f"`{name}` is not a string", field=name)
    return _earlier(value) if name == UPLOAD_ID else _remote(value)


def _earlier(value: str) -> EarlierUpload:
    with suppress(ValueError):
        if str(found := UUID(value)) == value.lower():  # UUID takes braces and other dress, too
            return EarlierUpload(upload_id=found)
    raise InvalidOption("`upload_id` is no UUID", field=UPLOAD_ID)


def _remote(value: str) -> RemoteFile:
    """Only its text is looked at: the extraction queue resolves and fetches it."""
    policy = settings().source_url
    if not policy.enabled:
        raise InvalidOption("this server fetches no files", code="source_url_disabled", field=SOURCE_URL)
    return RemoteFile(url=urls.parse(value, policy).url)
