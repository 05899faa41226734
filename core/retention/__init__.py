"""What is kept for how long, how it goes, and what is said of it afterwards.

Erasing takes two steps, because a database and a storage share no transaction. To *condemn* is one
transaction: rows go or change, and a row of `erasures` says which objects must follow and on whose word.
To *carry out* deletes those objects and closes with one more transaction: the receipt is written into the
audit log and the row goes. Whatever dies in between, the row is still there and the dispatcher begins
again: deleting twice is deleting once. Nothing is said to be erased before a listing shows it gone.

A file is shared by the owner's analyses of the same bytes. Whoever condemns it takes the analysis row
first and the media row second, as a submission, a hold and an extraction do, and so sees every analysis
that may still need it.
"""

from __future__ import annotations

from core.retention.condemned import (
    analyses_due_query,
    condemn_analysis,
    condemn_media,
    media_due_query,
)
from core.retention.erasing import carry_out, due, erase_media_if_due, postpone
from core.retention.holds import hold, release
from core.retention.receipts import Fate, MediaFate, Receipt, Scope, find_receipt

__all__ = [
    "Fate",
    "MediaFate",
    "Receipt",
    "Scope",
    "analyses_due_query",
    "carry_out",
    "condemn_analysis",
    "condemn_media",
    "due",
    "erase_media_if_due",
    "find_receipt",
    "hold",
    "media_due_query",
    "postpone",
    "release",
]
