"""Shows how far an analysis is: bars on a terminal, one line a change everywhere else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Final, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from cli.client import Envelope
from cli.plain import fitting, plain, shown, speaks_unicode
from core.domain import STEP_TERMINAL, Stage

SENDING: Final = "send"
#: Of the longest name among our own stages; a server may know others.
WIDTH: Final = max(len(SENDING), *(len(stage) for stage in Stage))
MB = 1_000_000


class Display(Protocol):
    """Takes what the client reports. Inside `about` the reports are about one file."""

    def about(self, name: str) -> AbstractContextManager[None]:
        """Show progress of this file; outside of it nothing is redrawn, so others may print."""

    def sent(self, sent: int, total: int) -> None:
        """Bytes of the upload."""

    def state(self, envelope: Envelope) -> None:
        """A new state of the analysis."""

    def say(self, message: str) -> None:
        """One line that stays, about the file named last."""


def stage_rows(envelope: Envelope) -> list[tuple[str, str, int, int]]:
    """(stage, status, done, total) of each stage that is there; anything malformed is left out."""
    progress = envelope.get("progress")
    stages = progress.get("stages") if isinstance(progress, dict) else None
    rows = []
    for stage in stages if isinstance(stages, list) else []:
        if isinstance(stage, dict) and isinstance(stage.get("stage"), str):
            done, total = stage.get("done"), stage.get("total")
            if isinstance(done, int) and isinstance(total, int):
                rows.append((stage["stage"], str(stage.get("status")), done, total))
    return rows


class Lines:
    """For logs and pipes: each change is one line, and nothing is ever overwritten."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._name = ""
        self._last: dict[str, tuple[str, int]] = {}
        self._whole = False

    @contextmanager
    def about(self, name: str) -> Iterator[None]:
        """Prefix of the lines that follow."""
        self._name, self._last, self._whole = name, {}, False
        yield

    def sent(self, sent: int, total: int) -> None:
        """One line for the whole upload."""
        if sent == total and not self._whole:
            self._whole = True
            self.say(f"{SENDING} {total / MB:.1f} MB")

    def state(self, envelope: Envelope) -> None:
        """A line for each stage that moved since the last call."""
        for stage, status, done, total in stage_rows(envelope):
            if self._last.get(stage) != (status, done):
                self._last[stage] = (status, done)
                self.say(f"{stage} {status}" + (f" {done}/{total}" if total > 1 else ""))

    def say(self, message: str) -> None:
        """Print one line, never wrapped: a log's reader expects one event a line."""
        line = f"{self._name}: {message}" if self._name else message
        self._console.print(shown(self._console, line), soft_wrap=True)


class Bars:
    """For terminals: a bar a stage, redrawn in place."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._name = ""
        self._tasks: dict[str, TaskID] = {}
        self._bars = Progress(
            TextColumn("  {task.description}", markup=False),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[note]}", markup=False),
            TimeElapsedColumn(),
            console=console,
            refresh_per_second=8,
        )

    @contextmanager
    def about(self, name: str) -> Iterator[None]:
        """A heading where the file changes, and fresh bars below it."""
        for task in self._tasks.values():
            self._bars.remove_task(task)
        self._tasks = {}
        if name != self._name:
            self._console.print(shown(self._console, name, style="bold"))
        self._name = name
        with self._bars:
            yield

    def sent(self, sent: int, total: int) -> None:
        """The bar of the upload."""
        note = f"{sent / MB:.1f}/{total / MB:.1f} MB"
        self._update(SENDING, sent, total, note, ended=sent == total)

    def state(self, envelope: Envelope) -> None:
        """The bars of the stages."""
        for stage, status, done, total in stage_rows(envelope):
            note = f"{status} {done}/{total}" if total > 1 else status
            self._update(stage, done, total, note, ended=status in STEP_TERMINAL)

    def say(self, message: str) -> None:
        """A line above the bars."""
        self._console.print(shown(self._console, message))

    def _update(self, row: str, done: int, total: int, note: str, *, ended: bool) -> None:
        if row not in self._tasks:
            label = f"{self._clean(row, 20):<{WIDTH}}"
            self._tasks[row] = self._bars.add_task(label, total=max(total, 1), note="")
        completed = max(total, 1) if ended else done
        note = self._clean(note, 30)
        self._bars.update(self._tasks[row], completed=completed, total=max(total, 1), note=note)

    def _clean(self, text: str, limit: int) -> str:
        return fitting(self._console, plain(text, limit))


def display(console: Console) -> Display:
    """Bars where they can be drawn, else lines."""
    if console.is_terminal and not console.is_dumb_terminal and speaks_unicode(console):
        return Bars(console)
    return Lines(console)
