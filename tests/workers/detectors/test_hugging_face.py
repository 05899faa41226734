"""The adapters on checkpoints in the seed's two formats: against transformers itself, and against damage."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Wav2Vec2FeatureExtractor, Wav2Vec2ForSequenceClassification
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil
from transformers.models.vit.modeling_vit import ViTForImageClassification

from core.config import ModelSettings
from core.domain import Modality
from core.errors import DetectorUnavailable, Fenced
from tests.checkpoints import edit_json, make_audio_checkpoint, make_image_checkpoint
from workers.detectors import hardware, registry, store
from workers.detectors.hf_image import HuggingFaceImageDetector

MAKERS: dict[str, Callable[..., Path]] = {"video": make_image_checkpoint, "audio": make_audio_checkpoint}


@pytest.fixture(autouse=True)
def _float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compare with transformers in its own number format; bfloat16 has a test of its own."""
    monkeypatch.setattr(hardware, "choose_dtype", lambda _: torch.float32)


def load(folder: Path, modality: str, **changes: Any) -> Any:
    settings = ModelSettings(**{modality: str(folder), "device": "cpu", "batch_size": 3, **changes})
    return registry.load(Modality(modality), settings, allow_test=True)


def code_of(folder: Path, modality: str, **changes: Any) -> str:
    with pytest.raises(DetectorUnavailable) as caught:
        load(folder, modality, **changes)
    assert "mend" in caught.value.extra
    assert str(folder.parent) not in caught.value.detail
    return caught.value.code


