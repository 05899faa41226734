from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import text

from api import broker as ping
from api import readiness
from cli.stack.servers import ValkeyServer
from core import db, fleet
from core.config import settings
from core.domain import Stage
from core.keys import Caller
from core.queue import Queue, names_of
from tests.core.factories import claim_step, create_analysis, expire_leases

LOADED = {"modality": "video", "loaded": True, "id": "org/model", "version": "abc"}
MISSING = {
    "modality": "audio",
    "loaded": False,
    "code": "no_detector_weights",
    "mend": "deepdefend models pull",
    "detail": "nothing in /srv/secret/models",
}


def announce(*detectors: dict[str, Any], queues: tuple[Queue, ...] = tuple(Queue)) -> None:
    with db.transaction() as session:
        fleet.announce(
            session,
            boot_id="b-" + "-".join(queues),
            queues=names_of(queues),
            version="1",
            sandbox="rlimits",
            detectors=detectors,
        )


def ready(http: httpx2.Client) -> tuple[int, str, dict[str, Any]]:
    response = http.get("/readyz", headers={"Authorization": ""})
    return response.status_code, response.json()["status"], response.json()["components"]


@pytest.fixture
def all_well(broker: str, bucket: str, clean_database: str) -> None:
    """Database, storage, broker, workers and detectors are as they should be."""
    assert broker
    assert bucket
    assert clean_database
    announce(LOADED, {**MISSING, "loaded": True})


@pytest.mark.usefixtures("all_well")
def test_all_is_well(http: httpx2.Client) -> None:
    status, overall, components = ready(http)
    assert (status, overall) == (200, "ok")
    assert {name: component["status"] for name, component in components.items()} == dict.fromkeys(
        ["broker", "database", "detectors", "schema", "storage", "workers"], "ok"
    )
    assert components["workers"]["facts"] == {
        "queues": dict.fromkeys(names_of(), 1),
        "sandbox": ["rlimits"],
    }


@pytest.mark.usefixtures("all_well")
def test_without_a_broker_work_is_still_taken(http: httpx2.Client, set_settings: Callable[..., None]) -> None:
    set_settings(BROKER_URL="redis://:hunter2@127.0.0.1:1/0")
    status, overall, components = ready(http)
    assert (status, overall, components["broker"]["status"]) == (200, "degraded", "degraded")
    assert "hunter2" not in json.dumps(components)
    assert "127.0.0.1" not in json.dumps(components)


@pytest.mark.usefixtures("broker", "bucket")
def test_a_queue_without_a_worker_is_named(http: httpx2.Client) -> None:
    announce(LOADED, queues=(Queue.VIDEO, Queue.AUDIO))
    status, overall, components = ready(http)
    assert (status, overall) == (200, "degraded")
    assert components["workers"]["detail"] == (
        "nobody works on: extraction.interactive, extraction, extraction.batch,"
        " fusion.interactive, fusion, fusion.batch, webhooks"
    )
    assert components["workers"]["facts"]["queues"]["video"] == 1


@pytest.mark.usefixtures("broker", "bucket")
def test_a_missing_detector_says_how_to_mend_it(http: httpx2.Client) -> None:
    announce(LOADED, MISSING)
    status, overall, components = ready(http)
    assert (status, overall, components["detectors"]["status"]) == (200, "degraded", "degraded")
    assert components["detectors"]["detail"] == "no detector for: audio"
    assert components["detectors"]["facts"]["audio"]["mend"] == "deepdefend models pull"
    assert "/srv/secret" not in json.dumps(components)


@pytest.mark.usefixtures("broker", "bucket")
def test_a_detector_that_only_informs_takes_nobodys_place(http: httpx2.Client) -> None:
    informs = {"modality": "video", "role": "trace", "loaded": True, "id": "org/trace"}
    announce({**MISSING, "modality": "video"}, informs, {**MISSING, "loaded": True})
    components = ready(http)[2]
    assert components["detectors"]["detail"] == "no detector for: video"
    assert components["detectors"]["facts"]["video"]["id"] is None


