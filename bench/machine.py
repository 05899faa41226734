"""What the figures were measured on; a figure without it means nothing."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

import cv2
import psutil
import torch
import transformers


def facts() -> dict[str, str]:
    """Name and value, in the order they are shown."""
    return {
        "CPU": f"{_cpu_model()}, {len(os.sched_getaffinity(0))} cores usable",
        "matrix instructions": _matrix_instructions(),
        "GPU": torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none",
        "memory": f"{psutil.virtual_memory().total / 1e9:.0f} GB",
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "torch": f"{torch.__version__}, {torch.get_num_threads()} threads",
        "transformers": transformers.__version__,
        "OpenCV": cv2.__version__,
        "commit": _commit(),
    }


def load() -> float:
    """Processes that want a core, averaged over a minute: above the cores, wall times are not ours alone."""
    return os.getloadavg()[0]


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def _matrix_instructions() -> str:
    able = torch.cpu.get_capabilities()
    names = [name for name in ("amx_bf16", "avx512_bf16", "avx512_f", "avx2") if able.get(name)]
    return ", ".join(names) or "none known"


def _commit() -> str:
    """The measured tree, marked when it has changes."""
    asked = ["git", "-C", str(Path(__file__).parents[1]), "describe", "--always", "--dirty"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"
