"""A crowd in one lane, and somebody in a hurry; a broker that is away. In a real stack, seen in its rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import pytest

from cli.client import Client, ClientError
from core.domain import Lane, Terms
from tests.cli.stack.patience import eventually
from tests.system.conftest import RunningStack
from tests.system.media import FACE_AND_VOICE, VOICE
from tests.system.test_analyses import rows

pytestmark = pytest.mark.system

CROWD = 12
#: Steps of others that began while one of the urgent analysis could have: after its message was on its way,
#: before it was claimed. A chord's body is on its way once the last branch has closed.
OVERTAKEN = """
    with urgent as (
        select stage, started_at, case when stage = 'fuse'
            then (select max(closed_at) from steps b where b.analysis_id = %s and b.stage <> 'fuse')
            else published_at end as sent_at
        from steps where analysis_id = %s
    )
    select urgent.stage, count(other.id) filter (
            where other.started_at > urgent.sent_at and other.started_at < urgent.started_at) as before,
        count(other.id) filter (where other.started_at > urgent.started_at) as after
    from urgent join steps other on other.stage = urgent.stage and other.analysis_id <> %s
    join analyses on analyses.id = other.analysis_id and lane = 'batch'
    group by urgent.stage
"""


@contextmanager
def crowd(client: Client) -> Iterator[list[str]]:
    """Analyses of the batch lane, canceled at the end as far as they have not ended."""
    batch = Terms(lane=Lane.BATCH)
    identities = [client.submit(FACE_AND_VOICE, terms=batch)["id"] for _ in range(CROWD)]
    try:
        yield identities
    finally:
        for identity in identities:
            try:
                client.cancel(identity)
            except ClientError:
                assert client.wait(identity)["status"] == "completed"
        # Behind it in its queue: what is left of the crowd has been looked at when it is through.
        assert client.wait(client.submit(VOICE, terms=batch)["id"])["status"] == "completed"


def test_a_crowd_delays_nobody_in_a_hurry_by_more_than_the_step_in_hand(stack: RunningStack) -> None:
    with Client(stack.api_url, stack.api_key) as client, crowd(client):
        urgent = client.submit(FACE_AND_VOICE, terms=Terms(lane=Lane.INTERACTIVE))["id"]
        assert client.wait(urgent)["status"] == "completed"
        found = {row["stage"]: row for row in rows(stack, OVERTAKEN, urgent, urgent, urgent)}
        assert {"extract", "audio", "video"} <= set(found)
        # One process each: what it had in hand, or took while the message was on its way, and no more.
        assert {stage: found[stage]["before"] for stage in ("extract", "audio", "video")} == {
            stage: pytest.approx(0, abs=1) for stage in ("extract", "audio", "video")
        }
        (waiting,) = rows(
            stack,
            "select count(*) from steps join analyses on analyses.id = analysis_id"
            " where lane = 'batch' and stage = 'extract' and steps.started_at is null",
        )
        later = found["extract"]["after"] + waiting["count"]
        assert later >= CROWD // 2, "the crowd was through before anybody could be in a hurry"


def test_the_other_lanes_have_their_share(stack: RunningStack) -> None:
    """One of batch behind more urgent ones than it can wait for: it is not the last."""
    with Client(stack.api_url, stack.api_key) as client:
        urgent = Terms(lane=Lane.INTERACTIVE)
        first = [client.submit(VOICE, terms=urgent)["id"] for _ in range(4)]
        batch = client.submit(VOICE, terms=Terms(lane=Lane.BATCH))["id"]
        rest = [client.submit(VOICE, terms=urgent)["id"] for _ in range(9)]
        assert {client.wait(identity)["status"] for identity in (*first, batch, *rest)} == {"completed"}
        order = [
            str(row["analysis_id"])
            for row in rows(
                stack,
                "select analysis_id from steps where stage = 'extract' and analysis_id = any(%s::uuid[])"
                " order by started_at",
                [*first, batch, *rest],
            )
        ]
    assert order.index(batch) < len(order) - 1


def test_every_lane_of_every_kind_of_work_is_served(stack: RunningStack) -> None:
    workers: dict[str, Any] = httpx2.get(f"{stack.api_url}/readyz").json()["components"]["workers"]
    assert workers["status"] == "ok"
    assert {name: count for name, count in workers["facts"]["queues"].items() if not count} == {}
    assert {"extraction", "extraction.batch", "fusion.interactive"} <= set(workers["facts"]["queues"])


def test_work_is_taken_while_the_broker_is_away_and_done_when_it_is_back(stack: RunningStack) -> None:
    def broker() -> str:
        answer = httpx2.get(f"{stack.api_url}/readyz", timeout=30)
        assert answer.status_code == 200, "a load balancer must go on sending"
        return str(answer.json()["components"]["broker"]["status"])

    valkey = stack.find("valkey-server")
    with Client(stack.api_url, stack.api_key) as client:
        valkey.suspend()
        try:
            eventually(lambda: broker() == "degraded", seconds=60)
            taken = {lane: client.submit(VOICE, terms=Terms(lane=lane))["id"] for lane in Lane}
            assert {client.cancel(taken.pop(Lane.BATCH))["status"]} == {"canceled"}
            for identity in taken.values():
                assert client.get(f"v1/analyses/{identity}").json()["status"] == "queued"
            valkey.kill()  # and it comes back as another process
        finally:
            if valkey.is_running():
                valkey.resume()
        assert {client.wait(identity)["status"] for identity in taken.values()} == {"completed"}
        eventually(lambda: broker() == "ok", seconds=60)
