"""`python -m chaos`: one run; the table on stdout, what happens on stderr. Exit status 1 on any violation."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from chaos import flower, table
from chaos.run import Wish, run


def main(argv: Sequence[str] | None = None) -> int:
    """Run and report."""
    asked = _arguments(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # whoever ends the run ends its stack
    wish = Wish(
        jobs=asked.jobs,
        seconds=asked.seconds,
        seed=asked.seed if asked.seed is not None else int(time.time()),
        settle_seconds=asked.settle,
    )
    began = time.monotonic()

    def say(line: str) -> None:
        sys.stderr.write(f"{time.monotonic() - began:7.1f} {line}\n")
        sys.stderr.flush()

    folder = asked.keep or Path(tempfile.mkdtemp(prefix="deepdefend-chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    outcome = run(wish, folder, say, lambda stack: flower.picture(stack.flower_url, asked.flower, say))
    print(table.text(wish, outcome))
    if asked.json:
        asked.json.write_text(table.as_json(wish, outcome))
    if outcome.holds and not asked.keep:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        say(f"logs and data are in {folder}")
    return 0 if outcome.holds else 1


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    parser.add_argument("--jobs", type=int, default=500, help="submissions [500]")
    parser.add_argument("--seconds", type=float, default=600, help="how long the monkey rages [600]")
    parser.add_argument("--seed", type=int, help="of plan and monkey [the time]")
    parser.add_argument("--settle", type=float, default=900, help="seconds for what is left after it [900]")
    parser.add_argument("--keep", type=Path, help="use this folder, and keep it")
    parser.add_argument("--json", type=Path, help="write everything to this file too")
    parser.add_argument("--flower", type=Path, help="take a picture of Flower half-way, with chromium")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
