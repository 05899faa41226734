"""`deepdefend backup` and `restore`: the database and the objects that its rows name, in one folder."""

from __future__ import annotations

import hashlib
import hmac
import json
import mimetypes
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

import typer

from cli.configured import DataDir, configure, fail
from cli.stack import StackError

#: Of the layout of the folder; a restore refuses what it does not know.
FORMAT: Final = 1
MANIFEST, DUMP, OBJECTS = "manifest.json", "database.dump", "objects"


def backup(
    folder: Annotated[Path, typer.Argument(help="A new or empty folder.")], data_dir: DataDir = None
) -> None:
    """Write the database and all objects into a folder, while the service goes on.

    The database comes first: an object that is erased in between is missing from the backup, as it should be.
    Secrets are not in it: keep DEEPDEFEND_SECRET_KEY elsewhere, or every API key must be made anew.
    """
    with _settled(data_dir):
        if folder.exists() and any(folder.iterdir()):
            fail(f"{folder} is not empty")
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _postgres("pg_dump", "--format=custom", "--no-owner", f"--file={folder / DUMP}")
        objects = dict(_copy_out(folder / OBJECTS))
        manifest = {
            "format": FORMAT,
            "version": version("deepdefend"),
            "revision": _revision(),
            "made_at": datetime.now(UTC).isoformat(),
            "secret": _seal(),
            "database": _digest(folder / DUMP),
            "objects": objects,
        }
        # Last: a folder without it is a backup that was interrupted.
        (folder / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True), encoding="utf-8")
    typer.echo(f"{folder}: the database at {manifest['revision']} and {len(objects)} objects")


def restore(folder: Annotated[Path, typer.Argument(help="What `backup` wrote.")]) -> None:
    """Bring a backup back into an empty database and bucket, then bring the schema up to date.

    Stop every process but PostgreSQL and the storage first. What was running when the backup was made starts
    again by itself; what was erased after it is back and must be erased again.
    """
    manifest = _read(folder)
    with _settled(None):
        if _tables():
            fail("the database is not empty: restore into a new one")
        # Objects first: a row must never name one that is not there yet.
        _copy_in(folder / OBJECTS, manifest["objects"])
        _postgres(
            "pg_restore",
            "--no-owner",
            "--exit-on-error",
            "--single-transaction",
            str(folder / DUMP),
        )
        from core import db  # noqa: PLC0415 - reads settings

        db.migrate()
        if manifest["secret"] != _seal():
            typer.echo("another DEEPDEFEND_SECRET_KEY than then: no API key of the backup works", err=True)
    typer.echo(f"{len(manifest['objects'])} objects and the database at {_revision()} are back")


@contextmanager
def _settled(data_dir: Path | None) -> Iterator[None]:
    """The settings, and what goes wrong with the servers in one line."""
    from sqlalchemy.exc import DBAPIError  # noqa: PLC0415 - `--help` needs none of it

    from core.errors import DeepDefendError  # noqa: PLC0415

    configure(data_dir)
    try:
        yield
    except (DeepDefendError, OSError) as error:
        fail(str(error))
    except DBAPIError as error:
        fail(f"the database does not answer: {str(error.orig).splitlines()[0]}")


def _seal() -> str:
    """Tells whether a later service has the same secret, without telling the secret."""
    from core.config import settings  # noqa: PLC0415 - reads settings

    secret = settings().secret_key.get_secret_value().encode()
    return hmac.new(secret, b"deepdefend backup", hashlib.sha256).hexdigest()


def _read(folder: Path) -> dict[str, Any]:
    """The manifest, once every file it names is there and unchanged."""
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if manifest["format"] != FORMAT:
            fail(f"{folder}: its format is {manifest['format']}, this version reads {FORMAT}")
        wanted = {DUMP: manifest["database"]} | {
            f"{OBJECTS}/{key}": digest for key, digest in manifest["objects"].items()
        }
        changed = [name for name, digest in wanted.items() if _digest(_inside(folder, name)) != digest]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        fail(f"{folder} holds no complete backup: {error}")
    if changed:
        fail(f"{folder} is damaged: {changed[0]}" + (f" and {len(changed) - 1} more" if changed[1:] else ""))
    return manifest


def _inside(folder: Path, name: str) -> Path:
    """A path below the folder. Raises ValueError for a key that would lead out of it."""
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise ValueError(f"{name!r} leads out of the folder")
    return path


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _copy_out(folder: Path) -> Iterator[tuple[str, str]]:
    """Copy every object; yields key and digest. One that is erased meanwhile is left out."""
    from core.errors import NotFound  # noqa: PLC0415
    from core.storage import storage  # noqa: PLC0415 - reads settings

    folder.mkdir(mode=0o700)
    for key in storage().keys(""):
        path = _inside(folder, key)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            storage().download_file(key, path)
        except NotFound:
            path.unlink(missing_ok=True)
            continue
        yield key, _digest(path)


def _copy_in(folder: Path, keys: dict[str, str]) -> None:
    from core.storage import storage  # noqa: PLC0415 - reads settings

    storage().ensure_bucket()
    for key in keys:
        kind = mimetypes.guess_type(key)[0] or "application/octet-stream"
        storage().upload_file(_inside(folder, key), key, content_type=kind)


def _postgres(name: str, *arguments: str) -> None:
    """Run one of PostgreSQL's own programs on our database; the password is in no process list."""
    from core.config import settings  # noqa: PLC0415 - reads settings

    address, password = _without_password(settings().database_url.get_secret_value())
    done = subprocess.run(  # noqa: S603 - PostgreSQL's own program
        [_program(name), f"--dbname={address}", *arguments],
        env=os.environ | password,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        fail(f"{name}: {done.stderr.strip()}")


def _without_password(url: str) -> tuple[str, dict[str, str]]:
    """An address for libpq with all that it asks for, `sslmode` above all, and the password by itself."""
    parts = urlsplit(url)
    user, at, hosts = parts.netloc.rpartition("@")
    options = parse_qsl(parts.query, keep_blank_values=True)
    said = urlencode([option for option in options if option[0] != "password"], quote_via=quote)
    password = dict(options).get("password", unquote(parts.password or ""))
    address = f"postgresql://{user.partition(':')[0]}{at}{hosts}{parts.path}" + (f"?{said}" if said else "")
    return address, {"PGPASSWORD": password} if password else {}


def _program(name: str) -> str:
    """The wheel's, which is as new as the server of `up`; else the one on the PATH."""
    from cli.stack import postgres  # noqa: PLC0415

    try:
        return postgres.program(name)
    except (StackError, ImportError):
        found = shutil.which(name)
        return found or fail(f"{name} is not installed: it comes with PostgreSQL's client programs")


def _tables() -> list[str]:
    from sqlalchemy import inspect  # noqa: PLC0415 - `--help` needs none of it

    names: list[str] = _asked(lambda connection: inspect(connection).get_table_names())
    return names


def _revision() -> str | None:
    from alembic.migration import MigrationContext  # noqa: PLC0415

    revision: str | None = _asked(
        lambda connection: MigrationContext.configure(connection).get_current_revision()
    )
    return revision


def _asked(question: Callable[[Any], Any]) -> Any:
    from core import db  # noqa: PLC0415 - reads settings

    with db.engine().connect() as connection:
        return question(connection)
