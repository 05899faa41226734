"""Other deliveries of a file between two fusions, on real Postgres and S3, with a tiny test checkpoint."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from core import stability
from core.config import ModelSettings
from core.domain import Stage, Variant
from core.storage import storage
from tests.checkpoints import make_image_checkpoint
from tests.conftest import point_settings
from tests.system.media import FACE_AND_VOICE, ffmpeg
from tests.workers.tasks.conftest import Submit, hold, stages_of
from tests.workers.tasks.test_pipeline import ended, intervals
from workers.process import this_process
from workers.tasks import artifacts
from workers.tasks.extract import extract_media
from workers.tasks.fuse import judge_evidence
from workers.tasks.stability import measure_variant
from workers.tasks.video import score_faces

SECONDS = 4
FLEET = [("stability", n, "pending", None) for n in range(len(Variant))]


@pytest.fixture
def weights(tmp_path: Path) -> Iterator[Path]:
    """A tiny checkpoint under the name of the default; its scores mean nothing and say so."""
    folder = tmp_path / "models"
    made = make_image_checkpoint(folder / ModelSettings().video.replace("/", "--"))
    this_process.cache_clear()
    point_settings(DEEPDEFEND_MODELS__DIR=str(folder), DEEPDEFEND_ALLOW_TEST_DETECTORS="1")
    yield made
    this_process.cache_clear()
    point_settings(DEEPDEFEND_MODELS__DIR=str(ModelSettings().dir), DEEPDEFEND_ALLOW_TEST_DETECTORS="0")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A face without a voice, two intervals long."""
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    ffmpeg("-i", FACE_AND_VOICE, "-t", str(SECONDS), "-an", "-c", "copy", path)
    return path


def deferred(submit: Submit, clip: Path) -> UUID:
    """An analysis whose first fusion has closed."""
    identity = submit(clip, stability=True)
    extract_media(hold(identity, Stage.EXTRACT))
    score_faces(hold(identity, Stage.VIDEO))
    judge_evidence(hold(identity, Stage.FUSE))
    return identity


def test_every_variant_is_measured_between_two_fusions(submit: Submit, clip: Path, weights: Path) -> None:
    assert weights
    identity = deferred(submit, clip)
    assert ended(identity).status == "processing"
    assert list(storage().keys(artifacts.scratch_prefix(identity)))
    owed = stages_of(identity)
    assert [step for step in owed if step[0] == "stability"] == FLEET
    assert [step for step in owed if step[0] == "fuse"] == [
        ("fuse", 0, "done", None),
        ("fuse", stability.SECOND, "pending", None),
    ]
    for shard in range(len(Variant)):
        measure_variant(hold(identity, Stage.STABILITY, shard))
    judge_evidence(hold(identity, Stage.FUSE, stability.SECOND))
    analysis = ended(identity)
    assert analysis.status == "completed"
    assert list(storage().keys(artifacts.scratch_prefix(identity))) == []
    assert analysis.report is not None
    found = analysis.report["stability"]
    assert [one["variant"] for one in found["variants"]] == list(Variant)
    rows = intervals(identity)
    assert found["intervals"] == [f"{row.start}-{row.end}" for row in rows]
    spreads = [one["scores"] for one in found["variants"] if one["variant"] != Variant.QUARTER]
    assert [spread["intervals"] for spread in spreads] == [len(rows)] * 5
    assert found["seconds"] == pytest.approx(sum(one["seconds"] for one in found["variants"]), abs=0.01)
    assert analysis.report["stability_reason"] is None
