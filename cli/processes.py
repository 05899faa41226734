"""`deepdefend api|worker|dispatcher|flower|migrate`: one process each, as containers run them.

Each replaces itself with the real program, so that signals and exit status are the program's own.
"""

from __future__ import annotations

import os
from typing import Annotated, NoReturn

import typer

from cli.stack import commands
from core.domain import Lane
from core.queue import Queue


def api(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8000,
) -> None:
    """Run the API alone; settings come from DEEPDEFEND_… variables."""
    _become(commands.api(host, port))


def worker(
    queues: Annotated[list[Queue], typer.Argument(help="What it works on.")],
    concurrency: Annotated[
        int | None,
        typer.Option(min=1, help="Processes or threads [default: 1 process; 4 threads, 16 for webhooks]."),
    ] = None,
    lane: Annotated[
        list[Lane] | None, typer.Option(help="Only this lane; may be repeated [default: every lane].")
    ] = None,
) -> None:
    """Run one worker alone; settings come from DEEPDEFEND_… variables."""
    _become(commands.worker(queues, concurrency, lane or Lane))


def dispatcher() -> None:
    """Run the dispatcher alone; a second one waits until the first is gone."""
    _become(commands.dispatcher())


def flower(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 5555,
) -> None:
    """Run Flower alone. FLOWER_BASIC_AUTH=user:password is required: it can purge queues."""
    if not os.environ.get("FLOWER_BASIC_AUTH"):
        typer.echo("deepdefend: set FLOWER_BASIC_AUTH=user:password; Flower can purge queues", err=True)
        raise typer.Exit(1)
    _become(commands.flower(host, port))


def migrate(revision: Annotated[str, typer.Argument(help="Revision to go up to.")] = "head") -> None:
    """Bring the database schema up to date; safe to run from several machines at once."""
    from core import db  # noqa: PLC0415 - reads settings

    db.migrate(revision)


def _become(command: tuple[str, ...]) -> NoReturn:
    os.execv(command[0], command)  # noqa: S606 - exec without a shell is the point
