"""Attention rollout (Abnar and Zuidema 2020, arXiv 2005.00928): how far each patch reaches the class token.

It follows the attention of all layers together, heads averaged, with the residual connections as half of each
layer. It says where a model looked; it does not say for which class, and not that what lies there is altered.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from workers.detectors.preprocess import Covered

if TYPE_CHECKING:
    import torch

#: `model_type` of architectures whose classifier reads the class token alone, from attention over the whole
#: picture. Others (Swin's windows, BEiT's mean over patches) are explained by occlusion.
CLASS_TOKEN_MODELS: Final = frozenset({"vit", "deit"})
#: A look is drawn in full strength from this many times the average of all patches on; a more even one stays
#: pale instead of being stretched.
LEAST_PEAK: Final = 1.5


def attentions_of(model: Any, pictures: torch.Tensor) -> Sequence[torch.Tensor] | None:
    """The attention of each layer, N x heads x T x T; None where rollout does not fit the architecture.

    The kernel that usually runs gives none, so the plain one runs for this pass alone.
    """
    if getattr(model.config, "model_type", None) not in CLASS_TOKEN_MODELS:
        return None
    usual = model.config._attn_implementation  # noqa: SLF001 - transformers has no public reader of it
    model.set_attn_implementation("eager")
    try:
        layers: Sequence[torch.Tensor] = model(pixel_values=pictures, output_attentions=True).attentions
    finally:
        model.set_attn_implementation(usual)
    return layers


def rollout(attentions: Sequence[torch.Tensor]) -> torch.Tensor:
    """Layers of N x heads x T x T, the first first -> N x T: each token's part in the class token, sum 1."""
    import torch  # noqa: PLC0415

    count, _, tokens, _ = attentions[0].shape
    weights = torch.zeros(count, 1, tokens, device=attentions[0].device)
    weights[:, 0, 0] = 1.0
    for layer in reversed(attentions):
        weights = 0.5 * weights @ layer.float().mean(1) + 0.5 * weights
    return weights[:, 0]


def heat(weights: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """Parts of all tokens, patches last -> N x rows x columns, 0 (average or less) to 1 (the peak)."""
    patches = weights[:, -grid[0] * grid[1] :]
    over = patches / patches.mean(1, keepdim=True) - 1
    scale = over.amax(1, keepdim=True).clamp_min(LEAST_PEAK - 1)
    return (over / scale).clamp(0, 1).reshape(-1, *grid)


def whole(heats: torch.Tensor, covered: Covered, size: tuple[int, int]) -> torch.Tensor:
    """Heat over the part of the crop that the model was shown -> over the whole crop (`size`), 0 beyond."""
    import torch  # noqa: PLC0415

    if covered == (0.0, 0.0, 1.0, 1.0):
        return heats
    top, left, bottom, right = (
        round(part * side) for part, side in zip(covered, (*size, *size), strict=True)
    )
    shape = (bottom - top, right - left)
    shown = torch.nn.functional.interpolate(heats[:, None], size=shape, mode="bilinear")[:, 0]
    canvas = torch.zeros(len(heats), *size, device=heats.device)
    canvas[:, top:bottom, left:right] = shown
    return canvas
