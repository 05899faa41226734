"""Rows and values for tests, made the way the product makes them."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from core import analyses, keys, report, results, steps
from core.config import settings
from core.domain import Options, Stage, Terms, timeline
from core.dossier import compile_dossier
from core.evidence import (
    CropShard,
    Face,
    Frame,
    Manifest,
    MediaFacts,
    SoundShard,
    Track,
    VideoFacts,
)
from core.fusion.narrators import template
from core.fusion.verdict import judge
from core.models import Analysis
from core.report import Report

VIDEO = VideoFacts(
    codec="h264",
    width=640,
    height=360,
    rotation=0,
    pixel_format="yuv420p",
    fps=25.0,
    frames=200,
    variable_frame_rate=False,
)


def create_caller(session: Session, owner: str | None = None) -> keys.Caller:
    """A caller with a fresh key."""
    _, presented = keys.create(session, name="test", owner=owner)
    return keys.authenticate(session, presented)


def create_analysis(
    session: Session,
    caller: keys.Caller | None = None,
    *,
    terms: Terms = analyses.ORDINARY,
    **options: Any,
) -> Analysis:
    """An accepted analysis of random bytes."""
    sha256 = secrets.token_hex(32)
    upload = analyses.StoredUpload(
        sha256=sha256, size_bytes=1000, object_key=f"media/{sha256}", filename="clip.mp4"
    )
    return analyses.submit(
        session,
        caller=caller or create_caller(session),
        source=upload,
        options=Options(**options),
        terms=terms,
    ).analysis


def claim_step(
    session: Session, analysis_id: UUID, stage: Stage, shard: int = 0, owner: str = "worker-a"
) -> steps.Claim:
    """Claim, as a worker does; the step must be free."""
    claim = steps.claim(
        session, analysis_id=analysis_id, stage=stage, shard=shard, owner=owner, config=settings().steps
    )
    assert claim is not None
    analyses.begin(session, analysis_id)
    return claim


def face(track: int = 0, *, shard: int | None = 0, row: int | None = 0, reason: Any = None) -> Face:
    """A face in the middle of a frame."""
    return Face(
        track=track,
        box=(200, 100, 120, 140),
        confidence=0.98,
        landmarks=((230, 150), (290, 150), (260, 180), (235, 210), (285, 210)),
        sharpness=120.0,
        brightness=110.0,
        shard=shard,
        row=row,
        reason=reason,
    )


def build_manifest(
    duration: float = 8.0, *, video: bool = True, sound: bool = True, faces: bool = True, shards: int = 1
) -> Manifest:
    """What extraction finds in a clip of one face and one voice; one crop an interval."""
    spans = timeline(duration, 2.0)
    per_shard = -(-len(spans) // shards)
    frames = tuple(
        Frame(
            n=span.index,
            interval=span.index,
            time=span.start + 1,
            faces=(face(shard=span.index // per_shard, row=span.index % per_shard),) if faces else (),
        )
        for span in spans
    )
    groups = [spans[first : first + per_shard] for first in range(0, len(spans), per_shard)]
    crops = tuple(
        CropShard(
            shard=n,
            file=f"crops-{n}.npy",
            rows=len(group),
            intervals=tuple(span.index for span in group),
        )
        for n, group in enumerate(groups)
    )
    sounds = (SoundShard(shard=0, first_interval=0, last_interval=spans[-1].index, start=0.0, end=duration),)
    return Manifest(
        facts=MediaFacts(
            container="mp4",
            duration=duration,
            declared_duration=duration,
            size_bytes=1000,
            video=VIDEO if video else None,
            audio=None,
        ),
        interval_seconds=2.0,
        frames_per_interval=1,
        spans=spans,
        frames=frames if video else (),
        tracks=(Track(id=0, start=0.0, end=duration, frames=len(spans), thumbnail="track-0.jpg"),)
        if video and faces
        else (),
        crop_shards=crops if video and faces else (),
        sound_shards=sounds if sound else (),
        sound_file="sound.wav" if sound else None,
        frame_thumbnails={0: "frame-0.jpg"} if video else {},
        sandbox="rlimits",
    )


def extract(session: Session, analysis: Analysis, manifest: Manifest) -> None:
    """Claim and close extraction with that manifest."""
    claim = claim_step(session, analysis.id, Stage.EXTRACT)
    results.record_extraction(
        session,
        claim,
        manifest,
        scratch=f"analyses/{analysis.id}/work-1/",
        thumbnails={"track-0.jpg": "pictures/track-0.jpg"},
    )


def expire_leases(session: Session) -> None:
    """As if every worker had died a minute ago."""
    session.execute(
        text("UPDATE steps SET lease_expires = now() - interval '1 minute' WHERE status = 'running'")
    )


def age(session: Session, seconds: float) -> None:
    """As if everything published or closed had been so that much earlier."""
    session.execute(
        text(
            "UPDATE steps SET published_at = published_at - make_interval(secs => :s),"
            " closed_at = closed_at - make_interval(secs => :s)"
        ),
        {"s": seconds},
    )


def build_report(session: Session, analysis_id: UUID) -> Report:
    """The report that fusion writes of what the rows hold, by the template."""
    results.record_lost_branches(session, analysis_id)
    dossier = compile_dossier(session, analysis_id)
    judgement = judge(dossier.intervals, facts=dossier.facts, branches=dossier.branches)
    return report.build(
        judgement,
        template.write(judgement),
        analysis_id=analysis_id,
        timestamp=datetime.now(UTC),
        input_sha256=dossier.sha256,
        options=dossier.options,
        sandbox=dossier.sandbox,
        tracks=dossier.tracks,
    )
