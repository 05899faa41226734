"""What an attacker tries first: secrets that were never random. Stdlib only; no value is ever quoted.

It cannot know what is random, only what is plainly not; `scripts/new-env` makes secrets that are.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Final
from urllib.parse import parse_qs, unquote, urlsplit

#: Bits that the letters of a secret carry at least, by how often each occurs; 32 random hexadecimal
#: digits have about 115.
MIN_BITS: Final = 90.0
#: Of a password that is typed at a login and not derived from random bytes.
MIN_PASSWORD: Final = 8
#: Words of examples and placeholders. Five letters at least: shorter ones occur in random text.
EXAMPLES: Final = (
    "change",
    "default",
    "deepdefend",
    "dummy",
    "example",
    "insecure",
    "letmein",
    "password",
    "placeholder",
    "replace",
    "sample",
    "secret",
    "todo-",
    "your-",
    "your_",
)
#: Six neighbours on a keyboard or in the alphabet are no accident.
ROWS: Final = ("abcdefghijklmnopqrstuvwxyz", "01234567890", "qwertyuiop", "asdfghjkl", "zxcvbnm")
RUN: Final = 6
#: What servers, images and manuals ship with, in lower case.
SHIPPED: Final = frozenset(
    {
        "",
        "0555b35654ad1656d804",  # the demo of Ceph's own documentation
        "accesskey",
        "admin",
        "admin123",
        "akiaiosfodnn7example",  # AWS's manuals
        "any",
        "changeme",
        "deepdefend",
        "flower",
        "guest",
        "localstack",
        "minio",
        "minio123",
        "minioadmin",
        "pass",
        "password",
        "postgres",
        "root",
        "rustfsadmin",
        "s3cr3t",
        "secret",
        "secretkey",
        "some_access_key1",  # SeaweedFS's manuals
        "some_secret_key1",
        "test",
        "user",
        "valkey",
        "wjalrxutnfemi/k7mdeng/bpxrficyexamplekey",
    }
)


def weakness(secret: str) -> str | None:
    """Why a secret that should be random plainly is not; None when it may be."""
    lower = secret.lower()
    if any(word in lower for word in EXAMPLES):
        return "it is the text of an example"
    if secret in (secret + secret)[1:-1]:
        return "it repeats itself"
    rows = (*ROWS, *(row[::-1] for row in ROWS))
    if any(row[at : at + RUN] in lower for row in rows for at in range(len(row) - RUN + 1)):
        return "it follows the alphabet or the keyboard"
    if _bits(secret) < MIN_BITS:
        return "it has too few different characters"
    return None


def _bits(secret: str) -> float:
    """Shannon's entropy of the letters as they occur, for the whole."""
    size = len(secret)
    return sum(count * math.log2(size / count) for count in Counter(secret).values())


def is_shipped(value: str) -> bool:
    """Whether it is what a server came with, or what its manual says."""
    return value.lower() in SHIPPED


def passwords_of(url: str) -> tuple[str, ...]:
    """The passwords in a URL, before its host and in its query, where libpq and Redis' client read one too.

    None where sockets or certificates may speak for the caller.
    """
    try:
        parts = urlsplit(url)
        before = () if parts.password is None else (unquote(parts.password),)
        return before + tuple(parse_qs(parts.query, keep_blank_values=True).get("password", ()))
    except ValueError:  # a broken address is another's complaint
        return ()


def weak_accounts(accounts: str) -> str | None:
    """Why `user:password[,user:password]`, as Flower reads it, keeps nobody out; None when it may."""
    for account in accounts.split(","):
        user, colon, password = account.partition(":")
        if not colon or is_shipped(password) or password == user:
            return "it is a password that everybody knows"
        if len(password) < MIN_PASSWORD:
            return f"its password has fewer than {MIN_PASSWORD} characters"
    return None


def listed(refusals: Sequence[str]) -> str:
    """One message that names all of them."""
    return "not safe in production: " + "; ".join(refusals)
