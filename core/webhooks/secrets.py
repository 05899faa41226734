"""Signing secrets: made here, shown once, kept encrypted, and used as Standard Webhooks say.

The keys that encrypt them are named by `DEEPDEFEND_WEBHOOKS__ENCRYPTION_KEYS`, the first one encrypts,
all decrypt. The last resort is a key derived from `DEEPDEFEND_SECRET_KEY`; it decrypts even where keys
are named, so that naming the first one costs nothing.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Iterable
from typing import Final

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from core.config import settings
from core.errors import DeepDefendError

PREFIX: Final = "whsec_"
#: Of 24 to 64 that Standard Webhooks allow: the length of the HMAC's own output.
SECRET_BYTES: Final = 32
#: Names the purpose of the derived key: another purpose gets another key from the same secret.
DERIVATION: Final = b"deepdefend webhook secrets v1"


class SecretUnreadable(DeepDefendError):
    """A webhook secret was encrypted with a key that is not configured any more."""

    code = "secret_unreadable"


def generate() -> str:
    """A new secret, in the form that receivers' libraries take."""
    return PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def seal(secret: str) -> bytes:
    """The secret as it may be stored."""
    return _box().encrypt(secret.encode())


def unseal(sealed: bytes) -> str:
    """The secret itself. Raises SecretUnreadable."""
    try:
        return _box().decrypt(sealed).decode()
    except InvalidToken as error:
        raise SecretUnreadable from error


def reseal(sealed: bytes) -> bytes:
    """The same secret under the first of today's keys. Raises SecretUnreadable."""
    try:
        return _box().rotate(sealed)
    except InvalidToken as error:
        raise SecretUnreadable from error


def is_readable(sealed: bytes) -> bool:
    """Whether today's keys open it."""
    try:
        unseal(sealed)
    except SecretUnreadable:
        return False
    return True


def signatures(keys: Iterable[str], *, event_id: str, timestamp: int, body: str) -> str:
    """The `webhook-signature` header: one `v1,…` for each secret; receivers need to know only one."""
    signed = f"{event_id}.{timestamp}.{body}".encode()
    return " ".join(f"v1,{_hmac(key, signed)}" for key in keys)


def _hmac(secret: str, signed: bytes) -> str:
    key = base64.b64decode(secret.removeprefix(PREFIX))
    return base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


def _box() -> MultiFernet:
    named: list[str | bytes] = [key.get_secret_value() for key in settings().webhooks.encryption_keys]
    return MultiFernet([Fernet(key) for key in [*named, _derived()]])


def _derived() -> bytes:
    kdf = HKDF(algorithm=SHA256(), length=32, salt=None, info=DERIVATION)
    return base64.urlsafe_b64encode(kdf.derive(settings().secret_key.get_secret_value().encode()))
