"""Pages' raw material: an analysis with everything that a report can have, and plainer ones."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import cv2
import numpy as np

from api.page.material import Material, Seen, Still
from core import report
from core.domain import Modality, Options, Reason, Region, SoundSignal, Variant, Verdict
from core.evidence import (
    Face,
    FaceScore,
    Frame,
    KeyPicture,
    LipSync,
    RegionEffect,
    Signal,
    Splice,
    TraceFinding,
    TrackScore,
)
from core.fusion.inputs import IntervalEvidence
from core.fusion.narrators import template
from core.fusion.stability import Spread, Stability, VariantResult
from core.fusion.verdict import judge
from tests.core.fusion.samples import FACTS, VIT, WAV2VEC, Cell, row

ID = UUID("018f3f3e-7d3a-7c3a-9d2b-0123456789ab")
WHEN = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
SHA = "c" * 64
LIPS = LipSync(correlation=0.41, lag_seconds=0.08, seconds=9.5, null_share=0.34)
STABILITY = Stability(
    verdict=Verdict.DEEPFAKE,
    flips=True,
    intervals=("4.0-6.0", "8.0-10.0"),
    max_change=-0.42,
    seconds=3.5,
    variants=(
        VariantResult(
            variant=Variant.CRF_35,
            scores=Spread(intervals=2, lowest=0.48, highest=0.55, mean_change=-0.4, max_change=-0.42),
            traces=None,
            unmeasured={},
            verdict=Verdict.INCONCLUSIVE,
            flips=True,
            reason=None,
            seconds=1.5,
        ),
        VariantResult(
            variant=Variant.QUARTER,
            scores=None,
            traces=None,
            unmeasured={Reason.FACE_TOO_SMALL: 2},
            verdict=None,
            flips=False,
            reason=None,
            seconds=2.0,
        ),
    ),
)
AV = {"signals": ["av_mismatch"], "tracks": [{"track": 0, "av_mismatch": True}]}
CROP = (320.0, 100.0, 300.0, 360.0)


def picture(extension: str = ".jpg", width: int = 96, height: int = 54, seed: int = 1) -> bytes:
    """A small picture of nothing."""
    y, x = np.mgrid[0:height, 0:width]
    made = np.stack([x * 2 % 256, (x + y * seed) % 256, y * 4 % 256], axis=-1).astype(np.uint8)
    return bytes(cv2.imencode(extension, made)[1])


def evidence(video: Sequence[Cell], audio: Sequence[Cell]) -> list[IntervalEvidence]:
    """Intervals of 2 s; suspicious pictures have everything that goes with them."""
    plain = [row(n, v, a, speech=1.5) for n, (v, a) in enumerate(zip(video, audio, strict=True))]
    return [_rich(one) if isinstance(one.video.score, float) else one for one in plain]


def _rich(one: IntervalEvidence) -> IntervalEvidence:
    score, n = one.video.score or 0.0, one.index
    middle = one.start + 1.0
    looked = KeyPicture(
        frame=5 * n + 2,
        time=middle,
        track=0,
        box=CROP,
        score=score,
        crop=f"crop-{n}",
        heatmap=f"heat-{n}",
        method="occlusion_grid",
        detector=VIT.id,
    )
    video = one.video.model_copy(
        update={
            "track": 0,
            "tracks": (
                TrackScore(track=0, score=score, frames=5),
                TrackScore(track=1, score=score / 4, frames=5),
            ),
            "faces": (FaceScore(frame=5 * n + 2, time=middle, track=0, box=CROP, score=score),),
            "regions": (
                RegionEffect(region=Region.EYES, drop=0.21, spread=0.04),
                RegionEffect(region=Region.CHIN, drop=0.02, spread=0.05),
            )
            if score >= 0.6
            else (),
            "pictures": (looked,) if score >= 0.6 else (),
            "trace": TraceFinding(detector="blend-trace", threshold=0.5, score=score, reason=None, track=0),
        }
    )
    return one.model_copy(update={"video": video})


def frames_of(rows: Sequence[IntervalEvidence]) -> dict[int, tuple[Frame, ...]]:
    """The middle frame of each interval, with two faces."""
    face = {"confidence": 0.9, "sharpness": 90.0, "brightness": 120.0, "landmarks": ((1.0, 1.0),) * 5}
    return {
        one.index: (
            Frame(
                n=5 * one.index + 2,
                interval=one.index,
                time=one.start + 1.0,
                faces=(
                    Face.model_validate({**face, "track": 0, "box": CROP}),
                    Face.model_validate({**face, "track": 1, "box": (900.0, 200.0, 220.0, 260.0)}),
                ),
            ),
        )
        for one in rows
    }


def material(
    rows: Sequence[IntervalEvidence], *, test_only: bool = False, changes: Mapping[str, Any] | None = None
) -> Material:
    """An analysis of these intervals with all its pictures; `changes` replaces members of its report."""
    vit = VIT.model_copy(update={"test_only": test_only})
    facts = FACTS.model_copy(update={"duration": rows[-1].end, "declared_duration": rows[-1].end})
    judgement = judge(rows, facts=facts, detectors=(vit, WAV2VEC))
    made = report.build(
        judgement,
        template.write(judgement),
        analysis_id=ID,
        timestamp=WHEN,
        input_sha256=SHA,
        options=Options(),
        sandbox="bubblewrap",
    )
    keys = [f"{name}-{one.index}" for one in rows for name in ("still", "crop", "heat")]
    return Material(
        analysis_id=ID,
        filename="clip.mp4",
        source=None,
        size_bytes=facts.size_bytes,
        metadata={"desk": "politics"},
        report={**json.loads(made.model_dump_json()), **(changes or {})},
        intervals=tuple(rows),
        faces=(
            Seen(0, 0.0, rows[-1].end, 5 * len(rows), 0.61, "face-0", LIPS),
            Seen(1, 2.0, rows[-1].end, 4 * len(rows), 0.15, None, None),
        ),
        stills={one.index: Still(f"still-{one.index}", 5 * one.index + 2) for one in rows},
        frames=frames_of(rows),
        spectrogram="sound",
        pictures={key: picture() for key in [*keys, "face-0"]} | {"sound": picture(".png", 400, 128)},
    )


def accused() -> Material:
    """Twelve intervals of which four accuse, with sound signals and a splice."""
    video: list[Cell] = [0.2, 0.24, 0.93, 0.9, 0.95, 0.9, 0.55, 0.2, Reason.NO_FACE, Reason.NO_FACE, 0.1, 0.2]
    rows = evidence(video, [0.3, 0.25, 0.2, 0.64, 0.2, 0.3, Reason.SILENCE, 0.2, 0.2, 0.2, 0.3, 0.2])
    heard = rows[3].audio.model_copy(
        update={
            "signals": (
                Signal(signal=SoundSignal.MONOTONE_VOICE, value=0.8, unit="semitones", threshold=1.5),
            ),
            "splices": (Splice(time=7.25, kind="background", strength=2.4),),
            "notes": (Reason.NARROW_BAND,),
        }
    )
    rows[3] = rows[3].model_copy(update={"audio": heard})
    return material(rows, changes={"stability": STABILITY.model_dump(mode="json"), "av": AV})


def unscored() -> Material:
    """No detector had weights."""
    nothing = [row(n, Reason.NO_DETECTOR_WEIGHTS, Reason.NO_DETECTOR_WEIGHTS) for n in range(4)]
    return material(nothing)


def calm() -> Material:
    """Nothing suspicious."""
    return material(evidence([0.1, 0.2, 0.15, 0.2], [0.2, 0.1, 0.1, 0.2]))


def erased(found: Material) -> Material:
    """The same after its pictures went."""
    return replace(found, pictures={}, erased=True)


def suspicious(found: Material, modality: Modality) -> list[str]:
    """Labels of its suspicious intervals."""
    return [one.label for one in found.intervals if found.is_suspicious(one, modality)]
