"""One question at a time, its answer for everybody, and no patience with what hangs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator

import httpx2
import pytest

from api import pressure
from api.pressure import Full, Look, Pressure
from api.upload import Intake
from core.config import settings
from core.errors import StorageFull
from tests.api.conftest import client, send
from tests.api.server import serving

ROOM_LEFT = None
SILENT = Full("it does not say", code="server_busy", retry_after=1)


class Asked:
    """A question that counts how often it is asked, and may hang."""

    def __init__(self, *answers: Full | None) -> None:
        self.count = 0
        self.go_on = threading.Event()
        self.go_on.set()
        self._answers = answers

    def __call__(self) -> Full | None:
        self.go_on.wait(10)
        self.count += 1
        return self._answers[min(self.count, len(self._answers)) - 1]


@pytest.fixture
def asked() -> Iterator[Asked]:
    question = Asked(ROOM_LEFT, SILENT)
    yield question
    question.go_on.set()


def test_many_at_once_ask_once(asked: Asked) -> None:
    async def ask() -> list[Full | None]:
        look = Look(asked, SILENT)
        return await asyncio.gather(*(look.answer() for _ in range(20)))

    assert asyncio.run(ask()) == [ROOM_LEFT] * 20
    assert asked.count == 1


def test_an_answer_holds_for_a_while_and_no_longer(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    async def ask() -> tuple[Full | None, Full | None, Full | None]:
        look = Look(asked, SILENT)
        first, second = await look.answer(), await look.answer()
        monkeypatch.setattr(pressure, "FRESH", -1.0)
        return first, second, await look.answer()

    assert asyncio.run(ask()) == (ROOM_LEFT, ROOM_LEFT, SILENT)
    assert asked.count == 2


def test_silence_is_an_answer_and_is_not_asked_again(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pressure, "PATIENCE", 0.05)
    refusal = Full("it hangs", code="storage_unavailable", retry_after=5)
    asked.go_on.clear()

    async def ask() -> list[Full | None]:
        look = Look(asked, refusal)
        found = [await look.answer() for _ in range(3)]
        asked.go_on.set()
        assert look._asking is not None
        await look._asking
        return [*found, await look.answer()]

    assert asyncio.run(ask()) == [refusal, refusal, refusal, ROOM_LEFT]
    assert asked.count == 1


def test_a_question_that_breaks_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pressure, "FRESH", -1.0)
    tries: list[int] = []

    def broken() -> Full | None:
        tries.append(1)
        if len(tries) == 1:
            raise ZeroDivisionError
        return ROOM_LEFT

    async def ask() -> Full | None:
        look = Look(broken, SILENT)
        with pytest.raises(ZeroDivisionError):
            await look.answer()
        return await look.answer()

    assert asyncio.run(ask()) is ROOM_LEFT


def test_a_full_storage_is_left_alone_for_a_while(
    database: str, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert database
    assert bucket

    async def ask() -> list[str | None]:
        looks = Pressure()
        found = [await looks.refusal(work=True)]
        looks.storage_is_full()
        found.append(await looks.refusal(work=False))
        monkeypatch.setattr(pressure, "FULL_FOR", -1.0)
        looks.storage_is_full()
        found.append(await looks.refusal(work=True))
        return [one.code if one else None for one in found]

    assert asyncio.run(ask()) == [None, "storage_full", None]


def test_a_write_that_finds_the_storage_full_spares_the_next_body(
    database: str, bucket: str, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert database
    assert bucket

    def full(_: Intake) -> None:
        raise StorageFull("upload: no free volumes left on 10.0.0.1")

    monkeypatch.setattr(Intake, "finish", full)
    with serving() as address, client(address, key) as caller:
        met = send(caller, b"abc")
        assert (met.status_code, met.json()["code"]) == (503, "storage_full")
        assert "10.0.0.1" not in met.text
        monkeypatch.undo()
        spared = send(caller, b"abc")
        assert (spared.status_code, spared.json()["code"]) == (503, "storage_full")
        assert spared.headers["retry-after"] == "60"
        assert caller.get("/v1/analyses").status_code == 200


def test_a_database_that_is_away_is_not_room(set_settings: Callable[..., None]) -> None:
    set_settings(DATABASE_URL="postgresql://nobody:none@127.0.0.1:1/none")
    found = pressure._queue()
    assert found is not None
    assert (found.code, found.status_code) == ("server_busy", 503)


def test_the_disks_are_those_of_the_settings(set_settings: Callable[..., None]) -> None:
    set_settings(ADMISSION__MIN_FREE_BYTES=2**62)
    assert settings().temp_dir is None
    assert pressure._disks() is None, "an API without a folder of its own needs no disk"


def test_two_apis_ask_for_themselves(address: tuple[str, int], key: str) -> None:
    with serving() as other, client(address, key) as here, client(other, key) as there:
        answers: list[httpx2.Response] = [send(here, b"abc"), send(there, b"abc")]
    assert [answer.status_code for answer in answers] == [202, 202]
