"""A running stack, started the way a person starts it; tests drive it from outside only."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from cli.stack.folder import Folder
from cli.stack.ports import free_port
from cli.stack.sentinel import tagged

STOP_SECONDS = 30


@dataclass
class RunningStack:
    """`deepdefend up --json` as a child process."""

    data_dir: Path
    environment: dict[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    flower_port: int = field(default_factory=free_port)
    api_url: str = ""
    api_key: str = ""
    flower_url: str = ""

    def launch(self) -> None:
        """Return at once; it is starting."""
        with self.errors.open("ab") as errors:
            self.process = subprocess.Popen(
                [*self.command(), "--json"],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=clean_environment() | self.environment,
            )

    def start(self) -> None:
        """Return once it takes work."""
        self.launch()
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.process.communicate()
        assert line, f"it did not start: {self.errors.read_text()}"
        addresses = json.loads(line)
        self.api_url, self.api_key = addresses["api_url"], addresses["api_key"]
        self.flower_url = addresses["flower_url"]

    def command(self) -> Sequence[str]:
        """The command line without --json."""
        ports = ["--port", str(self.port), "--flower-port", str(self.flower_port)]
        return [sys.executable, "-m", "cli.main", "up", "--data-dir", str(self.data_dir), *ports]

    @property
    def errors(self) -> Path:
        """What it wrote to stderr."""
        return self.data_dir.with_name(self.data_dir.name + ".stderr")

    @property
    def folder(self) -> Folder:
        """Where its logs and keys are."""
        return Folder(self.data_dir)

    def find(self, words: str) -> psutil.Process:
        """The one child of the supervisor whose command line contains `words`."""
        children = psutil.Process(self.process.pid).children()
        (found,) = [child for child in children if words in " ".join(child.cmdline())]
        return found

    def everything(self) -> list[int]:
        """Processes of this stack that are alive, without the supervisor."""
        return tagged(f"{self.data_dir.resolve()}#")

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal, wait for the end, return the exit status."""
        self.process.send_signal(number)
        rest, _ = self.process.communicate(timeout=STOP_SECONDS)
        assert not rest, "stdout is for one line only"
        return self.process.returncode


def clean_environment() -> dict[str, str]:
    """Ours without the settings of the tests, and with no way to a model hub."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DEEPDEFEND_")}
    return kept | {"HF_HUB_OFFLINE": "1", "DEEPDEFEND_MODELS__DIR": "/nonexistent"}


@contextmanager
def running_stack(data_dir: Path, **environment: str) -> Iterator[RunningStack]:
    """A stack that is gone when the block ends, however it ends."""
    it = RunningStack(data_dir, environment)
    try:
        it.start()
        yield it
    finally:
        if it.process.poll() is None:
            it.process.terminate()
            it.process.communicate(timeout=STOP_SECONDS)


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """One stack for all tests that leave it as they found it."""
    with running_stack(tmp_path_factory.mktemp("stack") / "data") as it:
        yield it
