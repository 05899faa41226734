"""Results of files in a folder, so that an interrupted run goes on and a second one costs nothing."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from evaluation.measured import Measured
from evaluation.panel import Conditions

FOLDER: Final = "measured"


class Cache:
    """One file a result: `measured/<conditions>/<sha256>.json`. Other conditions are other results."""

    def __init__(self, out: Path, conditions: Conditions) -> None:
        self._folder = out / FOLDER / conditions.digest
        self._folder.mkdir(parents=True, exist_ok=True)
        write_whole(self._folder / "conditions.json", conditions.model_dump_json(indent=2))

    def get(self, sha256: str) -> Measured | None:
        """What was measured; None when it was not, or when what was kept cannot be read."""
        try:
            found = Measured.model_validate_json((self._folder / f"{sha256}.json").read_bytes())
        except (OSError, ValidationError):
            return None
        return found if found.sha256 == sha256 else None

    def put(self, measured: Measured) -> None:
        """Keep it, all of it or nothing. What may be the machine's fault is not kept."""
        if measured.delivered is not None and not measured.delivered.lasting:
            measured = measured.model_copy(update={"delivered": None})
        if measured.lasting:
            write_whole(self._folder / f"{measured.sha256}.json", measured.model_dump_json())


def write_whole(path: Path, text: str) -> None:
    """Into place in one step: whoever is interrupted leaves no half of it."""
    handle, name = tempfile.mkstemp(dir=path.parent, suffix=".part")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
