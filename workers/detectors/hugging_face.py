"""What the image and the sound adapter share: building the architecture and filling in its weights."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from core.errors import DetectorUnavailable
from workers.detectors.checkpoint import Checkpoint

if TYPE_CHECKING:
    import torch

#: Weights that only training uses; old checkpoints lack them, and nothing they give depends on them.
TRAINING_ONLY: Final = ("masked_spec_embed",)


def classifier(auto: Any, checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype) -> Any:
    """The classifier of a checkpoint, ready to infer.

    `auto` is AutoModelForImageClassification or AutoModelForAudioClassification. transformers fills weights
    that a file lacks with random numbers and only logs it: here that is refused, for no score may come from
    random weights. No code of the checkpoint runs, and nothing is fetched.
    Raises DetectorUnavailable: checkpoint_incomplete, unsupported_checkpoint; whatever else transformers and
    safetensors raise over a damaged file is the caller's to translate.
    """
    if checkpoint.config.get("problem_type") == "multi_label_classification":
        raise DetectorUnavailable(
            f"{checkpoint.id} gives independent labels, not classes that exclude each other.",
            code="unsupported_checkpoint",
        )
    with quiet_loading():
        model, info = auto.from_pretrained(
            checkpoint.folder,
            attn_implementation="sdpa",
            dtype=dtype,
            local_files_only=True,
            output_loading_info=True,
            trust_remote_code=False,
            use_safetensors=True,
        )
    missing = sorted(key for key in info["missing_keys"] if not key.endswith(TRAINING_ONLY))
    if missing or info["mismatched_keys"]:
        raise DetectorUnavailable(
            f"The weights of {checkpoint.id} lack {len(missing)} tensors of its architecture"
            f"{f', among them {missing[0]}' if missing else ''}.",
            code="checkpoint_incomplete",
        )
    return model.to(device).eval()


def fake_probability(logits: torch.Tensor, indices: tuple[int, ...]) -> torch.Tensor:
    """Logits N x classes -> N probabilities: softmax in float32, the fake classes summed."""
    return logits.float().softmax(-1)[:, list(indices)].sum(-1).clamp(0, 1)


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Keep transformers' progress bars and load reports out of the log; what they say is checked above."""
    from transformers.utils import logging as their_logging  # noqa: PLC0415

    before, bars = their_logging.get_verbosity(), their_logging.is_progress_bar_enabled()
    their_logging.set_verbosity(logging.ERROR)
    their_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        their_logging.set_verbosity(before)
        if bars:
            their_logging.enable_progress_bar()  # type: ignore[no-untyped-call]
