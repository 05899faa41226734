"""Clips made by ffmpeg, the shared test media, and extraction with the product's own limits."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import imageio_ffmpeg
import pytest

from core.config import Limits
from core.domain import Options
from core.evidence import Manifest
from workers.media.extract import extract

REPOSITORY = Path(__file__).resolve().parents[3]
SHARED = Path(os.environ.get("DEEPDEFEND_SHARED", REPOSITORY.parent / "shared")) / "media"
SAMPLE = REPOSITORY / "samples" / "pkg_face_photo_real_speech.mp4"

Clip = Callable[..., Path]


class Extracted(Protocol):
    """Extracts a file into a fresh folder, where `manifest.json` and the arrays then lie."""

    def __call__(self, source: Path, /, **limits: Any) -> tuple[Manifest, Path]: ...


def shared(name: str) -> Path:
    """A file of the shared media; the test is skipped where they are not mounted."""
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"the shared test media are not here: {path}")
    return path


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    """`clip(name, *ffmpeg_arguments)`: a file made once a session by the ffmpeg program."""
    folder = tmp_path_factory.mktemp("clips")

    def make(name: str, *arguments: str | Path) -> Path:
        target = folder / name
        if not target.exists():
            command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", "-nostdin"]
            subprocess.run([*command, *map(str, arguments), str(target)], check=True, timeout=120)
        return target

    return make


@pytest.fixture
def extracted(tmp_path: Path) -> Extracted:
    """Extraction as the worker does it; keyword arguments replace limits, `options` the options."""
    count = iter(range(100))

    def run(source: Path, /, *, options: Options | None = None, **limits: Any) -> tuple[Manifest, Path]:
        work = tmp_path / f"work-{next(count)}"
        work.mkdir()
        manifest = extract(
            source, work, options=options or Options(), limits=Limits(**limits), require_sandbox=False
        )
        return manifest, work

    return run