@pytest.mark.usefixtures("broker", "bucket")
def test_one_worker_with_the_detector_is_enough(http: httpx2.Client) -> None:
    announce(LOADED, MISSING)
    announce({**MISSING, "loaded": True}, queues=(Queue.AUDIO,))
    assert ready(http)[1] == "ok"


@pytest.mark.usefixtures("broker", "bucket")
def test_without_workers_nobody_speaks_of_detectors(http: httpx2.Client) -> None:
    status, overall, components = ready(http)
    assert (status, overall) == (200, "degraded")
    assert components["detectors"]["detail"] == "no worker has said which detectors it has"


@pytest.mark.usefixtures("all_well")
def test_without_storage_nothing_is_taken(http: httpx2.Client, set_settings: Callable[..., None]) -> None:
    set_settings(S3__BUCKET="there-is-no-such-bucket")
    status, overall, components = ready(http)
    assert (status, overall, components["storage"]["status"]) == (503, "unavailable", "unavailable")
    assert components["database"]["status"] == "ok"


@pytest.mark.usefixtures("all_well")
def test_without_a_database_nothing_is_taken(http: httpx2.Client, set_settings: Callable[..., None]) -> None:
    set_settings(DATABASE_URL="postgresql://nobody:hunter2@127.0.0.1:1/none")
    status, overall, components = ready(http)
    assert (status, overall) == (503, "unavailable")
    assert components["database"]["status"] == "unavailable"
    assert components["workers"]["detail"] == "not known without the database"
    assert components["storage"]["status"] == "ok", "the others are still looked at"
    assert "hunter2" not in json.dumps(components)


@pytest.mark.usefixtures("all_well")
def test_another_schema_is_not_ready(http: httpx2.Client) -> None:
    with db.transaction() as session:
        present = session.execute(text("SELECT version_num FROM alembic_version")).scalar_one()
        session.execute(text("UPDATE alembic_version SET version_num = '0000'"))
    try:
        status, _, components = ready(http)
    finally:
        with db.transaction() as session:
            session.execute(text("UPDATE alembic_version SET version_num = :v"), {"v": present})
    assert (status, components["schema"]["status"], components["database"]["status"]) == (
        503,
        "unavailable",
        "ok",
    )
    assert "deepdefend migrate" in components["schema"]["detail"]
    assert ready(http)[0] == 200


@pytest.mark.usefixtures("all_well")
def test_a_database_that_breaks_while_it_is_asked_is_not_ready(http: httpx2.Client) -> None:
    with db.transaction() as session:
        session.execute(text("ALTER TABLE worker_processes RENAME TO elsewhere"))
    try:
        status, _, components = ready(http)
    finally:
        with db.transaction() as session:
            session.execute(text("ALTER TABLE elsewhere RENAME TO worker_processes"))
    assert (status, components["database"]["detail"]) == (503, "it does not answer as it should")


