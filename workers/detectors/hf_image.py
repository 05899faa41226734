"""Any Hugging Face image classification checkpoint as a frame detector (ViT, DeiT, BEiT, Swin, …)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workers.detectors import preprocess, rollout
from workers.detectors.base import FrameDetector
from workers.detectors.checkpoint import Checkpoint, Wish
from workers.detectors.hugging_face import classifier, fake_probability

if TYPE_CHECKING:
    import torch


class HuggingFaceImageDetector(FrameDetector):
    """Reads config.json, preprocessor_config.json and model.safetensors, and assumes nothing else."""

    model: Any
    recipe: preprocess.Recipe

    @classmethod
    def locate(cls, wish: Wish) -> Checkpoint:
        """As the base does, and the preparation of the pictures must be one that is known here."""
        found = super().locate(wish)
        preprocess.recipe(found.preprocessor, found.id)
        return found

    def load(self) -> None:
        """Build the architecture and read the weights."""
        from transformers import AutoModelForImageClassification  # noqa: PLC0415 - seconds of import

        self.recipe = preprocess.recipe(self.checkpoint.preprocessor, self.checkpoint.id)
        self.model = classifier(AutoModelForImageClassification, self.checkpoint, self.device, self.dtype)

    def predict(self, crops: torch.Tensor) -> torch.Tensor:
        """See FrameDetector."""
        pictures = preprocess.apply(crops, self.recipe).to(self.dtype)
        return fake_probability(self.model(pixel_values=pictures).logits, self.checkpoint.fake.indices)

    def attend(self, crops: torch.Tensor) -> torch.Tensor | None:
        """See FrameDetector; attention rollout, where the architecture has a class token that decides."""
        pictures = preprocess.apply(crops, self.recipe).to(self.dtype)
        attentions = rollout.attentions_of(self.model, pictures)
        if not attentions:
            return None
        patch = self.model.config.patch_size
        grid = (pictures.shape[-2] // patch, pictures.shape[-1] // patch)
        size = (crops.shape[1], crops.shape[2])
        heats = rollout.heat(rollout.rollout(attentions), grid)
        return rollout.whole(heats, preprocess.covered(self.recipe, *size), size)
