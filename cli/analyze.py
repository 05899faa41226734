"""`deepdefend analyze`: send files, show how far they are, print what was found.

Exit status: 0 REAL, 3 DEEPFAKE, 4 INCONCLUSIVE, 1 for an error (2 is a wrong command line, 130 an
interruption). For several files the gravest counts, in the order error, DEEPFAKE, INCONCLUSIVE, REAL:
a script that only asks "may this batch pass?" must not be told of a suspicion when a file was never
judged. Interrupted while it waits, it has the server cancel what has not ended. Reports, envelopes and
ids go to stdout; progress and everything else to stderr.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Annotated, Final, TypeVar

import typer
from pydantic import BaseModel, ValidationError
from rich.console import Console

from cli import direct, target
from cli.client import Client, ClientError, Envelope, NoServer, Refused, sendable_name
from cli.plain import shown
from cli.progress import Display, display
from cli.render import render_report
from core.domain import MAX_RETENTION_HOURS, AnalysisStatus, Lane, OperatingPoint, Options, Terms, Verdict

Model = TypeVar("Model", bound=BaseModel)


class Outcome(IntEnum):
    """Exit status of one file, and of all."""

    REAL = 0
    ERROR = 1
    DEEPFAKE = 3
    INCONCLUSIVE = 4
    INTERRUPTED = 130  # as a shell reports SIGINT


#: From light to grave.
GRAVITY: Final = (
    Outcome.REAL,
    Outcome.INCONCLUSIVE,
    Outcome.DEEPFAKE,
    Outcome.ERROR,
    Outcome.INTERRUPTED,
)
#: It has ended, so that there is nothing to cancel.
CONFLICT: Final = 409
#: These answers would be the same for every other file.
REFUSES_ALL: Final = frozenset({401, 403})

# What may be asked of an analysis, as the command line says it.
Seconds = Annotated[float | None, typer.Option(min=1, max=5, help="Length of an interval.")]
Frames = Annotated[int | None, typer.Option(min=1, max=25, help="Frames looked at in each.")]
Point = Annotated[
    OperatingPoint | None,
    typer.Option(help="How errors are weighed: at most 1 or 5 of 100 accused wrongly, or balanced."),
]
Stability = Annotated[
    bool, typer.Option("--stability", help="Score re-encoded, scaled and cropped copies too.")
]
Deadline = Annotated[int | None, typer.Option(min=10, help="Seconds; what is not done by then is failed.")]
Hours = Annotated[
    int | None,
    typer.Option(min=0, max=MAX_RETENTION_HOURS, help="How long the server keeps the file afterwards."),
]


def gravest(outcomes: Iterable[Outcome]) -> Outcome:
    """The one that decides for all; REAL when there are none."""
    return max(outcomes, key=GRAVITY.index, default=Outcome.REAL)


def outcome(envelope: Envelope) -> Outcome:
    """Of an analysis that has ended. No report, or a verdict that we do not know, is an error."""
    verdict = envelope.get("verdict")
    if envelope.get("status") != AnalysisStatus.COMPLETED or verdict not in Verdict.__members__:
        return Outcome.ERROR
    return Outcome[str(verdict)]


@dataclass(frozen=True)
class Job:
    """One file that the server has accepted."""

    name: str
    envelope: Envelope

    @property
    def id(self) -> str:
        """The analysis."""
        return str(self.envelope["id"])


@dataclass
class Run:
    """One call of the command: where to, and how to show it."""

    client: Client
    show: Display
    out: Console
    as_json: bool = False
    options: Options | None = None
    terms: Terms | None = None
    #: Straight to the server's storage, in parts.
    direct: bool = False
    #: Where the report goes as a page.
    page: Path | None = None
    #: Accepted, and not known to have ended.
    open: list[Job] = field(default_factory=list)

    def submit(self, files: Sequence[str | Path]) -> tuple[list[Job], list[Outcome]]:
        """Send all files, so that the workers are busy while we wait for the first one.

        One that cannot be sent does not stop the others, unless the server would refuse them all.
        """
        jobs: list[Job] = []
        failed: list[Outcome] = []
        for file in files:
            name = named(file)
            try:
                with self.show.about(name):
                    jobs.append(Job(name, self._send(file)))
                self.open.append(jobs[-1])
            except ClientError as error:
                self.show.say(complaint(error))
                failed.append(Outcome.ERROR)
                if isinstance(error, NoServer) or (
                    isinstance(error, Refused) and error.status in REFUSES_ALL
                ):
                    break
        return jobs, failed

    def _send(self, file: str | Path) -> Envelope:
        if is_address(file):
            return self.client.submit_named({"source_url": str(file)}, self.options, self.terms)
        if self.direct:
            return direct.submit(self.client, Path(file), self.options, self.show.sent, terms=self.terms)
        return self.client.submit(Path(file), self.options, self.show.sent, terms=self.terms)

    def announce(self, job: Job) -> None:
        """What a caller who does not wait needs: the envelope, or id and address on one line."""
        if self.as_json:
            self.print_json(job.envelope)
        else:
            self.print_line(f"{job.id} {self.address(job)}")

    def follow(self, job: Job) -> Outcome:
        """Follow one analysis to its end and print it."""
        try:
            with self.show.about(job.name):
                envelope = self.client.wait(job.id, self.show.state)
            self.open.remove(job)
            self.print_result(job, envelope)
            if self.page is not None and envelope["status"] == AnalysisStatus.COMPLETED:
                save(self.client.report_page(job.id), self.page)
        except (ClientError, OSError) as error:
            words = complaint(error) if isinstance(error, ClientError) else str(error)
            self.show.say(f"{words} - the analysis is at {self.address(job)}")
            return Outcome.ERROR
        return outcome(envelope)

    def cancel_open(self) -> None:
        """Have the server end what nobody waits for any more. A second Ctrl-C leaves at once."""
        try:
            count = f"{len(self.open)} analys{'i' if len(self.open) == 1 else 'e'}s"
            self.show.say(f"interrupted; canceling {count}, Ctrl-C again leaves at once")
            while self.open:
                self._cancel(self.open[0])
                del self.open[0]
        except KeyboardInterrupt:
            self.show.say("left; what was not canceled goes on")

    def _cancel(self, job: Job) -> None:
        try:
            self.client.cancel(job.id)
        except ClientError as error:
            if not (isinstance(error, Refused) and error.status == CONFLICT):
                self.show.say(f"not canceled ({error}); {job.name} goes on at {self.address(job)}")

    def print_result(self, job: Job, envelope: Envelope) -> None:
        """The envelope on one line, or the report as a table; an analysis without one says why."""
        if self.as_json:
            self.print_json(envelope)
        elif envelope["status"] == AnalysisStatus.COMPLETED:
            render_report(envelope, self.out, list(self.client.intervals(job.id)))
        if envelope["status"] != AnalysisStatus.COMPLETED:
            self.show.say(ending(envelope))

    def print_json(self, envelope: Envelope) -> None:
        """One line; control characters are escaped by JSON itself, the rest by `ensure_ascii`."""
        self.out.file.write(json.dumps(envelope, ensure_ascii=True) + "\n")
        self.out.file.flush()

    def print_line(self, text: str) -> None:
        """One line of foreign text, never wrapped."""
        self.out.print(shown(self.out, text), soft_wrap=True)

    def address(self, job: Job) -> str:
        """Where the analysis can be read later."""
        return f"{self.client.url}/v1/analyses/{job.id}"


def save(page: bytes, target: Path) -> None:
    """Write it whole or not at all. Raises OSError."""
    with NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False) as written:
        try:
            written.write(page)
            written.flush()
            Path(written.name).replace(target)
        except BaseException:
            Path(written.name).unlink(missing_ok=True)
            raise


def is_address(file: str | Path) -> bool:
    """Whether the server is to fetch it. A Path is a file, whatever its name."""
    return isinstance(file, str) and file.lower().startswith(("http://", "https://"))


def named(file: str | Path) -> str:
    """What to call it: never an address's query, which may be a password."""
    if not is_address(file):
        return sendable_name(Path(file))
    bare = str(file).partition("?")[0].partition("#")[0]
    return sendable_name(Path(bare.partition("://")[2].rpartition("@")[2]))


