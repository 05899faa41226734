"""Breaks things at random, one at a time, and writes down what and when."""

from __future__ import annotations

import random
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import psutil
import psycopg2

from chaos.ledger import now
from chaos.stack import WORKERS, Stack, StackLost
from core.failpoints import Point

POOLS: Final = ("extraction", "video", "audio")
#: Seconds; a short run has shorter ones.
FREEZE, LONGEST_POSTGRES, LONGEST_S3 = 20.0, 5.0, 30.0
BEYOND_LEASE: Final = 13.0  # see `chaos.run.environment`
PAUSES: Final = (0.5, 4.0)  # between two actions
LOOK = 0.02  # seconds between two looks for something that is there for a moment only
LOOKING = 3.0  # how long it is looked for


@dataclass(frozen=True, kw_only=True)
class Deed:
    """One action of the monkey."""

    at: float
    action: str
    target: str
    seconds: float  #: how long it took, or how long something was away


class Monkey(threading.Thread):
    """Acts until it is stopped. `uploading` says whether a slow upload is under way."""

    def __init__(
        self,
        stack: Stack,
        seed: int,
        *,
        seconds: float,
        uploading: Callable[[], bool],
        say: Callable[[str], None],
    ) -> None:
        super().__init__(name="monkey")
        self._stack, self._draw, self._uploading, self._say = stack, random.Random(seed), uploading, say
        self._until = time.monotonic() + seconds
        self._patience = min(1.0, seconds / 120)  # what a short run has of the long outages
        self._over = threading.Event()
        self._bag: list[Callable[[], str]] = []
        self.deeds: list[Deed] = []

    def stop(self) -> None:
        """Let the action in hand be the last."""
        self._over.set()

    def run(self) -> None:
        """Every action once, in a random order, then again in another."""
        while not self._over.is_set() and time.monotonic() < self._until:
            self._over.wait(self._draw.uniform(*PAUSES))
            if not self._bag:
                self._bag = self._all()
                self._draw.shuffle(self._bag)
            act, began, at = self._bag.pop(), time.monotonic(), now()
            try:
                target = act()
            except (psutil.Error, ProcessLookupError, StackLost) as gone:
                target = f"(gone: {gone})"
            deed = Deed(
                at=at,
                action=act.__name__.strip("_"),
                target=target,
                seconds=round(time.monotonic() - began, 1),
            )
            self.deeds.append(deed)
            self._say(f"monkey: {deed.action} {deed.target} {deed.seconds:.1f} s")

    def counts(self) -> Counter[str]:
        """How often it did what; not what found nothing to do it to."""
        return Counter(deed.action for deed in self.deeds if deed.target and not deed.target.startswith("("))

    def _all(self) -> list[Callable[[], str]]:
        often = [self._kill_worker, self._kill_pool_child, self._kill_decoder, self._die_at_a_fail_point]
        often += [self._kill_dispatcher, self._kill_api_in_mid_upload, self._freeze_pool_child]
        return [
            *often,
            *often,
            self._end_worker_in_order,
            self._restart_valkey,
            self._kill_valkey,
            self._restart_valkey_empty,
            self._freeze_valkey,
            self._stop_postgres,
            self._kill_postgres,
            self._cut_connections,
            self._stop_s3,
            self._freeze_s3,
            self._restart_api_in_mid_upload,
        ]

    def _kill_worker(self) -> str:
        return self._signal(f"worker-{self._busy(WORKERS)}", signal.SIGKILL)

    def _end_worker_in_order(self) -> str:
        return self._signal(f"worker-{self._busy(WORKERS)}", signal.SIGTERM)

    def _busy(self, workers: Sequence[str]) -> str:
        """A worker with a step in hand; after some waiting any of them."""
        chosen, deadline = self._draw.choice(workers), time.monotonic() + LOOKING
        stages = {"extraction": ["extract"], "fusion": ["fuse"], "video": ["video", "stability"]}
        with suppress(psycopg2.Error):
            while time.monotonic() < deadline:
                query = "SELECT 1 FROM steps WHERE status = 'running' AND stage = ANY(%s)"
                if self._stack.rows(query, stages.get(chosen, [chosen])):
                    break
                time.sleep(LOOK)
        return chosen

    def _kill_dispatcher(self) -> str:
        return self._signal("dispatcher", signal.SIGKILL)

    def _kill_pool_child(self) -> str:
        queue = self._busy(POOLS)
        children = self._stack.pool(queue)
        if not children:
            return "(none)"
        self._draw.choice(children).kill()
        return queue

    def _freeze_pool_child(self) -> str:
        """For longer than its lease: it wakes up with a step that is another's by then."""
        queue = self._busy(POOLS)
        children = self._stack.pool(queue)
        if not children:
            return "(none)"
        self._suspend(self._draw.choice(children), BEYOND_LEASE)
        return queue

    def _cut_connections(self) -> str:
        """Every connection of the product to its database breaks, in the middle of whatever."""
        query = (
            "SELECT count(pg_terminate_backend(pid)) AS n FROM pg_stat_activity"
            " WHERE application_name = 'deepdefend'"
        )
        with suppress(psycopg2.Error):
            return f"{self._stack.rows(query)[0]['n']} connections"
        return "(the database is away)"

    def _kill_decoder(self) -> str:
        deadline = time.monotonic() + LOOKING
        while time.monotonic() < deadline:
            if children := self._stack.decoders():
                victim = self._draw.choice(children)
                name = victim.name()
                victim.kill()
                return name
            time.sleep(LOOK)
        return "(none)"

    def _die_at_a_fail_point(self) -> str:
        point = self._draw.choice(list(Point))
        self._stack.trap.write_text(point.value)
        deadline = time.monotonic() + LOOKING
        while self._stack.trap.exists() and time.monotonic() < deadline:
            time.sleep(LOOK)
        missed = self._stack.trap.exists()
        self._stack.trap.unlink(missing_ok=True)
        return f"({point}: nobody came)" if missed else point.value

    def _restart_api_in_mid_upload(self) -> str:
        return self._signal("api", signal.SIGTERM) if self._upload_comes() else "(no upload)"

    def _kill_api_in_mid_upload(self) -> str:
        return self._signal("api", signal.SIGKILL) if self._upload_comes() else "(no upload)"

    def _upload_comes(self) -> bool:
        deadline = time.monotonic() + LOOKING
        while not self._uploading() and time.monotonic() < deadline:
            time.sleep(LOOK)
        return self._uploading()

    def _restart_valkey(self) -> str:
        return self._signal("valkey", signal.SIGTERM)

    def _kill_valkey(self) -> str:
        return self._signal("valkey", signal.SIGKILL)

    def _restart_valkey_empty(self) -> str:
        """Its data is gone when it comes back."""
        with self._stack.held():
            found = self._end("valkey", signal.SIGKILL)
            shutil.rmtree(self._stack.data_dir / "valkey" / "data")
            (self._stack.data_dir / "valkey" / "data").mkdir(mode=0o700)
        return found

    def _freeze_valkey(self) -> str:
        return self._freeze("valkey", FREEZE * self._patience)

    def _freeze_s3(self) -> str:
        return self._freeze("s3", self._draw.uniform(1, LONGEST_S3) * self._patience)

    def _stop_postgres(self) -> str:
        return self._hold_down("postgres", signal.SIGINT, self._draw.uniform(0, LONGEST_POSTGRES))

    def _kill_postgres(self) -> str:
        return self._hold_down("postgres", signal.SIGKILL, 0)

    def _stop_s3(self) -> str:
        longest = max(3.0, LONGEST_S3 * self._patience)
        return self._hold_down("s3", signal.SIGKILL, self._draw.uniform(1, longest))

    def _signal(self, service: str, number: signal.Signals) -> str:
        found = self._stack.process(service)
        if found is None:
            return "(none)"
        found.send_signal(number)
        return service

    def _end(self, service: str, number: signal.Signals) -> str:
        """Signal, and wait for the end."""
        found = self._stack.process(service)
        if found is None:
            return "(none)"
        found.send_signal(number)
        deadline = time.monotonic() + LOOKING
        with suppress(psutil.NoSuchProcess):
            # Its parent is held and does not fetch its status: it stays as a zombie.
            while found.status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline:
                time.sleep(LOOK)
        return service

    def _hold_down(self, service: str, number: signal.Signals, seconds: float) -> str:
        """End it, and keep it from being started again for a while."""
        with self._stack.held():
            found = self._end(service, number)
            self._over.wait(seconds)
        return found

    def _freeze(self, service: str, seconds: float) -> str:
        """Stop it without ending it: connections stay open, and nobody answers."""
        found = self._stack.process(service)
        if found is None:
            return "(none)"
        self._suspend(found, seconds)
        return service

    def _suspend(self, process: psutil.Process, seconds: float) -> None:
        process.suspend()
        try:
            self._over.wait(seconds)
        finally:
            process.resume()
