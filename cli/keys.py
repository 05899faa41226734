"""`deepdefend keys`: API keys of the configured database, or of the stack on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.configured import DataDir, configure, fail

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Create, list and revoke API keys.")


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="What it is for; shown in the list.")],
    owner: Annotated[
        str | None, typer.Option(help="Keys of one owner see the same analyses [default: its own].")
    ] = None,
    scope: Annotated[
        list[str] | None, typer.Option(help="What it may do; may be repeated [default: all but `admin`].")
    ] = None,
    days: Annotated[int | None, typer.Option(min=1, help="It expires then [default: never].")] = None,
    data_dir: DataDir = None,
) -> None:
    """Make a key and print it; nobody can show it again. The audit log says that it was made."""
    from core import keys  # noqa: PLC0415 - reads settings

    try:
        scopes = [keys.Scope(given) for given in scope] if scope else keys.ORDINARY
    except ValueError:
        fail(f"a scope is one of {', '.join(keys.Scope)}")
    expires_at = None if days is None else datetime.now(UTC) + timedelta(days=days)
    with _session(data_dir) as session:
        _, key = keys.create(session, name=name, owner=owner, scopes=scopes, expires_at=expires_at)
    typer.echo(key)


@app.command("list")
def show(data_dir: DataDir = None) -> None:
    """List the keys: public prefix, owner, state, last use, name; separated by tabs."""
    from core import keys  # noqa: PLC0415 - reads settings

    with _session(data_dir) as session:
        for row in keys.list_keys(session):
            expired = row.expires_at is not None and row.expires_at <= datetime.now(UTC)
            state = "revoked" if row.revoked_at else "expired" if expired else "active"
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
            fail(error.detail)
    typer.echo(f"{prefix} is revoked")


@contextmanager
def _session(data_dir: Path | None) -> Iterator[Session]:
    from sqlalchemy.exc import DBAPIError  # noqa: PLC0415 - `--help` needs none of it

    from core import db  # noqa: PLC0415

    configure(data_dir)
    try:
        with db.transaction() as session:
            yield session
    except DBAPIError as error:
        fail(f"the database does not answer: {str(error.orig).splitlines()[0]}")
