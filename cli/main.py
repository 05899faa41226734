"""The entry point. A command's module is imported when that command is asked for, not before."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

#: Command -> where it lives (a function or a typer app) and what `deepdefend --help` says of it.
COMMANDS: dict[str, tuple[str, str]] = {
    "up": ("cli.stack.up:up", "Run everything on this machine, without Docker, until Ctrl-C."),
    "demo": ("cli.demo:demo", "Run everything, analyse a sample clip, show its report, end."),
    "analyze": ("cli.analyze:analyze", "Send files to a server and show the verdicts."),
    "keys": ("cli.keys:app", "Create, list and revoke API keys."),
    "webhooks": ("cli.webhooks:app", "Encrypt the secrets of webhooks anew."),
    "doctor": ("cli.doctor.run:doctor", "Say what is not well here, what it means and how to mend it."),
    "models": ("cli.models:app", "List, pull and verify detector weights."),
    "evaluate": ("cli.evaluate:evaluate", "Measure detectors and verdicts on labelled files."),
    "calibrate": ("cli.calibrate:calibrate", "Fit detectors to labelled files: scores become probabilities."),
    "api": ("cli.processes:api", "Run the API alone."),
    "worker": ("cli.processes:worker", "Run one worker alone."),
    "dispatcher": ("cli.processes:dispatcher", "Run the dispatcher alone."),
    "flower": ("cli.processes:flower", "Run Flower alone."),
    "backup": ("cli.backup:backup", "Write the database and all objects into a folder."),
    "restore": ("cli.backup:restore", "Bring a backup back into an empty database."),
    "migrate": ("cli.processes:migrate", "Bring the database schema up to date."),
}


class LazyGroup(TyperGroup):
    """Lists placeholders, and puts the real command in place of the one that was chosen."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The chosen command, imported now."""
        name, placeholder, rest = super().resolve_command(ctx, args)
        return name, load(name) if name in COMMANDS else placeholder, rest


app = typer.Typer(cls=LazyGroup, no_args_is_help=True, rich_markup_mode=None)


def load(name: str) -> Any:
    """Import one command."""
    module, _, attribute = COMMANDS[name][0].partition(":")
    found = getattr(import_module(module), attribute)
    if isinstance(found, typer.Typer):
        return get_command(found)
    alone = typer.Typer(add_completion=False, rich_markup_mode=None)
    alone.command(name)(found)
    return get_command(alone)


def _placeholder() -> None:
    """Never runs."""


for _name, (_home, _line) in COMMANDS.items():
    app.command(_name, help=_line)(_placeholder)


def _show_version(wanted: bool) -> None:  # noqa: FBT001 - typer's callback convention
    if wanted:
        typer.echo(version("deepdefend"))
        raise typer.Exit


@app.callback()
def deepdefend(
    *,
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Self-hosted deepfake analysis: how likely, second by second, and why."""


if __name__ == "__main__":
    app()
