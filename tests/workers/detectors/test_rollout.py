"""Attention rollout against its definition, and what a real ViT gives through the detector."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from core.config import ModelSettings
from core.domain import Modality
from core.evidence import CROP_SIDE
from tests.checkpoints import edit_json, make_image_checkpoint
from workers.detectors import rollout
from workers.detectors.base import FrameDetector
from workers.detectors.checkpoint import Wish
from workers.detectors.hf_image import HuggingFaceImageDetector

GENERATOR = np.random.default_rng(4)


def layers(count: int, heads: int, tokens: int, pictures: int = 2) -> list[torch.Tensor]:
    """Attention of random strength: rows that sum to 1."""
    raw = torch.from_numpy(GENERATOR.normal(scale=2, size=(count, pictures, heads, tokens, tokens)))
    return list(raw.float().softmax(-1))


def by_definition(
    attentions: list[torch.Tensor], picture: int
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Equation 1 of the paper, in plain matrices: the class token's row of the product of all layers."""
    product = np.eye(attentions[0].shape[-1])
    for layer in attentions:
        mean = layer[picture].numpy().astype(np.float64).mean(0)
        product = (0.5 * mean + 0.5 * np.eye(len(mean))) @ product
    return np.asarray(product[0])


@pytest.mark.parametrize(("count", "heads"), [(1, 1), (3, 1), (4, 3)])
def test_it_is_the_product_of_the_layers(count: int, heads: int) -> None:
    attentions = layers(count, heads, 10)
    found = rollout.rollout(attentions).numpy()
    for picture in range(2):
        np.testing.assert_allclose(found[picture], by_definition(attentions, picture), atol=1e-6)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-5)


def test_a_patch_that_alone_is_looked_at_is_the_peak() -> None:
    attention = torch.full((1, 1, 10, 10), 0.01)
    attention[..., 1 + 5] = 1.0  # patch 5 of 3 x 3: second row, third column
    found = rollout.heat(rollout.rollout([attention / attention.sum(-1, keepdim=True)] * 2), (3, 3))
    assert found.shape == (1, 3, 3)
    assert found[0, 1, 2] == 1
    assert found[0].sum() == 1


def test_an_even_look_is_not_stretched() -> None:
    weights = torch.full((1, 10), 0.1)
    weights[0, 4] *= 1.05
    found = rollout.heat(weights, (3, 3))
    assert 0 < found.max() < 0.15


def test_heat_over_a_part_lies_in_its_place() -> None:
    found = rollout.whole(torch.ones(2, 3, 3), (0.25, 0.125, 0.75, 0.875), (16, 16))
    expected = np.zeros((16, 16))
    expected[4:12, 2:14] = 1
    np.testing.assert_array_equal(found[1].numpy(), expected)


def detector(folder: Path) -> FrameDetector:
    wish = Wish.of(Modality.VIDEO, ModelSettings(video=str(folder), batch_size=4), allow_test=True)
    return HuggingFaceImageDetector(HuggingFaceImageDetector.locate(wish), wish)


def crops(count: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return GENERATOR.integers(0, 256, (count, CROP_SIDE, CROP_SIDE, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> FrameDetector:
    return detector(make_image_checkpoint(tmp_path_factory.mktemp("checkpoints") / "vit"))


def test_a_vision_transformer_says_where_it_looked(vit: FrameDetector) -> None:
    found = vit.attention(crops(8))  # more than one batch
    assert found is not None
    assert found.shape == (8, 4, 4)
    assert found.dtype == np.float32
    assert found.min() >= 0
    assert found.max() <= 1
    assert not np.allclose(found[0], found[1])


def test_one_picture_looks_the_same_alone_and_in_company(vit: FrameDetector) -> None:
    pictures = crops(3)
    together, alone = vit.attention(pictures), vit.attention(pictures[1:2])
    assert together is not None
    assert alone is not None
    np.testing.assert_allclose(together[1], alone[0], atol=1e-4)


def test_the_fast_kernel_is_back_afterwards_and_scores_are_the_same(vit: FrameDetector) -> None:
    pictures = crops(2)
    before = vit.scores(pictures)
    vit.attention(pictures)
    assert vit.model.config._attn_implementation == "sdpa"  # type: ignore[attr-defined]
    np.testing.assert_array_equal(vit.scores(pictures), before)


def test_also_when_the_pass_is_stopped(vit: FrameDetector) -> None:
    class Canceled(Exception):
        pass

    calls = []

    def cancel() -> None:
        calls.append(1)
        if len(calls) > 3:
            raise Canceled

    with pytest.raises(Canceled):
        vit.attention(crops(1), checkpoint=cancel)
    assert vit.model.config._attn_implementation == "sdpa"  # type: ignore[attr-defined]


def test_of_a_centre_crop_the_edges_stay_dark(tmp_path: Path) -> None:
    recipe = {"do_center_crop": True, "crop_size": {"height": 32, "width": 32}, "size": {"shortest_edge": 64}}
    found = detector(make_image_checkpoint(tmp_path / "vit", preprocessor=recipe)).attention(crops(1))
    assert found is not None
    assert found.shape == (1, CROP_SIDE, CROP_SIDE)
    inner = found[0, 64:192, 64:192]
    assert inner.max() > 0
    assert found.sum() == pytest.approx(float(inner.sum()))


def test_other_architectures_cannot_tell(tmp_path: Path) -> None:
    from transformers import SwinConfig, SwinForImageClassification  # noqa: PLC0415 - seconds of import

    folder = make_image_checkpoint(tmp_path / "swin")
    shape = {"image_size": 32, "patch_size": 4, "embed_dim": 8, "depths": [1, 1], "num_heads": [1, 1]}
    model = SwinForImageClassification(SwinConfig.from_dict({**shape, "window_size": 4, "num_labels": 2}))
    model.save_pretrained(folder)
    labels = {"0": "Real", "1": "Fake"}
    edit_json(folder / "config.json", id2label=labels, deepdefend_test_only=True)
    swin = detector(folder)
    assert len(swin.scores(crops(1))) == 1
    assert swin.attention(crops(1)) is None
