"""The command: every look, shown as it comes, and one exit status."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final

import typer

from cli.configured import DataDir
from cli.doctor import configuration, machine
from cli.doctor.finding import Finding, State, skipped
from cli.plain import plain
from core.config import Settings

ORDER: Final = (State.FAIL, State.WARN, State.OK)
_WIDTH: Final = 26


def doctor(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document instead of lines.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Look at this installation: 1 when something does not work, with what it means and what mends it."""
    found = []
    for finding in look(data_dir):
        found.append(finding)
        if not as_json:
            _show(finding)
    worst = min((one.state for one in found if one.state in ORDER), key=ORDER.index)
    if as_json:
        checks = [one.model_dump(mode="json") for one in found]
        typer.echo(json.dumps({"status": worst.value, "checks": checks}, indent=2, default=str))
    else:
        typer.echo(_sum(found))
    if worst is State.FAIL:
        raise typer.Exit(1)


def look(data_dir: Path | None) -> Iterator[Finding]:
    """Every check, the machine first; the servers only where settings say which."""
    settings, said = configuration.read(data_dir)
    yield machine.python()
    yield from said
    yield machine.decoder()
    yield machine.sandbox(required=settings.require_sandbox if settings else False)
    yield from _detectors(settings)
    yield from machine.disks(settings)
    if settings is None:
        yield skipped("servers", "not looked at: the settings come first")
        return
    yield from _servers(settings)


def _detectors(settings: Settings | None) -> Iterator[Finding]:
    from pydantic import ValidationError  # noqa: PLC0415

    from core.config import ModelSettings, model_settings  # noqa: PLC0415

    try:
        models, allow_test = model_settings()
    except ValidationError:  # said above, by its name
        models, allow_test = ModelSettings(), False
    if settings is not None:
        models, allow_test = settings.models, settings.allow_test_detectors
    yield from machine.detectors(models, allow_test=allow_test)
    yield machine.device(models.device)


def _servers(settings: Settings) -> Iterator[Finding]:
    from cli.doctor import database, servers  # noqa: PLC0415 - `--help` needs none of it

    yield from database.look()
    yield servers.broker(settings.broker_url.get_secret_value())
    yield from servers.storage(settings.s3)
    yield servers.flower(settings, os.environ.get("FLOWER_BASIC_AUTH"))


def _show(finding: Finding) -> None:
    """One line, and what follows from it where it is not well."""
    typer.echo(f"{finding.state.value:8}{finding.check:{_WIDTH}}{plain(finding.said)}")
    for word, text in (("means", finding.means), ("mend", finding.mend)):
        if text:
            typer.echo(f"{'':8}{'':{_WIDTH}}{word}: {plain(text)}")


def _sum(found: list[Finding]) -> str:
    counts = {state: sum(one.state is state for one in found) for state in State}
    return ", ".join(f"{count} {state.value}" for state, count in counts.items() if count)
