"""The client against a real HTTP server: what it sends, what it outlives, what it refuses."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest

from cli import client as module
from cli.client import BadFile, Client, ClientError, NoServer, NotOurs, Refused
from core.domain import Options
from tests.cli.conftest import Answer, ScriptedApi, envelope, unused_port

KEY = "dd_key"


class Pauses(list[float]):
    """Takes the place of time.sleep: remembers instead of waiting."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


@pytest.fixture
def pauses() -> Pauses:
    return Pauses()


@pytest.fixture
def client(api: ScriptedApi, pauses: Pauses) -> Iterator[Client]:
    with Client(api.url, KEY, sleep=pauses) as made:
        yield made


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.mp4"
    path.write_bytes(os.urandom(200_000))
    return path


def accepted(identity: str = "a1") -> Answer:
    return Answer(202, envelope(identity, "queued"))


class TestSubmit:
    def test_sends_the_bytes_the_options_and_the_key(
        self, api: ScriptedApi, client: Client, clip: Path
    ) -> None:
        api.answer("POST", "/v1/analyses", accepted())
        found = client.submit(clip, Options(interval_seconds=3, frames_per_interval=7))
        assert found["id"] == "a1"
        parts = api.requests[0].parts()
        assert parts["file"].get_payload(decode=True) == clip.read_bytes()
        assert parts["file"].get_filename() == "clip.mp4"
        assert parts["interval_seconds"].get_payload() == "3.0"
        assert parts["frames_per_interval"].get_payload() == "7"
        assert list(parts)[-1] == "file", "options must come before the bytes that they are about"
        assert api.requests[0].headers["Authorization"] == f"Bearer {KEY}"

    def test_announces_its_length(self, api: ScriptedApi, client: Client, clip: Path) -> None:
        api.answer("POST", "/v1/analyses", accepted())
        client.submit(clip)
        assert int(api.requests[0].headers["Content-Length"]) == api.requests[0].body_bytes
        assert "Transfer-Encoding" not in api.requests[0].headers

    def test_without_options_the_server_chooses(self, api: ScriptedApi, client: Client, clip: Path) -> None:
        api.answer("POST", "/v1/analyses", accepted())
        client.submit(clip)
        assert list(api.requests[0].parts()) == ["file"]

    def test_upload_progress_grows_to_the_whole_file(
        self, api: ScriptedApi, client: Client, clip: Path
    ) -> None:
        api.answer("POST", "/v1/analyses", accepted())
        seen: list[tuple[int, int]] = []
        client.submit(clip, on_upload=lambda sent, total: seen.append((sent, total)))
        assert [sent for sent, _ in seen] == sorted(sent for sent, _ in seen)
        assert seen[-1] == (200_000, 200_000)
        assert len(seen) > 3, "one report a piece, not one at the end"

    def test_a_large_file_never_stands_in_memory(
        self, api: ScriptedApi, client: Client, tmp_path: Path
    ) -> None:
        api.keep_bodies = False
        api.answer("POST", "/v1/analyses", accepted())
        large = tmp_path / "large.mp4"
        with large.open("wb") as file:
            file.truncate(48 << 20)
        tracemalloc.start()
        client.submit(large)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert api.requests[0].body_bytes > 48 << 20
        assert peak < 6 << 20

    def test_empty_file_is_the_servers_to_judge(
        self, api: ScriptedApi, client: Client, tmp_path: Path
    ) -> None:
        (tmp_path / "empty.mp4").touch()
        api.answer("POST", "/v1/analyses", Answer(422, {"code": "empty_file", "detail": "Nothing in it."}))
        with pytest.raises(Refused, match="empty_file: Nothing in it") as refused:
            client.submit(tmp_path / "empty.mp4")
        assert (refused.value.code, refused.value.status) == ("empty_file", 422)

    @pytest.mark.parametrize(
        "odd", ["a\x1b[31mred\x07.mp4", 'quote".mp4', "Ünïcode 日本.mp4", "new\nline.mp4"]
    )
    def test_odd_names_arrive_as_one_clean_field(
        self, api: ScriptedApi, client: Client, tmp_path: Path, odd: str
    ) -> None:
        api.answer("POST", "/v1/analyses", accepted())
        (tmp_path / odd).write_bytes(b"x")
        client.submit(tmp_path / odd)
        body = api.requests[0].body
        assert body.count(b"Content-Disposition") == 1
        assert b"\x1b" not in body
        assert b"\x07" not in body

    def test_a_name_that_is_not_utf8_can_be_sent(
        self, api: ScriptedApi, client: Client, tmp_path: Path
    ) -> None:
        api.answer("POST", "/v1/analyses", accepted())
        path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe.mp4"))
        path.write_bytes(b"x")
        assert client.submit(path)["id"] == "a1"
        assert module.sendable_name(path) == "\ufffd\ufffd.mp4"

    def test_missing_file_folder_and_pipe_are_bad_files(self, client: Client, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(BadFile, match="No such file"):
            client.submit(tmp_path / "absent.mp4")
        with pytest.raises(BadFile, match="directory"):
            client.submit(tmp_path)
        with pytest.raises(BadFile, match="Not a regular file"):
            client.submit(tmp_path / "pipe")
        with pytest.raises(BadFile, match="null"):
            client.submit(Path("a\0b"))

    @pytest.mark.parametrize("growth", [-150_000, 150_000])
    def test_a_file_that_changes_while_it_is_sent_is_named_as_such(
        self, api: ScriptedApi, client: Client, clip: Path, growth: int
    ) -> None:
        api.answer("POST", "/v1/analyses", accepted())
        size = clip.stat().st_size

        def change(sent: int, _total: int) -> None:
            if sent <= 65536:
                os.truncate(clip, size + growth)

        with pytest.raises(BadFile, match="changed while"):
            client.submit(clip, on_upload=change)


class TestOutages:
    def test_no_server_is_said_at_once(self, clip: Path, pauses: Pauses) -> None:
        url = f"http://127.0.0.1:{unused_port()}"
        with Client(url, KEY, sleep=pauses) as lonely, pytest.raises(NoServer, match=url):
            lonely.submit(clip)
        assert pauses == []

    def test_a_busy_server_is_tried_again_with_growing_pauses(
        self, api: ScriptedApi, client: Client, clip: Path, pauses: Pauses
    ) -> None:
        api.answer("POST", "/v1/analyses", Answer(503, {}), Answer(503, {}), Answer(503, {}), accepted())
        assert client.submit(clip)["id"] == "a1"
        assert pauses == [0.25, 0.5, 1.0]
        assert all(
            seen.parts()["file"].get_payload(decode=True) == clip.read_bytes() for seen in api.requests
        )

    def test_a_repeated_upload_is_one_wish(self, api: ScriptedApi, client: Client, clip: Path) -> None:
        api.answer("POST", "/v1/analyses", Answer(drop=True), accepted())
        client.submit(clip)
        first, second = (seen.headers["Idempotency-Key"] for seen in api.requests)
        assert first == second
        client.submit(clip)
        assert api.requests[-1].headers["Idempotency-Key"] != first

    def test_a_lost_try_that_the_server_still_works_on_is_waited_for(
        self, api: ScriptedApi, client: Client, clip: Path, pauses: Pauses
    ) -> None:
        held = Answer(409, {"code": "idempotency_in_progress"}, {"Retry-After": "5"})
        api.answer("POST", "/v1/analyses", held, accepted())
        assert client.submit(clip)["id"] == "a1"
        assert pauses == [5]
        api.answer("POST", "/v1/analyses", Answer(409, {"code": "conflict"}))
        with pytest.raises(Refused, match="conflict"):
            client.submit(clip)

    def test_the_server_may_ask_for_a_longer_pause(
        self, api: ScriptedApi, client: Client, clip: Path, pauses: Pauses
    ) -> None:
        api.answer("POST", "/v1/analyses", Answer(429, {}, {"Retry-After": "7"}), accepted())
        client.submit(clip)
        assert pauses == [7.0]

    def test_a_pause_beyond_patience_is_a_refusal(
        self, api: ScriptedApi, client: Client, clip: Path, pauses: Pauses
    ) -> None:
        problem = {"code": "quota_exceeded", "detail": "Come back tomorrow."}
        api.answer("POST", "/v1/analyses", Answer(429, problem, {"Retry-After": "86400"}))
        with pytest.raises(Refused, match="Come back tomorrow"):
            client.submit(clip)
        assert pauses == []

    def test_waiting_outlives_dropped_connections_and_503(
        self, api: ScriptedApi, client: Client, pauses: Pauses
    ) -> None:
        api.answer(
            "GET",
            "/v1/analyses/a1",
            Answer(200, envelope("a1", "processing"), {"Retry-After": "2"}),
            Answer(drop=True),
            Answer(502, None, raw=b"<html>bad gateway</html>"),
            Answer(200, envelope("a1", "completed")),
        )
        assert client.wait("a1")["status"] == "completed"
        assert pauses == [2.0, 0.25, 0.5]

    def test_waiting_outlives_a_restart_of_the_server(self, api: ScriptedApi) -> None:
        api.answer("GET", "/v1/analyses/a1", Answer(200, envelope("a1", "processing")))
        reborn: list[ScriptedApi] = []
        troubles: list[str] = []

        def restart(_seconds: float) -> None:
            if not reborn:  # after the first answer the server goes; the address stays
                api.close()
                reborn.append(api)
            elif len(troubles) == 3 and len(reborn) == 1:
                again = ScriptedApi(port=api.port)
                again.answer("GET", "/v1/analyses/a1", Answer(200, envelope("a1", "canceled")))
                reborn.append(again)

        with Client(api.url, KEY, sleep=restart, on_trouble=troubles.append) as client:
            assert client.wait("a1")["status"] == "canceled"
        assert len(troubles) == 3
        assert "trying again" in troubles[0]
        reborn[1].close()

    def test_patience_ends(self, api: ScriptedApi, pauses: Pauses) -> None:
        api.answer("GET", "/v1/analyses/a1", Answer(200, envelope("a1", "processing")), Answer(drop=True))
        with Client(api.url, KEY, sleep=pauses, patience=10) as client, pytest.raises(NoServer):
            client.wait("a1")
        assert pauses[1:] == [0.25, 0.5, 1.0, 2.0, 4.0]


class TestWait:
    def test_tells_each_new_state_once(self, api: ScriptedApi, client: Client, pauses: Pauses) -> None:
        processing = Answer(200, envelope("a1", "processing"), {"ETag": '"3"'})
        api.answer(
            "GET",
            "/v1/analyses/a1",
            processing,
            Answer(304, headers={"ETag": '"3"'}),
            Answer(200, envelope("a1", "failed"), {"ETag": '"4"'}),
        )
        states: list[str] = []
        client.wait("a1", lambda found: states.append(found["status"]))
        assert states == ["processing", "failed"]
        assert [seen.headers["If-None-Match"] for seen in api.requests] == [None, '"3"', '"3"']
        assert pauses == [1.0, 1.0]

    @pytest.mark.parametrize(("asked", "paused"), [("0", 0.05), ("4000", 30.0), ("soon", 1.0), ("nan", 1.0)])
    def test_the_pause_asked_for_is_bounded(
        self, api: ScriptedApi, client: Client, pauses: Pauses, asked: str, paused: float
    ) -> None:
        first = Answer(200, envelope("a1", "queued"), {"Retry-After": asked})
        api.answer("GET", "/v1/analyses/a1", first, Answer(200, envelope("a1")))
        client.wait("a1")
        assert pauses == [paused]

    def test_an_unknown_id_is_refused_not_repeated(self, api: ScriptedApi, client: Client) -> None:
        with pytest.raises(Refused, match="not_found"):
            client.wait("nobody")
        assert len(api.requests) == 1

    def test_an_id_cannot_leave_its_path(self, api: ScriptedApi, client: Client) -> None:
        with pytest.raises(Refused):
            client.wait("../../stats?x=1")
        assert api.requests[0].path == "/v1/analyses/..%2F..%2Fstats%3Fx%3D1"


class TestIntervals:
    def test_follows_the_cursor_to_the_end(self, api: ScriptedApi, client: Client) -> None:
        pages = [{"items": [{"index": 0}, {"index": 1}], "next_cursor": "n=/+"}, {"items": [{"index": 2}]}]
        api.answer("GET", "/v1/analyses/a1/intervals", *(Answer(200, page) for page in pages))
        assert [row["index"] for row in client.intervals("a1")] == [0, 1, 2]
        assert httpx2.URL(api.requests[1].path).params["cursor"] == "n=/+"

    def test_a_cursor_that_leads_back_does_not_turn_for_ever(self, api: ScriptedApi, client: Client) -> None:
        api.answer("GET", "/v1/analyses/a1/intervals", Answer(200, {"items": [{}], "next_cursor": "c"}))
        with pytest.raises(NotOurs, match="twice"):
            list(client.intervals("a1"))

    @pytest.mark.parametrize("page", [[], {"items": None}, None])
    def test_something_else_is_not_a_page(self, api: ScriptedApi, client: Client, page: Any) -> None:
        api.answer("GET", "/v1/analyses/a1/intervals", Answer(200, page))
        with pytest.raises(NotOurs):
            list(client.intervals("a1"))


class TestForeignServers:
    @pytest.mark.parametrize("raw", [b"<html>hello</html>", b"[]", b'{"id": 1}', b'{"id": "x"}', b"\xff\xfe"])
    def test_an_answer_that_is_no_envelope(self, api: ScriptedApi, client: Client, raw: bytes) -> None:
        api.answer("GET", "/v1/analyses/a1", Answer(200, raw=raw))
        with pytest.raises(NotOurs, match="not a DeepDefend API"):
            client.wait("a1")

    def test_the_key_does_not_follow_a_redirect(self, api: ScriptedApi, client: Client, clip: Path) -> None:
        api.answer("POST", "/v1/analyses", Answer(307, {}, {"Location": f"{api.url}/elsewhere"}))
        with pytest.raises(NotOurs, match="sends elsewhere"):
            client.submit(clip)
        assert len(api.requests) == 1

    def test_a_refusal_without_a_document_still_has_a_code(self, api: ScriptedApi, client: Client) -> None:
        api.answer("GET", "/v1/analyses/a1", Answer(418, raw=b"teapot"))
        with pytest.raises(Refused, match="http_418"):
            client.wait("a1")


class TestAddressAndKey:
    @pytest.mark.parametrize(
        "url", ["", "127.0.0.1:8000", "ftp://x", "http://", "http://u:p@x/", "http://[::1"]
    )
    def test_bad_addresses(self, url: str) -> None:
        with pytest.raises(ClientError, match="not an http or https address"):
            Client(url, KEY)

    @pytest.mark.parametrize("key", ["", "  ", "a\r\nX-Other: b", "dd_ü"])
    def test_bad_keys(self, key: str) -> None:
        with pytest.raises(ClientError, match="API key"):
            Client("http://127.0.0.1", key)

    def test_a_prefix_in_the_address_is_kept(self, api: ScriptedApi, pauses: Pauses) -> None:
        api.answer("GET", "/deep/v1/analyses/a1", Answer(200, envelope("a1")))
        with Client(f"{api.url}/deep/", f" {KEY}\n", sleep=pauses) as client:
            assert client.wait("a1")["id"] == "a1"

    def test_a_proxy_is_not_asked_for_our_own_machine(
        self, api: ScriptedApi, pauses: Pauses, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{unused_port()}")
        monkeypatch.delenv("NO_PROXY", raising=False)
        api.answer("GET", "/v1/analyses/a1", Answer(200, envelope("a1")))
        with Client(api.url, KEY, sleep=pauses) as client:
            assert client.wait("a1")["id"] == "a1"

    def test_loopback_is_recognised(self) -> None:
        assert module.is_loopback("http://localhost:1")
        assert module.is_loopback("http://[::1]:1")
        assert not module.is_loopback("http://10.0.0.1")
        assert not module.is_loopback("http://localhost.example.org")


def test_a_date_is_a_pause_too() -> None:
    soon = datetime.now(UTC) + timedelta(seconds=90)
    response = httpx2.Response(503, headers={"Retry-After": format_datetime(soon, usegmt=True)})
    assert 60 < module.retry_after(response, 0) <= 90
    past = httpx2.Response(503, headers={"Retry-After": "Thu, 01 Jan 2026 00:00:00 GMT"})
    assert module.retry_after(past, 5) == 0
