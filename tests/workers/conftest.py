"""Celery against a real broker and database, without a worker: what is published can be counted."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import Celery
from kombu import pools

from cli.stack.servers import ValkeyServer
from core.config import settings
from tests.conftest import point_settings
from workers.app import app, configuration


def bind() -> None:
    """Make the Celery application forget its connections and read the settings again."""
    app.backend.client.connection_pool.disconnect()
    app.conf.update(configuration(settings()))
    pools.reset()  # type: ignore[no-untyped-call]
    app._pool = None
    app.amqp._producer_pool = None
    app._backend_cache = None
    vars(app._local).clear()


@pytest.fixture
def ringing(broker: str, clean_database: str) -> Celery:
    """The Celery application on an empty broker, beside an empty database."""
    assert broker
    assert clean_database
    bind()
    return app


@pytest.fixture
def own_broker(tmp_path: Path, ringing: Celery) -> Iterator[ValkeyServer]:
    """A broker that the test may stop and start; the application talks to it meanwhile."""
    assert ringing
    shared = os.environ["DEEPDEFEND_BROKER_URL"]
    server = ValkeyServer(tmp_path)
    server.start()
    point_settings(DEEPDEFEND_BROKER_URL=server.database_url(0))
    bind()
    yield server
    server.stop()
    point_settings(DEEPDEFEND_BROKER_URL=shared)
    bind()
