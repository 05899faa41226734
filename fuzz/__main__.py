"""`python -m fuzz`: damage whole files in thousands of ways and extract them as the worker does.

Exit status 1 when anything did not hold. The same FILES, SEED and media give the same damage.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from fuzz import seeds, table
from fuzz.campaign import run
from workers.media import sandbox
from workers.media.sandbox import BUBBLEWRAP, RLIMITS


def main(argv: Sequence[str] | None = None) -> int:
    """Run everything and print the table."""
    wanted = _arguments(argv)
    levels = available() if wanted.level is None else (wanted.level,)
    probes = [sandbox.probe(at=level) for level in levels]
    started = time.monotonic()
    base = Path(tempfile.mkdtemp(prefix="deepdefend-fuzz-"))
    try:
        whole = seeds.prepare(base / "seeds", shared=not wanted.own)
        numbers = range(wanted.first, wanted.first + wanted.files)
        results = run(
            numbers, seed=wanted.seed, base=base, whole=whole, levels=levels, processes=wanted.processes,
            keep=wanted.keep,
        )  # fmt: skip
        left = sorted(path.name for path in base.iterdir() if path.name != "seeds")
    finally:
        shutil.rmtree(base)
    print(table.summary(results, probes, seed=wanted.seed, seconds=time.monotonic() - started))
    for name in left:
        print(f"left behind: {name}")
    return 1 if left or any(result.faults for result in results) else 0


def available() -> tuple[str, ...]:
    """The levels of this host; the weaker one works wherever the stronger does."""
    return (BUBBLEWRAP, RLIMITS) if sandbox.level() == BUBBLEWRAP else (RLIMITS,)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("--files", type=int, default=2000, help="how many damaged files [2000]")
    parser.add_argument("--first", type=int, default=0, help="number of the first one [0]")
    parser.add_argument("--seed", type=int, default=None, help="of the damage [drawn, and printed]")
    parser.add_argument("--processes", type=int, default=2, help="extractions at once [2]")
    parser.add_argument("--level", choices=(BUBBLEWRAP, RLIMITS), help="one level [all of this host in turn]")
    parser.add_argument("--own", action="store_true", help="leave the shared media out")
    parser.add_argument("--keep", type=Path, help="folder for files that broke something, made small")
    wanted = parser.parse_args(argv)
    if wanted.seed is None:
        wanted.seed = random.SystemRandom().randrange(1_000_000)
    return wanted


if __name__ == "__main__":
    sys.exit(main())
