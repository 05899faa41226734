"""Files that their owner sends to the storage in parts: planned, sent, joined, hashed, used once.

A row moves open -> completed -> used, or to aborted; each change is one conditional statement, so that
of two who want different things one wins and the other sees it. The storage follows the row: an upload
is aborted first and its bytes are dropped after, and `sweep` does again whatever a killed process left.

`complete` may be killed between any two of its actions and asked for again: parts that were joined are
found as an object, an object that was hashed is hashed again. The lease keeps a second one away while
the first is alive. No row ever says completed before the whole object was read and hashed here.
"""

from __future__ import annotations

from core.uploads.completion import complete, received
from core.uploads.ending import abort, named_parts, sweep
from core.uploads.rows import (
    Draft,
    UploadStatus,
    Wanted,
    attribute,
    check_room,
    discard,
    draft,
    find,
    part_sizes,
    record,
    take,
)

__all__ = [
    "Draft",
    "UploadStatus",
    "Wanted",
    "abort",
    "attribute",
    "check_room",
    "complete",
    "discard",
    "draft",
    "find",
    "named_parts",
    "part_sizes",
    "received",
    "record",
    "sweep",
    "take",
]
