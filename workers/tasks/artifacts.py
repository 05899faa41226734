"""Where an analysis keeps its working files in the storage, and how they get there and back."""

from __future__ import annotations

import io
from pathlib import Path
from uuid import UUID

import numpy as np
import numpy.typing as npt

from core import steps
from core.evidence import SOUND_RATE, Manifest
from core.storage import Storage
from workers.workspace import private_folder

#: Bytes before the samples in a wave file with one `fmt ` and one `data` chunk, as extraction writes it.
WAVE_HEADER = 44
SAMPLE_BYTES = 2
MANIFEST = "manifest.json"


def scratch_prefix(analysis_id: UUID) -> str:
    """Everything that is not needed once the report is there."""
    return f"analyses/{analysis_id}/work-"


def scratch(claim: steps.Claim) -> str:
    """The folder of one extraction: a fenced one cannot overwrite its successor's.

    The attempt alone would not do: a step that was handed back has the same one again.
    """
    return f"{scratch_prefix(claim.analysis_id)}{claim.attempt}-{claim.owner}/"


def pictures(claim: steps.Claim) -> str:
    """Thumbnails, which are kept with the report."""
    return f"analyses/{claim.analysis_id}/pictures-{claim.attempt}-{claim.owner}/"


def publish(storage: Storage, claim: steps.Claim, folder: Path, manifest: Manifest) -> dict[str, str]:
    """Upload what extraction wrote; returns object keys of the thumbnails by file name."""
    arrays = [shard.file for shard in manifest.crop_shards]
    for name in [*arrays, *([manifest.sound_file] if manifest.sound_file else [])]:
        storage.upload_file(folder / name, scratch(claim) + name)
    tracks = [track.thumbnail for track in manifest.tracks if track.thumbnail]
    thumbnails = {name: pictures(claim) + name for name in [*tracks, *manifest.frame_thumbnails.values()]}
    for name, key in thumbnails.items():
        storage.upload_file(folder / name, key, content_type="image/jpeg")
    storage.upload_file(
        folder / "manifest.json", scratch(claim) + "manifest.json", content_type="application/json"
    )
    return thumbnails


def manifest_of(storage: Storage, prefix: str) -> Manifest:
    """The manifest below `prefix`. Raises NotFound."""
    return Manifest.model_validate_json(storage.read(prefix + MANIFEST))


def crops_of(storage: Storage, prefix: str, name: str) -> npt.NDArray[np.uint8]:
    """The crops of a shard: N x 256 x 256 x 3, uint8, RGB."""
    with private_folder() as folder:
        path = folder / "crops.npy"
        storage.download_file(prefix + name, path)
        crops: npt.NDArray[np.uint8] = np.load(path, allow_pickle=False)
    return crops


def sound_of(storage: Storage, key: str, start: float, end: float) -> npt.NDArray[np.float32]:
    """Samples from `start` to `end` seconds as float32 in [-1, 1], without reading the rest."""
    first = WAVE_HEADER + round(start * SOUND_RATE) * SAMPLE_BYTES
    last = WAVE_HEADER + round(end * SOUND_RATE) * SAMPLE_BYTES
    raw = io.BytesIO(storage.read_range(key, first, last)).getvalue()
    samples = np.frombuffer(raw[: len(raw) - len(raw) % SAMPLE_BYTES], dtype="<i2")
    return samples.astype(np.float32) / 32768.0
