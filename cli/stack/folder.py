"""The data directory of a stack: who may use it, what lies where."""

from __future__ import annotations

import fcntl
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from cli.stack import StackError

GB = 1_000_000_000
MIN_FREE_BYTES = 1 * GB  # below this PostgreSQL and SeaweedFS begin to refuse writes soon
#: Before the first start: weights put in by hand, logs of a server, what a new volume has.
MAY_BE_THERE = frozenset({"models", "logs", "lost+found"})


def default_folder() -> Path:
    """`~/.local/share/deepdefend`, or where XDG_DATA_HOME says."""
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "deepdefend"


@dataclass(frozen=True)
class Folder:
    """Paths inside one data directory."""

    path: Path

    @property
    def logs(self) -> Path:
        """One log a process."""
        return self.path / "logs"

    @property
    def models(self) -> Path:
        """Checkpoints dropped in here are found without a network."""
        return self.path / "models"

    @property
    def temp(self) -> Path:
        """Private decode folders; emptied at every start."""
        return self.path / "tmp"

    @property
    def api_key(self) -> Path:
        """The first API key, mode 0600, for `analyze` and `demo` on this machine."""
        return self.path / "api_key"

    @property
    def running(self) -> Path:
        """Addresses of the stack while it runs, mode 0600: what `up --json` prints."""
        return self.path / "running.json"

    def open(self) -> IO[str]:
        """Make the directory ours until the returned file is closed. Raises StackError, one line each."""
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._must_be_ours()
            lock = (self.path / "lock").open("a+")
        except OSError as error:
            raise StackError(f"cannot write to {self.path}: {error.strerror}") from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            holder = lock.read().strip() or "?"
            lock.close()
            raise StackError(f"{self.path} is in use by another stack (process {holder})") from None
        try:
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
            self._prepare()
        except BaseException:
            lock.close()
            raise
        return lock

    def _must_be_ours(self) -> None:
        """Refuse a folder of something else: we would empty its `tmp` and write among its files."""
        if (self.path / "lock").is_file():
            return
        foreign = {entry.name for entry in self.path.iterdir()} - MAY_BE_THERE
        if foreign:
            raise StackError(
                f"{self.path} holds other things ({min(foreign)!r}, say); name an empty or a new directory"
            )

    def _prepare(self) -> None:
        free = shutil.disk_usage(self.path).free
        if free < MIN_FREE_BYTES:
            raise StackError(f"the disk of {self.path} has {free / GB:.2f} GB free; at least 1 GB is needed")
        shutil.rmtree(self.temp, ignore_errors=True)
        self.running.unlink(missing_ok=True)
        for folder in (self.logs, self.models, self.temp):
            folder.mkdir(exist_ok=True, mode=0o700)
