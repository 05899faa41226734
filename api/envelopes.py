"""From rows to the JSON of the API. Pure: what it needs has been read in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from api import schemas
from core import models
from core.domain import BRANCHES, TERMINAL, AnalysisStatus, Stage
from core.listing import StageProgress

#: Shares of the whole: on two CPU cores decoding takes about a third, the detectors nearly all the rest.
EXTRACT_SHARE, BRANCHES_SHARE, FUSE_SHARE = 0.35, 0.6, 0.05
#: Of the whole where stability was asked for: six variants of up to 30 s cost about what a short clip does.
STABILITY_SHARE = 0.5
#: Poll soon at first, then ever more rarely: seconds, and the age at which a second is added.
POLL_FASTEST, POLL_SLOWEST, POLL_STEP = 1, 10, 20
ANALYSES: Final = "/v1/analyses"


def analysis(row: models.Analysis, stages: Sequence[StageProgress]) -> schemas.Analysis:
    """The envelope of one analysis."""
    return schemas.Analysis(
        progress=schemas.Progress(
            fraction=fraction(
                AnalysisStatus(row.status), stages, stability=bool(row.options.get("stability"))
            ),
            stages=[schemas.StageState(**stage.model_dump()) for stage in stages],
        ),
        report=row.report,
        deadline=row.deadline,
        **_common(row),
    )


def summary(row: models.Analysis) -> schemas.Summary:
    """One line of a list."""
    return schemas.Summary(**_common(row))


def _common(row: models.Analysis) -> dict[str, Any]:
    here = location(row)
    media = row.media and {name: getattr(row.media, name) for name in ("sha256", "size_bytes", "facts")}
    names = (
        "id",
        "status",
        "lane",
        "source_url",
        "webhook_url",
        "options",
        "verdict",
        "confidence",
        "error",
        "derived_from",
        "created_at",
        "started_at",
        "completed_at",
    )
    return {name: getattr(row, name) for name in names} | {
        "media": media and media | {"filename": row.filename},
        "retention": {
            "hours": row.retention_hours,
            "media_until": row.media_until,
            "media_erased_at": row.media_erased_at,
            "legal_hold": row.held_at is not None,
        },
        "metadata": row.metadata_,
        "links": {
            "self": here,
            "intervals": f"{here}/intervals",
            "tracks": f"{here}/tracks",
            "report": f"{here}/report.html" if row.report is not None else None,
            "derived_from": f"{ANALYSES}/{row.derived_from}" if row.derived_from else None,
        },
    }


def interval(row: models.Analysis, found: models.Interval) -> schemas.Interval:
    """One interval with its evidence; where its pictures have been erased no link leads to them."""
    here, kept = location(row), row.media_erased_at is None
    still = f"{here}/frames/{found.index}.jpg" if kept and found.still_key else None
    names = schemas.Interval.model_fields.keys() - {"still", "video"}
    return schemas.Interval.model_validate(
        {name: getattr(found, name) for name in names}
        | {"still": still, "video": _video(found, f"{here}/intervals/{found.index}", kept=kept)}
    )


def _video(found: models.Interval, here: str, *, kept: bool) -> dict[str, Any] | None:
    """Addresses in place of object keys."""
    if found.video is None:
        return None
    pictures = [
        picture
        | {
            "face": f"{here}/faces/{number}.jpg" if kept else None,
            "heatmap": f"{here}/heatmaps/{number}.jpg" if kept and picture["heatmap"] else None,
        }
        for number, picture in enumerate(found.video.get("pictures", ()))
    ]
    return found.video | {"pictures": pictures}


def track(row: models.Analysis, found: models.Track) -> schemas.Track:
    """One face; where its picture has been erased no link leads to it."""
    kept = found.thumbnail_key is not None and row.media_erased_at is None
    return schemas.Track(
        id=found.track,
        **{name: getattr(found, name) for name in ("start", "end", "frames", "score", "lips")},
        links=schemas.TrackLinks(thumbnail=f"{location(row)}/tracks/{found.track}.jpg" if kept else None),
    )


def location(row: models.Analysis) -> str:
    """Path of the analysis: relative, so that no Host header can bend it."""
    return f"{ANALYSES}/{row.id}"


def etag(row: models.Analysis) -> str:
    """Weak: the same version is the same answer, but not always the same bytes."""
    return f'W/"{row.version}"'


def matches(if_none_match: str | None, tag: str) -> bool:
    """Weak comparison of an If-None-Match header (RFC 9110 section 13.1.2)."""
    offered = [item.strip() for item in (if_none_match or "").split(",")]
    return "*" in offered or tag.removeprefix("W/") in {item.removeprefix("W/") for item in offered}


def retry_after(row: models.Analysis, now: datetime) -> int | None:
    """Seconds until the next look is worth it; None when there is nothing more to come."""
    if AnalysisStatus(row.status) in TERMINAL:
        return None
    age = (now - row.created_at).total_seconds()
    return min(POLL_SLOWEST, POLL_FASTEST + max(0, int(age / POLL_STEP)))


def fraction(status: AnalysisStatus, stages: Sequence[StageProgress], *, stability: bool = False) -> float:
    """How much of the work is behind: 0 to 1, never falling as stages appear, 1 only at the end.

    With `stability` there may be more to come after the first fusion.
    """
    if status in TERMINAL:
        return 1.0
    extracted = _share(stages, {Stage.EXTRACT})
    branches = _share(stages, BRANCHES) if any(stage.stage in BRANCHES for stage in stages) else 1.0
    behind = EXTRACT_SHARE * extracted
    if extracted == 1.0:  # only now is the number of branches known
        behind += BRANCHES_SHARE * branches + FUSE_SHARE * _share(stages, {Stage.FUSE})
    if stability:
        variants = _share(stages, {Stage.STABILITY})
        behind = (1 - STABILITY_SHARE) * behind + STABILITY_SHARE * variants
    return round(min(behind, 0.99), 4)


def _share(stages: Sequence[StageProgress], of: frozenset[Stage] | set[Stage]) -> float:
    total = sum(stage.total for stage in stages if stage.stage in of)
    return sum(stage.done for stage in stages if stage.stage in of) / total if total else 0.0
