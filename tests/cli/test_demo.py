"""The demo's own parts; the whole of it runs in tests/system."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli import demo
from cli.main import app
from cli.stack import StackError


def test_the_sample_ships_with_the_project() -> None:
    assert demo.sample().stat().st_size > 100_000


def test_without_the_sample_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "__file__", str(tmp_path / "cli" / "demo.py"))
    with pytest.raises(StackError, match="run the demo from a checkout, or name a file of your own"):
        demo.sample()


def test_a_stack_that_does_not_start_fails_the_demo() -> None:
    refused = CliRunner().invoke(app, ["demo", "--data-dir", "/proc/deepdefend"])
    assert refused.exit_code == 1
    assert "the stack did not start; see above" in refused.output


def test_a_process_that_ignores_being_asked_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "STOP_SECONDS", 0.2)
    code = (
        "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); signal.pause()"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    demo.stop(process)
    assert process.returncode == -signal.SIGKILL
