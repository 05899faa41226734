"""The JSON of the API. Every field is documented here, once, and in the OpenAPI document from here."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Generic, TypeVar
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

from core.domain import (
    AnalysisStatus,
    Lane,
    Options,
    Reason,
    Region,
    SoundSignal,
    Stage,
    StepStatus,
    Verdict,
)
from core.evidence import LipSync, MediaFacts, Splice, TraceFinding, TrackScore

Item = TypeVar("Item")
#: Cursors are ours; no real one is near this long.
MAX_CURSOR = 512
Score = Annotated[float, Field(ge=0, le=1)]


class Problem(BaseModel):
    """An error (RFC 9457). `code` is stable; the words are for people. Some codes add members."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(description="Address that names this kind of problem.")
    title: str = Field(description="The kind of problem in words.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="What happened, for people.")
    code: str = Field(description="What happened, for programs. Never changes its meaning.")
    instance: str | None = Field(default=None, description="Path of the request.")
    request_id: str | None = Field(default=None, description="Finds the request in the server's log.")


class StageState(BaseModel):
    """How far one stage of the work is."""

    stage: Stage
    status: StepStatus
    done: int = Field(description="Units of work that have ended, in whatever way.")
    total: int = Field(description="Units of work that are known so far.")
    reasons: list[str] = Field(description="Why units were skipped or failed.")


class Progress(BaseModel):
    """How far the work is."""

    fraction: Score = Field(description="0 to 1; it is 1 when the analysis has ended, and only then.")
    stages: list[StageState] = Field(description="In the order of the work; stages not owed yet are absent.")


class MediaState(BaseModel):
    """The file that was sent."""

    sha256: str = Field(description="SHA-256 of the bytes received, in hexadecimal.")
    size_bytes: int
    filename: str | None = Field(description="The sender's name for it, cleaned; for display only.")
    facts: MediaFacts | None = Field(description="What decoding found; null until extraction has run.")


class Retention(BaseModel):
    """How long the file and its pictures are kept; the report stays until the analysis is deleted."""

    hours: int | None = Field(description="As asked for; null: the server's own rule.")
    media_until: datetime | None = Field(description="They go then; null before the end, or: kept.")
    media_erased_at: datetime | None = Field(description="They are gone since.")
    legal_hold: bool = Field(description="Nothing is erased while it lasts.")


class Links(BaseModel):
    """Where to go from here."""

    self: str
    intervals: str
    tracks: str
    report: str | None = Field(description="The report as a page for people; null while there is none.")
    derived_from: str | None = Field(description="The analysis whose file this one looks at again.")


class Analysis(BaseModel):
    """One analysis: the same envelope from acceptance to the end."""

    id: UUID
    status: AnalysisStatus
    progress: Progress
    lane: Lane
    source_url: str | None = Field(description="Where the file was fetched from; null when it was sent.")
    media: MediaState | None = Field(description="Null until the file has been fetched.")
    retention: Retention
    webhook_url: str | None = Field(description="Told of this analysis, beside the endpoints.")
    options: Options
    metadata: dict[str, Any] = Field(description="The sender's own object, unchanged.")
    verdict: Verdict | None = Field(description="Null until there is a report.")
    confidence: float | None = Field(
        description="0 to 100: how sure the verdict is; null when nothing was scored.", ge=0, le=100
    )
    report: dict[str, Any] | None = Field(description="The full report once the analysis is completed.")
    error: Problem | None = Field(description="Why the analysis failed.")
    derived_from: UUID | None = Field(description="Whose file this looks at again; it may be gone.")
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    deadline: datetime = Field(description="What is not done by then is failed: deadline_exceeded.")
    links: Links


class Summary(BaseModel):
    """One line of a list; the whole envelope is at `links.self`."""

    id: UUID
    status: AnalysisStatus
    lane: Lane
    source_url: str | None = Field(description="Where the file was fetched from; null when it was sent.")
    media: MediaState | None = Field(description="Null until the file has been fetched.")
    retention: Retention
    webhook_url: str | None = Field(description="Told of this analysis, beside the endpoints.")
    options: Options
    metadata: dict[str, Any] = Field(description="The sender's own object, unchanged.")
    verdict: Verdict | None
    confidence: float | None = Field(ge=0, le=100)
    error: Problem | None
    derived_from: UUID | None = Field(description="Whose file this looks at again; it may be gone.")
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    links: Links


class Face(BaseModel):
    """One face in one sampled frame."""

    track: int = Field(description="The face's number through the video.")
    box: tuple[float, float, float, float] = Field(description="x, y, width, height in pixels, upright.")
    confidence: Score = Field(description="Of the face detector, not of the verdict.")
    landmarks: list[tuple[float, float]] = Field(
        description="Eyes, nose, mouth corners; subject's right first."
    )
    sharpness: float = Field(description="Variance of the Laplacian of the crop.")
    brightness: float = Field(description="Mean luma of the crop, 0 to 255.")
    reason: Reason | None = Field(default=None, description="Why this face could not be scored.")


class Frame(BaseModel):
    """One sampled frame."""

    n: int = Field(description="Running number over the analysis, from 0.")
    interval: int
    time: float = Field(description="Seconds from the first presented sample.")
    faces: list[Face]
    damaged: bool = Field(default=False, description="The decoder painted over what it could not read.")


class FaceScore(BaseModel):
    """The detector's answer on one face."""

    frame: int
    time: float
    track: int
    box: tuple[float, float, float, float]
    score: Score


class RegionEffect(BaseModel):
    """How far hiding a part of the face moved the score."""

    region: Region
    drop: float = Field(description="Mean fall of the score; positive: the region spoke for fake.")
    spread: float = Field(description="Standard deviation over the frames measured.")


class Signal(BaseModel):
    """A measured oddity of the voice."""

    signal: SoundSignal
    value: float
    unit: str
    threshold: float = Field(description="The bound it crossed.")
    note: str = ""


class KeyPicture(BaseModel):
    """A suspicious face as pictures."""

    frame: int
    time: float
    track: int
    box: tuple[float, float, float, float]
    score: Score
    detector: str = Field(description="Whose look the heatmap shows.")
    method: str | None = Field(description="How the heatmap was made; null without one.")
    face: str | None = Field(description="Path of its crop as JPEG; null: erased.")
    heatmap: str | None = Field(description="Path of the crop under its heatmap; null: none, or erased.")


class VideoEvidence(BaseModel):
    """What the picture says."""

    track: int | None = Field(default=None, description="The face that gave the score.")
    regions: list[RegionEffect] = []
    faces: list[FaceScore] = []
    tracks: list[TrackScore] = Field(default=[], description="Every scored face, the strongest first.")
    trace: TraceFinding | None = Field(default=None, description="It supports, it never accuses alone.")
    pictures: list[KeyPicture] = Field(default=[], description="Of suspicious intervals.")
    detectors: dict[str, float] = Field(default={}, description="Score by detector id.")


class AudioEvidence(BaseModel):
    """What the sound says."""

    speech_seconds: float | None = Field(default=None, description="Of the interval.")
    level_dbfs: float | None = Field(default=None, description="RMS level; null for digital silence.")
    signals: list[Signal] = []
    measures: dict[str, float] = Field(default={}, description="What was measured, crossed or not.")
    splices: list[Splice] = Field(default=[], description="Where two recordings may have been joined.")
    notes: list[Reason] = Field(default=[], description="What makes its score less worth.")
    detectors: dict[str, float] = Field(default={}, description="Score by detector id.")


class Interval(BaseModel):
    """A piece of the timeline. Of score and reason, exactly one is null, for each modality."""

    index: int
    start: float = Field(description="Seconds.")
    end: float = Field(description="Seconds.")
    video_score: Score | None = Field(description="Probability of fake.")
    video_reason: Reason | None = Field(description="Why there is no score.")
    audio_score: Score | None = Field(description="Probability of fake.")
    audio_reason: Reason | None = Field(description="Why there is no score.")
    frames: list[Frame]
    still: str | None = Field(description="Path of its middle frame as JPEG; null: none, or erased.")
    video: VideoEvidence | None = Field(description="Null when no detector looked.")
    audio: AudioEvidence | None = Field(description="Null when nobody listened.")


class Page(BaseModel, Generic[Item]):
    """A page. Only a null `next_cursor` means the end; a short page does not."""

    items: list[Item]
    next_cursor: str | None = Field(description="Give it as `cursor`, with the same filters.")


class TrackLinks(BaseModel):
    """Where its picture is."""

    thumbnail: str | None = Field(description="The face at its sharpest; null: none was kept, or erased.")


class Track(BaseModel):
    """One face through the video."""

    id: int = Field(description="The face's number, as `track` in intervals.")
    start: float = Field(description="Seconds.")
    end: float = Field(description="Seconds.")
    frames: int = Field(description="Sampled frames it was seen in.")
    score: Score | None = Field(description="Mean over its scored frames; null: none was scored.")
    lips: LipSync | None = Field(description="Null: no sound, no voice, or too little of both together.")
    links: TrackLinks


class Tracks(BaseModel):
    """The faces of an analysis, all of them."""

    items: list[Track]


class Strict(BaseModel):
    """Base of query parameters: an unknown one is an error, not a filter that silently does nothing."""

    model_config = ConfigDict(extra="forbid")


class IntervalQuery(Strict):
    """Which page of the intervals."""

    cursor: str | None = Field(default=None, max_length=MAX_CURSOR, description="`next_cursor` of a page.")
    limit: int = Field(default=100, ge=1, le=500)


def _in_utc(moment: datetime) -> datetime:
    """PostgreSQL takes no offset beyond 16 hours, RFC 3339 takes up to 24. Raises ValueError."""
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("it lies outside the years 1 to 9999") from error


def _written_out(moment: Any) -> Any:
    """A bare number would be taken for seconds since 1970, or for milliseconds. Raises ValueError."""
    if isinstance(moment, str) and not RFC_3339.match(moment):
        raise ValueError("it is not a date and time like 2026-01-31T12:00:00Z")
    return moment


#: How a moment begins; the rest is checked by who reads it.
RFC_3339 = re.compile(r"\d{4}-\d{2}-\d{2}[Tt ]")
Moment = Annotated[AwareDatetime, BeforeValidator(_written_out), AfterValidator(_in_utc)]


class AnalysisQuery(Strict):
    """Which analyses, and which page of them."""

    status: AnalysisStatus | None = None
    verdict: Verdict | None = None
    created_after: Moment | None = Field(default=None, description="At or after; with a time zone.")
    created_before: Moment | None = Field(default=None, description="Before; with a time zone.")
    sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$", description="Of the file.")
    cursor: str | None = Field(default=None, max_length=MAX_CURSOR, description="`next_cursor` of a page.")
    limit: int = Field(default=50, ge=1, le=200)


class StatusCounts(BaseModel):
    """Analyses by status."""

    total: int
    queued: int
    processing: int
    completed: int
    failed: int
    canceled: int


class Bin(BaseModel):
    """One bar of a histogram: from (inclusive) to (exclusive; the last one inclusive)."""

    model_config = ConfigDict(populate_by_name=True)

    from_: float = Field(alias="from")
    to: float
    count: int


class ConfidenceStats(BaseModel):
    """How sure the verdicts were."""

    mean: float | None
    histogram: list[Bin]


class ModalityStats(BaseModel):
    """How often a modality could be scored, and how high."""

    scored_intervals: int
    mean_score: float | None


class ModalitiesStats(BaseModel):
    """Audio against video."""

    intervals: int
    video: ModalityStats
    audio: ModalityStats


class MediaStats(BaseModel):
    """Files stored for this owner; the same bytes count once."""

    files: int
    bytes: int


class Stats(BaseModel):
    """Counts and distributions over the caller's own analyses."""

    analyses: StatusCounts
    verdicts: dict[Verdict, int]
    confidence: ConfidenceStats
    modalities: ModalitiesStats
    media: MediaStats
