"""The tables of the model card, made again from the weights and the data.

`python -m training.blend_trace.measure --faces DIR --clips DIR` prints Markdown.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from training.blend_trace.cells import WAYS, Seen, Way, cells, crops_of
from training.blend_trace.faces import Group, Part, Portrait, gather, split
from training.blend_trace.fit import pairs
from training.blend_trace.rules import ask
from training.blend_trace.shortcut import Shortcut, fit_shortcut, statistics
from training.blend_trace.swap import Blending
from workers.detectors import store
from workers.detectors.blend_trace import WEIGHTS, Card, card_of, located
from workers.detectors.blend_trace_network import Network
from workers.media.crops import MIN_FACE_PIXELS

#: Resamplings of the test people for the intervals, and what lies between their ends.
ROUNDS, WITHIN = 1000, 0.95
#: Pairs of training people that the control learns from.
CONTROL_PAIRS: Final = 600
SEED: Final = 7

Values = NDArray[np.float64]
Interval = tuple[float, float, float]  #: value, low, high


@dataclass(frozen=True)
class Cell:
    """One row of the tables."""

    group: str
    blending: str
    way: str
    unseen: bool  #: training never met the codec
    real: int
    fake: int
    auc: Interval  #: of all crops, whether it abstains or not
    shortcut: float  #: the AUC of the control
    margin: Interval  #: AUC above that of the control
    alarms: Interval  #: share of real crops above the threshold; abstaining is no alarm
    recall: Interval  #: share of fakes above the threshold; abstaining is no recall
    abstained: float  #: share of the real crops


@dataclass(frozen=True)
class Marks:
    """What is known of each crop of one class in one cell."""

    people: NDArray[np.int64]
    score: Values
    control: Values
    alarm: Values  #: 0 or 1

    def weights(self, counts: Values) -> Values:
        """How often each crop is in, when each person is in `counts` times."""
        return np.asarray(counts[self.people], np.float64)


def measure(
    faces: Sequence[Portrait], network: Network, card: Card, ways: Sequence[Way] | None = None
) -> list[Cell]:
    """Every cell, from people that neither weights nor threshold have seen."""
    parts = split(faces, SEED)
    control = control_of(parts[Part.TRAIN])
    found: list[Cell] = []
    for way in WAYS if ways is None else ways:
        seen = list(cells(parts[Part.TEST], [way]))
        found += _of_way(seen, way, network, card, control)
    return found


def control_of(faces: Sequence[Portrait]) -> Shortcut:
    """The control, fitted to the same kind of pairs as the network."""
    real, fake = pairs(faces, CONTROL_PAIRS, SEED + 11)
    sizes = [MIN_FACE_PIXELS] * len(real)  # a pair has one size: it cannot tell the two apart
    return fit_shortcut(
        *(
            np.stack([statistics(crop, size) for crop, size in zip(side, sizes, strict=True)])
            for side in (real, fake)
        )
    )


def _of_way(seen: Sequence[Seen], way: Way, network: Network, card: Card, control: Shortcut) -> list[Cell]:
    scores, distances, _ = ask(network, crops_of(seen))
    boxes = np.array([one.box for one in seen])
    inside = (boxes >= card.min_face_pixels) & (distances <= card.max_distance)
    alarms = (scores >= card.threshold) & inside
    simple = control.scores(np.stack([statistics(one.crop, one.box) for one in seen]))
    found = []
    for group in Group:
        for blending in Blending:
            rows = [
                np.array([n for n, one in enumerate(seen) if one.group is group and one.blending is kind])
                for kind in (None, blending)
            ]
            if all(len(row) for row in rows):
                people = sorted({seen[n].person for row in rows for n in row})
                marks = [
                    Marks(
                        np.array([people.index(seen[n].person) for n in row]),
                        scores[row],
                        simple[row],
                        alarms[row].astype(np.float64),
                    )
                    for row in rows
                ]
                outside = float(1 - inside[rows[0]].mean())
                found.append(_cell(group, blending, way, marks, outside))
    return found


def _cell(group: Group, blending: Blending, way: Way, marks: Sequence[Marks], abstained: float) -> Cell:
    real, fake = marks
    count = int(max(real.people.max(), fake.people.max())) + 1
    rng = np.random.default_rng(SEED)
    draws = [
        np.ones(count),
        *(np.bincount(rng.integers(0, count, count), minlength=count) for _ in range(ROUNDS)),
    ]
    rows = np.array([_figures(real, fake, np.asarray(draw, np.float64)) for draw in draws])
    ours, simple, margin, alarms, recall = (_interval(column) for column in rows.T)
    return Cell(
        group.value, blending.value, way.name, way.unseen, len(real.score), len(fake.score), ours, simple[0],
        margin, alarms, recall, round(abstained, 4),
    )  # fmt: skip


def _figures(real: Marks, fake: Marks, counts: Values) -> tuple[float, ...]:
    """AUC, the control's AUC, their difference, alarms and recall of one resampling."""
    a, b = real.weights(counts), fake.weights(counts)
    ours = weighted_auc(real.score, a, fake.score, b)
    simple = weighted_auc(real.control, a, fake.control, b)
    return ours, simple, ours - simple, float(a @ real.alarm / a.sum()), float(b @ fake.alarm / b.sum())


