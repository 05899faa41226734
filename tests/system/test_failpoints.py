"""Every fail point in turn: the process dies there, comes back, and nothing is lost or done twice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime

import pytest

from chaos import leaks
from chaos.http import Caller
from chaos.ledger import Ledger
from chaos.receiver import Receiver
from chaos.run import subscribe
from chaos.senders import Site
from chaos.stack import Stack
from core.domain import Variant
from core.failpoints import Point
from tests.cli.stack.patience import eventually
from tests.system.media import FACE_AND_VOICE, ffmpeg
from tests.system.walks import (
    PATIENCE,
    Scene,
    Walk,
    erase,
    submit_after_a_death,
    submit_by_url,
    submit_for_stability,
    submit_in_parts,
    submit_to_keep_nothing,
)

pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]

SECONDS, INTERVALS = 3, 2  # of the clip, at the usual 2 s
GRACE = 15  # seconds that an object without a row is left alone
EXTRACTION, VIDEO, AUDIO = "worker-extraction", "worker-video", "worker-audio"
FUSION, WEBHOOKS = "worker-fusion", "worker-webhooks"

#: Ordered so that no process dies twice in a row: the supervisor makes those wait that keep dying. What
#: only the dispatcher mends comes early, so that it is mended while others are walked.
WALKS = (
    Walk(point=Point.WEBHOOK_SENT, dies=WEBHOOKS),
    Walk(point=Point.API_CLAIMED, dies="api"),
    Walk(point=Point.DISPATCHER_READ, dies="dispatcher"),
    Walk(point=Point.ERASURE_DELETED, dies=FUSION, act=submit_to_keep_nothing),
    Walk(point=Point.WORKER_CLAIMED, dies=EXTRACTION, in_pool=True),
    Walk(point=Point.UPLOAD_BEGUN, dies="api", act=submit_in_parts),
    Walk(point=Point.VIDEO_SCORED, dies=VIDEO, in_pool=True),
    Walk(point=Point.WEBHOOK_CLAIMED, dies=WEBHOOKS),
    Walk(point=Point.DISPATCHER_SENT, dies="dispatcher"),
    Walk(point=Point.API_STORED, dies="api"),
    Walk(point=Point.SOURCE_STORED, dies=EXTRACTION, in_pool=True, act=submit_by_url),
    Walk(point=Point.FUSE_CLAIMED, dies=FUSION),
    Walk(point=Point.AUDIO_SCORED, dies=AUDIO, in_pool=True),
    Walk(point=Point.DISPATCHER_CHORD, dies="dispatcher"),
    Walk(point=Point.ERASURE_CONDEMNED, dies="api", act=erase),
    Walk(point=Point.EXTRACT_STORED, dies=EXTRACTION, in_pool=True),
    Walk(point=Point.VIDEO_STORED, dies=VIDEO, in_pool=True),
    Walk(point=Point.FUSE_JUDGED, dies=FUSION),
    Walk(point=Point.UPLOAD_JOINED, dies="api", act=submit_in_parts),
    Walk(point=Point.DISPATCHER_TOLD, dies="dispatcher"),
    Walk(point=Point.BRANCH_CLOSED, dies=AUDIO, in_pool=True),
    Walk(point=Point.ERASURE_NOTED, dies="api", act=erase),
    Walk(point=Point.STABILITY_SCORED, dies=VIDEO, in_pool=True, act=submit_for_stability),
    Walk(point=Point.DISPATCHER_HEADER, dies="dispatcher"),
    Walk(point=Point.EXTRACT_CLOSED, dies=EXTRACTION, in_pool=True),
    Walk(point=Point.FUSE_COMPLETED, dies=FUSION),
    Walk(point=Point.API_ACCEPTED, dies="api"),
    Walk(point=Point.FUSE_DEFERRED, dies=FUSION, act=submit_for_stability),
    Walk(point=Point.DISPATCHER_REQUEUED, dies="dispatcher", act=submit_after_a_death),
    Walk(point=Point.ERASURE_DELETED, dies="api", act=erase),
)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A stack with test detectors and short leases, a site with the clip, a receiver of webhooks."""
    folder = tmp_path_factory.mktemp("walks")
    clip = folder / "clip.mp4"
    ffmpeg("-i", FACE_AND_VOICE, "-t", str(SECONDS), "-c", "copy", clip)
    with (
        Receiver() as receiver,
        closing(Site(lambda _: clip.read_bytes())) as site,
        Stack(folder, environment(receiver.port, site.port)) as stack,
        closing(Caller(stack.api_url, stack.api_key, Ledger(), lambda: False)) as caller,
    ):
        receiver.trust(subscribe(caller.http, receiver.url))
        yield Scene(stack=stack, caller=caller, receiver=receiver, site=site, clip=clip)


