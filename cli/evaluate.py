"""`deepdefend evaluate`: the real pipeline over labelled files, without a server, and what it is worth there.

Exit status: 0 when the figures were written, 1 for an error, 130 for an interruption. What was measured is
kept in the output folder, so that the same command goes on from there. The report's path and its first
sentences go to stdout, progress and everything else to stderr.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Final

import typer
from pydantic import ValidationError

from cli.configured import DataDir, configure, fail, refused
from cli.plain import plain
from core.domain import FramesPerInterval, IntervalSeconds, Options

if TYPE_CHECKING:
    from evaluation.document import Evaluation
    from evaluation.manifest import Entry
    from evaluation.panel import Panel, Setup
    from evaluation.run import Progress

#: Where results go when nothing is said.
OUT: Final = Path("deepdefend-evaluation")
INTERRUPTED: Final = 130

MANIFEST: Final = typer.Option(help="CSV with the columns path,label,group; label is real or fake.")
Out = Annotated[
    Path, typer.Option(help="Folder for results and what was measured; a later run goes on in it.")
]
Jobs = Annotated[int, typer.Option(min=1, help="Processes; each needs memory for its own detectors.")]


class By(StrEnum):
    """What figures are split by."""

    GROUP = "group"


class Which(StrEnum):
    """What can be evaluated. The same words as evaluation.panel.Subject, which `--help` need not import."""

    VIDEO = "video"
    AUDIO = "audio"
    TRACE = "trace"
    VERDICT = "verdict"


def evaluate(
    manifest: Annotated[Path | None, MANIFEST] = None,
    *,
    from_feedback: Annotated[
        bool,
        typer.Option("--from-feedback", help="Files that people labelled, from database and storage."),
    ] = False,
    owner: Annotated[str | None, typer.Option(help="Of feedback: labels of this owner alone.")] = None,
    by: Annotated[By | None, typer.Option(help="Figures for each group too.")] = None,
    detector: Annotated[
        list[Which] | None, typer.Option(help="Only this one; may be repeated [default: all].")
    ] = None,
    out: Out = OUT,
    against: Annotated[
        Path | None, typer.Option(help="Folder of an earlier evaluation: old against new on the same files.")
    ] = None,
    jobs: Jobs = 1,
    ladder: Annotated[
        bool,
        typer.Option(help="Measure re-encoded, scaled and cropped copies too: six times the work."),
    ] = True,
    interval_seconds: Annotated[IntervalSeconds, typer.Option(min=1, max=5)] = 2.0,
    frames_per_interval: Annotated[FramesPerInterval, typer.Option(min=1, max=25)] = 5,
    data_dir: DataDir = None,
) -> None:
    """Measure the configured detectors and the verdict on labelled files; write Markdown, JSON and plots.

    No server is needed but for --from-feedback. What was measured is kept in --out: run it again, and only
    new files are looked at.
    """
    from evaluation import document, write  # noqa: PLC0415 - `--help` needs neither torch nor matplotlib
    from evaluation.run import run  # noqa: PLC0415

    if from_feedback == (manifest is not None):
        raise typer.BadParameter("give either --manifest or --from-feedback")
    earlier = None if against is None else _earlier(against, out)
    options = Options(interval_seconds=interval_seconds, frames_per_interval=frames_per_interval)
    with _from_manifest(manifest) if manifest is not None else _from_feedback(data_dir, owner) as entries:
        panel = opened(setup_of(options, detector))
        prepare(out)
        with progress("files") as told, interruptible(out):
            measured = run(entries, panel, out, jobs=jobs, ladder=ladder, progress=told)
    found = document.evaluate(
        entries,
        measured,
        panel,
        source=manifest.name if manifest is not None else "feedback",
        by_group=by is By.GROUP,
        earlier=earlier,
    )
    written = write.write(found, out)
    show(found, written[0])


@contextmanager
def _from_manifest(manifest: Path) -> Iterator[tuple[Entry, ...]]:
    yield listed(manifest)


def listed(manifest: Path) -> tuple[Entry, ...]:
    """The files of a list. Ends the command when any of it is wrong."""
    from evaluation import manifest as lists  # noqa: PLC0415

    try:
        return lists.read(manifest)
    except lists.BadManifest as error:
        fail(str(error))


@contextmanager
def _from_feedback(data_dir: Path | None, owner: str | None) -> Iterator[tuple[Entry, ...]]:
    """The labelled files in a private folder that is gone after the block."""
    configure(data_dir)

    from sqlalchemy.exc import DBAPIError  # noqa: PLC0415

    from core.config import settings  # noqa: PLC0415
    from core.errors import StorageError  # noqa: PLC0415
    from core.storage import storage  # noqa: PLC0415
    from evaluation import labels  # noqa: PLC0415

    with TemporaryDirectory(prefix="deepdefend-feedback-", dir=settings().temp_dir) as folder:
        try:
            found = labels.collect(owner)
            entries = labels.fetch(found, storage(), Path(folder))
        except DBAPIError as error:
            fail(f"the database does not answer: {str(error.orig).splitlines()[0]}")
        except StorageError as error:
            fail(f"the storage does not answer: {error.detail}")
        if not entries:
            fail("nobody has labelled a file that is still stored: POST /v1/analyses/{id}/feedback")
        typer.echo(f"deepdefend: {found.words}", err=True)
        yield entries


def _earlier(folder: Path, out: Path) -> Evaluation:
    from evaluation import write  # noqa: PLC0415

    if folder.resolve() == out.resolve():
        raise typer.BadParameter("--against and --out are the same folder, whose results would be replaced")
    try:
        return write.load(folder)
    except write.NoEvaluation as error:
        fail(str(error))


def setup_of(options: Options, wanted: Sequence[StrEnum] | None) -> Setup:
    """What the settings of this machine give a panel. Ends the command when they cannot be used."""
    from core.config import local_settings  # noqa: PLC0415
    from evaluation.panel import Setup, Subject  # noqa: PLC0415

    try:
        settings = local_settings()
    except ValidationError as error:
        fail(refused(error))
    return Setup(
        models=settings.models.model_copy(update={"dir": settings.models.dir.expanduser()}),
        limits=settings.limits,
        options=options,
        wanted=frozenset(Subject(which.value) for which in wanted or list(Which)),
        asked=frozenset(Subject(which.value) for which in wanted or ()),
        allow_test=settings.allow_test_detectors,
        require_sandbox=settings.require_sandbox,
        temp_dir=str(settings.temp_dir) if settings.temp_dir else None,
    )


def opened(setup: Setup) -> Panel:
    """The detectors; what is missing is said on stderr. Ends the command when nothing can be measured."""
    from evaluation.panel import NOT_WANTED, open_panel  # noqa: PLC0415 - imports torch
    from evaluation.run import quiet  # noqa: PLC0415

    quiet()
    panel = open_panel(setup)
    for subject, absent in panel.absent.items():
        if absent != NOT_WANTED:
            mend = f" Mend it with: {absent.mend}" if absent.mend else ""
            typer.echo(f"deepdefend: no {subject.value}: {absent.detail}{mend}", err=True)
    if not panel.identities:
        fail("no detector can be opened here, so there is nothing to measure")
    return panel


def prepare(out: Path) -> None:
    """Make the folder. Ends the command when that cannot be."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        fail(f"{out} cannot be made: {error.strerror}")


@contextmanager
def progress(noun: str) -> Iterator[Progress]:
    """A bar on stderr, where that is a terminal."""
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    columns = (TextColumn(noun), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task(noun)
        yield lambda done, total: bars.update(task, completed=done, total=total)


@contextmanager
def interruptible(out: Path) -> Iterator[None]:
    """Say what is kept when somebody presses Ctrl-C, or the kernel kills a process of `--jobs`."""
    try:
        yield
    except BrokenProcessPool:
        fail(f"a process was killed, mostly for memory; the same command with fewer --jobs goes on in {out}")
    except KeyboardInterrupt:
        typer.echo(f"deepdefend: interrupted; the same command goes on with what is in {out}", err=True)
        raise typer.Exit(INTERRUPTED) from None


def show(found: Evaluation, report: Path) -> None:
    """The first sentences, and where the rest is."""
    from evaluation import words  # noqa: PLC0415

    for line in words.headlines(found):
        typer.echo(plain(line.translate(str.maketrans("", "", "*`\\"))))
    typer.echo(str(report))
