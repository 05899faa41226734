"""One thread a process that says: this process lives, and these steps are still mine.

Between two beats it looks, every two seconds and only while something is held, whether that is still
so: one read by primary key, which is how a cancellation reaches the work within 5 s. A LISTEN would be
no cheaper: it takes a connection a process for good, forbids a transaction pooler in between, and loses
what is told while it connects anew, so that it needs this look as well. A look has no state to lose: a
database that was restarted just answers the next one.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final
from uuid import UUID

from core import analyses, fleet, logging, steps
from core.config import StepSettings
from core.db import read, transaction
from core.errors import Fenced

log = logging.get(__name__)
#: Between two looks; with a checkpoint a second in the work, a cancellation takes 3 s and some.
LOOK_SECONDS: Final = 2.0


class Hold:
    """A claim while its work goes on."""

    def __init__(self, claim: steps.Claim) -> None:
        self.claim = claim
        self.lost = threading.Event()

    def lose(self) -> None:
        """The lease is gone: canceled, past its deadline, or given to another."""
        self.lost.set()

    def check(self) -> None:
        """A checkpoint: costs nothing, raises Fenced once the lease is lost."""
        if self.lost.is_set():
            raise Fenced


class Heart(threading.Thread):
    """Beats the fleet row and every lease of this process. A daemon: it never delays an exit."""

    def __init__(self, boot_id: str, config: StepSettings, *, announce: Callable[[], None]) -> None:
        super().__init__(name="heart", daemon=True)
        self._boot_id, self._config, self._announce = boot_id, config, announce
        self._holds: dict[UUID, Hold] = {}
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stopped = False
        self._next_beat = 0.0  # of the monotonic clock: at once
        #: The process was asked to end: it must claim nothing more.
        self.leaving = False

    def run(self) -> None:
        """Beat until stopped. A database that does not answer costs beats, not the process."""
        while not self._stopped:
            try:
                if self.leaving:
                    self.hand_back()
                self._beat_or_look()
            except Exception:  # whatever it is: a heart that stops would lose every lease from now on
                log.warning("heartbeat not written", action="beat_failed", exc_info=True)
            self._wake.wait(self._pause())
            self._wake.clear()

    def _beat_or_look(self) -> None:
        if time.monotonic() >= self._next_beat:
            # Before the beat: one that fails is not tried again at once, as ever.
            self._next_beat = time.monotonic() + self._config.heartbeat.total_seconds()
            self.beat()
        else:
            self.look()

    def _pause(self) -> float:
        """Until the next beat, or the next look when there is something to look after."""
        until_beat = max(self._next_beat - time.monotonic(), 0.0)
        return min(until_beat, LOOK_SECONDS) if self._holds else until_beat

    def look(self) -> None:
        """Lose what the database no longer grants, without writing anything."""
        holds = self._held()
        if holds:
            with read() as session:
                self._lose_all_but(steps.held(session, [hold.claim for hold in holds]), holds)

    def _held(self) -> list[Hold]:
        with self._lock:
            return list(self._holds.values())

    def _lose_all_but(self, held: set[UUID], holds: Sequence[Hold]) -> None:
        for hold in holds:
            if hold.claim.step_id not in held:
                hold.lose()

    def beat(self) -> None:
        """Extend what is held; whatever the database no longer grants is lost."""
        holds = self._held()
        with transaction() as session:
            held = steps.beat(session, [hold.claim for hold in holds], self._config)
            known = fleet.beat(session, self._boot_id)
        self._lose_all_but(held, holds)
        if not known:  # the row was pruned while the database was away
            self._announce()

    def hand_back(self) -> None:
        """Give what is held to others at once; whoever works on it is fenced at the next checkpoint."""
        for hold in self._held():
            with contextlib.suppress(Fenced), transaction() as session:
                analyses.touch(session, hold.claim.analysis_id)
                steps.hand_back(session, hold.claim)
                log.info("handed back", action="step_handed_back", step_id=str(hold.claim.step_id))
            hold.lose()

    def let_go(self) -> None:
        """Have the thread hand back what is held. Only sets flags: called in signal handlers."""
        self.leaving = True
        self._wake.set()

    def stop(self) -> None:
        """End the thread at its next wait."""
        self._stopped = True
        self._wake.set()

    @contextlib.contextmanager
    def hold(self, claim: steps.Claim) -> Iterator[Hold]:
        """Keep the lease of `claim` alive inside the block."""
        hold = Hold(claim)
        with self._lock:
            self._holds[claim.step_id] = hold
        self._wake.set()  # look from now on; also hands back when asked between the claim and now
        try:
            yield hold
        finally:
            with self._lock:
                del self._holds[claim.step_id]
