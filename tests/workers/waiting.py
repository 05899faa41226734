"""The product's Celery application with one more task: it waits until a file is there."""

from __future__ import annotations

import time
from pathlib import Path

from workers.app import app


@app.task(name="tests.wait")  # type: ignore[untyped-decorator]  # Celery ships no types
def wait(folder: str) -> None:
    """Say that it has begun, and wait to be released."""
    (Path(folder) / "begun").touch()
    while not (Path(folder) / "released").exists():
        time.sleep(0.02)


@app.task(name="tests.note")  # type: ignore[untyped-decorator]
def note(folder: str) -> None:
    """Say that it ran."""
    (Path(folder) / "noted").touch()
