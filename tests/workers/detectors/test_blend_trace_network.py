from __future__ import annotations

import numpy as np
import pytest
import torch

from workers.detectors.blend_trace_network import BLOCKS, Block, Network, from_imagenet


@pytest.fixture(scope="module")
def network() -> Network:
    torch.manual_seed(1)
    return Network(64).eval()


def test_a_crop_gives_one_logit_and_one_distance(network: Network) -> None:
    crops = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 256, 256, 3), dtype=np.uint8))
    with torch.inference_mode():
        logits, distances = network(crops)
        alone = network(crops[1:2])
    assert logits.shape == distances.shape == (3,)
    assert torch.allclose(logits[1:2], alone[0], atol=1e-4)
    assert torch.allclose(distances[1:2], alone[1], rtol=1e-4)


def test_crops_of_any_size_become_the_side_it_sees(network: Network) -> None:
    for side in (64, 96, 256):
        grey = torch.full((1, side, side, 3), 127, dtype=torch.uint8)
        prepared = network.prepare(grey)
        assert prepared.shape == (1, 3, 64, 64)
        assert prepared.abs().max() < 1e-3
    white = network.prepare(torch.full((1, 256, 256, 3), 255, dtype=torch.uint8))
    assert torch.allclose(white, torch.ones_like(white))


def test_the_stride_is_sixteen(network: Network) -> None:
    with torch.inference_mode():
        x = torch.relu(network.stem(torch.zeros(1, 3, 64, 64)))
        for block in network.blocks:
            x = block(x)
    assert x.shape == (1, 112, 4, 4)


def test_a_block_adds_its_input_only_where_shapes_allow() -> None:
    assert Block(16, 3, 1, 6, 16).adds
    assert not Block(16, 3, 2, 6, 16).adds
    assert not Block(16, 3, 1, 6, 24).adds


def test_the_distance_is_that_of_mahalanobis() -> None:
    rng = np.random.default_rng(2)
    mixed = rng.normal(size=(4000, 112)) @ rng.normal(size=(112, 112)) + 3
    centre, spread = mixed.mean(0), np.cov(mixed, rowvar=False)
    torch.manual_seed(0)
    judge = Network(64)
    judge.centre.copy_(torch.from_numpy(centre))
    judge.whitening.copy_(torch.from_numpy(np.linalg.cholesky(np.linalg.inv(spread))))
    some = mixed[:5]
    expected = [np.sqrt((row - centre) @ np.linalg.inv(spread) @ (row - centre) / 112) for row in some]
    with torch.inference_mode():
        got = judge.distance(torch.from_numpy(some).float()).numpy()
    assert got == pytest.approx(expected, rel=1e-3)
    assert np.mean(expected) == pytest.approx(1, abs=0.2)


def published() -> dict[str, torch.Tensor]:
    """Names and shapes as the published EfficientNet-Lite0 has them, with numbers of no meaning."""
    norm = ("weight", "bias", "running_mean", "running_var")
    made = {"_conv_stem.weight": torch.rand(32, 3, 3, 3), "_fc.weight": torch.rand(1000, 1280)}
    made |= {f"_bn0.{name}": torch.rand(32) for name in norm}
    made |= {f"_bn1.{name}": torch.rand(1280) for name in norm}
    before = 32
    for n, (kernel, _, expansion, after) in enumerate([*BLOCKS, (5, 2, 6, 192)]):
        wide = before * expansion
        if expansion > 1:
            made[f"_blocks.{n}._expand_conv.weight"] = torch.rand(wide, before, 1, 1)
            made |= {f"_blocks.{n}._bn0.{name}": torch.rand(wide) for name in norm}
        made[f"_blocks.{n}._depthwise_conv.weight"] = torch.rand(wide, 1, kernel, kernel)
        made |= {f"_blocks.{n}._bn1.{name}": torch.rand(wide) for name in norm}
        made[f"_blocks.{n}._project_conv.weight"] = torch.rand(after, wide, 1, 1)
        made |= {f"_blocks.{n}._bn2.{name}": torch.rand(after) for name in norm}
        before = after
    return made


def test_published_weights_fill_all_but_the_head() -> None:
    network = Network(64)
    weights = from_imagenet(published())
    left = network.load_state_dict(weights, strict=False)
    assert left.unexpected_keys == []
    assert {name.partition(".")[0] for name in left.missing_keys} == {"head", "centre", "whitening"}
    assert torch.equal(
        network.state_dict()["blocks.3.depthwise.conv.weight"], weights["blocks.3.depthwise.conv.weight"]
    )
