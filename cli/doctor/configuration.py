"""The settings: are they there, are they usable, and would production take them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from cli.doctor.finding import Finding, fail, ok, warn
from cli.stack import StackError
from cli.stack.folder import Folder, default_folder
from core.config import Settings, settings

#: Without these nothing is configured at all, rather than wrongly.
SERVERS: Final = ("database_url", "broker_url", "secret_key")
NOWHERE: Final = "Only what this machine itself can do was looked at."
HOW: Final = "deepdefend up, or set DEEPDEFEND_DATABASE_URL, _BROKER_URL, _SECRET_KEY (docs/operations.md)"


def read(data_dir: Path | None) -> tuple[Settings | None, tuple[Finding, ...]]:
    """The settings of the environment, else of the stack in `data_dir`, and what there is to say of them."""
    where = "the environment"
    if data_dir is not None or (_unset() and Folder(default_folder()).running.exists()):
        folder = data_dir or default_folder()
        try:
            _take(folder)
        except StackError as error:
            return None, (fail("settings", str(error), NOWHERE, HOW),)
        where = f"the stack in {folder}"
    settings.cache_clear()
    try:
        found = settings()
    except ValidationError as error:
        return None, tuple(_wrong(error))
    return found, (_safe(found, where),)


def _unset() -> bool:
    return (
        not any(f"DEEPDEFEND_{name.upper()}" in os.environ for name in SERVERS) and not Path(".env").exists()
    )


def _take(folder: Path) -> None:
    """Set the variables of a stack on this machine. Raises StackError."""
    from cli.stack import environment  # noqa: PLC0415 - imports the servers

    os.environ.update(environment.of_data_dir(folder))


def _wrong(error: ValidationError) -> Iterator[Finding]:
    """One finding for all that is missing, one for each value that is refused."""
    wrong = error.errors(include_input=False, include_url=False)
    missing = [_variable(one["loc"]) for one in wrong if one["type"] == "missing"]
    if missing:
        said = "nothing is configured" if len(missing) == len(SERVERS) else f"not set: {', '.join(missing)}"
        yield fail("settings", said, NOWHERE, HOW, missing=missing)
    for one in wrong:
        if one["type"] != "missing":
            name = _variable(one["loc"]) if one["loc"] else "together"
            yield fail(
                "settings",
                f"{name}: {one['msg'].removeprefix('Value error, ')}",
                "No process starts with this.",
                "correct it; docs/operations.md lists every setting",
                variable=name,
            )


def _variable(loc: tuple[int | str, ...]) -> str:
    return "DEEPDEFEND_" + "__".join(str(part).upper() for part in loc)


def _safe(found: Settings, where: str) -> Finding:
    """What production would refuse; it has refused it already when that is what this is."""
    refusals = tuple(found.refusals())
    said = f"of {where}, for {found.environment}"
    if refusals:
        return warn(
            "settings",
            f"{said}; production would refuse {'; '.join(refusals)}",
            "Good enough for this machine alone.",
            "scripts/new-env makes secrets; then DEEPDEFEND_ENVIRONMENT=production",
            refusals=refusals,
        )
    return ok("settings", said, environment=found.environment)