def ending(envelope: Envelope) -> str:
    """Why there is no report."""
    error = envelope.get("error")
    error = error if isinstance(error, dict) else {}
    code, detail = error.get("code"), error.get("detail")
    return ": ".join(str(part) for part in (envelope["status"], code, detail) if part)


def complaint(error: ClientError) -> str:
    """The error, and what to do when it is that no server runs."""
    return f"{error}. {target.HOW_TO_START}" if isinstance(error, NoServer) else str(error)


def analyze_files(files: Sequence[str | Path], run: Run, *, wait: bool = True) -> Outcome:
    """Send, follow and print; what `deepdefend analyze` does once it knows where to.

    Interrupted before the server has accepted anything, or where nobody waits, it raises KeyboardInterrupt.
    """
    try:
        jobs, failed = run.submit(files)
        if wait:
            return gravest([*failed, *map(run.follow, jobs)])
    except KeyboardInterrupt:
        if not wait or not run.open:
            raise
        run.cancel_open()
        return Outcome.INTERRUPTED
    for job in jobs:
        run.announce(job)
    return gravest(failed)


def chosen_options(**asked: object) -> Options | None:
    """Only what was asked for, so that the server keeps its own defaults. Raises typer.BadParameter."""
    return _chosen(Options, **asked)


def _chosen(model: type[Model], **asked: object) -> Model | None:
    given = {name: value for name, value in asked.items() if value is not None}
    try:
        return model.model_validate(given) if given else None
    except ValidationError as wrong:
        raise typer.BadParameter(str(wrong.errors()[0]["msg"])) from wrong


