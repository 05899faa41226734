"""What both contenders are given: the clip and checkpoints of the true shapes, made once and kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bench.clip import make_clip
from tests.checkpoints import make_audio_checkpoint, make_image_checkpoint

ROOT = Path(__file__).parents[1]
SAMPLE = ROOT / "samples" / "pkg_face_photo_real_speech.mp4"


@dataclass(frozen=True)
class Material:
    """Paths; the checkpoints have random weights, marked as made for tests."""

    clip: Path
    video: Path  #: ViT-B/16, 224 x 224
    audio: Path  #: wav2vec2-base

    @property
    def arguments(self) -> tuple[str, str, str]:
        """As the contenders take them on their command line."""
        return str(self.clip), str(self.video), str(self.audio)


def prepare(folder: Path) -> Material:
    """Make in `folder` what is not there yet: a clip of 45 MB and weights of 720 MB."""
    folder.mkdir(parents=True, exist_ok=True)
    material = Material(folder / "clip.mp4", folder / "vit-b16", folder / "wav2vec2-base")
    make_clip(SAMPLE, material.clip)
    if not (material.video / "model.safetensors").exists():
        make_image_checkpoint(material.video, tiny=False)
    if not (material.audio / "model.safetensors").exists():
        make_audio_checkpoint(material.audio, tiny=False)
    return material
