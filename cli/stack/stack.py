"""The stack itself: servers, schema, api, workers, dispatcher and Flower, in that order."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cli.stack import StackError, commands, environment, ports, weights
from cli.stack.child import Child, Service
from cli.stack.folder import Folder
from cli.stack.sentinel import sweep
from cli.stack.server import Server
from cli.stack.servers import PostgresServer, S3Server, ValkeyServer
from cli.stack.state import State, write_private
from cli.stack.supervisor import Supervisor

READY_SECONDS = 180.0  # importing torch in three processes on a cold disk takes most of a minute
FLOWER_HOST = ports.LOOPBACK  # it can purge queues: never public, whatever --host says


@dataclass(frozen=True, kw_only=True)
class Addresses:
    """What a person needs once the stack takes work."""

    api_url: str
    api_key: str
    flower_url: str  #: with its generated user and password


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What `deepdefend up` was told."""

    data_dir: Path
    host: str
    port: int
    flower_port: int


class Stack:
    """One run of the whole product in one data directory. `say` shows a line of progress."""

    def __init__(self, choice: Choice, say: Callable[[str], None]) -> None:
        self.choice = choice
        self.folder = Folder(choice.data_dir.resolve())
        self.key_is_new = False
        self._say = say
        self._tag = f"{self.folder.path}#{secrets.token_hex(4)}"

    def run(self, on_ready: Callable[[Addresses], None]) -> None:
        """Start all, call `on_ready` once work is taken, and go on until a signal; then end all.

        Raises StackError when it cannot start; nothing is left running in any case.
        """
        if self.choice.port == self.choice.flower_port:
            raise StackError(f"--port and --flower-port are both {self.choice.port}; they must differ")
        ports.must_be_free(self.choice.port, self.choice.host, "--port")
        ports.must_be_free(self.choice.flower_port, FLOWER_HOST, "--flower-port")
        with (
            ports.hold(self.choice.port, self.choice.host),
            ports.hold(self.choice.flower_port, FLOWER_HOST),
            self.folder.open(),
            contextlib.ExitStack() as self._ends,
        ):
            if sweep(f"{self.folder.path}#", 0):
                self._say("ended what a killed stack had left running")
            for line in weights.provide(self.folder.models):
                self._say(line)
            # Linking again and again finds what `models pull` brings while we run.
            link = partial(weights.link_shared, self.folder.models, weights.shared_folder())
            with Supervisor(self._tag, self._say, link) as supervisor:
                addresses = self._start(supervisor)
                supervisor.settle()
                write_private(self.folder.running, json.dumps(vars(addresses)))
                on_ready(addresses)
                supervisor.run()
            self.folder.running.unlink(missing_ok=True)

    def _start(self, supervisor: Supervisor) -> Addresses:
        servers = self._start_servers(supervisor)
        os.environ.update(environment.of_servers(*servers) | environment.of_folder(self.folder))
        from cli.stack import ready  # noqa: PLC0415 - reads settings and imports SQLAlchemy

        ready.build_schema()
        key, self.key_is_new = ready.first_key(self.folder.api_key)
        user, password = "deepdefend", State(self.folder.path / "secrets.json").secret("flower")
        flower = f"{FLOWER_HOST}:{self.choice.flower_port}"
        os.environ["DEEPDEFEND_FLOWER_URL"] = f"http://{flower}/"
        for service in self._services(f"{user}:{password}"):
            supervisor.start(service)
        self._say("database is up to date; starting api, workers, dispatcher and Flower")
        host = ready.reachable(self.choice.host)
        self._wait(supervisor, host)
        shown = f"[{host}]" if ":" in host else host
        return Addresses(
            api_url=f"http://{shown}:{self.choice.port}",
            api_key=key,
            flower_url=f"http://{user}:{password}@{flower}/",
        )

    def _start_servers(self, supervisor: Supervisor) -> tuple[PostgresServer, ValkeyServer, S3Server]:
        """All three at once; the slowest is SeaweedFS with 2 to 8 s."""
        path, began = self.folder.path, time.monotonic()
        servers = PostgresServer(path), ValkeyServer(path), S3Server(path)
        children: list[tuple[Server, Child]] = []
        for server in servers:
            self._ends.callback(server.release)
            server.tag = self._tag
            server.prepare()
            children.append((server, supervisor.start(server.service())))
        for waiting, child in children:
            try:
                child.wait_ready(supervisor.check)
            except StackError:  # its port was taken in between, or it cannot run at all: `spawn` finds out
                child.stop()
                supervisor.replace(child, waiting.spawn(supervisor.check))
            self._say(f"{waiting.name} is ready ({time.monotonic() - began:.1f} s)")
        return servers

    def _services(self, flower_login: str) -> list[Service]:
        host, port = self.choice.host, self.choice.port
        make = partial(Service, tag=self._tag)
        workers = [
            make(
                name="worker-" + "-".join(queues),
                command=commands.worker(queues),
                log=self.folder.logs / f"worker-{'-'.join(queues)}.log",
            )
            for queues in commands.WORKERS
        ]
        logs = self.folder.logs
        api = make(name="api", command=commands.api(host, port), log=logs / "api.log")
        dispatcher = make(name="dispatcher", command=commands.dispatcher(), log=logs / "dispatcher.log")
        flower = make(
            name="flower",
            command=commands.flower(FLOWER_HOST, self.choice.flower_port),
            log=logs / "flower.log",
            env={"FLOWER_BASIC_AUTH": flower_login},
        )
        return [api, *workers, dispatcher, flower]

    def _wait(self, supervisor: Supervisor, host: str) -> None:
        from cli.stack import ready  # noqa: PLC0415 - reads settings and imports SQLAlchemy

        steps: tuple[tuple[str, Callable[[], bool]], ...] = (
            ("workers", lambda: not ready.missing_queues()),
            ("api", lambda: ready.answers(host, self.choice.port, "/readyz")),
            ("Flower", lambda: ready.answers(FLOWER_HOST, self.choice.flower_port, "/healthcheck")),
        )
        for name, step in steps:
            supervisor.wait_until(step, READY_SECONDS, f"{name}: not ready (logs are in {self.folder.logs})")
            self._say(f"{name}: ready")
