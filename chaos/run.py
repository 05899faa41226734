"""One chaos run from its clips to its findings."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import httpx2
import psycopg2

from chaos import leaks, witness
from chaos.clips import Clips, box
from chaos.invariants import INVARIANTS, Case, Finding
from chaos.ledger import Ledger
from chaos.monkey import Deed, Monkey
from chaos.plan import Kind, plan
from chaos.receiver import Mood, Receiver
from chaos.senders import ANALYSES, Senders, Site
from chaos.stack import Stack
from core.domain import TERMINAL
from core.webhooks.domain import EventType

MAX_ATTEMPTS: Final = 3
#: Submissions begin over this part of the monkey's time; the rest of it hits a queue that drains.
SUBMITTING: Final = 0.75
LOOK: Final = 1.0  # seconds between two looks whether all is settled
TELL: Final = 10.0  # seconds between two lines about it
CALM_SECONDS: Final = 120.0
Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What a run is asked for."""

    jobs: int = 500
    seconds: float = 600  #: of the monkey
    seed: int = 1
    settle_seconds: float = 600  #: how long the rest may take after it
    grace: timedelta = timedelta(seconds=60)  #: of objects that no row names


@dataclass(kw_only=True)
class Outcome:
    """What came of it."""

    findings: list[Finding] = field(default_factory=list)
    deeds: list[Deed] = field(default_factory=list)
    figures: dict[str, dict[str, int]] = field(default_factory=dict)
    seconds: float = 0.0  #: from the first submission until all was settled
    settled: bool = False

    @property
    def holds(self) -> bool:
        """Whether every promise was kept."""
        return self.settled and all(finding.holds for finding in self.findings)


def environment(wish: Wish, ports: tuple[int, int]) -> dict[str, str]:
    """Settings of the stack: short leases, our own receiver and site allowed, no limits on one busy key."""
    receiver, site = ports
    return {
        "DEEPDEFEND_STEPS__LEASE": "PT10S",
        "DEEPDEFEND_STEPS__HEARTBEAT": "PT3S",
        "DEEPDEFEND_STEPS__REPUBLISH_AFTER": "PT5S",
        "DEEPDEFEND_STEPS__MAX_ATTEMPTS": str(MAX_ATTEMPTS),
        "DEEPDEFEND_DEADLINE": f"PT{int(wish.seconds + wish.settle_seconds)}S",
        "DEEPDEFEND_IDEMPOTENCY_LEASE": "PT10S",
        "DEEPDEFEND_RETENTION__ORPHANS": f"PT{int(wish.grace.total_seconds())}S",
        "DEEPDEFEND_RETENTION__SWEEP": "PT3S",
        "DEEPDEFEND_ADMISSION__REQUESTS": "1000000",
        "DEEPDEFEND_ADMISSION__SUBMISSIONS": "1000000",
        "DEEPDEFEND_WEBHOOKS__ALLOWED_NETWORKS": '["127.0.0.0/8"]',
        "DEEPDEFEND_WEBHOOKS__ALLOWED_PORTS": f"[{receiver}]",
        "DEEPDEFEND_WEBHOOKS__TIMEOUT": "PT5S",
        "DEEPDEFEND_SOURCE_URL__ALLOWED_NETWORKS": '["127.0.0.0/8"]',
        "DEEPDEFEND_SOURCE_URL__ALLOWED_PORTS": f"[{site}]",
    }


def run(wish: Wish, folder: Path, say: Say, on_storm: Callable[[Stack], None] = lambda _: None) -> Outcome:
    """Make clips, start a stack, let the senders and the monkey loose, settle, and look at everything.

    `on_storm` is called once, from a thread, half-way through the monkey's time.
    """
    clips, ledger, jobs = Clips(folder / "clips"), Ledger(), plan(wish.seed, wish.jobs)
    clips.make()
    site = Site(lambda number: clips.content(jobs[number]))
    with (
        Receiver(moody(wish.seed)) as receiver,
        closing(site),
        Stack(folder, environment(wish, (receiver.port, site.port))) as stack,
    ):
        say(f"the stack runs at {stack.api_url}, Flower at {stack.flower_url}")
        witness.install(stack)
        with stack.client() as http:
            receiver.trust(subscribe(http, receiver.url))
            measure(http, clips)
        say("calm analyses are done; now the storm")
        pace = wish.seconds * SUBMITTING / wish.jobs
        senders = Senders(stack.api_url, stack.api_key, jobs, clips, site, ledger, pace)
        outcome = storm(wish, stack, senders, say, on_storm)
        case = Case(stack, ledger, receiver, clips, jobs, MAX_ATTEMPTS)
        outcome.findings = [look(case) for look in INVARIANTS]
        outcome.findings += [leaks.orphans(stack, wish.grace)]
        outcome.findings += [look(stack) for look in (leaks.folders, leaks.connections, leaks.strays)]
        outcome.figures |= figures(case)
        outcome.findings.append(leaks.survivors(stack))
    return outcome


