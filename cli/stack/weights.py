"""Detector weights for a stack: shared between stacks, fetched once when the hub is near."""

from __future__ import annotations

from pathlib import Path

from core.config import model_settings


def shared_folder() -> Path:
    """Where `models pull` writes: by setting, else in the cache. Ask before MODELS__DIR is changed."""
    return model_settings()[0].dir.expanduser().resolve()


def link_shared(models: Path, shared: Path) -> None:
    """Make every checkpoint of the shared folder visible in `models`.

    What lies in `models` already, a person's own copy, stays as it is. Cheap: called again and again,
    so that a stack finds what is pulled while it runs.
    """
    if not shared.is_dir() or shared == models.resolve():
        return
    for entry in shared.iterdir():
        link = models / entry.name
        if entry.is_dir() and not entry.name.startswith(".") and not link.exists():
            link.unlink(missing_ok=True)  # a link whose target was removed
            link.symlink_to(entry)


def provide(models: Path) -> list[str]:
    """Pull what a stack with that models folder lacks, when the hub answers within 5 s; never an error.

    Pulls into the shared folder, so that another stack need not pull again. Returns lines that say
    what is still missing, and the command that mends it. May take minutes, with a bar on stderr.
    """
    from rich.console import Console  # noqa: PLC0415 - only when something is missing

    from cli.models import pull_missing  # noqa: PLC0415
    from core.domain import Modality  # noqa: PLC0415
    from workers.detectors import registry  # noqa: PLC0415

    link_shared(models, shared_folder())
    chosen, _ = model_settings()
    here = chosen.model_copy(update={"dir": models})
    states = {registry.status(here, modality, allow_test=True)["state"] for modality in Modality}
    if registry.ABSENT not in states:
        return []
    missing = pull_missing(chosen, Console(stderr=True))
    link_shared(models, shared_folder())
    return missing
