"""The tensor arithmetic against transformers' own PIL path, and configs that must be refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from core.errors import DetectorUnavailable
from tests.checkpoints import IMAGE_PREPROCESSOR
from workers.detectors import preprocess

IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
SQUARE = {"size": {"height": 224, "width": 224}}
#: The bound of the product: 1e-2 in normalised units.
BOUND = 1e-2
#: What rounding may differ by, in grey levels: PIL's fixed point has more digits than torch's.
LEVELS = {2: 1, 3: 2}


def pictures(height: int = 256, width: int = 256) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A smooth picture, noise, and hard edges: what resampling gets wrong shows in one of them."""
    rng = np.random.default_rng(7)
    y, x = np.mgrid[:height, :width]
    smooth = np.stack([y % 256, x % 256, (x + y) % 256], -1)
    noise = rng.integers(0, 256, (height, width, 3))
    edges = np.repeat((((x // 5) + (y // 7)) % 2 * 255)[..., None], 3, -1)
    return np.stack([smooth, noise, edges]).astype(np.uint8)


def theirs(crops: np.ndarray[Any, np.dtype[np.uint8]], config: dict[str, Any]) -> torch.Tensor:
    options = {key: value for key, value in config.items() if not key.endswith("_type")}
    processor: Any = ViTImageProcessorPil(**options)
    return torch.from_numpy(np.stack(processor(images=list(crops))["pixel_values"])).float()


def ours(crops: np.ndarray[Any, np.dtype[np.uint8]], config: dict[str, Any]) -> torch.Tensor:
    return preprocess.apply(torch.from_numpy(crops), preprocess.recipe(config, "x"))


@pytest.mark.parametrize(
    "change",
    [
        SQUARE,
        {**SQUARE, **IMAGENET},
        {**SQUARE, "resample": 3},
        {"size": {"height": 384, "width": 384}},
        {"size": {"height": 384, "width": 384}, "resample": 3, **IMAGENET},
        {"size": {"height": 97, "width": 131}},
        {"size": {"height": 256, "width": 256}},
        {**SQUARE, "do_normalize": False},
        {**SQUARE, "do_rescale": False, "do_normalize": False},
        {**SQUARE, "rescale_factor": 1 / 127.5, "image_mean": [1.0] * 3, "image_std": [1.0] * 3},
        {"do_resize": False},
        {"size": {"shortest_edge": 240}, "do_center_crop": True, "crop_size": {"height": 224, "width": 224}},
        {"do_resize": False, "do_center_crop": True, "crop_size": {"height": 300, "width": 281}},
    ],
)
def test_it_agrees_with_the_pil_path(change: dict[str, Any]) -> None:
    config = {**IMAGE_PREPROCESSOR, **change}
    expected, found = theirs(pictures(), config), ours(pictures(), config)
    assert found.shape == expected.shape
    difference = (found - expected).abs()
    level = (config["rescale_factor"] if config["do_rescale"] else 1) / (
        min(config["image_std"]) if config["do_normalize"] else 1
    )
    assert float(difference.max()) <= LEVELS[config["resample"]] * level * 1.001
    assert float(difference.mean()) <= 0.1 * level
    if config["resample"] == 2 and config["image_std"] == [0.5] * 3 and config["do_rescale"]:
        assert float(difference.max()) <= BOUND


def test_a_shape_that_is_kept_agrees_for_pictures_that_are_no_squares() -> None:
    config = {**IMAGE_PREPROCESSOR, "size": {"shortest_edge": 100}}
    for height, width in ((180, 257), (257, 180)):
        expected, found = (make(pictures(height, width), config) for make in (theirs, ours))
        assert found.shape == expected.shape
        assert float((found - expected).abs().max()) <= BOUND


@pytest.mark.parametrize("resample", [2, 3])
def test_the_path_of_other_devices_agrees_with_the_one_of_the_cpu(resample: int) -> None:
    """CUDA has no antialiased resize of bytes, so it is done in float32 and rounded."""
    config = {**IMAGE_PREPROCESSOR, **SQUARE, "resample": resample}
    steps = preprocess.recipe(config, "x")
    source = torch.from_numpy(pictures()).permute(0, 3, 1, 2)
    on_cpu = preprocess._resized(source, steps).float()
    elsewhere = preprocess._resized(source.float(), steps)
    difference = (on_cpu - elsewhere).abs()
    assert float(difference.max()) <= 2
    assert float(difference.mean()) < 0.1


def test_the_antialias_matters() -> None:
    """Were it left out, the bound would be broken fifty times over: the test above can fail."""
    config = {**IMAGE_PREPROCESSOR, "size": {"height": 64, "width": 64}}
    plain = torch.nn.functional.interpolate(
        torch.from_numpy(pictures()).permute(0, 3, 1, 2).float(), size=(64, 64), mode="bilinear"
    )
    wrong = plain / 127.5 - 1
    assert float((wrong - theirs(pictures(), config)).abs().max()) > 50 * BOUND


@pytest.mark.parametrize(
    ("value", "resize", "edge"),
    [(224, (224, 224), None), ({"height": 1, "width": 2}, (1, 2), None), ({"shortest_edge": 5}, None, 5)],
)
def test_every_way_to_write_a_size_is_read(value: Any, resize: Any, edge: Any) -> None:
    steps = preprocess.recipe({**IMAGE_PREPROCESSOR, "size": value}, "x")
    assert (steps.resize, steps.shortest_edge) == (resize, edge)


def test_an_old_vit_config_is_filled_up_with_the_defaults_of_its_class() -> None:
    steps = preprocess.recipe({"feature_extractor_type": "ViTFeatureExtractor", "size": 224}, "x")
    assert steps.mean == (0.5, 0.5, 0.5)
    assert steps.resize == (224, 224)
    assert steps.factor == pytest.approx(1 / 255)


@pytest.mark.parametrize("key", ["size", "image_mean", "image_std", "resample"])
def test_what_an_unknown_class_leaves_out_is_not_guessed(key: str) -> None:
    config = {**IMAGE_PREPROCESSOR, **SQUARE, "image_processor_type": "SomeImageProcessor"}
    del config[key]
    with pytest.raises(DetectorUnavailable, match=key) as caught:
        preprocess.recipe(config, "x")
    assert caught.value.code == "unsupported_checkpoint"


@pytest.mark.parametrize(
    "change",
    [
        {"resample": 0},
        {"resample": 1},
        {"resample": 99},
        {"resample": "bilinear"},
        {"size": {"longest_edge": 5}},
        {"size": {"height": 224}},
        {"size": None},
        {"size": "big"},
        {"image_mean": [0.5, 0.5]},
        {"image_mean": "grey"},
        {"image_std": None},
        {"rescale_factor": "x"},
        {"do_flip_channel_order": True},
        {"rescale_offset": True},
        {"include_top": True},
        {"do_pad": True},
        {"crop_pct": 0.875},
        {"do_center_crop": True},
        {"do_center_crop": True, "crop_size": {"shortest_edge": 3}},
        {"size": {"height": 0, "width": 224}},
        {"size": {"height": -3, "width": 224}},
        {"size": {"height": 100000, "width": 100000}},
        {"image_std": [0.5, 0, 0.5]},
        {"image_mean": [0.5, float("nan"), 0.5]},
    ],
)
def test_a_preparation_that_is_not_done_here_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(DetectorUnavailable) as caught:
        preprocess.recipe({**IMAGE_PREPROCESSOR, **SQUARE, **change}, "x")
    assert caught.value.code == "unsupported_checkpoint"