def moody(seed: int) -> Mood:
    """Refuses the first try of some events, and hangs up on some others: each is taken at its second."""
    draw, seen = random.Random(seed), dict[str, int | None]()

    def mood(event_id: str) -> int | None:
        if event_id in seen:
            return 204
        seen[event_id] = draw.choices([204, 500, 503, None], weights=[75, 10, 8, 7])[0]
        return seen[event_id]

    return mood


def subscribe(http: httpx2.Client, url: str) -> str:
    """Ask to be told of everything; gives the secret."""
    asked = {"url": url, "events": [event.value for event in EventType]}
    made = http.post("/v1/webhook-endpoints", json=asked)
    made.raise_for_status()
    return str(made.json()["secret"])


def measure(http: httpx2.Client, clips: Clips) -> None:
    """Let calm analyses say how many intervals a damaged file has."""
    for seconds in (1.0, 2.0):
        content = clips.path(Kind.TRUNCATED).read_bytes() + box("calm")
        sent = http.post(
            ANALYSES,
            files={"file": ("calm.mp4", content)},
            data={"interval_seconds": str(seconds), "frames_per_interval": "2"},
        )
        sent.raise_for_status()
        found = _wait(http, sent.json()["id"])
        report = found["report"] or {}
        clips.measured[Kind.TRUNCATED, seconds] = report.get("total_intervals_analyzed", 0)


def _wait(http: httpx2.Client, identity: str) -> dict[str, Any]:
    deadline = time.monotonic() + CALM_SECONDS
    while time.monotonic() < deadline:
        found: dict[str, Any] = http.get(f"{ANALYSES}/{identity}").json()
        if found["status"] in TERMINAL:
            return found
        time.sleep(0.2)
    raise TimeoutError("a calm analysis does not end")


def storm(wish: Wish, stack: Stack, senders: Senders, say: Say, on_storm: Callable[[Stack], None]) -> Outcome:
    """Submit while the monkey rages; return when nothing is owed any more, or patience is at its end."""
    monkey = Monkey(stack, wish.seed, seconds=wish.seconds, uploading=lambda: senders.in_flight > 0, say=say)
    watcher = threading.Timer(wish.seconds / 2, on_storm, [stack])
    began = time.monotonic()
    monkey.start()
    watcher.start()
    try:
        senders.run()
        say("everything is submitted")
        monkey.join()
        say("the monkey is gone; waiting until all is settled")
        settled = _settle(stack, wish, say)
    finally:
        senders.given_up.set()
        watcher.cancel()
        monkey.stop()
        monkey.join()
    return Outcome(
        deeds=monkey.deeds,
        figures={"monkey": dict(monkey.counts())},
        seconds=time.monotonic() - began,
        settled=settled,
    )


def _settle(stack: Stack, wish: Wish, say: Say) -> bool:
    deadline, told = time.monotonic() + wish.settle_seconds, 0.0
    while time.monotonic() < deadline:
        with suppress(psycopg2.Error):
            owed = {name: stack.rows(query)[0]["n"] for name, query in OWED.items()}
            owed["orphans"] = len(leaks.unnamed(stack, datetime.now(UTC)).broken)
            owed["folders"] = len(leaks.folders(stack).broken)
            if not any(owed.values()):
                return True
            if time.monotonic() > told + TELL:
                told = time.monotonic()
                say("left: " + ", ".join(f"{n} {name}" for name, n in owed.items() if n))
        time.sleep(LOOK)
    return False


#: What a settled stack has none of.
OWED: Final = {
    "analyses": "SELECT count(*) AS n FROM analyses WHERE completed_at IS NULL",
    "deliveries": "SELECT count(*) AS n FROM webhook_deliveries WHERE closed_at IS NULL",
    "erasures": "SELECT count(*) AS n FROM erasures",
    "steps": "SELECT count(*) AS n FROM steps WHERE closed_at IS NULL",
}


def figures(case: Case) -> dict[str, dict[str, int]]:
    """How many of what."""
    endings = case.stack.rows(
        "SELECT status, coalesce(error, '-') AS error, count(*) AS n FROM chaos.ends"
        " GROUP BY 1, 2 ORDER BY 3 DESC"
    )
    attempts = case.stack.rows(
        "SELECT attempt, count(*) AS n FROM steps WHERE attempt > 0 GROUP BY 1 ORDER BY 1"
    )
    lost = case.stack.rows(
        "SELECT stage || ' ' || status || ' ' || coalesce(reason, '-') AS why, count(*) AS n FROM steps"
        " WHERE status <> 'done' GROUP BY 1 ORDER BY 2 DESC"
    )
    records = case.ledger.records.values()
    return {
        "submissions": {
            "sent": len(records),
            "accepted": sum(r.analysis_id is not None for r in records),
            "refused": sum(r.refused is not None for r in records),
            "unanswered": sum(r.lost for r in records),
            "sent again": sum(r.tries > 1 for r in records),
            "canceled": sum(r.canceled for r in records),
            "deleted": sum(r.deleted_at is not None for r in records),
        },
        "endings": {f"{row['status']} {row['error']}".removesuffix(" -"): row["n"] for row in endings},
        "steps not done": {row["why"]: row["n"] for row in lost},
        "attempts of steps": {str(row["attempt"]): row["n"] for row in attempts},
    }
