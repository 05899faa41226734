"""`deepdefend models`: which detector weights are here, fetching them, and holding them to their digests."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any, Final, NoReturn

import typer
from pydantic import ValidationError

from core.config import ModelSettings, model_settings
from core.domain import Modality
from core.errors import DetectorUnavailable

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from workers.detectors.hub import Plan
    from workers.detectors.store import Record

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="List, pull and verify detector weights.")
Json = Annotated[bool, typer.Option("--json", help="One JSON document instead of a table.")]
Which = Annotated[list[Modality] | None, typer.Argument(help="video, audio [default: both].")]
BY_HAND: Final = "Try again later, or put the folder of the checkpoint into {dir}."


@app.command("list")
def show(*, as_json: Json = False) -> None:
    """Show the configured detectors and what else lies in the models folder; 1 when one cannot be used."""
    settings, allow_test = _settings()
    from workers.detectors import registry  # noqa: PLC0415 - `--help` needs none of it

    rows = [registry.status(settings, modality, allow_test=allow_test) for modality in Modality]
    others = _others(settings, rows)
    if as_json:
        typer.echo(json.dumps({"dir": str(settings.dir), "detectors": rows, "others": others}, indent=2))
    else:
        _table(rows, ("modality", "id", "state", "code", "version", "fake_label"))
        for row in rows:
            if row["code"]:
                typer.echo(f"{row['modality']}: {row['detail']} Mend it with: {row['mend']}")
        if others:
            typer.echo(f"also in {settings.dir}: {', '.join(others)}")
    if any(row["state"] != registry.AVAILABLE for row in rows):
        raise typer.Exit(1)


@app.command()
def pull(
    which: Which = None,
    *,
    update: Annotated[
        bool, typer.Option("--update", help="Move to the newest commit instead of the recorded one.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Fetch what the settings name, at the pinned commit, and record its digests."""
    settings, _ = _settings()
    results: list[dict[str, Any]] = []
    console = _console()
    for modality in which or list(Modality):
        try:
            record = fetch(settings, modality, console, update=update)
        except DetectorUnavailable as error:
            results.append({"modality": modality.value, "code": error.code, "detail": error.detail})
            far = error.code == "hub_unreachable"
            hint = " " + BY_HAND.format(dir=settings.dir) if far else ""
            typer.echo(f"deepdefend: {modality.value}: {error.detail}{hint}", err=True)
            if far:  # one line, not one a checkpoint
                break
        else:
            known = record.model_dump(mode="json") if record else {"id": _named(settings, modality)[0]}
            results.append({"modality": modality.value, "code": None, **known})
    if as_json:
        typer.echo(json.dumps(results, indent=2))
    if any(result["code"] for result in results):
        raise typer.Exit(1)


@app.command()
def verify(which: Which = None, *, as_json: Json = False) -> None:
    """Recompute the SHA-256 of every file and hold it against the record; 1 when one is wrong."""
    settings, _ = _settings()
    rows = [_verified(settings, modality) for modality in which or list(Modality)]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
    else:
        _table(rows, ("modality", "id", "result", "digest"))
        for row in rows:
            if row["code"]:
                typer.echo(f"{row['modality']}: {row['detail']}")
    if any(row["code"] for row in rows):
        raise typer.Exit(1)


def fetch(
    settings: ModelSettings, modality: Modality, console: Console, *, update: bool = False
) -> Record | None:
    """Pull the checkpoint of one modality, its size said before; None when a person's own folder is in use.

    Raises DetectorUnavailable.
    """
    from workers.detectors import hub, store  # noqa: PLC0415 - `--help` needs none of it

    name, wanted = _named(settings, modality)
    folder = store.find(name, settings.dir)
    if store.is_path(name) or (wanted is None and not update and folder and _own(folder)):
        if folder is None:
            raise DetectorUnavailable(f"The setting names the folder {name}, which is not there.")
        store.check_whole(folder)
        console.print(f"{name}: a folder of your own is in use", highlight=False)
        return None
    revision, record = (wanted, None) if folder is None or update else _pinned(folder, wanted)
    if record is not None:
        console.print(f"{name}: already here, commit {record.revision[:12]}", highlight=False)
        return record
    plan = hub.plan(name, revision)
    console.print(f"{name}: {plan.size / 1e6:.0f} MB, commit {plan.commit[:12]}", highlight=False)
    return _with_bar(plan, settings, console)


