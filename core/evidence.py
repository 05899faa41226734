"""What extraction hands to the detectors, and what the detectors hand to fusion.

A `Manifest` is written by the sandboxed decoder as JSON beside its arrays; findings go into the
interval rows. Both are validated on reading: the decoder handles hostile bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from core.domain import Frozen, Modality, OperatingPoint, Reason, Region, SoundSignal, Span

Probability = Annotated[float, Field(ge=0, le=1)]
Point = tuple[float, float]

#: Side in pixels of the square face crops in a shard: N x 256 x 256 x 3, uint8, RGB.
CROP_SIDE = 256
#: Rate of `sound.wav`, Hz; mono, 16-bit PCM.
SOUND_RATE = 16_000


class VideoFacts(Frozen):
    """The picture stream as measured, not as the header claims."""

    codec: str
    width: int  #: pixels, upright (after the display matrix)
    height: int
    rotation: int  #: degrees clockwise that the player must turn the stored picture: 0, 90, 180, 270
    pixel_format: str
    fps: float | None  #: average rate from presentation times; None for a single frame
    frames: int  #: frames decoded
    variable_frame_rate: bool
    decode_errors: int = 0


class AudioFacts(Frozen):
    """The sound stream."""

    codec: str
    sample_rate: int
    channels: int
    decode_errors: int = 0


class MediaFacts(Frozen):
    """Container facts of one file."""

    container: str
    duration: float  #: seconds, from the samples that were decoded
    declared_duration: float | None  #: seconds, as the header says
    size_bytes: int
    video: VideoFacts | None
    audio: AudioFacts | None
    cut_short: bool = False  #: the samples end well before the declared duration


class Face(Frozen):
    """One face in one sampled frame."""

    track: int  #: id of the track it belongs to
    box: tuple[float, float, float, float]  #: x, y, width, height in pixels of the upright frame
    confidence: Probability  #: of the face detector
    landmarks: tuple[
        Point, Point, Point, Point, Point
    ]  #: right eye, left eye, nose, mouth corners (subject's right first)
    sharpness: float  #: variance of the Laplacian of the crop
    brightness: float  #: mean luma of the crop, 0 to 255
    shard: int | None = None  #: which `crops-{shard}.npy` holds the crop; None when it is not scorable
    row: int | None = None  #: row in that shard
    reason: Reason | None = None  #: why there is no crop to score


class Frame(Frozen):
    """One sampled frame."""

    n: int  #: running number over the analysis, from 0
    interval: int
    time: float  #: presentation time in seconds from the first presented sample
    faces: tuple[Face, ...] = ()
    damaged: bool = False  #: the decoder painted over what it could not read


class LipSync(Frozen):
    """How the opening of a track's mouth goes with the loudness. It informs, it never decides."""

    correlation: Annotated[float, Field(ge=-1, le=1)]  #: highest within the lags that were tried
    lag_seconds: float  #: positive: the sound comes later than the picture
    seconds: float  #: of voiced, visible time it was measured on
    null_share: Probability  #: share of real talkers that match no better (docs/lips.md); low: mismatch


class Track(Frozen):
    """One face through time."""

    id: int
    start: float
    end: float
    frames: int
    thumbnail: str | None  #: file name of its sharpest crop as JPEG, relative to the artifact folder
    lips: LipSync | None = None  #: null: no sound, no voice, or too little of both together


class CropShard(Frozen):
    """One unit of video work: the crops of whole intervals."""

    shard: int
    file: str  #: `crops-{shard}.npy`
    rows: int
    intervals: tuple[int, ...]  #: indices of the intervals whose crops it holds


class SoundShard(Frozen):
    """One unit of audio work: a span of whole intervals of `sound.wav`."""

    shard: int
    first_interval: int
    last_interval: int  #: inclusive
    start: float  #: seconds
    end: float


class Manifest(Frozen):
    """Everything extraction found, without the arrays."""

    facts: MediaFacts
    interval_seconds: float
    frames_per_interval: int
    spans: tuple[Span, ...]
    frames: tuple[Frame, ...] = ()
    tracks: tuple[Track, ...] = ()
    crop_shards: tuple[CropShard, ...] = ()
    sound_shards: tuple[SoundShard, ...] = ()
    sound_file: str | None = None  #: `sound.wav`
    frame_thumbnails: dict[int, str] = {}  #: interval index -> JPEG of its middle frame
    thumbnail_frames: dict[int, int] = {}  #: interval index -> `Frame.n` of that frame
    cuts: tuple[float, ...] = ()  #: seconds at which the whole picture changes at once
    sandbox: str = "none"  #: level the decoder ran under: bubblewrap or rlimits

    def unseen(self, frames: Sequence[Frame]) -> Reason:
        """Why an interval with these sampled frames has no face to score.

        The commonest reason of its faces, or what befell its frames.
        """
        if self.facts.video is None:
            return Reason.NO_VIDEO_STREAM
        if not frames:
            return self._frameless(self.facts.video)
        reasons = [face.reason for frame in frames for face in frame.faces if face.reason is not None]
        if reasons:
            return max(sorted(set(reasons)), key=reasons.count)
        damaged = sum(frame.damaged for frame in frames)
        return Reason.DECODE_ERROR if 2 * damaged > len(frames) else Reason.NO_FACE

    def unheard(self) -> Reason:
        """Why there is no sound to score: none in the file, or none of it could be decoded."""
        return Reason.NO_AUDIO_STREAM if self.facts.audio is None else Reason.DECODE_ERROR

    def _frameless(self, video: VideoFacts) -> Reason:
        if self.facts.cut_short:
            return Reason.CUT_SHORT
        return Reason.DECODE_ERROR if video.decode_errors else Reason.NO_NEW_FRAME


