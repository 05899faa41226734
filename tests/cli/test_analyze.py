"""The command as a user runs it: a real process, a real server, exit status, stdout and stderr."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from api.form import options_of
from cli.analyze import GRAVITY, Outcome, chosen_options, gravest, outcome
from core.domain import OperatingPoint, Options, Verdict
from tests.cli.conftest import Answer, ScriptedApi, envelope, report, unused_port

PROGRAM = "import typer; from cli.analyze import analyze; typer.run(analyze)"
ROOT = Path(__file__).parents[2]


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"not decoded here")
    return path


def environment(home: Path, **more: str) -> dict[str, str]:
    """Nothing of the person who runs the tests may leak in: no key, no stack of theirs."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DEEPDEFEND_")}
    return {**kept, "XDG_DATA_HOME": str(home), "PYTHONPATH": str(ROOT), "COLUMNS": "80", **more}


def run(home: Path, *arguments: object, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", PROGRAM, *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, env=environment(home, **env), timeout=60, check=False
    )


def ready(api: ScriptedApi, *analyses: dict[str, Any]) -> tuple[str, ...]:
    """Let the server accept these, each of them already ended, and give the options that reach it."""
    api.answer("POST", "/v1/analyses", *(Answer(202, found | {"status": "queued"}) for found in analyses))
    for found in analyses:
        api.answer("GET", f"/v1/analyses/{found['id']}", Answer(200, found))
        api.answer("GET", f"/v1/analyses/{found['id']}/intervals", Answer(200, {"items": []}))
    return ("--url", api.url, "--key", "dd_key")


def judged(identity: str, verdict: str) -> dict[str, Any]:
    return envelope(identity, verdict=verdict, confidence=80.0, report=report(verdict))


class TestExitStatus:
    @pytest.mark.parametrize(("verdict", "status"), [("REAL", 0), ("DEEPFAKE", 3), ("INCONCLUSIVE", 4)])
    def test_of_a_verdict(
        self, api: ScriptedApi, tmp_path: Path, clip: Path, verdict: str, status: int
    ) -> None:
        done = run(tmp_path, clip, *ready(api, judged("a1", verdict)))
        assert done.returncode == status, done.stderr
        assert verdict in done.stdout

    def test_of_a_failed_analysis(self, api: ScriptedApi, tmp_path: Path, clip: Path) -> None:
        problem = {"code": "undecodable_media", "detail": "The file cannot be analysed."}
        done = run(tmp_path, clip, *ready(api, envelope("a1", "failed", error=problem)))
        assert done.returncode == 1
        assert "failed: undecodable_media: The file cannot be analysed." in done.stderr
        assert done.stdout == ""

    def test_of_a_canceled_analysis(self, api: ScriptedApi, tmp_path: Path, clip: Path) -> None:
        done = run(tmp_path, clip, *ready(api, envelope("a1", "canceled")))
        assert (done.returncode, "canceled" in done.stderr) == (1, True)

    def test_of_a_verdict_that_nobody_knows(self) -> None:
        assert outcome(envelope(verdict="PERHAPS")) is Outcome.ERROR
        assert outcome(envelope(verdict=None)) is Outcome.ERROR
        assert outcome(envelope(status="failed", verdict="REAL")) is Outcome.ERROR

    def test_of_several_files_is_the_gravest(self) -> None:
        assert gravest([]) is Outcome.REAL
        assert gravest([Outcome.REAL, Outcome.INCONCLUSIVE]) is Outcome.INCONCLUSIVE
        assert gravest([Outcome.DEEPFAKE, Outcome.INCONCLUSIVE, Outcome.REAL]) is Outcome.DEEPFAKE
        assert gravest([Outcome.ERROR, Outcome.DEEPFAKE]) is Outcome.ERROR
        assert set(GRAVITY) == set(Outcome)
        assert all(verdict in Outcome.__members__ for verdict in Verdict)

    def test_a_wrong_command_line_is_2(self, tmp_path: Path, clip: Path) -> None:
        assert run(tmp_path).returncode == 2
        assert run(tmp_path, clip, "--interval-seconds", "9").returncode == 2
        assert run(tmp_path, clip, "--interval-seconds", "nan").returncode == 2
        assert run(tmp_path, clip, "--frames-per-interval", "0").returncode == 2


