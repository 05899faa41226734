"""The report of one analysis: the product's first fields, exactly, and beside them what they rest on.

Scores are fake probabilities from 0 to 1 with three digits; whatever was not measured is null, never 0.
"""

from __future__ import annotations

import importlib.metadata
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from core.av import AudioVisual, summarise
from core.domain import Frozen, Modality, OperatingPoint, Options, Reason, Region, SoundSignal, Verdict
from core.evidence import DetectorIdentity, LipSync, MediaFacts, Probability, Signal, SpliceKind, Track
from core.fusion.aggregate import CitedRun, ModalityEvidence, mean
from core.fusion.inputs import IntervalEvidence
from core.fusion.judgement import Judgement, Standing
from core.fusion.narrators.figures import rounded
from core.fusion.narrators.narration import Narration
from core.fusion.stability import Stability
from core.fusion.thresholds import Thresholds
from core.fusion.trace import TraceEvidence

Score = Annotated[Probability | None, Field(description="Fake probability, 0 to 1; null: not measured")]
Place = Annotated[str, Field(description="Start and end in seconds", examples=["4.0-6.0"])]
_MEBIBYTE = 1024 * 1024


class OverallScores(Frozen):
    """Means over the intervals that were scored."""

    overall_video_score: Score
    overall_audio_score: Score
    overall_combined_score: Score = Field(description="Mean of the two above; of one where one is null")


class SuspiciousInterval(Frozen):
    """An interval in which a modality reached `suspicious`."""

    interval: Place
    video_score: Score
    audio_score: Score
    video_regions: tuple[Region, ...] = Field(
        description="Parts of the face that moved the detector's score when hidden, strongest first"
    )
    audio_regions: tuple[SoundSignal, ...] = Field(description="Sound signals that crossed their bounds")


class VideoInfo(Frozen):
    """The file as measured, not as its header claims."""

    duration: float = Field(ge=0, description="Seconds")
    fps: float | None = Field(description="Average frames a second; null without a moving picture")
    total_frames: int | None = Field(description="Decoded frames; null without a picture")
    file_size_mb: float = Field(ge=0, description="Size in units of 1024 x 1024 bytes")


class ModalityCoverage(Frozen):
    """How much of a modality could be scored, how much was, and what it amounts to."""

    standing: Standing = Field(description="Its part in the verdict: absent, clear, unclear, near or fake")
    scorable_seconds: float = Field(ge=0, description="Face time or speech time")
    scored_seconds: float = Field(ge=0)
    share: Probability | None = Field(description="Scored of scorable, 0 to 1; null: nothing to score")
    scored_intervals: int
    suspicious_intervals: int
    unscored_intervals: dict[Reason, int] = Field(description="Intervals without a score, by reason")
    noted_intervals: dict[Reason, int] = Field(
        description="Intervals of sound whose score is worth less, scored or not, by what was noted"
    )
    strongest_run: CitedRun | None = Field(description="Neighbouring intervals that accuse together")
    doubtful_run: CitedRun | None = Field(
        description="The same at the weaker bound that only takes REAL away"
    )


class Coverage(Frozen):
    """Both modalities."""

    video: ModalityCoverage
    audio: ModalityCoverage


class TraceSummary(Frozen):
    """What the manipulation-trace detector saw. It never decides alone; a trace is no proof of a deepfake."""

    detector: str
    found: bool = Field(description="The mean or a run of intervals shows a manipulation trace")
    score: Score
    threshold: Probability = Field(description="From here on a score is a manipulation trace")
    scored_intervals: int = Field(description="Intervals within its domain")
    unscored_intervals: dict[Reason, int] = Field(description="Intervals it says nothing of, by reason")
    strongest_run: CitedRun | None = Field(description="Neighbouring intervals that show it together")


class ReportedReason(Frozen):
    """Why there is no firmer verdict, or why something was not measured."""

    reason: Reason
    modality: Modality | None = Field(description="Null: the whole file")
    intervals: int | None = Field(description="Intervals that it left without a score")
    decisive: bool = Field(description="It is why the verdict is INCONCLUSIVE")
    text: str = Field(description="The reason in words")
    mend: str | None = Field(description="The command that removes it, to be run on the server")


class SignalSummary(Frozen):
    """A sound signal over the whole file. Signals inform; the verdict does not rest on them."""

    signal: SoundSignal
    intervals: int = Field(description="In how many intervals it crossed its bound")
    interval: Place = Field(description="Where it lay farthest beyond it")
    value: float = Field(description="What was measured there")
    unit: str
    threshold: float


class SplicePoint(Frozen):
    """A place where two recordings may have been joined. It informs; the verdict does not rest on it."""

    time: float = Field(ge=0, description="Seconds")
    kind: SpliceKind = Field(description="What changes or jumps there")
    strength: float = Field(description="What was measured, over its bound: 1 is the bound")


