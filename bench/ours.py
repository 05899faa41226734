"""The product's functions in one process, one after the other: `python -m bench.ours CLIP VIT WAV2VEC2`."""

from __future__ import annotations

import hashlib
import sys
import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean
from typing import cast
from uuid import UUID

import librosa
import numpy as np
from numpy.typing import NDArray

from bench.outcome import Outcome, milliseconds
from core import report
from core.config import Limits, ModelSettings
from core.domain import Modality, Options
from core.evidence import CROP_SIDE, SOUND_RATE, AudioFinding, DetectorIdentity, Manifest, VideoFinding
from core.fusion.inputs import IntervalEvidence
from core.fusion.narrators import template
from core.fusion.verdict import judge
from workers.detectors import registry, speech
from workers.detectors.base import AudioDetector, FrameDetector
from workers.detectors.listen import listen
from workers.detectors.look import look
from workers.detectors.windows import windows
from workers.media.decode import SOUND_FILE
from workers.media.extract import extract

Wave = NDArray[np.float32]


class NotingEar:
    """Passes windows on to the detector and keeps the scores, which findings hold as means only."""

    def __init__(self, detector: AudioDetector) -> None:
        self._detector = detector
        self.scored: list[tuple[Wave, float]] = []

    @property
    def identity(self) -> DetectorIdentity:
        """Of the detector."""
        return self._detector.identity

    @property
    def window_seconds(self) -> float | None:
        """Of the detector."""
        return self._detector.window_seconds

    def scores(self, windows: list[Wave], /, *, checkpoint: Callable[[], None]) -> NDArray[np.float32]:
        """Of the detector, noted."""
        answers = self._detector.scores(windows, checkpoint=checkpoint)
        self.scored += zip(windows, answers.tolist(), strict=True)
        return answers


def run(clip: Path, video: str, audio: str) -> Outcome:
    """Extract, look, listen, judge."""
    outcome = Outcome("functions")
    with outcome.stage("load"):
        settings = ModelSettings(video=video, audio=audio)
        eye = cast("FrameDetector", registry.load(Modality.VIDEO, settings, allow_test=True))
        ear = NotingEar(cast("AudioDetector", registry.load(Modality.AUDIO, settings, allow_test=True)))
        eye.scores(np.zeros((1, CROP_SIDE, CROP_SIDE, 3), np.uint8))  # the first call compiles kernels
    outcome.notes["numbers"] = str(eye.dtype).removeprefix("torch.")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        with outcome.stage_of_children("extract"):
            manifest = extract(clip, work, options=Options(), limits=Limits(), require_sandbox=False)
        with outcome.stage("look"):
            seen = _look(manifest, work, eye)
        with outcome.stage("listen"):
            wave, _ = librosa.load(work / SOUND_FILE, sr=SOUND_RATE)
            heard = listen(wave, 0.0, manifest.spans, ear, None)
    outcome.notes["sandbox"] = manifest.sandbox
    with outcome.stage("judge"):
        _judge(manifest, seen, heard, (eye.identity, ear.identity), clip)
    _note_scores(outcome, seen, ear, wave)
    return outcome


def _look(manifest: Manifest, work: Path, eye: FrameDetector) -> list[VideoFinding]:
    """Shard by shard, as the video workers do."""
    return [
        finding
        for shard in manifest.crop_shards
        for finding in look(manifest, shard, np.load(work / shard.file, allow_pickle=False), eye)
    ]


def _judge(
    manifest: Manifest,
    seen: Sequence[VideoFinding],
    heard: Sequence[AudioFinding],
    detectors: tuple[DetectorIdentity, ...],
    clip: Path,
) -> report.Report:
    """Verdict, explanation and report."""
    pairs = zip(manifest.spans, seen, heard, strict=True)
    rows = [
        IntervalEvidence(index=span.index, start=span.start, end=span.end, video=video, audio=audio)
        for span, video, audio in pairs
    ]
    judgement = judge(rows, facts=manifest.facts, detectors=detectors)
    return report.build(
        judgement,
        template.write(judgement),
        analysis_id=UUID(int=0),
        timestamp=datetime.now(UTC),
        input_sha256=hashlib.sha256(clip.read_bytes()).hexdigest(),
        options=Options(),
        sandbox=manifest.sandbox,
        tracks=manifest.tracks,
    )


def _note_scores(outcome: Outcome, seen: Sequence[VideoFinding], ear: NotingEar, wave: Wave) -> None:
    """Scores by frame and by window, and how many intervals were explained on top of the common job."""
    outcome.frames = {milliseconds(face.time): face.score for one in seen for face in one.faces}
    scored = [one.score for one in seen if one.score is not None]
    outcome.video_score = fmean(scored) if scored else None
    seconds = len(wave) / SOUND_RATE
    places = windows(speech.stretches(speech.probabilities(wave), seconds), seconds)
    pairs = zip(places, ear.scored, strict=True)
    outcome.windows = {f"{milliseconds(a)}-{milliseconds(b)}": score for (a, b), (_, score) in pairs}
    outcome.audio_score = fmean(outcome.windows.values()) if outcome.windows else None
    outcome.notes["intervals explained by occlusion"] = str(sum(bool(one.regions) for one in seen))


if __name__ == "__main__":
    clip_path, *checkpoints = sys.argv[1:]
    run(Path(clip_path), *checkpoints).hand_over()
