"""The words of the product: statuses and what may follow what, verdicts, reasons, options."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field


class Frozen(BaseModel):
    """Base of every value object: immutable, and an unknown field is an error, not noise."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class AnalysisStatus(StrEnum):
    """Where an analysis stands. It ends exactly once."""

    QUEUED = "queued"  #: accepted and owed; no worker has touched it
    PROCESSING = "processing"  #: at least one step has been claimed
    COMPLETED = "completed"  #: has a report, possibly partial, possibly INCONCLUSIVE
    FAILED = "failed"  #: no report is possible; `error` says why
    CANCELED = "canceled"  #: the owner asked for it


ACTIVE: Final = frozenset({AnalysisStatus.QUEUED, AnalysisStatus.PROCESSING})
TERMINAL: Final = frozenset(AnalysisStatus) - ACTIVE

#: What may follow what. `core.analyses.transition` lets nothing else through.
ANALYSIS_TRANSITIONS: Final[dict[AnalysisStatus, frozenset[AnalysisStatus]]] = {
    AnalysisStatus.QUEUED: frozenset(
        {AnalysisStatus.PROCESSING, AnalysisStatus.FAILED, AnalysisStatus.CANCELED}
    ),
    AnalysisStatus.PROCESSING: TERMINAL,
    AnalysisStatus.COMPLETED: frozenset(),
    AnalysisStatus.FAILED: frozenset(),
    AnalysisStatus.CANCELED: frozenset(),
}


class Stage(StrEnum):
    """A kind of queue work; one `steps` row per (analysis, stage, shard)."""

    EXTRACT = "extract"
    VIDEO = "video"
    AUDIO = "audio"
    STABILITY = "stability"  #: between two fusions, where it was asked for
    FUSE = "fuse"


#: The chord header: what must be terminal before fusion may judge.
BRANCHES: Final = frozenset({Stage.VIDEO, Stage.AUDIO})
#: No fusion may judge while one of these is open.
BEFORE_FUSION: Final = BRANCHES | {Stage.EXTRACT, Stage.STABILITY}


class StepStatus(StrEnum):
    """Where a step stands."""

    PENDING = "pending"  #: owed; may or may not have been published
    RUNNING = "running"  #: leased by one process
    DONE = "done"  #: its results are in the same transaction
    FAILED = "failed"  #: `reason` says why; fusion judges what there is
    SKIPPED = "skipped"  #: nothing to do, and `reason` says why


STEP_TERMINAL: Final = frozenset({StepStatus.DONE, StepStatus.FAILED, StepStatus.SKIPPED})


class Modality(StrEnum):
    """What a detector looks at."""

    VIDEO = "video"
    AUDIO = "audio"


class Verdict(StrEnum):
    """The answer. INCONCLUSIVE is an answer."""

    DEEPFAKE = "DEEPFAKE"
    REAL = "REAL"
    INCONCLUSIVE = "INCONCLUSIVE"


class Reason(StrEnum):
    """Why a score is null, or why a verdict is INCONCLUSIVE. Machine-readable and stable."""

    NOT_ANALYZED = "not_analyzed"  #: no step has looked at it yet
    NO_VIDEO_STREAM = "no_video_stream"
    NO_AUDIO_STREAM = "no_audio_stream"
    NO_FACE = "no_face"
    FACE_TOO_SMALL = "face_too_small"
    BLURRED = "blurred"
    OCCLUDED = "occluded"
    TOO_DARK = "too_dark"
    TOO_SHORT = "too_short"
    OUT_OF_DOMAIN = "out_of_domain"
    SILENCE = "silence"
    NO_SPEECH = "no_speech"  #: sound, but no voice: music, noise, applause
    NO_DETECTOR_WEIGHTS = "no_detector_weights"
    DETECTOR_FAILED = "detector_failed"
    DECODE_ERROR = "decode_error"
    NO_NEW_FRAME = "no_new_frame"  #: a picture held still from before: nothing new to look at
    CUT_SHORT = "cut_short"  #: the file ends before its header says it does
    WORKER_LOST = "worker_lost"
    LOW_COVERAGE = "low_coverage"  #: too little face or speech time was scored to say REAL
    CONFLICTING_MODALITIES = "conflicting_modalities"
    BETWEEN_THRESHOLDS = "between_thresholds"
    NOTHING_SCORED = "nothing_scored"
    MANIPULATION_TRACE = "manipulation_trace"  #: the trace detector speaks where nothing else accuses
    UNSTABLE_UNDER_REENCODING = "unstable_under_reencoding"  #: another delivery of it gets another verdict
    MUSIC = "music"  #: music covers what voice there may be
    CLIPPED = "clipped"  #: the sound is overdriven: what a detector hears there is the distortion
    NARROW_BAND = "narrow_band"  #: a telephone's band: no accusation, but the detectors were not made for it


