"""Ctrl-C in `deepdefend analyze`: a real process, a real signal, and what the server is asked then."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from tests.cli.conftest import Answer, ScriptedApi, envelope
from tests.cli.stack.patience import eventually
from tests.cli.test_analyze import PROGRAM, environment, in_stage, judged, ready

PROBLEM = {"code": "conflict", "detail": "it has ended already: completed"}


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"not decoded here")
    return path


@contextmanager
def analyzing(home: Path, *arguments: object) -> Iterator[tuple[subprocess.Popen[str], IO[str]]]:
    """The command as a child, and what it says."""
    command = [sys.executable, "-c", PROGRAM, *map(str, arguments)]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=environment(home), bufsize=1
    ) as process:
        assert process.stderr is not None
        try:
            yield process, process.stderr
        finally:
            process.kill()


def interrupted(home: Path, *arguments: object) -> tuple[int, str]:
    """Exit status and the rest of stderr, after one Ctrl-C while it waits for the first file."""
    with analyzing(home, *arguments) as (process, said):
        assert any("running 1/3" in line for line in said)
        process.send_signal(signal.SIGINT)
        # The console may repeat a line that the signal struck in the middle of.
        rest = [line for line in said if "running 1/3" not in line]
        return process.wait(60), "".join(rest)


def working(api: ScriptedApi, *identities: str) -> tuple[str, ...]:
    """A server that accepts these and is still at the first of them."""
    options = ready(api, *(judged(identity, "REAL") for identity in identities))
    api.answer("GET", f"/v1/analyses/{identities[0]}", Answer(200, in_stage("video", "running", 1, 3)))
    for identity in identities:
        api.answer("POST", f"/v1/analyses/{identity}/cancel", Answer(200, envelope(identity, "canceled")))
    return options


def cancels(api: ScriptedApi) -> list[str]:
    return [path for path in api.paths() if path.endswith("/cancel")]


def test_what_was_sent_is_canceled_and_one_line_says_so(api: ScriptedApi, tmp_path: Path, clip: Path) -> None:
    status, rest = interrupted(tmp_path, clip, clip, *working(api, "a1", "a2"))
    assert status == 130
    assert cancels(api) == ["POST /v1/analyses/a1/cancel", "POST /v1/analyses/a2/cancel"]
    assert [line.partition(": ")[2] for line in rest.splitlines()] == [
        "interrupted; canceling 2 analyses, Ctrl-C again leaves at once"
    ]


def test_what_has_ended_is_left_alone(api: ScriptedApi, tmp_path: Path, clip: Path) -> None:
    options = working(api, "a2", "a1")
    api.answer(
        "POST", "/v1/analyses", Answer(202, envelope("a1", "queued")), Answer(202, envelope("a2", "queued"))
    )
    status, rest = interrupted(tmp_path, clip, clip, *options)
    assert (status, cancels(api)) == (130, ["POST /v1/analyses/a2/cancel"])
    assert "canceling 1 analysis," in rest


def test_one_that_ends_meanwhile_is_no_complaint(api: ScriptedApi, tmp_path: Path, clip: Path) -> None:
    options = working(api, "a1")
    api.answer("POST", "/v1/analyses/a1/cancel", Answer(409, PROBLEM))
    status, rest = interrupted(tmp_path, clip, *options)
    assert (status, rest.count("\n")) == (130, 1), rest


@pytest.mark.parametrize("answer", [Answer(503, {}), Answer(drop=True), Answer(403, {"code": "forbidden"})])
def test_what_cannot_be_canceled_says_where_it_goes_on(
    api: ScriptedApi, tmp_path: Path, clip: Path, answer: Answer
) -> None:
    options = working(api, "a1", "a2")
    api.answer("POST", "/v1/analyses/a1/cancel", answer)
    status, rest = interrupted(tmp_path, clip, clip, *options)
    assert status == 130
    assert f"goes on at {api.url}/v1/analyses/a1" in rest
    assert cancels(api)[-1] == "POST /v1/analyses/a2/cancel", "the others are canceled all the same"
    assert "Traceback" not in rest


def test_a_second_ctrl_c_leaves_at_once(api: ScriptedApi, tmp_path: Path, clip: Path) -> None:
    options, never = working(api, "a1", "a2"), threading.Event()
    api.answer("POST", "/v1/analyses/a1/cancel", Answer(200, envelope("a1", "canceled"), after=never))
    with analyzing(tmp_path, clip, clip, *options) as (process, said):
        assert any("running 1/3" in line for line in said)
        process.send_signal(signal.SIGINT)
        eventually(lambda: cancels(api), seconds=60)
        process.send_signal(signal.SIGINT)
        rest = said.read()
        assert process.wait(60) == 130
    assert cancels(api) == ["POST /v1/analyses/a1/cancel"]
    assert "left; what was not canceled goes on" in rest
    assert "Traceback" not in rest
    never.set()


def test_interrupted_while_sending_the_second_cancels_the_first(
    api: ScriptedApi, tmp_path: Path, clip: Path
) -> None:
    options, never = working(api, "a1"), threading.Event()
    queued = envelope("a1", "queued")
    api.answer("POST", "/v1/analyses", Answer(202, queued), Answer(202, queued, after=never))
    with analyzing(tmp_path, clip, clip, *options) as (process, said):
        eventually(lambda: len(api.paths()) == 2, seconds=60)
        process.send_signal(signal.SIGINT)
        rest = said.read()
        assert process.wait(60) == 130
    assert cancels(api) == ["POST /v1/analyses/a1/cancel"]
    assert "canceling 1 analysis," in rest
    never.set()


def test_without_waiting_nothing_is_canceled(api: ScriptedApi, tmp_path: Path, clip: Path) -> None:
    options, never = working(api, "a1"), threading.Event()
    queued = envelope("a1", "queued")
    api.answer("POST", "/v1/analyses", Answer(202, queued), Answer(202, queued, after=never))
    with analyzing(tmp_path, clip, clip, "--no-wait", *options) as (process, said):
        eventually(lambda: len(api.paths()) == 2, seconds=60)
        process.send_signal(signal.SIGINT)
        rest = said.read()
        assert process.wait(60) == 130
    assert cancels(api) == []
    assert "interrupted; nothing more was sent" in rest
    never.set()