@pytest.fixture
def silent() -> Iterator[str]:
    """A server that accepts and never says a word, as a frozen one does."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.usefixtures("all_well")
def test_what_hangs_is_given_up(
    http: httpx2.Client, silent: str, set_settings: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness, "PATIENCE", 0.3)
    monkeypatch.setattr(ping, "PATIENCE", 1.0)
    set_settings(BROKER_URL=f"redis://{silent}/0")
    status, overall, components = ready(http)
    assert (status, overall) == (200, "degraded")
    assert components["broker"]["detail"].startswith("no answer within")


def test_life_needs_nothing_else(http: httpx2.Client, set_settings: Callable[..., None]) -> None:
    set_settings(
        DATABASE_URL="postgresql://nobody:none@127.0.0.1:1/none", S3__ENDPOINT_URL="http://127.0.0.1:1"
    )
    response = http.get("/healthz", headers={"Authorization": ""})
    assert (response.status_code, response.json()) == (200, {"status": "ok"})


def test_a_ping_finds_a_real_broker(
    broker: str, valkey: ValkeyServer, set_settings: Callable[..., None]
) -> None:
    assert broker
    assert ping.alive() is True
    set_settings(BROKER_URL=f"redis://127.0.0.1:{valkey.port}/0")  # no password: it answers -NOAUTH
    assert ping.alive() is True


@pytest.mark.parametrize(
    "url", ["amqp://host/", "redis+socket:///run/redis.sock", "sentinel://a;sentinel://b"]
)
def test_another_broker_is_not_judged(url: str, set_settings: Callable[..., None]) -> None:
    set_settings(BROKER_URL=url)
    assert ping.alive() is None


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n", b"-LOADING in memory\r\n"])
def test_what_answers_something_else_is_no_broker(
    answer: bytes, scheme: str, set_settings: Callable[..., None]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            near, _ = listener.accept()
            with near:
                near.recv(64)
                near.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        set_settings(BROKER_URL=f"{scheme}://127.0.0.1:{listener.getsockname()[1]}/0")
        assert ping.alive() is False
        thread.join()


def test_detectors_are_those_the_workers_have(http: httpx2.Client) -> None:
    announce(LOADED, MISSING)
    (worker,) = http.get("/v1/detectors").json()["workers"]
    for said, announced in zip(worker["detectors"], (LOADED, MISSING), strict=True):
        assert said == said | announced
    assert worker["queues"] == list(names_of())
    assert worker["sandbox"] == "rlimits"


def test_a_silent_worker_has_no_detectors(http: httpx2.Client) -> None:
    announce(LOADED)
    with db.transaction() as session:
        session.execute(text("UPDATE worker_processes SET seen_at = now() - interval '5 minutes'"))
    assert http.get("/v1/detectors").json() == {"workers": []}


def figures(http: httpx2.Client) -> dict[tuple[str, ...], float]:
    response = http.get("/metrics", headers={"Authorization": ""})
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain")
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


def test_figures_are_counted_in_the_database(http: httpx2.Client, alice: Caller) -> None:
    before = figures(http)
    assert before["deepdefend_analyses", "queued"] == 0
    assert before["deepdefend_oldest_owed_step_seconds", "standard", "extract"] == 0
    with db.transaction() as session:
        create_analysis(session, alice)
        busy = create_analysis(session, alice)
    with db.transaction() as session:
        claim_step(session, busy.id, Stage.EXTRACT)
        expire_leases(session)
        session.execute(
            text("UPDATE steps SET created_at = now() - interval '1 hour' WHERE status = 'pending'")
        )
    announce(LOADED, queues=(Queue.VIDEO,))
    found = figures(http)
    assert found["deepdefend_analyses", "queued"] == 1
    assert found["deepdefend_analyses", "processing"] == 1
    assert found["deepdefend_steps", "extract", "pending"] == 1
    assert found["deepdefend_steps", "extract", "running"] == 1
    assert found["deepdefend_steps", "fuse", "done"] == 0
    assert 3600 <= found["deepdefend_oldest_owed_step_seconds", "standard", "extract"] < 3700
    assert found["deepdefend_oldest_owed_step_seconds", "batch", "extract"] == 0
    assert found["deepdefend_expired_leases",] == 1
    assert found["deepdefend_workers", "video"] == 1
    assert found["deepdefend_workers", "video.batch"] == 1
    assert found["deepdefend_workers", "fusion"] == 0


def test_figures_without_a_database_are_a_503(http: httpx2.Client, set_settings: Callable[..., None]) -> None:
    set_settings(DATABASE_URL="postgresql://nobody:none@127.0.0.1:1/none")
    assert settings().database_url
    response = http.get("/metrics")
    assert (response.status_code, response.json()["code"]) == (503, "database_unavailable")
