from __future__ import annotations

import asyncio
import importlib.metadata
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from sqlalchemy import text

from api.app import create_app
from core import db
from core import logging as ours


@pytest.fixture
def logging_as_before() -> Iterator[None]:
    """The start of the API takes over the log of its process; this one is not its own."""
    loggers = [logging.getLogger(name) for name in ("", "uvicorn", "uvicorn.error")]
    before = [(logger, logger.handlers, logger.propagate, logger.level) for logger in loggers]
    configured = structlog.get_config()
    yield
    structlog.configure(**configured)
    structlog.contextvars.clear_contextvars()
    for logger, handlers, propagate, level in before:
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)


@pytest.mark.usefixtures("logging_as_before", "database")
def test_starting_joins_the_logs_and_stopping_gives_the_connections_back(
    capsys: pytest.CaptureFixture[str],
) -> None:
    app = create_app()

    async def live() -> None:
        async with app.router.lifespan_context(app):
            logging.getLogger("uvicorn.error").info("started")
            ours.get("test").info("hello", action="greet")
            with db.read() as session:
                session.execute(text("SELECT 1"))
            assert pool_size() == 1

    def pool_size() -> int:
        pool: Any = db.engine().pool
        return int(pool.checkedin())

    db.engine().dispose()
    asyncio.run(live())
    assert pool_size() == 0
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["event"] for line in lines] == ["started", "hello"]
    assert lines[1]["service"] == "api"


def test_a_checkout_that_was_never_installed_still_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr("api.app.version", missing)
    assert create_app().version == "unknown"
    monkeypatch.setattr("api.app.version", lambda _: "1.2.3")
    assert create_app().version == "1.2.3"