def environment(receiver: int, site: int) -> dict[str, str]:
    return {
        "DEEPDEFEND_STEPS__LEASE": "PT4S",
        "DEEPDEFEND_STEPS__HEARTBEAT": "PT1S",
        "DEEPDEFEND_STEPS__REPUBLISH_AFTER": "PT2S",
        "DEEPDEFEND_STEPS__CHORD_GRACE": "PT1S",
        "DEEPDEFEND_IDEMPOTENCY_LEASE": "PT3S",
        "DEEPDEFEND_RETENTION__ORPHANS": f"PT{GRACE}S",
        "DEEPDEFEND_RETENTION__SWEEP": "PT2S",
        "DEEPDEFEND_WEBHOOKS__TIMEOUT": "PT2S",
        "DEEPDEFEND_WEBHOOKS__ALLOWED_NETWORKS": '["127.0.0.0/8"]',
        "DEEPDEFEND_WEBHOOKS__ALLOWED_PORTS": f"[{receiver}]",
        "DEEPDEFEND_SOURCE_URL__ALLOWED_NETWORKS": '["127.0.0.0/8"]',
        "DEEPDEFEND_SOURCE_URL__ALLOWED_PORTS": f"[{site}]",
    }


def test_every_point_of_the_registry_is_walked() -> None:
    assert {walk.point for walk in WALKS} == set(Point)


@pytest.mark.parametrize("walk", WALKS, ids=lambda walk: f"{walk.point} in {walk.dies}")
def test_it_dies_there_and_nothing_is_lost(scene: Scene, walk: Walk) -> None:
    identity = walk.run(scene)
    if walk.act is erase:
        assert scene.caller.http.get(f"/v1/analyses/{identity}").status_code == 404
        scene.deleted.append(identity)
        return
    ended = scene.look(identity)
    assert ended["status"] == "completed", ended["error"]
    assert [str(row["id"]) for row in scene.of_walk(walk.point)] == [identity], "one submission, one analysis"
    one_result_set(scene, identity)
    assert (ended["report"]["stability"] is not None) == (walk.act is submit_for_stability)
    scene.ended.append(identity)


def one_result_set(scene: Scene, identity: str) -> None:
    """Every interval once, both detectors heard, every step closed once within its attempts."""
    rows = scene.stack.rows
    found = rows("SELECT * FROM intervals WHERE analysis_id = %s ORDER BY index", identity)
    assert [row["index"] for row in found] == list(range(INTERVALS))
    assert all(row["video_score"] is not None for row in found)
    assert any(row["audio_score"] is not None for row in found)
    (analysis,) = rows("SELECT report FROM analyses WHERE id = %s", identity)
    assert analysis["report"]["total_intervals_analyzed"] == INTERVALS
    steps = rows("SELECT stage, status, attempt FROM steps WHERE analysis_id = %s", identity)
    fleet = ["stability"] * len(Variant) + ["fuse"] if analysis["report"]["stability"] else []
    assert sorted(step["stage"] for step in steps) == sorted(["audio", "extract", "fuse", "video", *fleet])
    assert {step["status"] for step in steps} == {"done"}
    assert max(step["attempt"] for step in steps) <= 2


def test_every_end_was_told_under_one_id(scene: Scene) -> None:
    def told(identity: str) -> bool:
        return any(c.taken and c.event_type == "analysis.completed" for c in scene.receiver.calls(identity))

    for identity in scene.ended:
        eventually(lambda identity=identity: told(identity), PATIENCE)  # type: ignore[misc]
        ends = [c for c in scene.receiver.calls(identity) if c.event_type == "analysis.completed"]
        assert len({call.event_id for call in ends}) == 1
    assert all(call.verified for call in scene.receiver.calls())


def test_every_erasure_was_carried_out_and_has_its_receipt(scene: Scene) -> None:
    eventually(lambda: not scene.stack.rows("SELECT id FROM erasures"), PATIENCE)
    for identity in scene.deleted:
        assert scene.caller.http.get(f"/v1/erasures/{identity}").json()["complete"] is True
    query = "SELECT media_erased_at FROM analyses WHERE id = %s"
    for point in (Point.ERASURE_DELETED, Point.STABILITY_SCORED, Point.FUSE_DEFERRED):
        (kept,) = scene.of_walk(point)
        assert scene.stack.rows(query, kept["id"])[0]["media_erased_at"] is not None


def test_no_object_folder_connection_or_process_is_left(scene: Scene) -> None:
    eventually(lambda: leaks.unnamed(scene.stack, datetime.now(UTC)).holds, PATIENCE)
    for look in (leaks.folders, leaks.connections, leaks.strays):
        eventually(lambda look=look: look(scene.stack).holds, PATIENCE)  # type: ignore[misc]
    assert leaks.survivors(scene.stack).broken == ()
