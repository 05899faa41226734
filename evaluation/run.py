"""All files of a list through the pipeline, in one process or in several; nothing is measured twice."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from pathlib import Path

from evaluation.cache import Cache
from evaluation.manifest import Entry
from evaluation.measure import Measured, measure
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
    progress: Progress = lambda _done, _total: None,
) -> dict[str, Measured]:
    """What was measured, by SHA-256. `progress` is told after every file how many are done.

    Interrupted, it leaves every file that was finished in `out`, and goes on from there the next time.
    """
    cache = Cache(out, panel.conditions)
    found = {entry.sha256: kept for entry in entries if (kept := cache.get(entry.sha256)) is not None}
    open_ones = [entry for entry in entries if entry.sha256 not in found]
    progress(len(found), len(entries))
    for measured in _measured(open_ones, panel, min(jobs, len(open_ones))):
        cache.put(measured)
        found[measured.sha256] = measured
        progress(len(found), len(entries))
    return found


def _measured(entries: Sequence[Entry], panel: Panel, jobs: int) -> Iterator[Measured]:
    if jobs <= 1:
        yield from (measure(entry.path, entry.sha256, panel) for entry in entries)
        return
    # Spawned: torch and its threads do not survive a fork.
    context = multiprocessing.get_context("spawn")
    shared = _with_share_of_cores(panel.setup, jobs)
    with ProcessPoolExecutor(jobs, context, initializer=_start, initargs=(shared,)) as pool:
        waiting: list[Future[Measured]] = [
            pool.submit(_measure, entry.path, entry.sha256) for entry in entries
        ]
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
    _panel = open_panel(setup)


def _measure(path: Path, sha256: str) -> Measured:
    if _panel is None:
        raise RuntimeError("the process was not started")
    return measure(path, sha256, _panel)
