"""Guessing keys is slow, and does not lock out who has one."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import httpx2
import pytest

from api import strangers
from api.strangers import Strangers, address_of
from core import db, keys
from core.errors import TooManyRequests
from tests.api.conftest import client
from tests.api.server import serving

URL = "/v1/analyses"


def guess() -> str:
    """A well-formed key that nobody has: it costs a query."""
    prefix, secret = keys._random(8), keys._random(32)
    return f"dd_{prefix}_{secret}{keys._checksum(prefix + secret)}"


@pytest.fixture
def api(database: str, bucket: str, set_settings: Callable[..., None]) -> Iterator[tuple[str, int]]:
    assert database
    assert bucket
    set_settings(ADMISSION__FAILURES=3, ADMISSION__WINDOW="PT1H")
    with serving() as address:
        yield address


def ask(http: httpx2.Client, key: str, address: str | None = None) -> httpx2.Response:
    forwarded = {"X-Forwarded-For": address} if address else {}
    return http.get(URL, headers={"Authorization": f"Bearer {key}", **forwarded})


def test_guessing_is_slowed_down(api: tuple[str, int]) -> None:
    with client(api) as stranger:
        answers = [ask(stranger, guess()) for _ in range(5)]
    assert [answer.status_code for answer in answers] == [401, 401, 401, 429, 429]
    assert answers[-1].json()["code"] == "too_many_failures"
    assert 1100 < int(answers[-1].headers["retry-after"]) <= 1200
    assert "ratelimit" not in answers[-1].headers, "whose quota it is, is nobody's business"


def test_who_was_known_before_is_not_locked_out(api: tuple[str, int], key: str) -> None:
    with client(api) as stranger:
        assert ask(stranger, key).status_code == 200
        for _ in range(5):
            ask(stranger, guess())
        assert ask(stranger, key).status_code == 200
        assert ask(stranger, guess()).status_code == 429


def test_a_revoked_key_is_no_longer_known(api: tuple[str, int], key: str) -> None:
    with client(api) as stranger:
        assert ask(stranger, key).status_code == 200
        with db.transaction() as session:
            keys.revoke(session, key.split("_")[1])
        answers = [ask(stranger, key).status_code for _ in range(5)]
    assert answers == [401, 401, 401, 429, 429]


def test_no_key_is_no_guess(api: tuple[str, int], key: str) -> None:
    with client(api) as stranger:
        assert {stranger.get(URL).status_code for _ in range(6)} == {401}
        assert ask(stranger, key).status_code == 200


def test_behind_a_trusted_proxy_addresses_are_told_apart(api: tuple[str, int], key: str) -> None:
    with client(api) as proxy:
        for _ in range(4):
            ask(proxy, guess(), "203.0.113.7")
        assert ask(proxy, guess(), "203.0.113.7").status_code == 429
        assert ask(proxy, guess(), "203.0.113.8").status_code == 401
        assert ask(proxy, key, "203.0.113.8").status_code == 200


def scope(host: str | None) -> dict[str, Any]:
    return {"client": (host, 1234) if host is not None else None}


@pytest.mark.parametrize(
    ("host", "counted"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2::1", "2001:db8:1:2::"),
        ("fe80::1%eth0", "fe80::"),
        ("unix", "unix"),
        ("x" * 1000, "x" * 64),
        (None, ""),
    ],
)
def test_an_address_is_what_one_sender_has(host: str | None, counted: str) -> None:
    assert address_of(scope(host)) == counted


class Clock:
    """Time that passes when told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def tries(found: Strangers, host: str, keys_presented: Sequence[str]) -> int:
    """How many tries are let through until the first refusal."""
    for count, presented in enumerate(keys_presented):
        try:
            found.check(scope(host), [presented])
        except TooManyRequests:
            return count
        found.refused(scope(host), [presented])
    return len(keys_presented)


def test_tries_come_back_with_time(set_settings: Callable[..., None]) -> None:
    set_settings(ADMISSION__FAILURES=60, ADMISSION__WINDOW="PT60S")
    clock = Clock()
    found = Strangers(clock)
    guesses = [secrets.token_hex(8) for _ in range(500)]
    assert tries(found, "203.0.113.7", guesses) == 60
    clock.now += 10
    assert tries(found, "203.0.113.7", guesses) == 10
    clock.now += 3600
    assert tries(found, "203.0.113.7", guesses) == 60


def test_memory_has_a_bound(monkeypatch: pytest.MonkeyPatch, set_settings: Callable[..., None]) -> None:
    set_settings(ADMISSION__FAILURES=1)
    monkeypatch.setattr(strangers, "REMEMBERED", 100)
    found = Strangers(Clock())
    for number in range(1000):
        found.refused(scope(f"2001:db8:{number:x}::1"), ["x"])
        found.known([f"key {number}"])
    assert len(found._buckets) == len(found._good) == 100
    with pytest.raises(TooManyRequests):
        found.check(scope("2001:db8:3e7::2"), ["y"])
    found.check(scope("2001:db8:3e7::2"), ["key 999"])


def test_no_key_is_kept_in_memory(key: str) -> None:
    found = Strangers()
    found.known([f"Bearer {key}"])
    assert key.encode() not in b"".join(found._good)
