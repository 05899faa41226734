"""`deepdefend calibrate`: from a detector's scores to probabilities, by labelled files.

Exit status: 0 when every detector was calibrated, 1 when one was not or something is wrong, 130 for an
interruption. What was measured is kept in --out as by `evaluate`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.evaluate import MANIFEST, OUT, Jobs, Out, interruptible, listed, opened, prepare, progress, setup_of
from core.domain import IntervalSeconds, Options

if TYPE_CHECKING:
    from core.calibration import Calibration
    from evaluation.manifest import Entry
    from evaluation.measured import Measured
    from evaluation.panel import Panel


class Calibrated(StrEnum):
    """What can be calibrated. blend-trace has a threshold of its own."""

    VIDEO = "video"
    AUDIO = "audio"


def calibrate(
    manifest: Annotated[Path, MANIFEST],
    *,
    detector: Annotated[
        list[Calibrated] | None, typer.Option(help="Only this one; may be repeated [default: both].")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would be, store nothing.")] = False,
    out: Out = OUT,
    jobs: Jobs = 1,
    interval_seconds: Annotated[
        IntervalSeconds, typer.Option(min=1, max=5, help="A calibration holds for one length alone.")
    ] = 2.0,
) -> None:
    """Fit each detector's scores to labelled files and store the curve beside its weights.

    Running workers take it up when they start again. At least 20 scored files of each kind are needed.
    """
    from evaluation.run import run  # noqa: PLC0415 - `--help` needs no torch

    entries = listed(manifest)
    digest = "sha256:" + hashlib.sha256(manifest.read_bytes()).hexdigest()
    wanted = detector or list(Calibrated)
    setup = setup_of(Options(interval_seconds=interval_seconds), wanted).model_copy(update={"raw": True})
    panel = opened(setup)
    prepare(out)
    with progress("files") as told, interruptible(out):
        measured = run(entries, panel, out, jobs=jobs, progress=told)
    done = [_one(entries, measured, panel, which, digest, dry_run=dry_run) for which in wanted]
    raise typer.Exit(0 if all(done) else 1)


def _one(
    entries: Sequence[Entry],
    measured: dict[str, Measured],
    panel: Panel,
    which: Calibrated,
    manifest: str,
    *,
    dry_run: bool,
) -> bool:
    """Calibrate, tell and store one detector; whether that worked."""
    from evaluation import calibrating  # noqa: PLC0415
    from evaluation.curves import CannotCalibrate  # noqa: PLC0415
    from evaluation.panel import Subject  # noqa: PLC0415

    subject = Subject(which.value)
    try:
        found = calibrating.calibrate(entries, measured, panel, subject, manifest=manifest)
        where = None if dry_run else calibrating.store(panel, subject, found)
    except (CannotCalibrate, OSError) as error:
        typer.echo(f"deepdefend: {which.value} is not calibrated: {error}", err=True)
        return False
    for line in told(found, test_only=panel.conditions.test_only):
        typer.echo(line)
    typer.echo("nothing was stored" if where is None else f"stored in {where}")
    return True


def told(found: Calibration, *, test_only: bool) -> list[str]:
    """What it is and what it is worth on files it was not fitted on."""
    errors, files = found.held_out, f"{found.real_files} real and {found.fake_files} fake files"
    intervals = f"{found.real_intervals} and {found.fake_intervals} intervals of {found.interval_seconds:g} s"
    moved = {
        "Brier": (errors.brier_before, errors.brier),
        "log loss": (errors.log_loss_before, errors.log_loss),
        "calibration error": (errors.calibration_error_before, errors.calibration_error),
    }
    changes = ", ".join(f"{name} {before:.3f} -> {after:.3f}" for name, (before, after) in moved.items())
    lines = [
        f"{found.detector} ({found.modality.value}), weights {found.weights[:19]}…",
        f"  {found.curve.kind} on {files} ({intervals})",
        f"  held out, {errors.folds} folds by {errors.folds_by}: AUC {errors.auc:.3f}, {changes}",
    ]
    lines += [
        f"  {limits.point.value}, {'alone' if limits.share == 1 else 'beside another modality'}: "
        f"suspicious from {limits.suspicious:.3f}, decisive from {limits.decisive:.3f}"
        for limits in found.limits
    ]
    return ["test_only: made for tests, its scores mean nothing", *lines] if test_only else lines
