"""Where an analysis keeps its working files in the storage, and how they get there and back."""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import numpy as np
import numpy.typing as npt

from core import steps
from core.evidence import SOUND_RATE, CropShard, Frame, KeyPicture, Manifest
from core.pictures import SPECTROGRAM
from core.storage import Storage
from workers import leftovers
from workers.media import spectrogram
from workers.workspace import private_folder

if TYPE_CHECKING:
    from workers.detectors.heatmaps import Portrait

#: Bytes before the samples in a wave file with one `fmt ` and one `data` chunk, as extraction writes it.
WAVE_HEADER = 44
SAMPLE_BYTES = 2


def scratch_prefix(analysis_id: UUID) -> str:
    """Everything that is not needed once the report is there."""
    return f"{leftovers.folder(analysis_id)}work-"


def scratch(claim: steps.Claim) -> str:
    """The folder of one extraction: a fenced one cannot overwrite its successor's.

    The attempt alone would not do: a step that was handed back has the same one again.
    """
    return f"{scratch_prefix(claim.analysis_id)}{claim.attempt}-{claim.owner}/"


def pictures(claim: steps.Claim) -> str:
    """Pictures of an extraction, which are kept with the report and erased with it.

    Of an ended analysis those in the folder of the extraction that counts stay, and those in one that the
    detail of a video step names as `pictures`; what a fenced attempt left goes as an orphan.
    """
    return f"{leftovers.folder(claim.analysis_id)}pictures-{claim.attempt}-{claim.owner}/"


def portraits_folder(claim: steps.Claim) -> str:
    """Pictures of one video step: its process may have won another one, or the extraction, and lost this."""
    return f"{leftovers.folder(claim.analysis_id)}portraits-{claim.attempt}-{claim.owner}-{claim.shard}/"


def publish(
    storage: Storage,
    claim: steps.Claim,
    folder: Path,
    manifest: Manifest,
    *,
    checkpoint: Callable[[], None] = lambda: None,
) -> dict[str, str]:
    """Upload what extraction wrote; returns object keys of the thumbnails by file name.

    `checkpoint` is called before each file and with each piece of one; what it raises passes on.
    """
    arrays = [shard.file for shard in manifest.crop_shards]
    for name in [*arrays, *([manifest.sound_file] if manifest.sound_file else [])]:
        checkpoint()
        storage.upload_file(folder / name, scratch(claim) + name, checkpoint=checkpoint)
    tracks = [track.thumbnail for track in manifest.tracks if track.thumbnail]
    thumbnails = {name: pictures(claim) + name for name in [*tracks, *manifest.frame_thumbnails.values()]}
    for name, key in thumbnails.items():
        checkpoint()
        storage.upload_file(folder / name, key, content_type="image/jpeg", checkpoint=checkpoint)
    seen: dict[int, list[Frame]] = defaultdict(list)
    for frame in manifest.frames:
        seen[frame.interval].append(frame)
    for crops in manifest.crop_shards:
        checkpoint()
        part = _part(manifest, crops, [frame for index in crops.intervals for frame in seen[index]])
        upload = storage.open_upload(_manifest_key(scratch(claim), crops.shard))
        upload.write(part.model_dump_json().encode())
        upload.complete()
    return thumbnails


def publish_portraits(
    storage: Storage,
    claim: steps.Claim,
    portraits: Sequence[Portrait],
    *,
    checkpoint: Callable[[], None] = lambda: None,
) -> dict[int, tuple[KeyPicture, ...]]:
    """Upload suspicious faces and their heatmaps; what to write of them, by interval, in the order given."""
    kept: dict[int, list[KeyPicture]] = defaultdict(list)
    with private_folder() as folder:
        for number, portrait in enumerate(portraits):
            stem = f"{portraits_folder(claim)}{number}"
            keys = {"crop": f"{stem}.jpg", "heatmap": f"{stem}-heatmap.jpg"}
            for name, key in keys.items():
                checkpoint()
                path = folder / name
                path.write_bytes(getattr(portrait, name))
                storage.upload_file(path, key, content_type="image/jpeg", checkpoint=checkpoint)
            face = portrait.suspect.face.model_dump()
            kept[portrait.suspect.interval].append(
                KeyPicture(**face, **keys, method=portrait.method, detector=portrait.detector)
            )
    return {interval: tuple(found) for interval, found in kept.items()}


def publish_whole(storage: Storage, claim: steps.Claim, folder: Path, manifest: Manifest) -> dict[str, str]:
    """Draw and upload what shows the whole file at once; object keys by name, for `analyses.artifacts`."""
    if manifest.sound_file is None:
        return {}
    (folder / "spectrogram.png").write_bytes(spectrogram.draw(folder / manifest.sound_file))
    key = pictures(claim) + "spectrogram.png"
    storage.upload_file(folder / "spectrogram.png", key, content_type="image/png")
    return {SPECTROGRAM: key}


def _part(manifest: Manifest, crops: CropShard, frames: Sequence[Frame]) -> Manifest:
    """What one shard needs: a whole manifest may have 13 MB, and there may be 180 shards."""
    seen = {face.track for frame in frames for face in frame.faces}
    tracks = tuple(track for track in manifest.tracks if track.id in seen)
    return Manifest(
        facts=manifest.facts,
        interval_seconds=manifest.interval_seconds,
        frames_per_interval=manifest.frames_per_interval,
        spans=(),
        frames=tuple(frames),
        tracks=tracks,
        crop_shards=(crops,),
        sandbox=manifest.sandbox,
    )


def _manifest_key(prefix: str, shard: int) -> str:
    return f"{prefix}manifest-{shard}.json"


def manifest_of(storage: Storage, prefix: str, shard: int) -> Manifest:
    """What the manifest says of a shard. Raises NotFound."""
    return Manifest.model_validate_json(storage.read(_manifest_key(prefix, shard)))


def crops_of(
    storage: Storage, prefix: str, name: str, *, checkpoint: Callable[[], None] = lambda: None
) -> npt.NDArray[np.uint8]:
    """The crops of a shard: N x 256 x 256 x 3, uint8, RGB; `checkpoint` may stop the 50 MB on their way."""
    with private_folder() as folder:
        path = folder / "crops.npy"
        storage.download_file(prefix + name, path, checkpoint=checkpoint)
        crops: npt.NDArray[np.uint8] = np.load(path, allow_pickle=False)
    return crops


def sound_of(storage: Storage, key: str, start: float, end: float) -> npt.NDArray[np.float32]:
    """Samples from `start` to `end` seconds as float32 in [-1, 1], without reading the rest."""
    first = WAVE_HEADER + round(start * SOUND_RATE) * SAMPLE_BYTES
    last = WAVE_HEADER + round(end * SOUND_RATE) * SAMPLE_BYTES
    raw = io.BytesIO(storage.read_range(key, first, last)).getvalue()
    samples = np.frombuffer(raw[: len(raw) - len(raw) % SAMPLE_BYTES], dtype="<i2")
    return samples.astype(np.float32) / 32768.0
