"""One file through the product's own pipeline, as far as a verdict needs it, and what is kept of that."""

from __future__ import annotations

import tempfile
import wave
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from core.domain import Modality, Reason, StepStatus
from core.errors import DetectorFailed, MediaError
from core.evidence import (
    SOUND_RATE,
    AudioFinding,
    CropShard,
    Manifest,
    SoundShard,
    VideoFinding,
)
from core.fusion.inputs import Branch, IntervalEvidence
from evaluation import statistics
from evaluation.measured import Measured
from evaluation.panel import Panel, Subject, reason_of
from workers.detectors import remeasure, traces
from workers.detectors.listen import listen
from workers.detectors.look import look
from workers.media.extract import CODES, extract

Findings = dict[int, VideoFinding]
#: Failures that lie in the file; the others may be the machine's, and are tried again in the next run.
OF_THE_FILE: Final = CODES | {"empty_file"}


def measure(path: Path, sha256: str, panel: Panel) -> Measured:
    """Decode in the sandbox, ask the detectors. A file that cannot be decoded is a result too."""
    setup = panel.setup
    with tempfile.TemporaryDirectory(prefix="deepdefend-evaluation-", dir=setup.temp_dir) as folder:
        work = Path(folder) / "work"
        work.mkdir(mode=0o700)
        try:
            manifest = extract(
                path,
                work,
                options=setup.options,
                limits=setup.limits,
                require_sandbox=setup.require_sandbox,
            )
        except MediaError as error:
            lasting = error.code in OF_THE_FILE
            return Measured(sha256=sha256, error=error.code, detail=error.detail, lasting=lasting)
        return _scored(sha256, manifest, work, panel)


def _scored(sha256: str, manifest: Manifest, work: Path, panel: Panel) -> Measured:
    video, lost_video = _seen(manifest, work, panel)
    audio, lost_audio = _heard(manifest, work, panel)
    return Measured(
        sha256=sha256,
        facts=manifest.facts,
        intervals=tuple(
            IntervalEvidence(
                index=span.index,
                start=span.start,
                end=span.end,
                video=video[span.index],
                audio=audio[span.index],
            )
            for span in manifest.spans
        ),
        branches=(*lost_video, *lost_audio),
        spoke=_spoke(manifest, panel),
        statistics=statistics.of_file(manifest, work),
    )


def _spoke(manifest: Manifest, panel: Panel) -> tuple[str, ...]:
    """Who is asked of a file that has faces, or sound: the others take no share of an operating point."""
    looked = (panel.video, panel.trace) if manifest.crop_shards else ()
    listened = (panel.audio,) if manifest.sound_shards else ()
    return tuple(one.identity.id for one in (*looked, *listened) if one is not None)


def _seen(manifest: Manifest, work: Path, panel: Panel) -> tuple[Findings, list[Branch]]:
    """What the picture says of every interval, as the branches of a running service would have it."""
    found = {one.index: one for one in remeasure.unseen(manifest)}
    lost: list[Branch] = []
    for shard in manifest.crop_shards:
        crops = np.load(work / shard.file, allow_pickle=False)
        try:
            findings = look_at(manifest, shard, crops, panel)
        except DetectorFailed:
            reason = Reason.DETECTOR_FAILED
            findings = [VideoFinding(index=n, score=None, reason=reason) for n in shard.intervals]
            lost.append(_lost(Modality.VIDEO, StepStatus.FAILED, reason, shard.shard))
        else:
            if panel.video is None:
                absent = reason_of(panel.absent[Subject.VIDEO])
                lost.append(_lost(Modality.VIDEO, StepStatus.SKIPPED, absent, shard.shard))
        found |= {one.index: _kept(one) for one in findings}
    return found, lost


def look_at(
    manifest: Manifest, shard: CropShard, crops: npt.NDArray[np.uint8], panel: Panel
) -> Sequence[VideoFinding]:
    """What the video detector and blend-trace say of a shard, as in a worker. Raises DetectorFailed."""
    findings = look(manifest, shard, crops, panel.video)
    if panel.trace is None:
        return findings
    return traces.trace(findings, manifest, shard, crops, panel.trace).findings


def _lost(modality: Modality, status: StepStatus, reason: Reason, shard: int) -> Branch:
    return Branch(modality=modality, status=status, reason=reason, shard=shard)


def _kept(finding: VideoFinding) -> VideoFinding:
    """What a verdict and a calibration are made from, and no more: boxes and regions are for people."""
    answers = tuple(face for face in finding.faces if face.track == finding.track)
    return finding.model_copy(update={"faces": answers, "regions": (), "pictures": ()})


def _heard(manifest: Manifest, work: Path, panel: Panel) -> tuple[dict[int, AudioFinding], list[Branch]]:
    """What the sound says of every interval."""
    unheard = manifest.unheard()
    found = {
        span.index: AudioFinding(index=span.index, score=None, reason=unheard) for span in manifest.spans
    }
    absent = None if panel.audio is not None else reason_of(panel.absent[Subject.AUDIO])
    lost: list[Branch] = []
    for shard in manifest.sound_shards:
        wave_form = _sound(work / str(manifest.sound_file), shard)
        spans = manifest.spans[shard.first_interval : shard.last_interval + 1]
        found |= {one.index: one for one in listen(wave_form, shard.start, spans, panel.audio, absent)}
        if absent is not None:
            lost.append(_lost(Modality.AUDIO, StepStatus.SKIPPED, absent, shard.shard))
    return found, lost


def _sound(path: Path, shard: SoundShard) -> npt.NDArray[np.float32]:
    """The samples of one shard: float32 in [-1, 1], 16 kHz."""
    with wave.open(str(path)) as file:
        first = round(shard.start * SOUND_RATE)
        file.setpos(min(first, file.getnframes()))
        raw = file.readframes(round(shard.end * SOUND_RATE) - first)
    return np.frombuffer(raw, "<i2").astype(np.float32) / 32768.0
