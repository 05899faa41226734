"""`deepdefend up`: the whole stack in the foreground."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import ValidationError

from cli.configured import refused
from cli.stack import StackError
from cli.stack.folder import default_folder

if TYPE_CHECKING:
    from cli.stack.stack import Addresses, Stack


def up(
    host: Annotated[str, typer.Option(help="Address that the API listens on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the API and the page.")] = 8000,
    flower_port: Annotated[
        int, typer.Option(min=1, max=65535, help="Port of Flower, on the loopback address.")
    ] = 5555,
    data_dir: Annotated[
        Path | None, typer.Option(help="Where everything is kept [default: ~/.local/share/deepdefend].")
    ] = None,
    *,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON line on stdout once all is ready.")
    ] = False,
) -> None:
    """Run everything on this machine, without Docker, until Ctrl-C."""
    from cli.stack.stack import Choice, Stack  # noqa: PLC0415 - `--help` needs none of it

    choice = Choice(data_dir=data_dir or default_folder(), host=host, port=port, flower_port=flower_port)
    stack = Stack(choice, _say)

    def on_ready(addresses: Addresses) -> None:
        if as_json:
            print(json.dumps(vars(addresses)), flush=True)  # noqa: T201 - the promised line
        else:
            _welcome(addresses, stack)

    try:
        stack.run(on_ready)
    except StackError as error:
        _say(f"deepdefend: {error}")
        raise typer.Exit(1) from None
    except ValidationError as error:
        _say(f"deepdefend: {refused(error)}")
        raise typer.Exit(1) from None
    except KeyboardInterrupt:  # while weights were being pulled; nothing runs yet
        raise typer.Exit(130) from None
    except OSError as error:  # a disk that fills up, a folder that vanishes: no traceback for a person
        _say(f"deepdefend: {error.strerror or error} ({error.filename or 'no file'})")
        raise typer.Exit(1) from None


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def _welcome(addresses: Addresses, stack: Stack) -> None:
    key = addresses.api_key if stack.key_is_new else f"kept in {stack.folder.api_key}"
    _say(f"""
DeepDefend is ready.
  page     {addresses.api_url}/
  API docs {addresses.api_url}/docs
  API key  {key}
  Flower   {addresses.flower_url}
  data     {stack.folder.path}
Ctrl-C ends it; nothing is lost.""")