def weighted_auc(real: Values, a: Values, fake: Values, b: Values) -> float:
    """How often a fake scores above a real one when each counts as often as its weight; ties count half."""
    order = np.argsort(real)
    ordered, below = real[order], np.concatenate([[0.0], np.cumsum(a[order])])
    under, upto = (below[np.searchsorted(ordered, fake, side=side)] for side in ("left", "right"))
    return float(b @ (under + upto) / 2 / (a.sum() * b.sum()))


def _interval(column: Values) -> Interval:
    low, high = np.nanquantile(column[1:], [(1 - WITHIN) / 2, (1 + WITHIN) / 2])
    return round(float(column[0]), 4), round(float(low), 4), round(float(high), 4)


def markdown(found: Sequence[Cell]) -> str:
    """The cells as one table a group; percentages without the sign."""
    lines = []
    for group in sorted({one.group for one in found}):
        own = [one for one in found if one.group == group]
        lines += [
            f"### {group.capitalize()}s", "",
            "| stored as | blending | AUC | control | above it | false alarms % | recall % | abstained % |",
            "|---|---|---|---|---|---|---|---|",
        ]  # fmt: skip
        for one in own:
            mark = " *" if one.unseen else ""
            numbers = " | ".join((
                _shown(one.auc, 3), f"{one.shortcut:.3f}", _shown(one.margin, 3), _percent(one.alarms),
                _percent(one.recall), f"{100 * one.abstained:.0f}",
            ))  # fmt: skip
            lines.append(f"| {one.way}{mark} | {one.blending} | {numbers} |")
        lines.append("")
    return "\n".join(lines)


def _shown(value: Interval, digits: int) -> str:
    middle, low, high = (f"{part:.{digits}f}" for part in value)
    return f"{middle} ({low} to {high})"


def _percent(value: Interval) -> str:
    middle, low, high = (f"{100 * part:.0f}" for part in value)
    return f"{middle} ({low} to {high})"


def opened(folder: Path) -> tuple[Network, Card]:
    """The network and card of a folder of weights."""
    card = card_of(located(folder))
    network = Network(card.side)
    network.load_state_dict(
        {name: value.float() for name, value in load_file(folder / store.WEIGHTS).items()}
    )
    return network.eval(), card


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables; exit status 0."""
    parser = argparse.ArgumentParser(prog="python -m training.blend_trace.measure", description=__doc__)
    parser.add_argument("--faces", type=Path, required=True, help="folder of portraits")
    parser.add_argument("--clips", type=Path, help="folder of clips, one person each")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="folder of weights")
    parser.add_argument("--json", type=Path, help="also write the cells here")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    network, card = opened(given.weights)
    found = measure(gather(given.faces, given.clips), network, card)
    if given.json:
        told: Mapping[str, object] = {"card": card.model_dump(), "cells": [asdict(one) for one in found]}
        given.json.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    print(markdown(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
