"""A running stack in which one process at a time dies at a fail point, and what must hold afterwards."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2
import psycopg2.extras

from chaos.receiver import Receiver
from cli.client import Client
from cli.stack.environment import of_data_dir
from core.failpoints import STATUS, Point
from tests.cli.stack.patience import eventually
from tests.system.conftest import RunningStack

PATIENCE = 90.0  # seconds until something that must happen counts as not happening
#: Of a fail point's line: see `core.failpoints`.
DIED = re.compile(r'^\{"event": "died at a fail point".*\}$', re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What the walks share."""

    stack: RunningStack
    client: Client
    receiver: Receiver
    clip: Path
    folder: Path
    trap: Path

    def arm(self, point: Point) -> None:
        """The next process at this point dies."""
        assert not self.trap.exists()
        fresh = self.trap.with_suffix(".new")
        fresh.write_text(point.value)
        fresh.replace(self.trap)

    def sprung(self) -> None:
        """Wait until it has died."""
        eventually(lambda: not self.trap.exists(), PATIENCE)

    def own_clip(self, name: str) -> Path:
        """The clip with an empty box behind it that makes its bytes its own."""
        path = self.folder / f"{name}.mp4"
        label = name.encode()
        path.write_bytes(self.clip.read_bytes() + struct.pack(">I4s", 8 + len(label), b"free") + label)
        return path

    def log(self, service: str) -> str:
        """What a process of the stack has written."""
        return (self.stack.folder.logs / f"{service}.log").read_text(errors="replace")

    def rows(self, query: str, *values: Any) -> list[dict[str, Any]]:
        """What Postgres itself holds."""
        connection = psycopg2.connect(of_data_dir(self.stack.data_dir)["DEEPDEFEND_DATABASE_URL"])
        try:
            with connection, connection.cursor(cursor_factory=psycopg2.extras.RealDictCursor) as cursor:
                cursor.execute(query, values)
                return [dict(row) for row in cursor.fetchall()]
        finally:
            connection.close()

    def accepted(self) -> int:
        """Analyses that there are."""
        (row,) = self.rows("SELECT count(*) AS n FROM analyses")
        return int(row["n"])


Act = Callable[[Scene, Point], str]


def submit(scene: Scene, point: Point) -> str:
    """Arm, then send a file as a client that tries again does; gives the analysis' id."""
    scene.arm(point)
    return str(scene.client.submit(scene.own_clip(point.value))["id"])


def submit_after_a_death(scene: Scene, point: Point) -> str:
    """As `submit`, but first a worker dies with the step in hand, so that there is something to requeue."""
    identity = submit(scene, Point.WORKER_CLAIMED)
    scene.sprung()
    scene.arm(point)
    return identity


@dataclass(frozen=True, kw_only=True)
class Walk:
    """One fail point: which process dies there, and what is done to make it."""

    point: Point
    dies: str  #: the service, by its name in the supervisor
    in_pool: bool = False  #: a child of the pool, which Celery replaces
    act: Act = submit

    def run(self, scene: Scene) -> str:
        """Do it, and see the process die there and nowhere else; gives the analysis' id."""
        deaths = self._restarts(scene)
        identity = self.act(scene, self.point)
        scene.sprung()
        eventually(lambda: self._pids(scene), PATIENCE)
        (pid,) = self._pids(scene)
        if self.in_pool:
            told = f"pid:{pid} exited with 'exitcode {STATUS}'"
            eventually(lambda: told in scene.log(self.dies), PATIENCE)
        else:
            eventually(lambda: self._restarts(scene) == deaths + 1, PATIENCE)
        return identity

    def _pids(self, scene: Scene) -> list[int]:
        lines = [json.loads(line) for line in DIED.findall(scene.log(self.dies))]
        return [line["pid"] for line in lines if line["point"] == self.point]

    def _restarts(self, scene: Scene) -> int:
        return scene.stack.errors.read_text().count(f"{self.dies} ended with status {STATUS}")