class Region(StrEnum):
    """A part of a face whose hiding moves a detector's score."""

    EYES = "eyes"
    NOSE = "nose"
    MOUTH = "mouth"
    FOREHEAD = "forehead"
    CHEEKS = "cheeks"
    CHIN = "chin"
    FACE_BOUNDARY = "face_boundary"
    UNNATURAL_SYMMETRY = "unnatural_symmetry"


class SoundSignal(StrEnum):
    """A measurable oddity of a voice. Each is reported with the value that was measured."""

    VOICE_SYNTHESIS_ARTIFACTS = "voice_synthesis_artifacts"
    MONOTONE_VOICE = "monotone_voice"
    ERRATIC_PITCH = "erratic_pitch"
    HIGH_FREQUENCY_NOISE = "high_frequency_noise"
    OVERLY_SMOOTH_AUDIO = "overly_smooth_audio"
    SPECTRAL_ARTIFACTS = "spectral_artifacts"
    AUDIO_SPLICING = "audio_splicing"
    UNNATURAL_CONSISTENCY = "unnatural_consistency"


class AvSignal(StrEnum):
    """What picture and sound say together. It informs, it never decides."""

    AV_MISMATCH = "av_mismatch"  #: a face is there while a voice speaks, and no mouth moves with it


class Lane(StrEnum):
    """How long the submitter can wait, the most urgent first. Each is a queue of its own."""

    INTERACTIVE = "interactive"  #: a person is looking at the screen
    STANDARD = "standard"
    BATCH = "batch"  #: thousands, by tomorrow


class OperatingPoint(StrEnum):
    """How an error of one kind is weighed against the other. Figures stand in the detectors' calibrations."""

    FPR_1 = "fpr_1"  #: at most 1 of 100 unaltered files accused
    FPR_5 = "fpr_5"  #: at most 5 of 100
    BALANCED = "balanced"  #: both errors equally likely


class Variant(StrEnum):
    """How a file may look after somebody has passed it on; figures in workers.media.variants."""

    CRF_23 = "crf_23"  #: encoded again: as good as it comes
    CRF_28 = "crf_28"  #: as a messenger does
    CRF_35 = "crf_35"  #: as a bad connection does
    HALF = "half"  #: both sides halved
    QUARTER = "quarter"
    CROPPED = "cropped"  #: a tenth cut off each edge


class Label(StrEnum):
    """What a person knows of a file, from elsewhere."""

    REAL = "real"
    FAKE = "fake"


#: The bounds of the timeline, from the product's first description: 2 s and 5 frames by default.
IntervalSeconds = Annotated[float, Field(ge=1, le=5)]
FramesPerInterval = Annotated[int, Field(ge=1, le=25)]


class Options(Frozen):
    """What the submitter may choose."""

    interval_seconds: IntervalSeconds = 2.0
    frames_per_interval: FramesPerInterval = 5
    operating_point: OperatingPoint = OperatingPoint.BALANCED
    stability: bool = False  #: score re-encoded, scaled and cropped copies too


#: Ten years: what is to be kept longer is kept by a legal hold or by its owner.
MAX_RETENTION_HOURS: Final = 87_600


#: Of an address, for documents; `core.urls` decides.
A_URL: Final[dict[str, Any]] = {"format": "uri", "pattern": "^https?://"}


class Terms(Frozen):
    """What the submitter asks of the service; none of it changes the answer."""

    lane: Lane = Lane.STANDARD
    #: Seconds from acceptance; what is not done by then is failed. None, and at most: the server's own.
    deadline_seconds: Annotated[int, Field(ge=10)] | None = None
    #: Hours after the end that media and pictures are kept; 0: not at all. None: the server's own.
    retention_hours: Annotated[int, Field(ge=0, le=MAX_RETENTION_HOURS)] | None = None
    webhook_url: Annotated[str, Field(min_length=1, max_length=2048, json_schema_extra=A_URL)] | None = None


class Span(Frozen):
    """One interval of the timeline, in seconds from the first presented sample."""

    index: int
    start: float
    end: float


def timeline(duration: float, interval_seconds: float) -> tuple[Span, ...]:
    """Cut `duration` seconds into consecutive intervals; the last one may be shorter.

    A remainder shorter than a tenth of an interval is joined to the one before it, so that a
    2.001 s clip is one interval rather than one and a sliver. Duration must be positive.
    """
    if duration <= 0:
        raise ValueError("duration must be positive")
    count = max(1, int(duration / interval_seconds + 0.9))
    ends = [interval_seconds * (n + 1) for n in range(count - 1)] + [duration]
    starts = [0.0, *ends[:-1]]
    return tuple(
        Span(index=n, start=round(start, 6), end=round(end, 6))
        for n, (start, end) in enumerate(zip(starts, ends, strict=True))
    )
