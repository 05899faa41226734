"""What a stack asks of its database: the schema, a first key, workers that listen."""

from __future__ import annotations

import http.client
from http import HTTPStatus
from pathlib import Path

from cli.stack.state import write_private
from core import db, fleet, keys
from core.errors import Unauthorized
from core.models import WorkerProcess
from core.queue import names_of

KEY_NAME = "first key"


def build_schema() -> None:
    """Migrate, and forget the worker processes of the last run: none of them can be alive."""
    db.migrate()
    with db.transaction() as session:
        session.query(WorkerProcess).delete()


def first_key(path: Path) -> tuple[str, bool]:
    """The key stored in `path`, and whether it was made just now because there was none that works."""
    with db.transaction() as session:
        try:
            stored = path.read_text().strip()
            keys.authenticate(session, stored)
        except (FileNotFoundError, Unauthorized):
            _, made = keys.create(session, name=KEY_NAME)
        else:
            return stored, False
    write_private(path, made + "\n")
    return made, True


def missing_queues() -> set[str]:
    """Queues that no live worker process listens to."""
    with db.read() as session:
        served = {queue for process in fleet.live(session) for queue in process.queues}
    return set(names_of()) - served


def answers(host: str, port: int, path: str) -> bool:
    """Whether GET `path` gives 200."""
    connection = http.client.HTTPConnection(host, port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def reachable(host: str) -> str:
    """The address at which this machine reaches a server that listens on `host`."""
    wildcard = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - compared, not bound
    return wildcard.get(host, host)
