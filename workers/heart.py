"""One thread a process that says: this process lives, and these steps are still mine."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from uuid import UUID

from core import analyses, fleet, logging, steps
from core.config import StepSettings
from core.db import transaction
from core.errors import Fenced

log = logging.get(__name__)


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
        #: The process was asked to end: it must claim nothing more.
        self.leaving = False

    def run(self) -> None:
        """Beat until stopped. A database that does not answer costs beats, not the process."""
        while not self._stopped:
            try:
                if self.leaving:
                    self.hand_back()
                self.beat()
            except Exception:  # whatever it is: a heart that stops would lose every lease from now on
                log.warning("heartbeat not written", action="beat_failed", exc_info=True)
            self._wake.wait(self._config.heartbeat.total_seconds())
            self._wake.clear()

    def beat(self) -> None:
        """Extend what is held; whatever the database no longer grants is lost."""
        with self._lock:
            holds = list(self._holds.values())
        with transaction() as session:
            held = steps.beat(session, [hold.claim for hold in holds], self._config)
            known = fleet.beat(session, self._boot_id)
        for hold in holds:
            if hold.claim.step_id not in held:
                hold.lose()
        if not known:  # the row was pruned while the database was away
            self._announce()

    def hand_back(self) -> None:
        """Give what is held to others at once; whoever works on it is fenced at the next checkpoint."""
        with self._lock:
            holds = list(self._holds.values())
        for hold in holds:
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
        if self.leaving:  # asked between the claim and now
            self._wake.set()
        try:
            yield hold
        finally:
            with self._lock:
                del self._holds[claim.step_id]
