from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from training.blend_trace import rules
from training.blend_trace.faces import Group, Part, Portrait
from training.blend_trace.measure import opened
from workers.detectors.blend_trace import Card
from workers.detectors.blend_trace_network import Network

CARD = Card(version="t", side=32, threshold=0.6, min_face_pixels=50, max_distance=3)


@pytest.fixture
def network() -> Network:
    torch.manual_seed(0)
    return Network(32).eval()


@pytest.mark.parametrize("seed", range(3))
def test_the_auc_counts_pairs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    real, fake = rng.integers(0, 6, 30) / 5, rng.integers(1, 7, 20) / 5
    wins = [(f > r) + 0.5 * (f == r) for f in fake for r in real]
    assert rules.auc(real, fake) == pytest.approx(np.mean(wins))


def test_weights_come_back_as_they_were_written(network: Network, tmp_path: Path) -> None:
    network.centre.fill_(0.25)
    rules.save(network, CARD, tmp_path)
    again, card = opened(tmp_path)
    assert card == CARD
    crops = np.random.default_rng(0).integers(0, 256, (2, 256, 256, 3), dtype=np.uint8)
    for before, after in zip(rules.ask(network, crops), rules.ask(again, crops), strict=True):
        assert after == pytest.approx(before, rel=0.05, abs=0.01)  # filters were rounded to half precision
    assert torch.equal(again.centre, network.centre)
    assert (tmp_path / "model.safetensors").stat().st_size < 2_000_000


def test_what_was_seen_lies_at_about_one_and_the_rest_far_away(network: Network) -> None:
    rng = np.random.default_rng(1)
    seen = (rng.normal(size=(1000, 112)) @ rng.normal(size=(112, 112))).astype(np.float32)
    rules._whiten(network, seen)
    with torch.inference_mode():
        near = network.distance(torch.from_numpy(seen)).numpy()
        far = network.distance(torch.from_numpy(seen * 10)).numpy()
    assert near.mean() == pytest.approx(1, abs=0.15)
    assert far.min() > near.max()


def test_what_never_moves_does_not_break_the_distance(network: Network) -> None:
    seen = np.random.default_rng(2).normal(size=(500, 112)).astype(np.float32)
    seen[:, 7] = 3.0  # a channel that ReLU6 holds at one value
    rules._whiten(network, seen)
    with torch.inference_mode():
        assert torch.isfinite(network.distance(torch.from_numpy(seen))).all()


def test_threshold_and_domain_come_from_the_validation_people(
    network: Network, portrait: Portrait, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[set[str]] = []
    names = {
        part: Portrait(part.value, Group.PORTRAIT, portrait.picture, portrait.face, None) for part in Part
    }

    def noted(
        faces: list[Portrait], count: int, seed: int
    ) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        asked.append({one.person for one in faces})
        return np.random.default_rng(seed).integers(0, 256, (2, count, 256, 256, 3), dtype=np.uint8)

    monkeypatch.setattr(rules, "pairs", noted)
    parts = {part: [one] for part, one in names.items()}
    card = rules.settle(network, parts, version="v", seed=1, count=6)
    assert asked == [{"train"}, {"validation"}]
    assert card.version == "v"
    assert card.threshold >= 0.5
    assert card.min_face_pixels in rules.BOXES
    assert card.max_distance > 0


def test_the_size_rule_is_the_smallest_size_that_works(
    network: Network, portrait: Portrait, monkeypatch: pytest.MonkeyPatch
) -> None:
    def at(_: object, box: float, __: int) -> tuple[object, object]:
        return ("real", box), ("fake", box)

    def told(
        _: Network, crops: tuple[str, float]
    ) -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.float64]], ...]:
        kind, box = crops
        score = 0.9 if kind == "fake" else (0.1 if box >= 64 else 0.95)
        return (np.full(40, score),)

    monkeypatch.setattr(rules, "_at", at)
    monkeypatch.setattr(rules, "ask", told)
    assert rules._smallest(network, [portrait], 0.5, 1) == 64
    assert rules._smallest(network, [portrait], 0.05, 1) == rules.BOXES[-1]  # everything would be an alarm
