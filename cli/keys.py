"""`deepdefend keys`: API keys of the configured database, or of the stack on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from cli.stack import StackError
from cli.stack.folder import default_folder

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Create, list and revoke API keys.")
DataDir = Annotated[
    Path | None,
    typer.Option(
        help="Use the stack of that directory [default: the DEEPDEFEND_… variables, else `up`'s directory]."
    ),
]


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="What it is for; shown in the list.")],
    owner: Annotated[
        str | None, typer.Option(help="Keys of one owner see the same analyses [default: its own].")
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Make a key and print it; nobody can show it again."""
    from core import keys  # noqa: PLC0415 - reads settings

    with _session(data_dir) as session:
        _, key = keys.create(session, name=name, owner=owner)
    typer.echo(key)


@app.command("list")
def show(data_dir: DataDir = None) -> None:
    """List the keys: public prefix, owner, state, last use, name; separated by tabs."""
    from core import keys  # noqa: PLC0415 - reads settings

    with _session(data_dir) as session:
        for row in keys.list_keys(session):
            state = "revoked" if row.revoked_at else "active"
            used = f"{row.last_used_at:%Y-%m-%dT%H:%MZ}" if row.last_used_at else "never used"
            typer.echo(f"{row.prefix}\t{row.owner}\t{state}\t{used}\t{row.name}")


@app.command()
def revoke(
    prefix: Annotated[str, typer.Argument(help="The 8 characters between `dd_` and the next `_`.")],
    data_dir: DataDir = None,
) -> None:
    """Revoke a key at once."""
    from core import keys  # noqa: PLC0415 - reads settings
    from core.errors import NotFound  # noqa: PLC0415

    with _session(data_dir) as session:
        try:
            keys.revoke(session, prefix)
        except NotFound as error:
            _fail(error.detail)
    typer.echo(f"{prefix} is revoked")


@contextmanager
def _session(data_dir: Path | None) -> Iterator[Session]:
    from sqlalchemy.exc import DBAPIError  # noqa: PLC0415 - `--help` needs none of it

    from core import db  # noqa: PLC0415

    _configure(data_dir)
    try:
        with db.transaction() as session:
            yield session
    except DBAPIError as error:
        _fail(f"the database does not answer: {str(error.orig).splitlines()[0]}")


def _configure(data_dir: Path | None) -> None:
    """Point the settings at a stack on this machine, unless they are complete without."""
    from pydantic import ValidationError  # noqa: PLC0415 - `--help` needs none of it

    from cli.stack import environment  # noqa: PLC0415
    from core.config import Settings  # noqa: PLC0415

    try:
        if data_dir is None:
            Settings()  # pyright: ignore[reportCallIssue]
            return
    except ValidationError:
        data_dir = default_folder()
    try:
        os.environ.update(environment.of_data_dir(data_dir))
    except StackError as error:
        _fail(str(error))


def _fail(line: str) -> NoReturn:
    typer.echo(f"deepdefend: {line}", err=True)
    raise typer.Exit(1)
