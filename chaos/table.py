"""What a run prints."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Final

from chaos.run import Outcome, Wish

SHOWN: Final = 10  # of what breaks one promise


def text(wish: Wish, outcome: Outcome) -> str:
    """The invariants as a table, then the figures."""
    return "\n".join(_lines(wish, outcome))


def _lines(wish: Wish, outcome: Outcome) -> Iterator[str]:
    yield f"chaos run: {wish.jobs} jobs, monkey for {wish.seconds:.0f} s, seed {wish.seed}"
    yield ""
    width = max(len(finding.promise) for finding in outcome.findings)
    looked = max(len(finding.looked_at) for finding in outcome.findings)
    for finding in outcome.findings:
        answer = "holds" if finding.holds else f"BROKEN ({len(finding.broken)})"
        yield f"| {finding.promise:{width}} | {finding.looked_at:{looked}} | {answer:12} |"
        for broken in finding.broken[:SHOWN]:
            yield f"|   {broken}"
    if not outcome.settled:
        yield f"| NOT SETTLED within {wish.settle_seconds:.0f} s"
    yield ""
    for name, counts in outcome.figures.items():
        yield f"{name}: " + (", ".join(f"{what} {n}" for what, n in counts.items()) or "none")
    ended = sum(outcome.figures.get("endings", {}).values())
    yield f"{ended} analyses in {outcome.seconds:.0f} s: {60 * ended / max(outcome.seconds, 1):.1f} a minute"
    yield "(test checkpoints with random weights: no score of this run means anything)"


def as_json(wish: Wish, outcome: Outcome) -> str:
    """All of it for a machine."""
    document = {
        "jobs": wish.jobs,
        "seconds": wish.seconds,
        "seed": wish.seed,
        "holds": outcome.holds,
        "settled": outcome.settled,
        "took": round(outcome.seconds, 1),
        "findings": [asdict(finding) | {"holds": finding.holds} for finding in outcome.findings],
        "figures": outcome.figures,
        "deeds": [asdict(deed) for deed in outcome.deeds],
    }
    return json.dumps(document, indent=2)
