"""`python -m training.blend_trace --faces DIR --out DIR`: makes the weights again and measures them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from training.blend_trace import measure, rules
from training.blend_trace.faces import Part, gather, split
from training.blend_trace.fit import Plan, fit, many_pairs

#: Validation pairs a group, and half the training pairs that the domain is told by.
WATCHED_PAIRS = 300


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, settle threshold and domain, write three files, print the tables; exit status 0."""
    usual = Plan()
    parser = argparse.ArgumentParser(prog="python -m training.blend_trace", description=__doc__)
    parser.add_argument("--faces", type=Path, required=True, help="folder of portraits, PERSON_anything.jpg")
    parser.add_argument("--clips", type=Path, help="folder of clips, one person each")
    parser.add_argument("--start", type=Path, help="EfficientNet-Lite0's ImageNet weights, a .pth file")
    parser.add_argument("--out", type=Path, required=True, help="where the three files go")
    parser.add_argument("--version", default="local", help="what the weights are called")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--no-tables", action="store_true", help="end when the files are written")
    for name in ("pairs", "steps", "late", "batch", "side", "seed"):
        parser.add_argument(f"--{name}", type=int, default=getattr(usual, name))
    given = parser.parse_args(arguments)
    plan = Plan(
        pairs=given.pairs,
        steps=given.steps,
        late=given.late,
        batch=given.batch,
        side=given.side,
        seed=given.seed,
    )
    torch.set_num_threads(max(1, given.processes))
    faces = gather(given.faces, given.clips)
    parts = split(faces, measure.SEED)
    made = many_pairs(parts[Part.TRAIN], plan.pairs, plan.seed, given.processes)
    network = fit(made, plan, given.start)
    count = min(WATCHED_PAIRS, plan.pairs)
    card = rules.settle(network, parts, version=given.version, seed=plan.seed, count=count)
    rules.save(network, card, given.out)
    print(card.model_dump_json(indent=2))
    if not given.no_tables:
        print(measure.markdown(measure.measure(faces, *measure.opened(given.out))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
