"""Judge the log of `make test`: did tests run, did they pass, and was any skipped that could have run.

The last line printed is pytest's own closing line, so that whoever reads only that sees the truth.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

COLOURS = re.compile(r"\x1b\[[0-9;]*m")
CLOSING = re.compile(r"^=* ?((?:\d+ [a-z]+(?:, )?)+ in [\d.]+s(?: \([\d:]+\))?) ?=*$")
SKIPPED = re.compile(r"^SKIPPED \[(\d+)\] (.*)$")
#: The one excuse: media that are not part of the project.
EXCUSE = re.compile(r"\bshared\b")


def count(closing: str, word: str) -> int:
    """How many tests a closing line says ended in `word`."""
    found = re.search(rf"(\d+) {word}", closing)
    return int(found[1]) if found else 0


def faults(lines: list[str], closings: list[str], *, status: int, shared: bool) -> list[str]:
    """What speaks against this run; empty when nothing does."""
    found = []
    if status:
        found.append(f"make test ended with {status}")
    if not sum(count(closing, "passed") for closing in closings):
        found.append("no test ran")
    skips = [match for line in lines if (match := SKIPPED.match(line))]
    found += [f"skipped: {skip[2]}" for skip in skips if shared or not EXCUSE.search(skip[2])]
    said = sum(count(closing, "skipped") for closing in closings)
    if said != sum(int(skip[1]) for skip in skips):
        found.append(f"{said} tests were skipped, but the log does not say each one's reason (pytest -ra)")
    return found


def main(arguments: list[str] | None = None) -> int:
    """0 when the run stands, 1 when it does not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("log", type=Path)
    parser.add_argument("--status", type=int, required=True, help="exit status of make test")
    parser.add_argument("--shared", type=Path, required=True, help="folder of media outside the project")
    given = parser.parse_args(arguments)
    text = COLOURS.sub("", given.log.read_text(errors="replace"))
    lines = [line.rstrip() for line in text.splitlines()]
    closings = [line for line in lines if CLOSING.match(line)]
    found = faults(lines, closings, status=given.status, shared=given.shared.is_dir())
    for fault in found:
        sys.stdout.write(f"CI: {fault}\n")
    if closings:
        sys.stdout.write(f"{closings[-1]}\n")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
