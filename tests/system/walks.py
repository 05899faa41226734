"""A running stack in which one process at a time dies at a fail point, and what must hold afterwards."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from chaos.clips import box
from chaos.database import Row
from chaos.http import Caller
from chaos.receiver import Receiver
from chaos.senders import ANALYSES, Site
from chaos.stack import Stack
from core.domain import TERMINAL
from core.failpoints import STATUS, Point
from tests.cli.stack.patience import eventually

PATIENCE = 150.0  # seconds until something that must happen counts as not happening
#: Of a fail point's line: see `core.failpoints`.
DIED: Final = re.compile(r'^\{"event": "died at a fail point".*\}$', re.MULTILINE)


@dataclass(kw_only=True)
class Scene:
    """What the walks share."""

    stack: Stack
    caller: Caller
    receiver: Receiver
    site: Site
    clip: Path
    ended: list[str] = field(default_factory=list)  #: every analysis that was walked and kept
    deleted: list[str] = field(default_factory=list)

    def arm(self, point: Point) -> None:
        """The next process at this point dies."""
        assert not self.stack.trap.exists()
        fresh = self.stack.trap.with_suffix(".new")
        fresh.write_text(point.value)
        fresh.replace(self.stack.trap)

    def sprung(self) -> None:
        """Wait until it has died."""
        eventually(lambda: not self.stack.trap.exists(), PATIENCE)

    def content(self, name: str) -> bytes:
        """The clip with an empty box behind it that makes its bytes its own."""
        return self.clip.read_bytes() + box(name)

    def send(self, name: str, **more: str) -> str:
        """Submit as a client that tries again does: gives the analysis' id."""
        form = {"metadata": json.dumps({"walk": name}), **more}
        files = {"file": (f"{name}.mp4", self.content(name))}
        keyed = {"Idempotency-Key": f'"{name}"'}
        answer = self.caller.ask(
            "submit", lambda http: http.post(ANALYSES, data=form, files=files, headers=keyed)
        )
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def look(self, identity: str) -> dict[str, Any]:
        """The analysis once it has ended."""
        found: list[dict[str, Any]] = []

        def ended() -> bool:
            found[:] = [self.caller.ask("look", lambda http: http.get(f"{ANALYSES}/{identity}")).json()]
            return found[0]["status"] in TERMINAL

        eventually(ended, PATIENCE)
        return found[0]

    def of_walk(self, name: str) -> list[Row]:
        """Analyses that were submitted under that name."""
        return self.stack.rows("SELECT id, status FROM analyses WHERE metadata->>'walk' = %s", name)


Act = Callable[[Scene, Point], str]


def submit(scene: Scene, point: Point) -> str:
    """Arm, then send a file."""
    scene.arm(point)
    return scene.send(point)


def submit_after_a_death(scene: Scene, point: Point) -> str:
    """First a worker dies with the step in hand, so that there is something to requeue."""
    scene.arm(Point.WORKER_CLAIMED)
    identity = scene.send(point)
    scene.sprung()
    scene.arm(point)
    return identity


def submit_in_parts(scene: Scene, point: Point) -> str:
    """Arm, then send the file straight to the storage and submit it by its id."""
    content, ask = scene.content(point), scene.caller.ask
    keyed = {"Idempotency-Key": f'"upload-{point}"'}
    asked = {"size_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    scene.arm(point)
    begun = ask("begin", lambda http: http.post("/v1/uploads", json=asked, headers=keyed)).json()
    (part,) = begun["parts"]
    assert ask("put", lambda http: http.put(part["url"], content=content)).is_success
    completed = ask("complete", lambda http: http.post(begun["links"]["complete"])).json()
    assert completed["status"] == "completed"
    named = {"upload_id": begun["id"], "metadata": {"walk": point}}
    answer = ask(
        "submit", lambda http: http.post(ANALYSES, json=named, headers={"Idempotency-Key": f'"{point}"'})
    )
    return str(answer.json()["id"])


def submit_by_url(scene: Scene, point: Point) -> str:
    """Arm, then name the file's address."""
    scene.arm(point)
    named = {"source_url": scene.site.url(0), "metadata": {"walk": point}}
    return str(scene.caller.ask("submit", lambda http: http.post(ANALYSES, json=named)).json()["id"])


def submit_to_keep_nothing(scene: Scene, point: Point) -> str:
    """Arm, then send a file that is to be gone when its analysis has ended."""
    scene.arm(point)
    return scene.send(point, retention_hours="0")


def submit_for_stability(scene: Scene, point: Point) -> str:
    """Arm, then send a file that is to be looked at in other deliveries too, and then to be forgotten."""
    scene.arm(point)
    return scene.send(point, stability="true", retention_hours="0")


def erase(scene: Scene, point: Point) -> str:
    """Analyse something, arm, then delete it as a client that tries again does."""
    identity = scene.send(f"erase-at-{point}")
    assert scene.look(identity)["status"] == "completed"
    scene.arm(point)
    answer = scene.caller.ask("delete", lambda http: http.delete(f"{ANALYSES}/{identity}"))
    assert answer.status_code in {200, 202}, answer.text
    return identity


@dataclass(frozen=True, kw_only=True)
class Walk:
    """One fail point: which process dies there, and what is done to make it."""

    point: Point
    dies: str  #: the service, by its name in the supervisor
    in_pool: bool = False  #: a child of the pool, which Celery replaces
    act: Act = submit

    def run(self, scene: Scene) -> str:
        """Do it, and see the process die there, once; gives the analysis' id."""
        deaths, died = self._restarts(scene), len(self._pids(scene))
        identity = self.act(scene, self.point)
        scene.sprung()
        eventually(lambda: len(self._pids(scene)) > died, PATIENCE)
        (pid,) = self._pids(scene)[died:]
        if self.in_pool:
            told = f"pid:{pid} exited with 'exitcode {STATUS}'"
            eventually(lambda: told in scene.stack.logs(self.dies), PATIENCE)
        else:
            eventually(lambda: self._restarts(scene) == deaths + 1, PATIENCE)
        return identity

    def _pids(self, scene: Scene) -> list[int]:
        """Who died at the point in this service, in order."""
        lines = [json.loads(line) for line in DIED.findall(scene.stack.logs(self.dies))]
        return [line["pid"] for line in lines if line["point"] == self.point]

    def _restarts(self, scene: Scene) -> int:
        return scene.stack.errors.read_text().count(f"{self.dies} ended with status {STATUS}")
