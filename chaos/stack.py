"""`deepdefend up` in a folder of its own, and a way to every process of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Self

import httpx2
import psutil

from chaos import database
from chaos.database import Row
from cli.stack.environment import of_data_dir
from cli.stack.folder import Folder
from cli.stack.ports import free_port
from cli.stack.s3 import S3Server
from cli.stack.sentinel import tagged
from core.config import ModelSettings
from tests.checkpoints import make_audio_checkpoint, make_image_checkpoint

STOP_SECONDS = 40
WORKERS: Final = ("extraction", "video", "audio", "fusion", "webhooks")
#: What of a command line tells a process apart.
WORDS: Final = {
    "api": "api.app:app",
    "dispatcher": "workers.dispatcher",
    "postgres": "postgres -D",
    "valkey": "valkey-server",
    "s3": "weed server",
    "flower": " flower ",
    **{f"worker-{name}": f"--hostname {name}@" for name in WORKERS},
}


class StackLost(Exception):
    """The stack did not start, or its supervisor has died."""


class Stack:
    """A running stack; use as a context. Whatever happens inside, it is gone afterwards."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.data_dir = folder / "data"
        self.errors = folder / "supervisor.log"
        self.trap = folder / "failpoint"
        self._environment = environment | self._test_detectors(folder / "models")
        self._environment["DEEPDEFEND_FAILPOINT"] = f"file:{self.trap}"
        self.folder = Folder(self.data_dir)
        self.api_url = self.api_key = self.flower_url = ""

    @staticmethod
    def _test_detectors(models: Path) -> dict[str, str]:
        """Tiny random checkpoints under the names of the defaults: detectors run, scores mean nothing."""
        make_image_checkpoint(models / ModelSettings().video.replace("/", "--"))
        make_audio_checkpoint(models / ModelSettings().audio.replace("/", "--"))
        return {"DEEPDEFEND_MODELS__DIR": str(models), "DEEPDEFEND_ALLOW_TEST_DETECTORS": "1"}

    def __enter__(self) -> Self:
        """Start it and return once it takes work. Raises StackLost."""
        ports = ["--port", str(free_port()), "--flower-port", str(free_port())]
        command = [sys.executable, "-m", "cli.main", "up", "--json", "--data-dir", str(self.data_dir), *ports]
        ours = {name: value for name, value in os.environ.items() if not name.startswith("DEEPDEFEND_")}
        with self.errors.open("ab") as errors:
            self._process = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=ours | {"HF_HUB_OFFLINE": "1"} | self._environment,
                start_new_session=True,  # a shell that ends while we hold it must not hang it up
            )
        assert self._process.stdout is not None  # noqa: S101 - for the type checker: it is a pipe
        line = self._process.stdout.readline()
        if not line:
            self._process.communicate()
            raise StackLost(f"the stack did not start: {self.errors.read_text()[-2000:]}")
        addresses = json.loads(line)
        self.api_url, self.api_key = addresses["api_url"], addresses["api_key"]
        self.flower_url = addresses["flower_url"]
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> int:
        """End it in order; its exit status."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)  # it may be held
            self._process.terminate()
        self._process.communicate(timeout=STOP_SECONDS)
        return self._process.returncode

    @property
    def pid(self) -> int:
        """Of its supervisor."""
        return self._process.pid

    def tagged(self) -> list[int]:
        """Every living process of this stack but its supervisor."""
        return tagged(f"{self.data_dir.resolve()}#")

    def process(self, name: str) -> psutil.Process | None:
        """A service's own process; None while it is being started again."""
        words = WORDS[name]
        for child in self._supervisor().children():
            try:
                if words in " ".join(child.cmdline()) and child.status() != psutil.STATUS_ZOMBIE:
                    return child
            except psutil.Error:
                continue
        return None

    def pool(self, queue: str) -> list[psutil.Process]:
        """The pool children of a worker, the first of them at work on a step or ready for one."""
        worker = self.process(f"worker-{queue}")
        try:
            children = worker.children() if worker else []
            return [child for child in children if "spawn_main" in " ".join(child.cmdline())]
        except psutil.Error:
            return []

    def decoders(self) -> list[psutil.Process]:
        """Children of the pools that open files: a sandbox with a decoder in it."""
        found = []
        for child in [*self.pool("extraction"), *self.pool("video")]:
            try:
                found += child.children(recursive=True)
            except psutil.Error:
                continue
        return found

    def _supervisor(self) -> psutil.Process:
        if self._process.poll() is not None:
            raise StackLost(f"the supervisor has ended: {self.errors.read_text()[-2000:]}")
        return psutil.Process(self._process.pid)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Inside the block nothing that dies is started again: the supervisor is frozen."""
        self._supervisor()
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def client(self) -> httpx2.Client:
        """A client of its API, for calm times."""
        headers = {"Authorization": f"Bearer {self.api_key}"}
        return httpx2.Client(base_url=self.api_url, headers=headers, timeout=30, trust_env=False)

    def connect(self) -> Any:
        """A connection to its database that the product knows nothing of; commits each statement."""
        return database.connect(self._database_url)

    @property
    def _database_url(self) -> str:
        return of_data_dir(self.data_dir)["DEEPDEFEND_DATABASE_URL"]

    def rows(self, query: str, *values: Any) -> list[Row]:
        """What its database answers. Raises psycopg2.OperationalError while that is away."""
        return database.rows(self._database_url, query, *values)

    def storage(self) -> S3Server:
        """Its object storage, as a client's way in."""
        server = S3Server(self.data_dir)
        server.ports = server.state.read()["ports"]
        return server

    def logs(self, service: str) -> str:
        """All that a service has written, with what was rotated away last."""
        current = self.folder.logs / f"{service}.log"
        files = (current.with_suffix(".log.1"), current)
        return "".join(path.read_text(errors="replace") for path in files if path.exists())
