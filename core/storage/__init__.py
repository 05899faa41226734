"""Object storage: any S3-compatible server. Streams in parts, so memory does not grow with a file."""

from __future__ import annotations

from functools import lru_cache

from core.config import settings
from core.storage.contract import Digest, LooseParts, Storage, StoredObject, StoredPart, Upload
from core.storage.s3 import S3Storage, S3Upload

__all__ = [
    "Digest",
    "LooseParts",
    "S3Storage",
    "S3Upload",
    "Storage",
    "StoredObject",
    "StoredPart",
    "Upload",
    "storage",
]


@lru_cache(maxsize=1)
def storage() -> S3Storage:
    """The storage of this process, created on first use."""
    return S3Storage(settings().s3)
