"""Points the settings of a command at the configured service, or at the stack on this machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from cli.stack import StackError
from cli.stack.folder import default_folder

if TYPE_CHECKING:
    from pydantic import ValidationError

DataDir = Annotated[
    Path | None,
    typer.Option(
        help="Use the stack of that directory [default: the DEEPDEFEND_… variables, else `up`'s directory]."
    ),
]


def configure(data_dir: Path | None) -> None:
    """Set the variables of a stack on this machine when settings are missing.

    Settings that are there but refused end the command: it must not act on another service instead.
    """
    from pydantic import ValidationError  # noqa: PLC0415 - `--help` needs none of it

    from cli.stack import environment  # noqa: PLC0415
    from core.config import Settings  # noqa: PLC0415

    try:
        if data_dir is None:
            Settings()  # pyright: ignore[reportCallIssue]
            return
    except ValidationError as error:
        if any(wrong["type"] != "missing" for wrong in error.errors()):
            fail(refused(error))
        data_dir = default_folder()
    try:
        os.environ.update(environment.of_data_dir(data_dir))
    except StackError as error:
        fail(str(error))


def refused(error: ValidationError) -> str:
    """Settings that are not usable in one line, the first of them named."""
    wrong = error.errors()[0]
    if not wrong["loc"]:  # it lies in several together, which the message names
        return f"the settings are not usable: {wrong['msg']}"
    name = "DEEPDEFEND_" + "__".join(map(str, wrong["loc"])).upper()
    return f"the setting {name} is not usable: {wrong['msg']}"


def fail(why: str) -> NoReturn:
    """End the command with one clear line on stderr and status 1."""
    typer.echo(f"deepdefend: {why}", err=True)
    raise typer.Exit(1)