class TestSeveralFiles:
    def test_all_are_sent_before_the_first_is_awaited(self, api: ScriptedApi, tmp_path: Path) -> None:
        names = ["a.mp4", "b.wav"]
        for name in names:
            (tmp_path / name).write_bytes(b"x")
        options = ready(api, judged("a1", "REAL"), judged("a2", "DEEPFAKE"))
        done = run(tmp_path, *(tmp_path / name for name in names), *options)
        assert done.returncode == 3
        assert [path for path in api.paths() if not path.endswith("intervals")] == [
            "POST /v1/analyses",
            "POST /v1/analyses",
            "GET /v1/analyses/a1",
            "GET /v1/analyses/a2",
        ]
        assert done.stdout.index("REAL") < done.stdout.index("DEEPFAKE")

    def test_one_that_is_not_there_does_not_stop_the_others(
        self, api: ScriptedApi, tmp_path: Path, clip: Path
    ) -> None:
        done = run(tmp_path, tmp_path / "absent.mp4", clip, *ready(api, judged("a1", "DEEPFAKE")))
        assert done.returncode == 1
        assert "absent.mp4: No such file or directory" in done.stderr
        assert "DEEPFAKE" in done.stdout

    def test_a_refused_key_is_not_tried_on_every_file(
        self, api: ScriptedApi, tmp_path: Path, clip: Path
    ) -> None:
        api.answer(
            "POST", "/v1/analyses", Answer(401, {"code": "unauthorized", "detail": "A key is needed."})
        )
        done = run(tmp_path, clip, clip, clip, "--url", api.url, "--key", "dd_wrong")
        assert done.returncode == 1
        assert "unauthorized: A key is needed." in done.stderr
        assert len(api.requests) == 1


