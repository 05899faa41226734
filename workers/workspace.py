"""Private folders of tasks. What a killed process leaves is removed when the next one starts.

A folder is locked for as long as its owner lives: the kernel gives the lock up with the process,
however that ends, and no clock, host name or process id has to be believed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from core import logging
from core.config import settings

log = logging.get(__name__)
PREFIX = "deepdefend-work-"


@contextlib.contextmanager
def private_folder() -> Iterator[Path]:
    """An empty folder that nobody else can read, gone after the block."""
    folder, lock = _make()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _make() -> tuple[Path, int]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=settings().temp_dir))
        with contextlib.suppress(FileNotFoundError):
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if folder.exists():
                return folder, lock
            os.close(lock)  # a sweep came between making and locking


def sweep() -> None:
    """Remove the folders whose owners are dead."""
    for folder in Path(settings().temp_dir or tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # locked, gone, a link, or not ours
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
                log.warning("removed what a killed process left", action="folder_swept")
            finally:
                os.close(lock)
