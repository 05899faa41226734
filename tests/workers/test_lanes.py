"""The order in which a worker asks its queues: urgent first, nobody starved, never two turns in a row."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from core.config import LaneSettings, settings
from core.domain import Lane
from core.queue import Queue, name_of, names_of, parse
from workers.app import app, configuration
from workers.lanes import LaneOrder

#: Kombu ships no types for what is used here.
kombu: Any = importlib.import_module("kombu")
scheduling: Any = importlib.import_module("kombu.utils.scheduling")
EXTRACTION = names_of([Queue.EXTRACTION])
INTERACTIVE, STANDARD, BATCH = EXTRACTION
#: The longest a lane waits while it and all above it never run dry: what the documents promise.
LONGEST = {STANDARD: 6, BATCH: 9}


def make(queues: Sequence[str] = EXTRACTION, config: LaneSettings | None = None) -> LaneOrder:
    order = LaneOrder(config or LaneSettings())
    order.update(queues)
    return order


def take(order: LaneOrder, waiting: Callable[[str], bool]) -> str:
    """What BRPOP does: the first queue in the order that holds something."""
    taken = next(queue for queue in order.consume(9) if waiting(queue))
    return order.rotate(taken)


def run(order: LaneOrder, times: int, *queues: str) -> list[str]:
    """Take so many messages while these queues never run dry."""
    return [take(order, queues.__contains__) for _ in range(times)]


def test_names_are_one_to_one() -> None:
    assert len(set(names_of())) == 4 * len(Lane) + 1
    assert {name_of(*parse(name)) for name in names_of()} == set(names_of())
    assert names_of([Queue.VIDEO], [Lane.BATCH, Lane.INTERACTIVE]) == ("video.interactive", "video.batch")
    assert names_of([Queue.WEBHOOKS]) == ("webhooks",)


def test_the_standard_lane_keeps_the_name_of_versions_without_lanes() -> None:
    assert [name_of(queue) for queue in Queue] == [queue.value for queue in Queue]


@pytest.mark.parametrize(
    "name", ["", ".", "extraction.", "extraction.express", "webhooks.batch", "video.standard", "Extraction"]
)
def test_a_name_that_is_not_ours_is_none(name: str) -> None:
    if name == "extraction.":
        assert parse(name.removesuffix(".")) == (Queue.EXTRACTION, Lane.STANDARD)
    with pytest.raises(ValueError, match=r"."):
        parse(name)


def test_urgent_work_is_asked_for_first() -> None:
    assert make([BATCH, STANDARD, INTERACTIVE]).consume(3) == [INTERACTIVE, STANDARD, BATCH]


def test_a_batch_earns_nothing_while_it_has_the_worker_for_itself() -> None:
    order = make()
    run(order, 500, BATCH)
    assert run(order, 3, *EXTRACTION) == [INTERACTIVE] * 3


def test_standard_work_in_between_earns_batch_its_turn_but_not_before_interactive_twice() -> None:
    order = make()
    run(order, 7, STANDARD)
    assert run(order, 2, *EXTRACTION) == [BATCH, INTERACTIVE]


def test_each_lane_gets_its_share_of_a_busy_worker() -> None:
    taken = run(make(), 800, *EXTRACTION)
    assert 0.22 < taken.count(STANDARD) / 800 <= 0.25
    assert 0.11 < taken.count(BATCH) / 800 <= 0.125
    assert taken[:8] == [INTERACTIVE] * 3 + [STANDARD] + [INTERACTIVE] * 3 + [BATCH]


def test_a_lane_that_is_empty_does_not_hide_the_turn_of_another() -> None:
    taken = run(make(), 40, INTERACTIVE, STANDARD)
    assert taken == ([INTERACTIVE] * 3 + [STANDARD]) * 10


def test_an_empty_answer_changes_nothing() -> None:
    order = make()
    run(order, 3, INTERACTIVE)
    assert {tuple(order.consume(3)) for _ in range(100)} == {(STANDARD, INTERACTIVE, BATCH)}


def test_kinds_of_work_in_a_lane_take_turns() -> None:
    queues = names_of([Queue.FUSION, Queue.VIDEO])
    urgent = [queue for queue in queues if queue.endswith("interactive")]
    assert run(make(queues), 4, *urgent) == urgent * 2


def test_shares_are_settings() -> None:
    taken = run(make(config=LaneSettings(standard_every=2, batch_every=20)), 100, *EXTRACTION)
    assert taken[:4] == [INTERACTIVE, STANDARD] * 2
    assert taken.count(BATCH) == 5


def test_a_worker_for_one_lane_knows_no_order() -> None:
    assert run(make([BATCH]), 20, BATCH) == [BATCH] * 20


def test_a_queue_of_somebody_else_counts_as_standard() -> None:
    order = make(["celery", INTERACTIVE, BATCH])
    assert order.consume(3) == [INTERACTIVE, "celery", BATCH]
    assert order.rotate("gone") == "gone"
    assert sorted(order.consume(3)) == sorted(["celery", INTERACTIVE, BATCH])


def test_queues_may_come_and_go() -> None:
    order = make([INTERACTIVE])
    order.update([STANDARD, INTERACTIVE])
    assert order.consume(2) == [INTERACTIVE, STANDARD]
    order.update([])
    assert order.consume(0) == []


states = st.lists(st.sets(st.sampled_from(EXTRACTION), min_size=1), min_size=1, max_size=120)


@given(states)
def test_whatever_waits_an_interactive_message_sees_one_turn_of_others_at_most(waits: list[set[str]]) -> None:
    order = make()
    taken = [take(order, waiting.__contains__) for waiting in waits]
    passed_over = [
        INTERACTIVE in waiting and got != INTERACTIVE for waiting, got in zip(waits, taken, strict=True)
    ]
    assert not [pair for pair in pairwise(passed_over) if all(pair)]


@given(states, st.sampled_from([STANDARD, BATCH]))
def test_no_lane_waits_for_ever(waits: list[set[str]], lane: str) -> None:
    """Whatever else comes and goes: who always waits is served within the promised number of messages."""
    order = make()
    taken = [take(order, (waiting | {lane}).__contains__) for waiting in waits]
    turns = [-1, *(n for n, got in enumerate(taken) if got == lane), len(taken)]
    assert max(after - before for before, after in pairwise(turns)) <= LONGEST[lane]


def test_the_setting_names_this_class() -> None:
    options = configuration(settings())["broker_transport_options"]
    assert isinstance(options, dict)
    assert scheduling.cycle_by_name(options["queue_order_strategy"]) is LaneOrder


def test_messages_come_out_of_a_real_broker_in_that_order(broker: str) -> None:
    """The transport of Celery, its prefix and all: twelve of each lane, the urgent ones sent last."""
    options = app.conf.broker_transport_options
    got: list[str] = []
    with kombu.Connection(broker, transport_options=options) as connection:
        queues = [kombu.Queue(name) for name in EXTRACTION]
        producer = kombu.Producer(connection)
        for name in reversed(EXTRACTION):
            for _ in range(12):
                producer.publish({}, routing_key=name)
        with redis.Redis.from_url(broker) as client:
            assert [client.llen(f"deepdefend:{name}") for name in EXTRACTION] == [12] * 3

        def on_message(_body: Any, message: Any) -> None:
            got.append(message.delivery_info["routing_key"])
            message.ack()

        with kombu.Consumer(connection, queues, callbacks=[on_message], prefetch_count=1):
            while len(got) < 36:
                connection.drain_events(timeout=30)
    expected = make()
    left = dict.fromkeys(EXTRACTION, 12)
    for name in got:
        assert take(expected, lambda queue: left[queue] > 0) == name
        left[name] -= 1
    assert got[:4] == [INTERACTIVE] * 3 + [STANDARD]
