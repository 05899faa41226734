"""All files of a list through the pipeline, in one process or in several; nothing is measured twice."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple

from evaluation.cache import Cache
from evaluation.delivery import deliver
from evaluation.manifest import Entry
from evaluation.measure import measure
from evaluation.measured import Measured
from evaluation.panel import Panel, Setup, open_panel

Progress = Callable[[int, int], None]

#: Of a process of the pool: opened once, when it starts.
_panel: Panel | None = None


def run(
    entries: Sequence[Entry],
    panel: Panel,
    out: Path,
    *,
    jobs: int = 1,
    ladder: bool = False,
    progress: Progress = lambda _done, _total: None,
) -> dict[str, Measured]:
    """What was measured, by SHA-256. `progress` is told after every file how many are done.

    With `ladder` every file is delivered again in each variant. Interrupted, it leaves every file that was
    finished in `out`, and goes on from there the next time.
    """
    cache = Cache(out, panel.conditions)
    known = {entry.sha256: kept for entry in entries if (kept := cache.get(entry.sha256)) is not None}
    orders = [
        Order(entry.path, entry.sha256, known.get(entry.sha256), ladder)
        for entry in entries
        if not _is_whole(known.get(entry.sha256), ladder=ladder)
    ]
    found = {sha256: kept for sha256, kept in known.items() if sha256 not in {one.sha256 for one in orders}}
    progress(len(found), len(entries))
    for measured in _measured(orders, panel, min(jobs, len(orders))):
        cache.put(measured)
        found[measured.sha256] = measured
        progress(len(found), len(entries))
    return found


class Order(NamedTuple):
    """One file to be measured."""

    path: Path
    sha256: str
    known: Measured | None  #: all but the ladder
    ladder: bool


def _is_whole(known: Measured | None, *, ladder: bool) -> bool:
    return known is not None and (known.facts is None or known.delivered is not None or not ladder)


def _carry_out(order: Order, panel: Panel) -> Measured:
    measured = order.known or measure(order.path, order.sha256, panel)
    if not order.ladder or measured.facts is None:
        return measured
    return measured.model_copy(update={"delivered": deliver(order.path, measured, panel)})


def _measured(orders: Sequence[Order], panel: Panel, jobs: int) -> Iterator[Measured]:
    if jobs <= 1:
        yield from (_carry_out(order, panel) for order in orders)
        return
    # Spawned: torch and its threads do not survive a fork.
    context = multiprocessing.get_context("spawn")
    shared = _with_share_of_cores(panel.setup, jobs)
    with ProcessPoolExecutor(jobs, context, initializer=_start, initargs=(shared,)) as pool:
        waiting: list[Future[Measured]] = [pool.submit(_carry_out_there, order) for order in orders]
        try:
            for done in as_completed(waiting):
                yield done.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _with_share_of_cores(setup: Setup, jobs: int) -> Setup:
    """Each process with its part of the cores, where the settings do not say how many threads."""
    threads = setup.models.threads or max(1, len(os.sched_getaffinity(0)) // jobs)
    return setup.model_copy(update={"models": setup.models.model_copy(update={"threads": threads})})


def _start(setup: Setup) -> None:
    global _panel  # noqa: PLW0603 - a process has one panel, and a pool no other place for it
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends us
    quiet()
    _panel = open_panel(setup)


def quiet() -> None:
    """What decoders print of hostile files is not for a terminal; results say why a file failed."""
    logging.getLogger("workers").setLevel(logging.CRITICAL)


def _carry_out_there(order: Order) -> Measured:
    if _panel is None:
        raise RuntimeError("the process was not started")
    return _carry_out(order, _panel)
