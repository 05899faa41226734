"""The figures a narrator may use, and nothing else: no file name, no transcript, no free text of others."""

from __future__ import annotations

from typing import Any

from core.domain import Modality
from core.fusion.aggregate import CitedRun, ModalityEvidence
from core.fusion.inputs import IntervalEvidence
from core.fusion.judgement import Judgement
from core.fusion.trace import TraceEvidence

#: Suspicious intervals told in full; the others are counted. Keeps text and prompt short.
MAX_CITED = 12
#: The same for the places of one sound signal.
MAX_SIGNAL_PLACES = 5


def figures(judgement: Judgement) -> dict[str, Any]:
    """The judgement as plain JSON: shares in percent, scores 0 to 1 with three digits, times in seconds."""
    return {
        "verdict": judgement.verdict.value,
        "confidence_percent": judgement.confidence,
        "combined_score": rounded(judgement.combined_score),
        "duration_seconds": round(judgement.facts.duration, 1),
        "intervals": len(judgement.intervals),
        "calibrated": judgement.calibrated,
        "test_only": judgement.test_only,
        "operating_point": judgement.operating_point.value,
        "manipulation_trace": _trace(judgement.trace),
        "picture": _side(judgement, judgement.video),
        "sound": _side(judgement, judgement.audio),
        "suspicious_intervals": len(judgement.suspicious),
        "most_suspicious": [_interval(row) for row in cited(judgement)],
        "reasons": [
            {
                "why": cause.text,
                "intervals": cause.intervals,
                "command": cause.mend,
                "decisive": cause.decisive,
            }
            for cause in judgement.causes
        ],
    }


def cited(judgement: Judgement) -> list[IntervalEvidence]:
    """The most suspicious intervals in timeline order, at most `MAX_CITED`."""

    def strength(row: IntervalEvidence) -> float:
        return max(row.video.score or 0, row.audio.score or 0)

    strongest = sorted(judgement.suspicious, key=strength, reverse=True)[:MAX_CITED]
    return sorted(strongest, key=lambda row: row.index)


def rounded(score: float | None) -> float | None:
    """A score as it is written in reports: three digits, null stays null."""
    return None if score is None else round(score, 3)


def _side(judgement: Judgement, side: ModalityEvidence) -> dict[str, Any]:
    limits = judgement.thresholds.of(side.modality)
    return {
        "mean_score": rounded(side.score),
        "scored_intervals": side.scored_intervals,
        "coverage_percent": None if side.coverage is None else round(100 * side.coverage, 1),
        "strongest_run": _run(side.run or side.doubt),
        "real_below": limits.real_below,
        "suspicious_from": limits.suspicious,
        "standing": judgement.standings[side.modality].value,
        "signals_measured": _signals(judgement) if side.modality is Modality.AUDIO else None,
    }


def _trace(trace: TraceEvidence | None) -> dict[str, Any] | None:
    if trace is None:
        return None
    return {
        "found": trace.found,
        "mean_score": rounded(trace.score),
        "counts_from_score": trace.threshold,
        "scored_intervals": trace.scored_intervals,
        "strongest_run": _run(trace.run),
    }


def _run(run: CitedRun | None) -> dict[str, Any] | None:
    if run is None:
        return None
    return {"interval": run.interval, "intervals": run.intervals, "mean_score": rounded(run.mean)}


def _interval(row: IntervalEvidence) -> dict[str, Any]:
    return {
        "interval": row.label,
        "picture_score": rounded(row.video.score),
        "sound_score": rounded(row.audio.score),
        "picture_regions": [region.value for region in row.video_regions],
        "sound_signals": [signal.value for signal in row.audio_regions],
    }


def _signals(judgement: Judgement) -> list[dict[str, Any]]:
    """Each sound signal that crossed its bound: in how many intervals, and the first few of them."""
    places: dict[str, list[str]] = {}
    for row in judgement.intervals:
        for signal in row.audio_regions:
            places.setdefault(signal.value, []).append(row.label)
    return [
        {"signal": name, "intervals": len(labels), "first": labels[:MAX_SIGNAL_PLACES]}
        for name, labels in places.items()
    ]
