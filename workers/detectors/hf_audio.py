"""Any Hugging Face audio classification checkpoint that hears raw samples (wav2vec2, HuBERT, WavLM, …)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from core.domain import Frozen
from core.errors import DetectorUnavailable
from core.evidence import SOUND_RATE
from workers.detectors.base import AudioDetector
from workers.detectors.checkpoint import Checkpoint, Wish
from workers.detectors.hugging_face import classifier, fake_probability

if TYPE_CHECKING:
    import torch

#: The feature extractor whose input is samples; others make spectrograms, each in its own way.
SAMPLES: Final = "Wav2Vec2FeatureExtractor"
#: Keeps the division finite in silence; the figure is transformers' own.
EPSILON: Final = 1e-7
#: Lengths in seconds that are taken from a checkpoint: a word at least, and not a whole recording.
SHORTEST: Final = 0.5
LONGEST: Final = 30.0


class Hearing(Frozen):
    """What happens to a window before the model hears it."""

    normalise: bool  #: to zero mean and unit variance, each window by itself
    mask: bool  #: the model was trained with an attention mask
    seconds: float | None  #: `max_length`: the length of its examples


class HuggingFaceAudioDetector(AudioDetector):
    """Reads config.json, preprocessor_config.json and model.safetensors, and assumes nothing else."""

    model: Any
    hearing: Hearing

    @classmethod
    def locate(cls, wish: Wish) -> Checkpoint:
        """As the base does, and the preparation of the sound must be one that is known here."""
        found = super().locate(wish)
        hearing(found.preprocessor, found.id)
        return found

    def load(self) -> None:
        """Build the architecture and read the weights."""
        from transformers import AutoModelForAudioClassification  # noqa: PLC0415 - seconds of import

        self.hearing = hearing(self.checkpoint.preprocessor, self.checkpoint.id)
        self.model = classifier(AutoModelForAudioClassification, self.checkpoint, self.device, self.dtype)
        self._hear_exactly()
        # A group norm in the first layer runs over time: zeros at the end change every frame, mask or not.
        layer_norm = self.checkpoint.config.get("feat_extract_norm", "group") == "layer"
        self.takes_padding = self.hearing.mask and layer_norm
        self.window_seconds = self.hearing.seconds

    def predict(self, windows: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """See AudioDetector."""
        import torch  # noqa: PLC0415

        heard = torch.arange(windows.shape[1], device=windows.device) < lengths[:, None]
        if self.hearing.normalise:
            windows = _normalised(windows, heard, lengths)
        mask = {"attention_mask": heard.long()} if self.hearing.mask else {}
        logits = self.model(windows, **mask).logits
        return fake_probability(logits, self.checkpoint.fake.indices)

    def _hear_exactly(self) -> None:
        """Keep samples and the first layer in float32.

        bfloat16 has eight significant bits: a voice rounded to it carries noise at -48 dB, where the traces
        of synthesis are. The layer is faster so, too (6 ms against 30 ms a window of 2 s with AMX).
        """
        import torch  # noqa: PLC0415

        encoder = getattr(self.model.base_model, "feature_extractor", None)
        layers = getattr(encoder, "conv_layers", None)
        if layers is None:
            self.dtype = torch.float32
            self.model.float()
        elif self.dtype is not torch.float32:
            layers[0].float()
            layers[0].register_forward_hook(lambda _layer, _inputs, output: output.to(self.dtype))


def hearing(config: Mapping[str, Any], name: str) -> Hearing:
    """Read a preprocessor_config.json; defaults are those of Wav2Vec2FeatureExtractor.

    Another sampling rate is refused: bringing 16 kHz sound up to it would leave the upper band empty, which
    such a model has never met. Raises DetectorUnavailable: unsupported_checkpoint.
    """
    kind = config.get("feature_extractor_type")
    rate = config.get("sampling_rate", SOUND_RATE)
    if kind != SAMPLES or rate != SOUND_RATE or config.get("padding_value", 0.0) != 0:
        raise DetectorUnavailable(
            f"{name} wants {kind} at {rate} Hz; only {SAMPLES} at {SOUND_RATE} Hz is heard here.",
            code="unsupported_checkpoint",
        )
    return Hearing(
        normalise=bool(config.get("do_normalize", True)),
        mask=bool(config.get("return_attention_mask", False)),
        seconds=_length(config.get("max_length")),
    )


def _length(samples: object) -> float | None:
    """The length in seconds that a checkpoint names in samples, where it is one that can be cut."""
    if not isinstance(samples, int) or not SHORTEST <= samples / SOUND_RATE <= LONGEST:
        return None
    return samples / SOUND_RATE


def _normalised(windows: torch.Tensor, heard: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Zero mean and unit variance over the samples that are there; zero beyond them."""
    count = lengths[:, None].to(windows.dtype)
    centred = (windows - windows.sum(1, keepdim=True) / count) * heard
    variance = centred.square().sum(1, keepdim=True) / count
    normalised: torch.Tensor = centred / (variance + EPSILON).sqrt()
    return normalised