class TestOutput:
    def test_json_is_one_envelope_a_line_and_nothing_else(
        self, api: ScriptedApi, tmp_path: Path, clip: Path
    ) -> None:
        failed = envelope("a2", "failed", error={"code": "no_streams"})
        options = ready(api, judged("a1", "REAL"), failed)
        done = run(tmp_path, clip, clip, "--json", *options)
        assert [json.loads(line) for line in done.stdout.splitlines()] == [judged("a1", "REAL"), failed]
        assert done.returncode == 1

    def test_json_carries_no_terminal_commands(self, api: ScriptedApi, tmp_path: Path, clip: Path) -> None:
        evil = judged("a1", "REAL") | {"metadata": {"note": "\x1b]0;owned\x07\x9b31m\u202e"}}
        done = run(tmp_path, clip, "--json", *ready(api, evil))
        assert json.loads(done.stdout) == evil
        assert done.stdout.strip().isprintable()

    def test_without_waiting_it_prints_id_and_address(
        self, api: ScriptedApi, tmp_path: Path, clip: Path
    ) -> None:
        done = run(tmp_path, clip, "--no-wait", *ready(api, judged("a1", "DEEPFAKE")))
        assert done.stdout == f"a1 {api.url}/v1/analyses/a1\n"
        assert done.returncode == 0
        assert api.paths() == ["POST /v1/analyses"]

    def test_without_waiting_json_is_the_first_envelope(
        self, api: ScriptedApi, tmp_path: Path, clip: Path
    ) -> None:
        done = run(tmp_path, clip, "--no-wait", "--json", *ready(api, envelope("a1")))
        assert json.loads(done.stdout)["status"] == "queued"

    def test_progress_off_a_terminal_is_plain_lines(
        self, api: ScriptedApi, tmp_path: Path, clip: Path
    ) -> None:
        options = ready(api, judged("a1", "REAL"))
        states = [
            in_stage("extract", "running", 0, 1),
            in_stage("video", "running", 1, 3),
            in_stage("video", "running", 1, 3),
            in_stage("video", "done", 3, 3),
        ]
        quick = {"Retry-After": "0"}
        answers = [Answer(200, state, quick) for state in states]
        api.answer("GET", "/v1/analyses/a1", *answers, Answer(200, judged("a1", "REAL")))
        done = run(tmp_path, clip, *options)
        assert done.stderr.splitlines() == [
            "clip.mp4: send 0.0 MB",
            "clip.mp4: extract running",
            "clip.mp4: video running 1/3",
            "clip.mp4: video done 3/3",
        ]

    def test_options_reach_the_server(self, api: ScriptedApi, tmp_path: Path, clip: Path) -> None:
        run(tmp_path, clip, "--no-wait", "--interval-seconds", "1.5", *ready(api, envelope("a1")))
        parts = api.requests[0].parts()
        assert list(parts) == ["interval_seconds", "file"]
        assert parts["interval_seconds"].get_payload() == "1.5"

    def test_how_it_is_judged_reaches_the_server(self, api: ScriptedApi, tmp_path: Path, clip: Path) -> None:
        asked = ["--operating-point", "fpr_1", "--stability"]
        run(tmp_path, clip, "--no-wait", *asked, *ready(api, envelope("a1")))
        parts = api.requests[0].parts()
        assert parts["operating_point"].get_payload() == "fpr_1"
        form = {name: str(parts[name].get_payload()) for name in ("operating_point", "stability")}
        assert options_of(form) == Options(operating_point=OperatingPoint.FPR_1, stability=True)

    def test_a_point_that_is_none_is_refused(self, tmp_path: Path, clip: Path) -> None:
        assert run(tmp_path, clip, "--operating-point", "fpr_2").returncode == 2

    def test_only_what_was_asked_for_is_sent(self) -> None:
        assert chosen_options(interval_seconds=None, stability=None) is None
        assert chosen_options(frames_per_interval=9) == Options(frames_per_interval=9)
        with pytest.raises(typer.BadParameter):
            chosen_options(interval_seconds=float("nan"))

    def test_a_name_with_escapes_cannot_command_the_terminal(self, api: ScriptedApi, tmp_path: Path) -> None:
        evil = tmp_path / "\x1b[2J\x1b]0;owned\x07[red]x.mp4"
        evil.write_bytes(b"x")
        found = judged("a1", "REAL")
        found["media"] = found["media"] | {"filename": evil.name}
        done = run(tmp_path, evil, tmp_path / "\x1bmissing", *ready(api, found))
        assert "\x1b" not in done.stdout + done.stderr
        assert "\x07" not in done.stdout + done.stderr
        assert "[red]x.mp4" in done.stdout, "markup is text here"

    def test_an_ascii_locale_gets_ascii(self, api: ScriptedApi, tmp_path: Path) -> None:
        clip = tmp_path / "Größe.mp4"
        clip.write_bytes(b"x")
        found = judged("a1", "DEEPFAKE")
        found["media"] = found["media"] | {"filename": "Größe 日本.mp4"}
        options = ready(api, found)
        rows = [{"index": 0, "start": 0, "end": 2, "video_score": 0.9, "audio_reason": "silence"}]
        api.answer("GET", "/v1/analyses/a1/intervals", Answer(200, {"items": rows}))
        done = run(tmp_path, clip, *options, PYTHONIOENCODING="ascii", PYTHONUTF8="0")
        assert done.returncode == 3, done.stderr
        assert done.stdout.isascii()
        assert "###" in done.stdout

    def test_a_reader_that_leaves_early_is_no_traceback(
        self, api: ScriptedApi, tmp_path: Path, clip: Path
    ) -> None:
        command = [sys.executable, "-c", PROGRAM, str(clip), *ready(api, judged("a1", "REAL"))]
        read, write = os.pipe()
        os.close(read)
        with subprocess.Popen(
            command, stdout=write, stderr=subprocess.PIPE, text=True, env=environment(tmp_path)
        ) as process:
            os.close(write)
            _, errors = process.communicate(timeout=60)
        assert "Traceback" not in errors


