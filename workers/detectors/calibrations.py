"""Calibrations on disk: `calibration.json` beside a checkpoint, good for the weights it names alone."""

from __future__ import annotations

import logging
import os
import tempfile
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from core.calibration import Calibration

log = logging.getLogger(__name__)

FILE: Final = "calibration.json"
#: An isotonic curve with a knot for each of 10,000 intervals has 0.5 MB.
MAX_BYTES: Final = 16 * 1024 * 1024


def read(folder: Path, weights: str) -> Calibration | None:
    """The calibration of these weights (`sha256:…`). Damaged, or of others: logged, and none."""
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        with path.open("rb") as file:
            found = Calibration.model_validate_json(file.read(MAX_BYTES + 1)[:MAX_BYTES])
    except (OSError, ValidationError) as error:
        _refused(folder, f"it cannot be read ({type(error).__name__})")
        return None
    if found.weights != weights:
        _refused(folder, f"it is of the weights {found.weights}, and these are {weights}")
        return None
    return found


def write(folder: Path, calibration: Calibration) -> Path:
    """Put it beside the checkpoint, whole or not at all; an older one is replaced. May raise OSError."""
    path = folder / FILE
    handle, name = tempfile.mkstemp(dir=folder, prefix=f".{FILE}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(calibration.model_dump_json(indent=1) + "\n")
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)  # mkstemp's 0600 would hide it from workers of another user
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return path


def remove(folder: Path) -> bool:
    """Take it away; whether there was one."""
    path = folder / FILE
    existed = path.is_file()
    path.unlink(missing_ok=True)
    return existed


def _refused(folder: Path, why: str) -> None:
    log.warning(
        "The calibration of %s is not used: %s. Its scores stay uncalibrated.",
        folder.name,
        why,
        extra={"action": "calibration_refused"},
    )