def pull_missing(settings: ModelSettings, console: Console, *, seconds: float = 5.0) -> list[str]:
    """For `up` and `demo`: pull what is absent if the hub answers within `seconds`; never an error.

    Returns the lines that say what is still missing and which command mends it.
    """
    from workers.detectors import hub, registry  # noqa: PLC0415 - `--help` needs none of it

    absent = [
        modality
        for modality in Modality
        if registry.status(settings, modality, allow_test=True)["state"] == registry.ABSENT
    ]
    if not absent:
        return []
    if not hub.hub_answers(seconds):
        names = " and ".join(modality.value for modality in absent)
        return [f"No {names} weights, and the model hub does not answer: deepdefend models pull"]
    missing = []
    for modality in absent:
        try:
            fetch(settings, modality, console)
        except DetectorUnavailable as error:
            missing.append(f"No {modality.value} weights: {error.detail}")
    return missing


def _named(settings: ModelSettings, modality: Modality) -> tuple[str, str | None]:
    """Checkpoint and pinned revision."""
    from workers.detectors import registry  # noqa: PLC0415

    _, wish = registry.wish_of(settings, modality)
    return wish.name, wish.revision


def _own(folder: Path) -> bool:
    """Whether a folder is a usable checkpoint that `pull` did not write."""
    from workers.detectors import checkpoint, store  # noqa: PLC0415

    try:
        store.check_whole(folder)
        made_for_tests = store.read_json(folder, store.CONFIG).get(checkpoint.TEST_MARK, False)
        return store.record_of(folder) is None and not made_for_tests
    except DetectorUnavailable:
        return False


def _pinned(folder: Path, wanted: str | None) -> tuple[str | None, Record | None]:
    """The revision to fetch, and the record when a sound copy of it is here already.

    The setting pins; without it the recorded commit does, so that a repair brings the same weights again.
    """
    from workers.detectors import store  # noqa: PLC0415

    record = None
    try:
        record = store.record_of(folder)
        if record is None or wanted not in {None, record.revision, record.requested}:
            return wanted, None
        store.verify(folder)
    except DetectorUnavailable:
        return (record.revision if record else wanted), None
    return wanted, record


def _with_bar(plan: Plan, settings: ModelSettings, console: Console) -> Record:
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn  # noqa: PLC0415

    from workers.detectors import hub  # noqa: PLC0415

    columns = (BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bars:
        task = bars.add_task(plan.id, total=plan.size)
        return hub.pull(plan, settings.dir, progress=lambda done, _: bars.update(task, completed=done))


def _verified(settings: ModelSettings, modality: Modality) -> dict[str, Any]:
    from workers.detectors import store  # noqa: PLC0415

    name, _ = _named(settings, modality)
    row: dict[str, Any] = {
        "modality": modality.value,
        "id": name,
        "digest": None,
        "code": None,
        "detail": None,
    }
    folder = store.find(name, settings.dir)
    if folder is None:
        told = {"code": DetectorUnavailable.code, "detail": "not on this machine"}
        return row | told | {"result": "absent"}
    try:
        digest = store.verify(folder)
        recorded = store.record_of(folder) is not None
    except DetectorUnavailable as error:
        return row | {"code": error.code, "detail": error.detail, "result": error.code}
    return row | {"digest": digest, "result": "as recorded" if recorded else "no record to compare with"}


def _others(settings: ModelSettings, rows: list[dict[str, Any]]) -> list[str]:
    """Checkpoints in the models folder that no setting names."""
    from workers.detectors import store  # noqa: PLC0415

    used = {store.find(_named(settings, Modality(row["modality"]))[0], settings.dir) for row in rows}
    return [
        str(folder.relative_to(settings.dir))
        for folder in store.checkpoints(settings.dir)
        if folder not in used
    ]


def _table(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> None:
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(str(row.get(column) or "-") for column in columns))
    _console(stderr=False).print(table)


def _console(*, stderr: bool = True) -> Console:
    from rich.console import Console  # noqa: PLC0415

    return Console(stderr=stderr, soft_wrap=True)


def _settings() -> tuple[ModelSettings, bool]:
    """The model settings alone: this command needs no database."""
    from workers.detectors import registry  # noqa: PLC0415

    try:
        registry.registered()
        settings, allow_test = model_settings()
        return settings.model_copy(update={"dir": settings.dir.expanduser()}), allow_test
    except DetectorUnavailable as error:
        _fail(error.detail)
    except ValidationError as error:
        first = error.errors()[0]
        _fail(f"DEEPDEFEND_{'__'.join(str(part).upper() for part in first['loc'])}: {first['msg']}")


def _fail(line: str) -> NoReturn:
    typer.echo(f"deepdefend: {line}", err=True)
    raise typer.Exit(1)
