from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from training.blend_trace import __main__ as command
from training.blend_trace import cells, measure, rules
from training.blend_trace.cells import Way
from training.blend_trace.codecs import Codec
from training.blend_trace.faces import Group, Part, Portrait, split
from training.blend_trace.fit import FROZEN, Plan, fit, many_pairs, upper
from training.blend_trace.swap import Blending
from workers.detectors.blend_trace import Card
from workers.detectors.blend_trace_network import Network

QUICK = (
    "--pairs",
    "4",
    "--steps",
    "2",
    "--late",
    "2",
    "--batch",
    "2",
    "--side",
    "32",
    "--processes",
    "1",
    "--no-tables",
)


def test_one_command_makes_weights_that_load(people: Path, tmp_path: Path) -> None:
    asked = ["--faces", str(people), "--out", str(tmp_path), "--version", "tried", *QUICK]
    assert command.main(asked) == 0
    network, card = measure.opened(tmp_path)
    assert card.version == "tried"
    assert card.side == network.side == 32


def test_training_moves_the_loss_down() -> None:
    rng = np.random.default_rng(0)
    made = rng.integers(0, 60, (2, 24, 64, 64, 3), dtype=np.uint8)
    made[1] += 120  # fakes that a blind man could tell
    trained = fit(made, Plan(steps=12, late=4, batch=8, side=32, rate=3e-3), None)
    with torch.inference_mode():
        real, fake = (trained(torch.from_numpy(side))[0].mean() for side in made)
    assert fake > real + 0.2


def test_late_steps_leave_the_lower_blocks_alone() -> None:
    made = np.random.default_rng(0).integers(0, 255, (2, 4, 64, 64, 3), dtype=np.uint8)
    torch.manual_seed(1)
    network = Network(32).eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    after = upper(network, made, Plan(late=3, batch=2, side=32)).state_dict()
    low = ("stem.", *(f"blocks.{n}." for n in range(FROZEN)))
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert changed
    assert not [name for name in changed if name.startswith(low)]


def test_one_process_makes_what_the_seed_says(portrait: Portrait) -> None:
    first, again = (many_pairs([portrait], 2, 5, 1) for _ in range(2))
    assert np.array_equal(first, again)


@pytest.fixture(scope="module")
def measured(gathered: list[Portrait]) -> list[measure.Cell]:
    """The tables of a network that knows nothing, two ways of storing."""
    torch.manual_seed(3)
    network = Network(32).eval()
    card = Card(version="t", side=32, threshold=0.5, min_face_pixels=48, max_distance=1e9)
    ways = [Way("as it is"), Way("WebP 60", 0.8, codec=Codec.WEBP, quality=60)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "CONTROL_PAIRS", 4)
        patch.setattr(measure, "ROUNDS", 50)
        return measure.measure(gathered, network, card, ways)


def test_a_cell_for_each_way_and_blending(measured: list[measure.Cell]) -> None:
    assert [(one.way, one.blending) for one in measured] == [
        (way, blending.value) for way in ("as it is", "WebP 60") for blending in Blending
    ]
    assert [one.unseen for one in measured] == [False, False, True, True]
    for one in measured:
        assert one.real == 2
        assert one.fake >= 2
        for value, low, high in (one.auc, one.alarms, one.recall, one.margin):
            assert low - 1e-9 <= value <= high + 1e-9
            assert -1 <= low <= high <= 1


def test_the_tables_are_markdown_and_json(measured: list[measure.Cell]) -> None:
    text = measure.markdown(measured)
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(rows) == 1 + len(measured)
    assert {line.count("|") for line in rows} == {9}
    assert sum("WebP 60 *" in line for line in rows) == 2


def test_only_test_people_are_in_the_tables(gathered: list[Portrait]) -> None:
    parts = split(gathered, measure.SEED)
    seen = list(cells.cells(parts[Part.TEST], [Way("as it is")]))
    assert {one.person for one in seen} == {one.person for one in parts[Part.TEST]}
    assert {one.blending for one in seen} == {None, *Blending}
    assert all(one.crop.shape == (256, 256, 3) and one.group is Group.PORTRAIT for one in seen)


def test_weights_of_people_are_repetitions() -> None:
    """A person drawn twice counts as two; the weighted AUC is that of the repeated crops."""
    rng = np.random.default_rng(0)
    real, fake = rng.integers(0, 5, 12) / 4, rng.integers(1, 6, 9) / 4
    a, b = rng.integers(0, 3, 12), rng.integers(0, 3, 9)
    repeated = measure.weighted_auc(
        np.repeat(real, a), np.ones(a.sum()), np.repeat(fake, b), np.ones(b.sum())
    )
    got = measure.weighted_auc(real, a.astype(float), fake, b.astype(float))
    assert got == pytest.approx(repeated)


def test_measuring_again_prints_the_same(
    people: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(3)
    card = Card(version="t", side=32, threshold=0.5, min_face_pixels=48, max_distance=1e9)
    rules.save(Network(32), card, tmp_path)
    target = tmp_path / "cells.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "CONTROL_PAIRS", 2)
        patch.setattr(measure, "ROUNDS", 5)
        patch.setattr(measure, "WAYS", (Way("face of 96 px", box=96),))
        asked = ["--faces", str(people), "--weights", str(tmp_path), "--json", str(target)]
        assert measure.main(asked) == 0
    printed = capsys.readouterr().out
    told = json.loads(target.read_text())
    assert "face of 96 px" in printed
    assert told["card"]["version"] == "t"
    assert len(told["cells"]) == 2