def analyze(
    files: Annotated[
        list[str], typer.Argument(help="Videos or sound files, or addresses of some.", metavar="FILE|URL...")
    ],
    *,
    url: Annotated[
        str | None,
        typer.Option(envvar="DEEPDEFEND_URL", help="The server. [default: the one `up` runs here]"),
    ] = None,
    key: Annotated[
        str | None, typer.Option(envvar="DEEPDEFEND_KEY", help="API key. [default: the one `up` made here]")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One envelope a line, nothing else.")] = False,
    html: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Save the report as a page to read and print.")
    ] = None,
    wait: Annotated[bool, typer.Option(help="Wait for the report, or print id and address.")] = True,
    interval_seconds: Seconds = None,
    frames_per_interval: Frames = None,
    operating_point: Point = None,
    stability: Stability = False,
    lane: Annotated[Lane | None, typer.Option(help="How urgent it is.")] = None,
    deadline: Deadline = None,
    retention_hours: Hours = None,
    in_parts: Annotated[
        bool, typer.Option("--direct", help="Send in parts, straight to the storage; goes on after a break.")
    ] = False,
) -> None:
    """Send files to a server, or have it fetch them from an address, and show the verdicts.

    Exit status: 0 REAL, 3 DEEPFAKE, 4 INCONCLUSIVE, 1 error. For several files the gravest of error,
    DEEPFAKE, INCONCLUSIVE, REAL counts. Ctrl-C cancels what has not ended, unless --no-wait: 130.
    """
    if html is not None and (len(files) > 1 or not wait):
        raise typer.BadParameter("--html is for one file that is waited for")
    options = chosen_options(
        interval_seconds=interval_seconds,
        frames_per_interval=frames_per_interval,
        operating_point=operating_point,
        stability=stability or None,
    )
    terms = _chosen(Terms, lane=lane, deadline_seconds=deadline, retention_hours=retention_hours)
    errors = Console(stderr=True)
    show = display(errors)
    try:
        found = target.find(url, key)
        with Client(found.url, found.key, on_trouble=show.say) as client:
            run = Run(client, show, Console(file=sys.stdout), as_json, options, terms, in_parts, html)
            status = analyze_files(files, run, wait=wait)
    except ClientError as error:
        show.say(complaint(error))
        status = Outcome.ERROR
    except KeyboardInterrupt:
        show.say("interrupted; nothing more was sent")
        status = Outcome.INTERRUPTED
    raise typer.Exit(status)
