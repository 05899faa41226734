"""Every fail point in turn: the process dies there, comes back, and nothing is lost or done twice."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from chaos.receiver import Receiver
from cli.client import Client
from core.config import ModelSettings
from core.failpoints import FILE, Point
from tests.checkpoints import make_audio_checkpoint, make_image_checkpoint
from tests.system.conftest import running_stack
from tests.system.media import FACE_AND_VOICE, ffmpeg
from tests.system.walks import Scene, Walk, submit_after_a_death

pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]

SECONDS, INTERVALS = 3, 2  # of the clip, at the usual 2 s
EXTRACTION, VIDEO, AUDIO, FUSION = (
    "worker-" + name for name in ("extraction", "video", "audio", "fusion")
)

#: Ordered so that no process dies twice in a row: the supervisor makes those wait that keep dying.
WALKS = (
    Walk(point=Point.API_STORED, dies="api"),
    Walk(point=Point.DISPATCHER_READ, dies="dispatcher"),
    Walk(point=Point.WORKER_CLAIMED, dies=EXTRACTION, in_pool=True),
    Walk(point=Point.FUSE_CLAIMED, dies=FUSION),
    Walk(point=Point.VIDEO_SCORED, dies=VIDEO, in_pool=True),
    Walk(point=Point.DISPATCHER_SENT, dies="dispatcher"),
    Walk(point=Point.AUDIO_SCORED, dies=AUDIO, in_pool=True),
    Walk(point=Point.EXTRACT_STORED, dies=EXTRACTION, in_pool=True),
    Walk(point=Point.FUSE_JUDGED, dies=FUSION),
    Walk(point=Point.API_ACCEPTED, dies="api"),
    Walk(point=Point.DISPATCHER_CHORD, dies="dispatcher"),
    Walk(point=Point.BRANCH_CLOSED, dies=AUDIO, in_pool=True),
    Walk(point=Point.EXTRACT_CLOSED, dies=EXTRACTION, in_pool=True),
    Walk(point=Point.FUSE_COMPLETED, dies=FUSION),
    Walk(point=Point.DISPATCHER_REQUEUED, dies="dispatcher", act=submit_after_a_death),
)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A stack with test detectors and short leases, and a receiver of its webhooks."""
    folder = tmp_path_factory.mktemp("walks")
    models, defaults = folder / "models", ModelSettings()
    make_image_checkpoint(models / defaults.video.replace("/", "--"))
    make_audio_checkpoint(models / defaults.audio.replace("/", "--"))
    ffmpeg("-i", FACE_AND_VOICE, "-t", str(SECONDS), "-c", "copy", folder / "clip.mp4")
    trap = folder / "failpoint"
    environment = {
        "DEEPDEFEND_FAILPOINT": f"{FILE}{trap}",
        "DEEPDEFEND_MODELS__DIR": str(models),
        "DEEPDEFEND_ALLOW_TEST_DETECTORS": "1",
        "DEEPDEFEND_STEPS__LEASE": "PT4S",
        "DEEPDEFEND_STEPS__HEARTBEAT": "PT1S",
        "DEEPDEFEND_STEPS__REPUBLISH_AFTER": "PT2S",
        "DEEPDEFEND_STEPS__CHORD_GRACE": "PT1S",
        "DEEPDEFEND_IDEMPOTENCY_LEASE": "PT3S",
    }
    with (
        Receiver() as receiver,
        running_stack(folder / "data", **environment) as stack,
        Client(stack.api_url, stack.api_key) as client,
    ):
        clip = folder / "clip.mp4"
        client.wait(client.submit(clip)["id"])  # from its first answer on it is patient
        yield Scene(stack=stack, client=client, receiver=receiver, clip=clip, folder=folder, trap=trap)


def test_every_point_of_the_registry_is_walked() -> None:
    assert sorted(walk.point for walk in WALKS) == sorted(Point)


@pytest.mark.parametrize("walk", WALKS, ids=lambda walk: walk.point)
def test_it_dies_there_and_nothing_is_lost(scene: Scene, walk: Walk) -> None:
    accepted = scene.accepted()
    identity = walk.run(scene)
    ended = scene.client.wait(identity)
    assert ended["status"] == "completed", ended["error"]
    assert scene.accepted() == accepted + 1, "one submission, one analysis"
    one_result_set(scene, identity)


def one_result_set(scene: Scene, identity: str) -> None:
    """Every interval once, both detectors heard, every step closed once within its attempts."""
    found = scene.rows("SELECT * FROM intervals WHERE analysis_id = %s ORDER BY index", identity)
    assert [row["index"] for row in found] == list(range(INTERVALS))
    assert all(row["video_score"] is not None for row in found)
    assert any(row["audio_score"] is not None for row in found)
    (analysis,) = scene.rows("SELECT report FROM analyses WHERE id = %s", identity)
    assert analysis["report"]["total_intervals_analyzed"] == INTERVALS
    assert analysis["report"]["reasons"] is not None
    steps = scene.rows("SELECT stage, status, attempt FROM steps WHERE analysis_id = %s", identity)
    assert sorted(step["stage"] for step in steps) == ["audio", "extract", "fuse", "video"]
    assert {step["status"] for step in steps} == {"done"}
    assert max(step["attempt"] for step in steps) <= 2
