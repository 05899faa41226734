"""`deepdefend webhooks`: care of the secrets that sign events. Works on the database, not through the API."""

from __future__ import annotations

import typer

from cli.configured import DataDir, configure, fail

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Care of webhook secrets.")


@app.callback()
def webhooks() -> None:
    """Keeps `reencrypt` a command of its own: with one command typer would leave its name out."""


@app.command()
def reencrypt(data_dir: DataDir = None) -> None:
    """Encrypt every secret with the first key of DEEPDEFEND_WEBHOOKS__ENCRYPTION_KEYS.

    Without such keys, with the one that DEEPDEFEND_SECRET_KEY gives. The keys before must still be named.
    """
    from sqlalchemy.exc import DBAPIError  # noqa: PLC0415 - `--help` needs none of it

    from core import db  # noqa: PLC0415
    from core.webhooks import endpoints  # noqa: PLC0415

    configure(data_dir)
    try:
        with db.transaction() as session:
            done, lost = endpoints.reseal(session)
    except DBAPIError as error:
        fail(f"the database does not answer: {str(error.orig).splitlines()[0]}")
    typer.echo(f"{done} endpoints encrypted anew")
    if lost:
        fail(f"{lost} endpoints have a secret that no configured key opens; rotate their secrets")