class TrackSummary(Frozen):
    """One face through the video."""

    id: int
    start: float = Field(description="Seconds")
    end: float
    frames: int = Field(description="Sampled frames it was seen in")
    score: Score = Field(description="Mean over its scored frames; null: none was scored")
    suspicious_intervals: tuple[Place, ...] = Field(description="Those whose video score is this face's")
    lips: LipSync | None = Field(description="How its mouth goes with the voice; null: not measurable")


class Provenance(Frozen):
    """Everything that produced the verdict."""

    input_sha256: str = Field(pattern="^[0-9a-f]{64}$")
    detectors: tuple[DetectorIdentity, ...]
    test_only: bool = Field(description="A detector made for tests took part: the verdict means nothing")
    operating_point: OperatingPoint = Field(description="As asked for")
    honoured: bool = Field(
        description="Whether the error rate of the operating point holds; it needs calibrated detectors"
    )
    thresholds: Thresholds
    calibrated: bool = Field(description="False: the confidence is a score, not a probability")
    sandbox: str = Field(description="What the decoder ran under", examples=["bubblewrap", "rlimits"])
    version: str = Field(description="Of DeepDefend")
    options: Options
    facts: MediaFacts


class Narrator(Frozen):
    """Who wrote `detailed_analysis`."""

    narrator: Literal["template", "gemini", "openai"]
    model: str | None
    prompt_version: str | None
    prompt_sha256: str | None
    input_tokens: int | None = Field(default=None, description="As the model's server counts them")
    output_tokens: int | None = None
    fallback_reason: str | None = Field(description="Why a language model's text was not used")


class Report(Frozen):
    """The result of one analysis."""

    verdict: Verdict
    confidence: float | None = Field(
        ge=0, le=100, description="Of the verdict, 0 to 100, from scores alone; null when INCONCLUSIVE"
    )
    overall_scores: OverallScores
    detailed_analysis: str = Field(description="Explanation in English; it cites intervals like [4.0-6.0]")
    suspicious_intervals: tuple[SuspiciousInterval, ...]
    total_intervals_analyzed: int = Field(ge=0, description="Intervals that at least one step looked at")
    video_info: VideoInfo
    analysis_id: UUID
    timestamp: datetime = Field(description="When the verdict was reached, UTC")

    test_only: bool = Field(description="True: a detector made for tests took part; not a real verdict")
    coverage: Coverage
    trace: TraceSummary | None = Field(description="Null: the manipulation-trace detector did not look")
    reasons: tuple[ReportedReason, ...] = Field(description="The decisive ones first")
    signals: tuple[SignalSummary, ...]
    splices: tuple[SplicePoint, ...] = Field(description="In order of time; their absence says nothing")
    tracks: tuple[TrackSummary, ...]
    av: AudioVisual
    provenance: Provenance
    narrator: Narrator
    stability: Stability | None = Field(
        description="What other deliveries of the file say; null: not asked for, or nothing to measure"
    )
    stability_reason: Reason | None = Field(description="Why it was not measured although it was asked for")


def build(
    judgement: Judgement,
    narration: Narration,
    *,
    analysis_id: UUID,
    timestamp: datetime,
    input_sha256: str,
    options: Options,
    sandbox: str,
    tracks: Sequence[Track] = (),
    stability: Stability | None = None,
    stability_reason: Reason | None = None,
) -> Report:
    """The report of a judgement. `timestamp` must carry a time zone."""
    if timestamp.tzinfo is None:
        raise ValueError("timestamp needs a time zone")
    return Report(
        verdict=judgement.verdict,
        confidence=judgement.confidence,
        overall_scores=_overall(judgement),
        detailed_analysis=narration.text,
        suspicious_intervals=tuple(_suspicious(row) for row in judgement.suspicious),
        total_intervals_analyzed=sum(_looked_at(row) for row in judgement.intervals),
        video_info=_video_info(judgement.facts),
        analysis_id=analysis_id,
        timestamp=timestamp,
        test_only=judgement.test_only,
        coverage=_coverage(judgement),
        trace=_trace(judgement.trace),
        reasons=_reasons(judgement),
        signals=_signals(judgement.intervals),
        splices=_splices(judgement.intervals),
        tracks=tuple(_track(track, judgement) for track in tracks),
        av=summarise(tracks, judgement.intervals),
        provenance=_provenance(judgement, input_sha256=input_sha256, options=options, sandbox=sandbox),
        narrator=Narrator(**narration.model_dump(exclude={"text"})),
        stability=stability,
        stability_reason=stability_reason,
    )


def _overall(judgement: Judgement) -> OverallScores:
    return OverallScores(
        overall_video_score=rounded(judgement.video.score),
        overall_audio_score=rounded(judgement.audio.score),
        overall_combined_score=rounded(judgement.combined_score),
    )


