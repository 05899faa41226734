"""The command line of each process of the product, for the supervisor and for `deepdefend worker` etc."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from core.domain import Lane
from core.queue import Queue, names_of

#: Decoding and models need processes; judging and posting mostly wait.
PREFORK = frozenset({Queue.EXTRACTION, Queue.VIDEO, Queue.AUDIO})
#: One worker service a line.
WORKERS: tuple[tuple[Queue, ...], ...] = (
    (Queue.EXTRACTION,),
    (Queue.VIDEO,),
    (Queue.AUDIO,),
    (Queue.FUSION,),
    (Queue.WEBHOOKS,),  # a process of its own: receivers that never answer must not stop verdicts
)
#: Threads where no processes are needed; posting waits most (`core.webhooks.outbox` shares them out).
THREADS, POSTING_THREADS = 4, 16
#: After TERM, seconds for open streams to end.
API_GRACE = 5

PYTHON = (sys.executable, "-m")


def api(host: str, port: int) -> tuple[str, ...]:
    """uvicorn; proxy headers are trusted from the loopback address only, its default."""
    where = ("--host", host, "--port", str(port))
    quiet = ("--no-access-log", "--no-server-header")
    wire = ("--http", "api.protocol:ProblemProtocol", "--ws", "none")
    end = ("--timeout-graceful-shutdown", str(API_GRACE))
    return (*PYTHON, "uvicorn", "api.app:app", *where, *quiet, *wire, *end)


def worker(
    queues: Sequence[Queue], concurrency: int | None = None, lanes: Iterable[Lane] = Lane
) -> tuple[str, ...]:
    """A Celery worker; prefork for decoding and models, threads when it serves neither.

    It listens to every lane of its kinds of work, or to some alone; its name in Flower says so.
    """
    chosen = frozenset(lanes)
    heavy = bool(PREFORK & set(queues))
    names = ",".join(names_of(queues, chosen))
    alone = [] if chosen == frozenset(Lane) else [lane.value for lane in Lane if lane in chosen]
    pool = ("--pool", "prefork" if heavy else "threads")
    threads = POSTING_THREADS if set(queues) == {Queue.WEBHOOKS} else THREADS
    size = ("--concurrency", str(concurrency or (1 if heavy else threads)))
    quiet = ("--without-gossip", "--without-mingle", "--loglevel", "INFO")
    node = ("--hostname", f"{'-'.join([*(queue.value for queue in queues), *alone])}@%h")
    return (
        *PYTHON,
        "celery",
        "--app",
        "workers.app",
        "worker",
        "--queues",
        names,
        *pool,
        *size,
        *node,
        *quiet,
    )


def dispatcher() -> tuple[str, ...]:
    """The process that publishes what is owed."""
    return (*PYTHON, "workers.dispatcher")


def flower(host: str, port: int) -> tuple[str, ...]:
    """Flower; its user and password come in FLOWER_BASIC_AUTH, out of sight of `ps`."""
    where = (f"--address={host}", f"--port={port}")
    return (*PYTHON, "celery", "--app", "workers.app", "flower", *where)
