"""`python -m bench`: run all contenders in turn, compare their scores, write the table.

Exit status 1 when the scores disagree: a speed that is bought by other work is none.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from bench import machine, table
from bench.compare import agreements
from bench.material import ROOT, Material, prepare
from bench.outcome import Outcome

CONTENDERS = ("naive", "functions", "stack")
MODULES = {"naive": "bench.naive", "functions": "bench.ours", "stack": "bench.stack"}


def main() -> int:
    """Measure and report."""
    wanted = _arguments()
    material = prepare(wanted.folder)
    names = [name for name in CONTENDERS if name not in wanted.skip]
    runs: dict[str, list[Outcome]] = {name: [] for name in names}
    loads = []
    for turn in range(wanted.repeat):
        for name in names if turn % 2 == 0 else reversed(names):
            loads.append(machine.load())
            _say(f"{turn + 1}/{wanted.repeat} {name} ...")
            runs[name].append(run_one(name, material, wanted.folder))
            _say(f"    {runs[name][-1].total:.1f} s")
    facts = machine.facts() | {"load before each run": ", ".join(f"{load:.1f}" for load in loads)}
    agreed = {f"naive and {name}": agreements(runs["naive"][0], runs[name][0]) for name in names[1:]}
    page = table.markdown(runs, agreed, facts)
    table.write(wanted.results, page, runs, facts)
    print(page)
    return 0 if all(one.holds for kinds in agreed.values() for one in kinds.values()) else 1


def run_one(name: str, material: Material, folder: Path) -> Outcome:
    """One contender in a process of its own, so that none profits from another's warm memory."""
    command = [sys.executable, "-m", MODULES[name], *material.arguments]
    if name == "stack":
        command.append(str(folder / "stack"))
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name} failed with status {done.returncode}")
    return Outcome(**json.loads(done.stdout.strip().splitlines()[-1]))


def _arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--repeat", type=int, default=3, help="repetitions of each contender [3]")
    parser.add_argument("--skip", action="append", default=[], choices=CONTENDERS[1:], help="leave one out")
    parser.add_argument(
        "--folder", type=Path, default=ROOT / ".deepdefend" / "bench", help="clip and weights"
    )
    parser.add_argument(
        "--results", type=Path, default=ROOT / "bench" / "results", help="where the table goes"
    )
    return parser.parse_args(argv)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