class ScoreNull(Frozen):
    """How the interval scores of unaltered files scatter: around `mean`, within a file and between files."""

    mean: float
    sd: Annotated[float, Field(gt=0)]  #: within a file
    correlation: Annotated[float, Field(ge=0, lt=1)]  #: of neighbouring intervals of a file, AR(1)
    between: Annotated[float, Field(ge=0)] = 0.0  #: standard deviation of the files' own means
    log_odds: bool = False  #: the figures are of log(p / (1 - p)), where evidence adds up, not of p


#: A bound by the number of intervals in a file: (intervals, bound), ascending; logarithmic between them.
LengthCurve = tuple[tuple[int, float], ...]


class OperatingLimits(Frozen):
    """What one operating point means for one calibrated detector. Scores are calibrated probabilities."""

    point: OperatingPoint
    share: Literal[1, 2]  #: how many modalities of a file share `rate`; each of two gets half of it
    rate: Probability  #: of unaltered files accused, all modalities together, at any length
    real_below: Probability
    suspicious: Probability
    decisive: Probability
    run_floor: Probability  #: least mean of a run that accuses
    run_excess: LengthCurve  #: null standard deviations that a run must reach to accuse
    doubt_excess: LengthCurve  #: and to take REAL away


class CalibrationSummary(Frozen):
    """How scores became probabilities, and where each operating point lies: fusion needs no file."""

    kind: Literal["isotonic", "platt"]
    real_files: int
    fake_files: int
    intervals: int
    made_at: datetime
    digest: str  #: `sha256:` of the calibration
    interval_seconds: float  #: of the timeline it was made with; limits hold for no other
    null: ScoreNull
    limits: tuple[OperatingLimits, ...]


class DetectorIdentity(Frozen):
    """Who spoke: everything needed to say which weights produced a score."""

    id: str  #: e.g. `dima806/deepfake_vs_real_image_detection`
    modality: Modality
    version: str  #: the pinned revision, or `local`
    digest: str  #: `sha256:` over the checkpoint's files
    fake_label: str  #: the label of the class taken as fake
    calibrated: bool = False  #: its scores are probabilities, at equal shares of real and fake
    calibration: CalibrationSummary | None = None  #: null exactly when it is not calibrated
    test_only: bool = False  #: made for a test; its scores mean nothing

    @property
    def mark(self) -> str:
        """What two scores of a detector must share to be compared: its weights, and their calibration."""
        return " ".join([self.digest, *([self.calibration.digest] if self.calibration else [])])


class FaceScore(Frozen):
    """A detector's answer on one crop, placed in its frame."""

    frame: int  #: `Frame.n`
    time: float
    track: int
    box: tuple[float, float, float, float]
    score: Probability


class RegionEffect(Frozen):
    """How far hiding a region moved the fake score."""

    region: Region
    drop: float  #: mean of (score - score with the region hidden); positive: the region spoke for fake
    spread: float  #: standard deviation over the frames it was measured on


class TrackScore(Frozen):
    """One face in one interval."""

    track: int
    score: Probability  #: mean over its scored frames
    frames: int


class TraceFinding(Frozen):
    """What the manipulation-trace detector says of one interval. Score and reason: exactly one is null.

    It supports or takes REAL away; it never accuses alone.
    """

    detector: str  #: its id
    threshold: Probability  #: from here on it is a trace
    score: Probability | None  #: of the strongest track
    reason: Reason | None
    track: int | None = None


class KeyPicture(Frozen):
    """A suspicious face as pictures: its crop, and where the model looked."""

    frame: int  #: `Frame.n`
    time: float
    track: int
    box: tuple[float, float, float, float]
    score: Probability
    crop: str  #: object key of the JPEG, 256 x 256
    heatmap: str | None  #: object key of the same crop under its heatmap
    method: Literal["attention_rollout", "occlusion_grid"] | None
    detector: str  #: id of the detector whose look it shows


SpliceKind = Literal["background", "click", "phase", "hum", "bandwidth"]


class Splice(Frozen):
    """A place where two recordings may have been joined."""

    time: float  #: seconds of the timeline
    kind: SpliceKind
    strength: float  #: measured over its bound; 1 is the bound


class Signal(Frozen):
    """A sound measure beside its label."""

    signal: SoundSignal
    value: float
    unit: str
    threshold: float  #: the bound it crossed
    note: str = ""


class VideoFinding(Frozen):
    """What the picture says of one interval. Score and reason: exactly one is null."""

    index: int
    score: Probability | None
    reason: Reason | None
    track: int | None = None  #: the track whose faces gave the score
    regions: tuple[RegionEffect, ...] = ()
    faces: tuple[FaceScore, ...] = ()
    tracks: tuple[TrackScore, ...] = ()  #: every scored face, the strongest first
    trace: TraceFinding | None = None
    pictures: tuple[KeyPicture, ...] = ()  #: of suspicious intervals
    detectors: dict[str, float] = {}  #: detector id -> its score


class AudioFinding(Frozen):
    """What the sound says of one interval. Score and reason: exactly one is null."""

    index: int
    score: Probability | None
    reason: Reason | None
    speech_seconds: float | None = None  #: of the interval, by voice activity detection
    level_dbfs: float | None = None  #: RMS level; None for digital silence
    signals: tuple[Signal, ...] = ()  #: measured oddities, shown also when there is no score
    measures: dict[str, float] = {}  #: what was measured, crossed or not
    splices: tuple[Splice, ...] = ()
    notes: tuple[Reason, ...] = ()  #: what makes its score less worth: music, clipped, narrow_band
    detectors: dict[str, float] = {}
