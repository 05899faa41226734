"""A real stack and real clips: what comes back, what the rows say, and what survives a killing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import psutil
import psycopg2
import psycopg2.extras
import pytest

from cli.client import Client
from cli.stack.environment import of_data_dir
from core.config import ModelSettings
from tests.checkpoints import make_audio_checkpoint, make_image_checkpoint
from tests.cli.stack.patience import eventually
from tests.system.conftest import RunningStack, running_stack
from tests.system.media import FACE_AND_VOICE, VOICE, generated, without_sound

pytestmark = pytest.mark.system

SEED_FIELDS = {
    "verdict",
    "confidence",
    "overall_scores",
    "detailed_analysis",
    "suspicious_intervals",
    "total_intervals_analyzed",
    "video_info",
    "analysis_id",
    "timestamp",
}


@pytest.fixture(scope="module")
def scoring(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """A stack whose detectors are tiny test checkpoints, in folders named as the defaults."""
    models = tmp_path_factory.mktemp("models")
    defaults = ModelSettings()
    make_image_checkpoint(models / defaults.video.replace("/", "--"))
    make_audio_checkpoint(models / defaults.audio.replace("/", "--"))
    environment = {
        "DEEPDEFEND_MODELS__DIR": str(models),
        "DEEPDEFEND_ALLOW_TEST_DETECTORS": "1",
        "DEEPDEFEND_STEPS__LEASE": "PT6S",
        "DEEPDEFEND_STEPS__HEARTBEAT": "PT2S",
        "DEEPDEFEND_STEPS__REPUBLISH_AFTER": "PT3S",
    }
    with running_stack(tmp_path_factory.mktemp("scoring") / "data", **environment) as it:
        yield it


def analyse(stack: RunningStack, path: Path, **options: Any) -> dict[str, Any]:
    with Client(stack.api_url, stack.api_key) as client:
        submitted = client.submit(path, **options)
        return dict(client.wait(submitted["id"]))


def get(stack: RunningStack, path: str) -> Any:
    headers = {"Authorization": f"Bearer {stack.api_key}"}
    return httpx2.get(stack.api_url + path, headers=headers, timeout=30).json()


def rows(stack: RunningStack, query: str, *values: Any) -> list[dict[str, Any]]:
    """What Postgres itself holds."""
    url = of_data_dir(stack.data_dir)["DEEPDEFEND_DATABASE_URL"]
    with psycopg2.connect(url) as connection:
        connection.set_session(readonly=True)
        with connection.cursor(cursor_factory=psycopg2.extras.RealDictCursor) as cursor:
            cursor.execute(query, values)
            found = [dict(row) for row in cursor.fetchall()]
    connection.close()
    return found


def reasons(stack: RunningStack, envelope: dict[str, Any], modality: str) -> set[str | None]:
    page = get(stack, f"/v1/analyses/{envelope['id']}/intervals")
    return {interval[f"{modality}_reason"] for interval in page["items"]}


def test_a_face_and_a_voice(scoring: RunningStack) -> None:
    envelope = analyse(scoring, FACE_AND_VOICE)
    report = envelope["report"]
    assert envelope["status"] == "completed"
    assert set(report) >= SEED_FIELDS
    assert report["test_only"] is True
    assert 0 <= report["overall_scores"]["overall_video_score"] <= 1
    assert 0 <= report["overall_scores"]["overall_audio_score"] <= 1
    assert report["video_info"]["total_frames"] == 200
    assert report["total_intervals_analyzed"] == 4
    assert [stage["status"] for stage in envelope["progress"]["stages"]] == ["done"] * 4


def test_a_face_without_sound(scoring: RunningStack, tmp_path: Path) -> None:
    envelope = analyse(scoring, without_sound(tmp_path / "silent.mp4"))
    scores = envelope["report"]["overall_scores"]
    assert scores["overall_video_score"] is not None
    assert scores["overall_audio_score"] is None
    assert reasons(scoring, envelope, "audio") == {"no_audio_stream"}


def test_a_voice_without_picture(scoring: RunningStack) -> None:
    envelope = analyse(scoring, VOICE)
    scores = envelope["report"]["overall_scores"]
    assert scores["overall_video_score"] is None
    assert scores["overall_audio_score"] is not None
    assert envelope["report"]["video_info"]["fps"] is None
    assert reasons(scoring, envelope, "video") == {"no_video_stream"}


def test_no_face_is_a_reason_and_never_a_score(scoring: RunningStack, tmp_path: Path) -> None:
    envelope = analyse(scoring, generated(tmp_path / "bars.mp4", "smptebars=d=4:r=25"))
    assert envelope["report"]["overall_scores"] == {
        "overall_video_score": None,
        "overall_audio_score": None,
        "overall_combined_score": None,
    }
    assert envelope["verdict"] == "INCONCLUSIVE"
    assert envelope["confidence"] is None
    assert reasons(scoring, envelope, "video") == {"no_face"}


def test_without_weights_every_score_is_null_and_says_what_mends_it(stack: RunningStack) -> None:
    envelope = analyse(stack, FACE_AND_VOICE)
    assert envelope["verdict"] == "INCONCLUSIVE"
    assert reasons(stack, envelope, "video") == reasons(stack, envelope, "audio") == {"no_detector_weights"}
    mends = {reason["mend"] for reason in envelope["report"]["reasons"]}
    assert any(mend and "deepdefend models pull" in mend for mend in mends)
    assert envelope["report"]["provenance"]["detectors"] == []


def test_intervals_are_the_rows_of_postgres(scoring: RunningStack) -> None:
    envelope = analyse(scoring, FACE_AND_VOICE)
    shown = get(scoring, f"/v1/analyses/{envelope['id']}/intervals")["items"]
    kept = rows(scoring, "SELECT * FROM intervals WHERE analysis_id = %s ORDER BY index", envelope["id"])
    assert len(kept) == 4
    for column in ("index", "start", "end", "video_score", "video_reason", "audio_score", "audio_reason"):
        assert [interval[column] for interval in shown] == [row[column] for row in kept]


def test_the_chord_is_seen_in_flower(scoring: RunningStack) -> None:
    envelope = analyse(scoring, FACE_AND_VOICE)

    def names() -> set[str]:
        tasks = httpx2.get(scoring.flower_url + "api/tasks", timeout=30).json()
        return {task["name"] for task in tasks.values() if envelope["id"] in (task["args"] or "")}

    expected = {f"deepdefend.{stage}" for stage in ("extract", "video", "audio", "fuse")}
    eventually(lambda: names() == expected)


def test_the_same_bytes_are_stored_once(scoring: RunningStack) -> None:
    first, second = analyse(scoring, VOICE), analyse(scoring, VOICE)
    assert first["id"] != second["id"]
    assert first["media"]["sha256"] == second["media"]["sha256"]
    kept = rows(scoring, "SELECT count(*) FROM media WHERE sha256 = %s", first["media"]["sha256"])
    assert kept[0]["count"] == 1


def children(stack: RunningStack, queue: str) -> list[psutil.Process]:
    """The pool processes of one worker."""
    pool = stack.find(f"--queues {queue}").children(recursive=True)
    return [child for child in pool if "spawn_main" in " ".join(child.cmdline())]


def long_clip(folder: Path) -> Path:
    """Long enough that a kill comes in the middle of its extraction; bytes that no other test sends."""
    source = "testsrc2=size=1280x720:rate=30:duration=90"
    own = ("-metadata", f"comment={uuid4()}")
    return generated(folder / "long.mp4", source, "-c:v", "libx264", "-preset", "ultrafast", *own)


def extracting(stack: RunningStack, identity: str) -> bool:
    step = rows(stack, "SELECT status FROM steps WHERE analysis_id = %s AND stage = 'extract'", identity)
    return bool(step[0]["status"] == "running")


def test_a_killed_worker_costs_an_attempt_and_not_the_analysis(scoring: RunningStack, tmp_path: Path) -> None:
    with Client(scoring.api_url, scoring.api_key) as client:
        identity = client.submit(long_clip(tmp_path))["id"]
        eventually(lambda: extracting(scoring, identity), seconds=120)
        pool = children(scoring, "extraction")
        assert pool
        for child in pool:
            child.kill()
        envelope = client.wait(identity)
    assert envelope["status"] == "completed"
    attempts = rows(
        scoring, "SELECT attempt FROM steps WHERE analysis_id = %s AND stage = 'extract'", identity
    )
    assert attempts[0]["attempt"] == 2


def test_a_broker_that_loses_everything_costs_nothing(scoring: RunningStack, tmp_path: Path) -> None:
    with Client(scoring.api_url, scoring.api_key) as client:
        identity = client.submit(long_clip(tmp_path))["id"]
        eventually(lambda: extracting(scoring, identity), seconds=120)
        scoring.find("valkey-server").kill()
        others = [client.submit(VOICE)["id"] for _ in range(3)]
        ends = [client.wait(each)["status"] for each in (identity, *others)]
    assert ends == ["completed"] * 4


def test_a_killed_dispatcher_is_replaced(scoring: RunningStack) -> None:
    scoring.find("dispatcher").kill()
    assert analyse(scoring, VOICE)["status"] == "completed"
