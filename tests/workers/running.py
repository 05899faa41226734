"""A worker as its own process, as the stack starts it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from cli.stack import commands
from core.domain import Lane
from core.queue import Queue

#: A version of ours that reads no step format above that number, with the command line that follows.
OLD = (
    "import sys, core.steps; core.steps.FORMAT = {format}; from celery.__main__ import main; sys.exit(main())"
)


def command(
    *queues: Queue, concurrency: int = 1, lanes: Sequence[Lane] = tuple(Lane), reads: int | None = None
) -> list[str]:
    """The command line of a worker; `reads` is the newest step format that it knows."""
    words = list(commands.worker(queues, concurrency, lanes))
    if reads is not None:
        assert words[:3] == [sys.executable, "-m", "celery"]
        words[1:3] = ["-c", OLD.format(format=reads)]
    return words


@contextmanager
def worker(log: Path, words: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A worker that is gone with everything it started when the block ends."""
    with log.open("ab") as out, subprocess.Popen(words, stdout=out, stderr=out, process_group=0) as process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):  # it has ended by itself
                os.killpg(process.pid, signal.SIGKILL)
