"""`preprocessor_config.json` of an image checkpoint as tensor arithmetic.

transformers 5 wants torchvision for this and falls back to a slow PIL path without it; the same arithmetic in
torch runs on a whole batch and agrees with the PIL path to 1e-2 at a std of 0.5, which is one grey level (two
for bicubic; tested). What a config does not state is
taken from the defaults of the class it names, and only where that class is known; a step that is not done
here is refused rather than left out, because a wrong input gives a confident wrong score.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import Field, ValidationError

from core.domain import Frozen
from core.errors import DetectorUnavailable

if TYPE_CHECKING:
    import torch

Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
#: No published classifier sees more than 1024 pixels; a config that says 100,000 would fill the memory.
Side = Annotated[int, Field(ge=1, le=2048)]

#: PIL's numbers for what torch does the same way: not Lanczos (1), and nearest (0) breaks ties elsewhere.
RESAMPLING: Final[dict[int, Literal["bilinear", "bicubic"]]] = {2: "bilinear", 3: "bicubic"}
IMAGENET_STANDARD: Final = (0.5, 0.5, 0.5)
#: Defaults of the classes whose configs may leave something out (transformers, image_processing_vit.py).
VIT_DEFAULTS: Final[dict[str, Any]] = {
    "size": {"height": 224, "width": 224},
    "resample": 2,
    "image_mean": IMAGENET_STANDARD,
    "image_std": IMAGENET_STANDARD,
}
VIT_NAMES: Final = {
    name + suffix for name in ("ViTImageProcessor", "ViTFeatureExtractor") for suffix in ("", "Fast", "Pil")
}
#: Steps of other processors that change the pixels: a config that asks for one is refused.
UNKNOWN_STEPS: Final = ("do_flip_channel_order", "rescale_offset", "include_top", "do_pad", "crop_pct")


#: Top, left, bottom, right of what the model is shown, in parts of the crop's sides.
Covered = tuple[float, float, float, float]


class Recipe(Frozen):
    """What happens to a picture before the model sees it, in this order."""

    resize: tuple[Side, Side] | None  #: height, width
    shortest_edge: Side | None  #: instead of `resize`: keep the shape
    resample: int
    crop: tuple[Side, Side] | None  #: height, width of the centre that is kept
    factor: Finite | None  #: multiplies the bytes
    mean: tuple[Finite, Finite, Finite] | None
    std: tuple[Positive, Positive, Positive] | None


def recipe(config: Mapping[str, Any], name: str) -> Recipe:
    """Read a config. Raises DetectorUnavailable (unsupported_checkpoint) for what is not done here."""
    kind = str(config.get("image_processor_type") or config.get("feature_extractor_type") or "")
    stated = {**(VIT_DEFAULTS if kind in VIT_NAMES else {}), **config}
    unknown = [step for step in UNKNOWN_STEPS if stated.get(step)]
    if unknown:
        raise _unsupported(name, f"asks for {', '.join(unknown)}")
    try:
        return _recipe(stated)
    except KeyError as error:
        raise _unsupported(name, f"does not state {error.args[0]}") from error
    except (ValidationError, ValueError, TypeError, AttributeError) as error:
        raise _unsupported(name, "has values that cannot be used here") from error


def apply(crops: torch.Tensor, steps: Recipe) -> torch.Tensor:
    """Crops N x H x W x 3, uint8 -> N x 3 x h x w, float32, as the model wants them."""
    import torch  # noqa: PLC0415

    pictures = _cropped(_resized(crops.permute(0, 3, 1, 2), steps), steps.crop).to(torch.float32)
    if steps.mean is None or steps.std is None:
        return pictures if steps.factor is None else pictures * steps.factor
    factor = 1.0 if steps.factor is None else steps.factor
    mean, std = (torch.tensor(value, device=crops.device).view(3, 1, 1) for value in (steps.mean, steps.std))
    return pictures * (factor / std) - mean / std


def covered(steps: Recipe, height: int, width: int) -> Covered:
    """Which part of a crop of that size the model is shown; all of it unless the centre is cut out."""
    if steps.crop is None:
        return 0.0, 0.0, 1.0, 1.0
    edge = steps.shortest_edge
    resized = steps.resize or (_kept_shape(height, width, edge) if edge else (height, width))
    rows, columns = (min(1.0, want / have) for want, have in zip(steps.crop, resized, strict=True))
    return (1 - rows) / 2, (1 - columns) / 2, (1 + rows) / 2, (1 + columns) / 2


def _recipe(config: Mapping[str, Any]) -> Recipe:
    resize, edge = _size(config["size"]) if config.get("do_resize", True) else (None, None)
    crop, edge_of_crop = _size(config["crop_size"]) if config.get("do_center_crop", False) else (None, None)
    normalise = config.get("do_normalize", True)
    resample = int(config["resample"]) if resize or edge else 2
    if resample not in RESAMPLING or edge_of_crop is not None:
        raise ValueError("neither can be done here")
    return Recipe(
        resize=resize,
        shortest_edge=edge,
        resample=resample,
        crop=crop,
        factor=float(config.get("rescale_factor", 1 / 255)) if config.get("do_rescale", True) else None,
        mean=_triple(config["image_mean"]) if normalise else None,
        std=_triple(config["image_std"]) if normalise else None,
    )


def _size(value: Any) -> tuple[tuple[int, int] | None, int | None]:
    """Height and width, or the shortest edge; a bare number is a square (old feature extractors)."""
    if isinstance(value, Mapping):
        if set(value) == {"shortest_edge"}:
            return None, int(value["shortest_edge"])
        return (int(value["height"]), int(value["width"])), None
    return (int(value), int(value)), None


def _triple(value: Any) -> tuple[float, float, float]:
    red, green, blue = (float(part) for part in (value if isinstance(value, list | tuple) else [value] * 3))
    return red, green, blue


def _resized(pictures: torch.Tensor, steps: Recipe) -> torch.Tensor:
    """Antialiased, and rounded to bytes as PIL does after each of its two passes.

    On the CPU torch has PIL's integer arithmetic; elsewhere it has floats, and the passes are made here.
    """
    import torch  # noqa: PLC0415

    (height, width), edge = pictures.shape[-2:], steps.shortest_edge
    size = steps.resize or (_kept_shape(height, width, edge) if edge else None)
    if size is None or size == tuple(pictures.shape[-2:]):
        return pictures
    mode = RESAMPLING[steps.resample]
    if pictures.device.type == "cpu" and pictures.dtype == torch.uint8:
        return torch.nn.functional.interpolate(pictures, size=size, mode=mode, antialias=True)
    resized = pictures.to(torch.float32)
    for target in ((pictures.shape[-2], size[1]), size):
        resized = torch.nn.functional.interpolate(resized, size=target, mode=mode, antialias=True)
        resized = resized.round().clamp(0, 255)
    return resized


def _kept_shape(height: int, width: int, edge: int) -> tuple[int, int]:
    short, long = min(height, width), max(height, width)
    longer = int(edge * long / short)
    return (edge, longer) if height <= width else (longer, edge)


def _cropped(pictures: torch.Tensor, crop: tuple[int, int] | None) -> torch.Tensor:
    """The centre, filled up with black where the picture is smaller than the crop."""
    import torch  # noqa: PLC0415

    if crop is None:
        return pictures
    missing = [max(0, want - have) for want, have in zip(crop, pictures.shape[-2:], strict=True)]
    if any(missing):
        above, left = (-(-gap // 2) for gap in missing)
        edges = (left, missing[1] - left, above, missing[0] - above)
        pictures = torch.nn.functional.pad(pictures, edges)
    top, start = ((have - want) // 2 for want, have in zip(crop, pictures.shape[-2:], strict=True))
    return pictures[..., top : top + crop[0], start : start + crop[1]]


def _unsupported(name: str, what: str) -> DetectorUnavailable:
    return DetectorUnavailable(
        f"The preprocessor_config.json of {name} {what}; the pictures cannot be prepared as it was trained.",
        code="unsupported_checkpoint",
    )
