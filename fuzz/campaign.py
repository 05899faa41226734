"""All the damaged files of one run, in as many processes as asked for."""

from __future__ import annotations

import multiprocessing
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Final

from fuzz import trap
from fuzz.minimise import minimise
from fuzz.mutate import Case, case
from fuzz.trial import Result, attempt

#: Files that one process takes at a time: it lays its trap once for them.
BATCH: Final = 20


def run(
    numbers: range,
    *,
    seed: int,
    base: Path,
    whole: Mapping[str, bytes],
    levels: Sequence[str],
    processes: int,
    keep: Path | None = None,
) -> list[Result]:
    """All files, in spawned processes as the worker's pool spawns them."""
    batches = [numbers[n : n + BATCH] for n in range(0, len(numbers), BATCH)]
    results: list[Result] = []
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        tasks = [pool.submit(batch, part, seed, base, whole, levels, keep) for part in batches]
        for task in tasks:
            results += task.result()
            if sys.stderr.isatty():
                print(f"\r{len(results)} of {len(numbers)} ", end="", file=sys.stderr, flush=True)
    return results


def batch(
    numbers: Sequence[int],
    seed: int,
    base: Path,
    whole: Mapping[str, bytes],
    levels: Sequence[str],
    keep: Path | None,
) -> list[Result]:
    """Some files in a folder of their own."""
    folder = Path(tempfile.mkdtemp(dir=base))
    results = []
    with trap.laid(folder / "trap") as laid:
        place = folder / "place"
        place.mkdir()
        for number in numbers:
            one = case(number, seed, whole, laid.bait)
            result = attempt(one, place, laid, level=levels[number % len(levels)])
            results.append(result)
            if keep is not None and (result.faults or result.signal):
                _keep(keep, one, result, place, laid)
    shutil.rmtree(folder)
    return results


def _keep(keep: Path, one: Case, result: Result, place: Path, laid: trap.Trap) -> None:
    """Write down the file, and a smaller one that breaks the same."""

    def breaks(content: bytes) -> bool:
        return attempt(replace(one, content=content), place, laid, level=result.level).same == result.same

    keep.mkdir(parents=True, exist_ok=True)
    stem = f"{result.number}-{result.outcome}-{result.origin}"
    (keep / stem).write_bytes(one.content)
    (keep / f"small-{stem}").write_bytes(minimise(one.content, breaks))
