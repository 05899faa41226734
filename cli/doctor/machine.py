"""What can be told of this machine alone: programs, sandbox, weights, device, disk."""

from __future__ import annotations

import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from cli.doctor.finding import Finding, fail, ok, skipped, warn
from core.config import ModelSettings, Settings
from core.domain import Modality

#: What a fault is most often asked about.
PACKAGES: Final = (
    "deepdefend",
    "av",
    "celery",
    "fastapi",
    "opencv-python-headless",
    "sqlalchemy",
    "torch",
    "transformers",
)
PYTHON: Final = (3, 11)
GB: Final = 1_000_000_000
#: A half hour of crowds leaves 10 GB of crops while it is worked on.
COMFORT: Final = 10 * GB


def python() -> Finding:
    """The interpreter and the packages that matter."""
    versions = {name: found for name in PACKAGES if (found := _version(name))}
    said = f"Python {platform.python_version()}, DeepDefend {versions.get('deepdefend', 'not installed')}"
    if sys.version_info[:2] != PYTHON:
        return fail(
            "python",
            said,
            "The face detector and the queue are made for Python 3.11 alone.",
            "make setup, which makes .venv with Python 3.11",
            packages=versions,
        )
    return ok("python", said, packages=versions)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def decoder() -> Finding:
    """PyAV and the FFmpeg within."""
    try:
        import av  # noqa: PLC0415 - a machine that only serves the API has none
    except ImportError as error:
        return fail(
            "decoder",
            f"PyAV cannot be imported: {error}",
            "This machine cannot take files apart.",
            "pip install 'deepdefend[worker]'",
        )
    libraries = {name: ".".join(map(str, numbers)) for name, numbers in av.library_versions.items()}
    return ok("decoder", f"PyAV {av.__version__} with FFmpeg {av.ffmpeg_version_info}", libraries=libraries)


def sandbox(*, required: bool) -> Finding:
    """The level, what it keeps out, and why it is not better."""
    try:
        from workers.media.sandbox import BUBBLEWRAP, probe  # noqa: PLC0415 - only a worker's machine has it
    except ImportError:
        return skipped("sandbox", "no decoder on this machine")
    found = probe()
    facts = {"level": found.level, "files": found.files, "calls": found.calls}
    kept = ["files" * found.files, "sockets and processes" * found.calls]
    barred = " and from ".join(filter(None, kept)) or "nothing but excess"
    said = f"{found.level}; keeps the decoder from {barred}"
    if found.level != BUBBLEWRAP and required:
        return fail(
            "sandbox",
            f"{said}; {found.why}",
            "Every file is refused: DEEPDEFEND_REQUIRE_SANDBOX is on.",
            "make bubblewrap work (docs/sandbox.md), or set DEEPDEFEND_REQUIRE_SANDBOX=false",
            **facts,
        )
    if not (found.files and found.calls):
        return warn(
            "sandbox",
            f"{said}; {found.why or 'the kernel lacks Landlock or seccomp'}",
            "A file that takes its decoder over could read files or open connections of the worker's user.",
            "install bubblewrap and allow it user namespaces (docs/sandbox.md)",
            **facts,
        )
    if found.level != BUBBLEWRAP:
        return warn(
            "sandbox",
            f"{said}; {found.why}",
            "Landlock and seccomp hold alone, without namespaces behind them.",
            "install bubblewrap and allow it user namespaces (docs/sandbox.md)",
            **facts,
        )
    return ok("sandbox", said, **facts)


def detectors(models: ModelSettings, *, allow_test: bool) -> Iterator[Finding]:
    """The checkpoint of each modality."""
    try:
        from workers.detectors import registry  # noqa: PLC0415 - only a worker's machine has it
    except ImportError:
        yield from (
            skipped(f"detector {modality.value}", "no detectors on this machine") for modality in Modality
        )
        return
    for modality in Modality:
        status = registry.status(models, modality, allow_test=allow_test)
        name = f"detector {modality.value}"
        if status["state"] != registry.AVAILABLE:
            yield warn(
                name,
                f"{status['id']}: {status['detail']}",
                f"Every score of {modality.value} is null, with the reason {status['code']}.",
                status["mend"] or "deepdefend models pull",
                **status,
            )
        elif status["test_only"]:
            yield warn(
                name,
                f"{status['id']} is made for tests",
                "Its scores mean nothing; every report says so.",
                "unset DEEPDEFEND_ALLOW_TEST_DETECTORS, then deepdefend models pull",
                **status,
            )
        else:
            yield ok(name, f"{status['id']}, fake is {status['fake_label']!r}", **status)


def device(wanted: str) -> Finding:
    """Where torch computes."""
    try:
        import torch  # noqa: PLC0415 - two seconds
    except ImportError:
        return skipped("device", "no torch on this machine")
    if torch.cuda.is_available():
        return ok("device", f"torch {torch.__version__} on {torch.cuda.get_device_name(0)}", cuda=True)
    if wanted == "cuda":
        return fail(
            "device",
            f"torch {torch.__version__} sees no GPU, and DEEPDEFEND_MODELS__DEVICE is cuda",
            "No detector can be loaded.",
            "install the NVIDIA driver and a CUDA build of torch, or set DEEPDEFEND_MODELS__DEVICE=auto",
            cuda=False,
        )
    return ok("device", f"torch {torch.__version__} on {torch.get_num_threads()} CPU threads", cuda=False)


def disks(settings: Settings | None) -> Iterator[Finding]:
    """Space where files are taken apart, and on the other disks that are watched."""
    least = settings.admission.min_free_bytes if settings else 0
    temp = settings.temp_dir if settings else None
    yield _disk("disk of temporary files", temp or Path(tempfile.gettempdir()), least, written=True)
    for folder in settings.admission.disks if settings else ():
        yield _disk(f"disk of {folder}", folder, least, written=False)


def _disk(name: str, folder: Path, least: int, *, written: bool) -> Finding:
    try:
        free = shutil.disk_usage(folder).free
        if written:
            with tempfile.TemporaryFile(dir=folder) as file:
                file.write(b"x")
    except OSError as error:
        return fail(
            name,
            f"{folder} cannot be written: {error.strerror}",
            "No file can be taken apart.",
            "make the folder, give its user the right to write, or name another in DEEPDEFEND_TEMP_DIR",
        )
    said = f"{free / GB:.1f} GB free in {folder}"
    if free < least:
        return fail(
            name,
            said,
            f"Below {least / GB:.1f} GB submissions are refused.",
            "free some space, or lower DEEPDEFEND_ADMISSION__MIN_FREE_BYTES",
            free=free,
        )
    if written and free < COMFORT:
        return warn(
            name,
            said,
            "A half hour of crowds needs 10 GB while it is worked on.",
            "free some space, or name another disk in DEEPDEFEND_TEMP_DIR",
            free=free,
        )
    return ok(name, said, free=free)
