"""Detector weights for a stack: shared between stacks, fetched once when the hub is near."""

from __future__ import annotations

from pathlib import Path

from core.config import ModelSettings


def link_shared(models: Path, shared: Path | None = None) -> list[str]:
    """Make every checkpoint of the shared folder (`models pull` writes there) visible in `models`.

    What lies in `models` already, a person's own copy, stays as it is. Returns the new names.
    """
    shared = ModelSettings.model_fields["dir"].default if shared is None else shared
    if shared is None or not shared.is_dir() or shared.resolve() == models.resolve():
        return []
    new = [
        entry for entry in sorted(shared.iterdir()) if entry.is_dir() and not (models / entry.name).exists()
    ]
    new = [entry for entry in new if not entry.name.startswith(".")]
    for entry in new:
        link = models / entry.name
        link.unlink(missing_ok=True)  # a link whose target was removed
        link.symlink_to(entry.resolve())
    return [entry.name for entry in new]