def faces(count: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    rng = np.random.default_rng(3)
    small = rng.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    return small.repeat(32, 1).repeat(32, 2)


def voices(*samples: int) -> list[np.ndarray[Any, np.dtype[np.float32]]]:
    rng = np.random.default_rng(4)
    return [rng.normal(0.02, 0.1, count).astype(np.float32) for count in samples]


def test_image_scores_are_those_of_transformers(tmp_path: Path) -> None:
    folder = make_image_checkpoint(tmp_path / "x", labels=("Real", "Fake"))
    model: Any = ViTForImageClassification.from_pretrained(folder).train(mode=False)
    processor: Any = ViTImageProcessorPil(size={"height": 32, "width": 32})
    crops = faces(7)
    with torch.inference_mode():
        pixels = torch.from_numpy(np.stack(processor(images=list(crops))["pixel_values"])).float()
        expected = model(pixel_values=pixels).logits.softmax(-1)[:, 1].numpy()
    found = load(folder, "video").scores(crops)
    np.testing.assert_allclose(found, expected, atol=0.02)
    assert found.max() - found.min() > 0.1  # else the comparison would show nothing


@pytest.mark.parametrize(("modality", "inputs"), [("video", faces(2)), ("audio", voices(32_000, 32_000))])
def test_a_batch_in_hand_is_left_between_two_layers(tmp_path: Path, modality: str, inputs: Any) -> None:
    """A batch of the real size takes seconds on a CPU: nobody waits for all its layers."""
    detector = load(MAKERS[modality](tmp_path / "x"), modality)
    looked: list[None] = []
    expected = detector.scores(inputs)
    np.testing.assert_array_equal(detector.scores(inputs, checkpoint=lambda: looked.append(None)), expected)
    layers = len(looked)
    assert layers > 10

    def stop_in_the_middle() -> None:
        looked.append(None)
        if len(looked) == layers + layers // 2:
            raise Fenced

    with pytest.raises(Fenced):
        detector.scores(inputs, checkpoint=stop_in_the_middle)
    assert len(looked) == layers + layers // 2
    np.testing.assert_array_equal(detector.scores(inputs), expected)
    assert len(looked) == layers + layers // 2, "no hook is left behind"


@pytest.mark.parametrize("normalise", [True, False])
def test_audio_scores_are_those_of_transformers(tmp_path: Path, *, normalise: bool) -> None:
    folder = make_audio_checkpoint(
        tmp_path / "x", labels=("fake", "real"), preprocessor={"do_normalize": normalise}
    )
    model: Any = Wav2Vec2ForSequenceClassification.from_pretrained(folder).train(mode=False)
    extractor: Any = Wav2Vec2FeatureExtractor.from_pretrained(folder)
    windows = voices(16000, 32000, 16000, 9000)
    with torch.inference_mode():
        expected = [
            float(
                model(**extractor(window, sampling_rate=16000, return_tensors="pt")).logits.softmax(-1)[0, 0]
            )
            for window in windows
        ]
    np.testing.assert_allclose(load(folder, "audio").scores(windows), expected, atol=1e-4)


def test_padded_batches_under_a_mask_agree_with_transformers(tmp_path: Path) -> None:
    folder = make_audio_checkpoint(
        tmp_path / "x", layer_norm=True, preprocessor={"return_attention_mask": True}
    )
    model: Any = Wav2Vec2ForSequenceClassification.from_pretrained(folder).train(mode=False)
    extractor: Any = Wav2Vec2FeatureExtractor.from_pretrained(folder)
    windows = voices(16000, 12000, 14000)
    inputs = extractor(windows, sampling_rate=16000, return_tensors="pt", padding=True)
    with torch.inference_mode():
        expected = model(**inputs).logits.softmax(-1)[:, 0].numpy()
    detector = load(folder, "audio")
    assert detector.takes_padding
    np.testing.assert_allclose(detector.scores(windows), expected, atol=1e-4)


def test_a_group_norm_never_sees_padding_so_that_scores_do_not_depend_on_the_batch(tmp_path: Path) -> None:
    folder = make_audio_checkpoint(tmp_path / "x", preprocessor={"return_attention_mask": True})
    detector = load(folder, "audio")
    assert not detector.takes_padding
    windows = voices(16000, 12000, 14000, 12000)
    together, alone = detector.scores(windows), [float(detector.scores([one])[0]) for one in windows]
    np.testing.assert_allclose(together, alone, atol=1e-5)


@pytest.mark.parametrize("modality", ["video", "audio"])
def test_swapped_labels_swap_the_score(tmp_path: Path, modality: str) -> None:
    inputs: Any = faces(3) if modality == "video" else voices(16000, 16000)
    one, other = (
        load(MAKERS[modality](tmp_path / labels[0], labels=labels), modality).scores(inputs)
        for labels in (("Real", "Fake"), ("Fake", "Real"))
    )
    np.testing.assert_allclose(one + other, 1, atol=1e-5)


def test_three_classes_are_summed(tmp_path: Path) -> None:
    labels = ("deepfake", "real", "ai_generated")
    summed = load(make_image_checkpoint(tmp_path / "x", labels=labels), "video")
    assert summed.identity.fake_label == "deepfake,ai_generated"
    only_real = load(tmp_path / "x", "video", video_fake_label="real")
    np.testing.assert_allclose(summed.scores(faces(3)) + only_real.scores(faces(3)), 1, atol=1e-5)


@pytest.mark.parametrize("modality", ["video", "audio"])
def test_a_checkpoint_without_label_names_is_refused_until_the_setting_names_the_class(
    tmp_path: Path, modality: str
) -> None:
    folder = MAKERS[modality](tmp_path / "x", labels=None)
    assert code_of(folder, modality) == "ambiguous_labels"
    detector = load(folder, modality, **{f"{modality}_fake_label": "LABEL_1"})
    assert detector.identity.fake_label == "LABEL_1"


@pytest.mark.parametrize("modality", ["video", "audio"])
def test_a_test_checkpoint_is_refused_unless_it_is_allowed(tmp_path: Path, modality: str) -> None:
    settings = ModelSettings(**{modality: str(MAKERS[modality](tmp_path / "x"))})
    with pytest.raises(DetectorUnavailable) as caught:
        registry.load(Modality(modality), settings)
    assert caught.value.code == "test_checkpoint_refused"
    assert registry.load(Modality(modality), settings, allow_test=True).identity.test_only


def test_a_checkpoint_that_is_not_marked_is_not_called_a_test(tmp_path: Path) -> None:
    folder = make_image_checkpoint(tmp_path / "x", test_only=False)
    assert not registry.load(Modality.VIDEO, ModelSettings(video=str(folder))).identity.test_only


def test_weights_under_the_names_of_old_transformers_give_the_same_scores(tmp_path: Path) -> None:
    new = load(make_audio_checkpoint(tmp_path / "new"), "audio")
    old = load(make_audio_checkpoint(tmp_path / "old", old_names=True), "audio")
    assert "weight_g" in str(list(load_file(tmp_path / "old" / store.WEIGHTS)))
    np.testing.assert_array_equal(new.scores(voices(16000)), old.scores(voices(16000)))


@pytest.mark.parametrize("modality", ["video", "audio"])
@pytest.mark.parametrize("key", ["classifier.weight", "layernorm", "projector"])
def test_weights_that_lack_a_tensor_are_never_filled_up_with_random_ones(
    tmp_path: Path, modality: str, key: str
) -> None:
    folder = MAKERS[modality](tmp_path / "x")
    tensors = load_file(folder / store.WEIGHTS)
    gone = next((name for name in tensors if key in name), None)
    if gone is None:
        gone = next(name for name in tensors if name.endswith("bias"))
    save_file({name: value for name, value in tensors.items() if name != gone}, folder / store.WEIGHTS)
    assert code_of(folder, modality) == "checkpoint_incomplete"


def test_a_tensor_that_only_training_uses_may_be_missing(tmp_path: Path) -> None:
    folder = make_audio_checkpoint(tmp_path / "x")
    tensors = load_file(folder / store.WEIGHTS)
    del tensors["wav2vec2.masked_spec_embed"]
    expected = load(folder, "audio").scores(voices(16000))
    save_file(tensors, folder / store.WEIGHTS)
    np.testing.assert_array_equal(load(folder, "audio").scores(voices(16000)), expected)


@pytest.mark.parametrize("modality", ["video", "audio"])
def test_weights_of_another_shape_are_damage(tmp_path: Path, modality: str) -> None:
    folder = MAKERS[modality](tmp_path / "x", labels=("real", "fake"))
    edit_json(folder / store.CONFIG, id2label={"0": "real", "1": "fake", "2": "fake2"}, label2id=None)
    edit_json(folder / store.CONFIG, id2label={"0": "real", "1": "fake", "2": "deepfake"})
    assert code_of(folder, modality) in {"checkpoint_damaged", "checkpoint_incomplete"}


@pytest.mark.parametrize("modality", ["video", "audio"])
@pytest.mark.parametrize(
    "change",
    [
        {"model_type": "no_such_architecture"},
        {"model_type": None},
        {"hidden_size": "big"},
        {"num_attention_heads": 7},
        {"hidden_size": -1},
        {"num_hidden_layers": None, "hidden_act": "no_such_function"},
        {"id2label": ["real", "fake"]},
        {"id2label": {"a": "real", "b": "fake"}},
        {"id2label": {"1": "real", "2": "fake"}},
        {"id2label": None, "num_labels": "many"},
        {"model_type": "bert"},
    ],
)
def test_a_config_without_sense_has_a_code(tmp_path: Path, modality: str, change: dict[str, Any]) -> None:
    folder = MAKERS[modality](tmp_path / "x")
    edit_json(folder / store.CONFIG, **change)
    assert code_of(folder, modality) in {"checkpoint_damaged", "checkpoint_incomplete"}


@pytest.mark.parametrize("modality", ["video", "audio"])
def test_weights_that_give_no_number_are_refused_on_loading(tmp_path: Path, modality: str) -> None:
    folder = MAKERS[modality](tmp_path / "x")
    tensors = load_file(folder / store.WEIGHTS)
    tensors["classifier.weight"][:] = float("nan")
    save_file(tensors, folder / store.WEIGHTS)
    assert code_of(folder, modality) == "checkpoint_damaged"


def test_a_picture_size_that_the_model_does_not_take_is_refused_on_loading(tmp_path: Path) -> None:
    folder = make_image_checkpoint(tmp_path / "x", preprocessor={"size": {"height": 64, "width": 64}})
    assert code_of(folder, "video") == "checkpoint_damaged"


def test_no_code_of_a_checkpoint_runs(tmp_path: Path) -> None:
    folder = make_image_checkpoint(tmp_path / "x")
    marker = tmp_path / "ran"
    (folder / "evil.py").write_text(f"open({str(marker)!r}, 'w')\nclass Evil: pass\n")
    edit_json(
        folder / store.CONFIG,
        model_type="evil",
        auto_map={"AutoConfig": "evil.Evil", "AutoModelForImageClassification": "evil.Evil"},
    )
    assert code_of(folder, "video") == "checkpoint_damaged"
    assert not marker.exists()


def test_independent_labels_are_refused(tmp_path: Path) -> None:
    folder = make_image_checkpoint(tmp_path / "x")
    edit_json(folder / store.CONFIG, problem_type="multi_label_classification")
    assert code_of(folder, "video") == "unsupported_checkpoint"


@pytest.mark.parametrize(
    "change",
    [
        {"sampling_rate": 48000},
        {"sampling_rate": 8000},
        {"feature_extractor_type": "ASTFeatureExtractor"},
        {"feature_extractor_type": None},
        {"padding_value": 1.0},
    ],
)
def test_sound_that_would_need_another_preparation_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    folder = make_audio_checkpoint(tmp_path / "x")
    edit_json(folder / store.PREPROCESSOR, **change)
    assert code_of(folder, "audio") == "unsupported_checkpoint"


@pytest.mark.parametrize("modality", ["video", "audio"])
def test_a_checkpoint_of_the_other_modality_is_refused(tmp_path: Path, modality: str) -> None:
    other = "audio" if modality == "video" else "video"
    assert code_of(MAKERS[other](tmp_path / "x"), modality) == "unsupported_checkpoint"


def test_bfloat16_stays_near_float32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image, audio = make_image_checkpoint(tmp_path / "i"), make_audio_checkpoint(tmp_path / "a")
    full = load(image, "video").scores(faces(6)), load(audio, "audio").scores(voices(16000, 16000))
    monkeypatch.setattr(hardware, "choose_dtype", lambda _: torch.bfloat16)
    half = load(image, "video").scores(faces(6)), load(audio, "audio").scores(voices(16000, 16000))
    for one, other in zip(full, half, strict=True):
        np.testing.assert_allclose(one, other, atol=0.05)
        assert not np.array_equal(one, other)


def test_samples_are_heard_exactly_also_in_bfloat16(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A whisper beside a loud tone is below eight bits; the first layer must still be given it."""
    monkeypatch.setattr(hardware, "choose_dtype", lambda _: torch.bfloat16)
    detector = load(make_audio_checkpoint(tmp_path / "x"), "audio")
    given: list[torch.Tensor] = []
    first, second = detector.model.base_model.feature_extractor.conv_layers[:2]
    first.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    second.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    detector.scores(voices(16000))
    assert [one.dtype for one in given] == [torch.float32, torch.bfloat16]
    assert len(np.unique(given[0].numpy())) > 10_000  # eight bits would leave a few hundred steps


def test_loading_leaves_the_verbosity_of_transformers_as_it_was(tmp_path: Path) -> None:
    from transformers.utils import logging  # noqa: PLC0415

    before = logging.get_verbosity()
    load(make_image_checkpoint(tmp_path / "x"), "video")
    assert logging.get_verbosity() == before


def test_the_same_checkpoint_gives_the_same_scores_and_digest_twice(tmp_path: Path) -> None:
    first = load(make_image_checkpoint(tmp_path / "x"), "video")
    shutil.copytree(tmp_path / "x", tmp_path / "y")
    second = load(tmp_path / "y", "video")
    np.testing.assert_array_equal(first.scores(faces(5)), second.scores(faces(5)))
    assert first.identity.digest == second.identity.digest


def test_importing_the_adapters_imports_neither_torch_nor_transformers_nor_pil() -> None:
    code = (
        "import sys, workers.detectors.hf_image, workers.detectors.hf_audio, workers.detectors.registry;"
        "print([name for name in ('torch', 'transformers', 'PIL', 'celery') if name in sys.modules])"
    )
    assert run(code) == "[]"


def test_scoring_needs_no_pillow(tmp_path: Path) -> None:
    """The images install none: transformers must not ask for it on this way."""
    make_image_checkpoint(tmp_path / "x")
    code = f"""
import sys
sys.modules["PIL"] = None
import numpy as np
from core.config import ModelSettings
from core.domain import Modality
from workers.detectors import registry
detector = registry.load(Modality.VIDEO, ModelSettings(video={str(tmp_path / "x")!r}), allow_test=True)
print(len(detector.scores(np.zeros((2, 256, 256, 3), np.uint8))))
"""
    assert run(code) == "2"


def run(code: str) -> str:
    root = Path(__file__).parents[3]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
        timeout=120,
        cwd=root,
    )
    return done.stdout.strip()


def test_the_adapter_reads_the_recipe_of_the_checkpoint(tmp_path: Path) -> None:
    folder = make_image_checkpoint(tmp_path / "x", preprocessor={"image_mean": [0.1, 0.2, 0.3]})
    detector = load(folder, "video")
    assert isinstance(detector, HuggingFaceImageDetector)
    assert detector.recipe.mean == (0.1, 0.2, 0.3)
    assert json.loads((folder / store.PREPROCESSOR).read_text())["image_mean"] == [0.1, 0.2, 0.3]
