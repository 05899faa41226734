"""The only door out: calls to URLs that strangers gave us. Every one goes through `core.urls`."""

from __future__ import annotations

from workers.outbound.fetching import Fetched, fetch
from workers.outbound.posting import Reply, post

__all__ = ["Fetched", "Reply", "fetch", "post"]