class TestWhichServer:
    def test_none_says_how_to_start_one(self, tmp_path: Path, clip: Path) -> None:
        url = f"http://127.0.0.1:{unused_port()}"
        done = run(tmp_path, clip, "--url", url, "--key", "dd_key")
        assert done.returncode == 1
        assert f"no DeepDefend server answers at {url}" in done.stderr
        assert "deepdefend up" in done.stderr
        assert done.stdout == ""
        assert len(done.stderr.splitlines()) == 1

    def test_no_key_says_how_to_start_one(self, tmp_path: Path, clip: Path) -> None:
        done = run(tmp_path, clip)
        assert done.returncode == 1
        assert "no API key for http://127.0.0.1:8000" in done.stderr
        assert "deepdefend up" in done.stderr

    def test_the_stack_of_this_machine_is_found(self, api: ScriptedApi, tmp_path: Path, clip: Path) -> None:
        ready(api, judged("a1", "REAL"))
        folder = tmp_path / "deepdefend"
        folder.mkdir()
        (folder / "running.json").write_text(json.dumps({"api_url": api.url, "api_key": "dd_local"}))
        assert run(tmp_path, clip).returncode == 0
        assert api.requests[0].headers["Authorization"] == "Bearer dd_local"

    def test_the_environment_names_server_and_key(self, api: ScriptedApi, tmp_path: Path, clip: Path) -> None:
        ready(api, judged("a1", "REAL"))
        done = run(tmp_path, clip, DEEPDEFEND_URL=api.url, DEEPDEFEND_KEY="dd_env")
        assert done.returncode == 0
        assert api.requests[0].headers["Authorization"] == "Bearer dd_env"

    def test_a_foreign_server_is_named_as_such(self, api: ScriptedApi, tmp_path: Path, clip: Path) -> None:
        api.answer("POST", "/v1/analyses", Answer(200, raw=b"<html>"))
        done = run(tmp_path, clip, "--url", api.url, "--key", "k")
        assert (done.returncode, "not a DeepDefend API" in done.stderr) == (1, True)


class TestTerminal:
    def test_bars_are_drawn_and_the_report_follows(
        self, api: ScriptedApi, tmp_path: Path, clip: Path
    ) -> None:
        options = ready(api, judged("a1", "DEEPFAKE"))
        running = Answer(200, in_stage("video", "running", 1, 3), {"Retry-After": "0"})
        api.answer("GET", "/v1/analyses/a1", running, Answer(200, judged("a1", "DEEPFAKE")))
        shown, status = on_terminal([str(clip), *options], environment(tmp_path, TERM="xterm-256color"))
        assert status == 3
        text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
        assert "━" in text
        assert "running 1/3" in text
        assert text.count("clip.mp4") >= 1
        assert text.index("running 1/3") < text.index("DEEPFAKE")

    def test_a_dumb_terminal_gets_lines(self, api: ScriptedApi, tmp_path: Path, clip: Path) -> None:
        options = ready(api, judged("a1", "REAL"))
        shown, status = on_terminal([str(clip), *options], environment(tmp_path, TERM="dumb"))
        assert status == 0
        assert "\x1b" not in shown
        assert "clip.mp4: send" in shown


def in_stage(stage: str, status: str, done: int, total: int) -> dict[str, Any]:
    stages = [{"stage": stage, "status": status, "done": done, "total": total, "reasons": []}]
    return envelope("a1", "processing", progress={"fraction": 0.5, "stages": stages})


def on_terminal(arguments: list[str], env: dict[str, str]) -> tuple[str, int]:
    """Run the command on a pseudo terminal: everything it shows, and its exit status."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments], stdin=theirs, stdout=theirs, stderr=theirs, env=env
    ) as process:
        os.close(theirs)
        shown = b"".join(iter(lambda: _read(ours), b""))
    os.close(ours)
    return shown.decode(errors="replace"), process.returncode


def _read(terminal: int) -> bytes:
    """What is there; empty when the last holder of the other side has gone."""
    if not select.select([terminal], [], [], 60)[0]:
        return b""
    try:
        return os.read(terminal, 65536)
    except OSError:
        return b""