def _suspicious(row: IntervalEvidence) -> SuspiciousInterval:
    return SuspiciousInterval(
        interval=row.label,
        video_score=rounded(row.video.score),
        audio_score=rounded(row.audio.score),
        video_regions=row.video_regions,
        audio_regions=row.audio_regions,
    )


def _looked_at(row: IntervalEvidence) -> bool:
    return any(
        row.score(modality) is not None or row.reason(modality) is not Reason.NOT_ANALYZED
        for modality in Modality
    )


def _video_info(facts: MediaFacts) -> VideoInfo:
    return VideoInfo(
        duration=facts.duration,
        fps=facts.video.fps if facts.video else None,
        total_frames=facts.video.frames if facts.video else None,
        file_size_mb=round(facts.size_bytes / _MEBIBYTE, 2),
    )


def _coverage(judgement: Judgement) -> Coverage:
    def of(side: ModalityEvidence) -> ModalityCoverage:
        return ModalityCoverage(
            standing=judgement.standings[side.modality],
            scorable_seconds=round(side.scorable_seconds, 3),
            scored_seconds=round(side.scored_seconds, 3),
            share=rounded(side.coverage),
            scored_intervals=side.scored_intervals,
            suspicious_intervals=side.suspicious_intervals,
            unscored_intervals=side.null_reasons,
            noted_intervals=_noted(judgement.intervals) if side.modality is Modality.AUDIO else {},
            strongest_run=side.run,
            doubtful_run=side.doubt,
        )

    return Coverage(video=of(judgement.video), audio=of(judgement.audio))


def _trace(trace: TraceEvidence | None) -> TraceSummary | None:
    if trace is None:
        return None
    return TraceSummary(
        detector=trace.detector,
        found=trace.found,
        score=rounded(trace.score),
        threshold=trace.threshold,
        scored_intervals=trace.scored_intervals,
        unscored_intervals=trace.null_reasons,
        strongest_run=trace.run,
    )


def _reasons(judgement: Judgement) -> tuple[ReportedReason, ...]:
    return tuple(
        ReportedReason(
            reason=cause.reason,
            modality=cause.modality,
            intervals=cause.intervals,
            decisive=cause.decisive,
            text=cause.text,
            mend=cause.mend,
        )
        for cause in judgement.causes
    )


def _noted(rows: Sequence[IntervalEvidence]) -> dict[Reason, int]:
    """How many intervals of sound carry each note."""
    return dict(Counter(note for row in rows for note in row.audio.notes))


def _splices(rows: Sequence[IntervalEvidence]) -> tuple[SplicePoint, ...]:
    found = [splice for row in rows for splice in row.audio.splices]
    return tuple(
        SplicePoint(time=splice.time, kind=splice.kind, strength=splice.strength)
        for splice in sorted(found, key=lambda splice: (splice.time, splice.kind))
    )


def _signals(rows: Sequence[IntervalEvidence]) -> tuple[SignalSummary, ...]:
    found: dict[SoundSignal, list[tuple[IntervalEvidence, Signal]]] = {}
    for row in rows:
        for signal in row.audio.signals:
            found.setdefault(signal.signal, []).append((row, signal))
    return tuple(_signal(places) for places in found.values())


def _signal(places: list[tuple[IntervalEvidence, Signal]]) -> SignalSummary:
    row, signal = max(places, key=lambda place: abs(place[1].value - place[1].threshold))
    return SignalSummary(
        signal=signal.signal,
        intervals=len({row.index for row, _ in places}),
        interval=row.label,
        value=signal.value,
        unit=signal.unit,
        threshold=signal.threshold,
    )


def _track(track: Track, judgement: Judgement) -> TrackSummary:
    rows, bound = judgement.intervals, judgement.thresholds.video.suspicious
    scores = [face.score for row in rows for face in row.video.faces if face.track == track.id]
    speaks = [row for row in rows if row.video.track == track.id and (row.video.score or 0) >= bound]
    return TrackSummary(
        id=track.id,
        start=track.start,
        end=track.end,
        frames=track.frames,
        score=rounded(mean(scores)),
        suspicious_intervals=tuple(row.label for row in speaks),
        lips=track.lips,
    )


def _provenance(judgement: Judgement, *, input_sha256: str, options: Options, sandbox: str) -> Provenance:
    return Provenance(
        input_sha256=input_sha256,
        detectors=judgement.detectors,
        test_only=judgement.test_only,
        operating_point=judgement.operating_point,
        honoured=judgement.calibrated,
        thresholds=judgement.thresholds,
        calibrated=judgement.calibrated,
        sandbox=sandbox,
        version=code_version(),
        options=options,
        facts=judgement.facts,
    )


@lru_cache(maxsize=1)
def code_version() -> str:
    """Version of the running code; `uninstalled` when it runs from a checkout that was never installed."""
    try:
        return importlib.metadata.version("deepdefend")
    except importlib.metadata.PackageNotFoundError:
        return "uninstalled"
