"""Checkpoints made for tests and benchmarks: the seed's formats, random weights, marked as such.

`tiny=False` gives the shapes of ViT-B/16-224 (343 MB) and wav2vec2-base (378 MB), as the two hub checkpoints
have them. Every config carries `deepdefend_test_only`, so that the service refuses them by itself.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

TINY_VIT: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
}
TINY_VIT_INPUT: dict[str, Any] = {"image_size": 32, "patch_size": 8}
TINY_WAV2VEC2: dict[str, Any] = {
    **TINY_VIT,
    "conv_dim": (32, 32, 32),
    "conv_kernel": (10, 8, 4),
    "conv_stride": (8, 8, 5),
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "classifier_proj_size": 16,
}
#: What facebook/wav2vec2-base and google/vit-base-patch16-224-in21k publish as their preprocessing.
IMAGE_PREPROCESSOR: dict[str, Any] = {
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_processor_type": "ViTImageProcessor",
    "image_std": [0.5, 0.5, 0.5],
    "resample": 2,
    "rescale_factor": 0.00392156862745098,
}
AUDIO_PREPROCESSOR: dict[str, Any] = {
    "do_normalize": True,
    "feature_extractor_type": "Wav2Vec2FeatureExtractor",
    "feature_size": 1,
    "padding_side": "right",
    "padding_value": 0,
    "return_attention_mask": False,
    "sampling_rate": 16000,
}
#: Spreads the logits of random weights, so that two inputs get visibly different scores.
SPREAD = 40.0


def make_image_checkpoint(
    folder: Path,
    *,
    tiny: bool = True,
    labels: Sequence[str] | None = ("Real", "Fake"),
    test_only: bool = True,
    seed: int = 0,
    preprocessor: dict[str, Any] | None = None,
) -> Path:
    """A ViT image classifier in `folder`; `labels` in class order, None for a config without id2label.

    `preprocessor` replaces or adds keys of preprocessor_config.json. Returns `folder`.
    """
    from transformers import ViTConfig, ViTForImageClassification  # noqa: PLC0415 - seconds of import

    shape = {**TINY_VIT, **TINY_VIT_INPUT} if tiny else {}
    config = ViTConfig.from_dict({**shape, "num_labels": len(labels) if labels else 2})
    torch.manual_seed(seed)
    model = ViTForImageClassification(config)
    side = config.image_size
    recipe = {**IMAGE_PREPROCESSOR, "size": {"height": side, "width": side}, **(preprocessor or {})}
    return _write(folder, model, labels, recipe, test_only=test_only)


def make_audio_checkpoint(
    folder: Path,
    *,
    tiny: bool = True,
    labels: Sequence[str] | None = ("fake", "real"),
    test_only: bool = True,
    seed: int = 0,
    preprocessor: dict[str, Any] | None = None,
    layer_norm: bool = False,
    old_names: bool = False,
) -> Path:
    """A wav2vec2 classifier in `folder`; options as in make_image_checkpoint.

    `layer_norm` gives the feature encoder of wav2vec2-large; `old_names` writes `weight_g` and `weight_v` as
    transformers did before 4.31, when many published checkpoints were made.
    """
    from transformers import Wav2Vec2Config, Wav2Vec2ForSequenceClassification  # noqa: PLC0415

    shape = TINY_WAV2VEC2 if tiny else {}
    norm = {"feat_extract_norm": "layer" if layer_norm else "group"}
    config = Wav2Vec2Config.from_dict({**shape, **norm, "num_labels": len(labels) if labels else 2})
    torch.manual_seed(seed)
    model = Wav2Vec2ForSequenceClassification(config)
    recipe = {**AUDIO_PREPROCESSOR, **(preprocessor or {})}
    return _write(folder, model, labels, recipe, test_only=test_only, old_names=old_names)


def edit_json(path: Path, **changes: Any) -> None:
    """Change keys of a JSON file; None removes the key."""
    value = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: item for key, item in value.items() if item is not None}))


def _write(
    folder: Path,
    model: Any,
    labels: Sequence[str] | None,
    preprocessor: dict[str, Any],
    *,
    test_only: bool,
    old_names: bool = False,
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with torch.no_grad():
        model.classifier.weight.mul_(SPREAD)
    config = model.config.to_dict() | {"architectures": [type(model).__name__]}
    for key in ("id2label", "label2id"):
        config.pop(key, None)
    if labels:
        config["id2label"] = {str(index): label for index, label in enumerate(labels)}
        config["label2id"] = {label: index for index, label in enumerate(labels)}
    if test_only:
        config["deepdefend_test_only"] = True
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor, indent=2))
    tensors = {_old(name) if old_names else name: value for name, value in model.state_dict().items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def _old(name: str) -> str:
    return name.replace("parametrizations.weight.original0", "weight_g").replace(
        "parametrizations.weight.original1", "weight_v"
    )
