"""Where a detector runs and with which numbers: decided once, from what the machine can do."""

from __future__ import annotations

import time
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

from core.errors import DetectorUnavailable

if TYPE_CHECKING:
    import torch

#: Rows, inner and columns of the probing product: one MLP layer of ViT-B/16 over two pictures.
PROBE_SHAPE = (394, 768, 3072)
#: Tries of the probe; the best of each counts, so that a busy neighbour does not decide.
PROBE_TRIES = 5


def choose_device(wish: Literal["auto", "cpu", "cuda"]) -> torch.device:
    """The device to run on. Raises DetectorUnavailable when CUDA is asked for and is not there."""
    import torch  # noqa: PLC0415 - seconds of import, and no CUDA call before the worker has spawned

    if wish == "cpu":
        return torch.device("cpu")
    if torch.cuda.is_available():
        return torch.device("cuda")
    if wish == "cuda":
        raise DetectorUnavailable(
            "The setting asks for CUDA, but torch finds no CUDA device here.",
            code="no_cuda_device",
            mend="export DEEPDEFEND_MODELS__DEVICE=auto",
        )
    return torch.device("cpu")


def choose_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the hardware multiplies it faster than float32, else float32.

    ViT-B/16 probabilities differ by less than 0.005 between the two; float16 is never chosen, since
    its range overflows in the attention of some checkpoints.
    """
    import torch  # noqa: PLC0415

    if device.type == "cuda":
        native = torch.cuda.get_device_capability(device) >= (8, 0)  # Ampere: before it bf16 is emulated
        return torch.bfloat16 if native else torch.float32
    return torch.bfloat16 if cpu_multiplies_bfloat16() else torch.float32


@lru_cache(maxsize=1)
def cpu_multiplies_bfloat16() -> bool:
    """Whether bfloat16 is truly faster on this CPU.

    The flag is asked first (AMX tiles; avx512_bf16 alone gains nothing worth its rounding), then a product
    is timed, because a hypervisor or ONEDNN_MAX_CPU_ISA may take away what the flag promises. With AMX the
    ratio is about four, so the answer does not depend on chance.
    """
    import torch  # noqa: PLC0415

    if not torch.cpu.get_capabilities().get("amx_bf16", False):
        return False
    return _product_seconds(torch.bfloat16) < _product_seconds(torch.float32)


def _product_seconds(dtype: torch.dtype) -> float:
    import torch  # noqa: PLC0415

    rows, inner, columns = PROBE_SHAPE
    left, weight = torch.ones(rows, inner, dtype=dtype), torch.ones(columns, inner, dtype=dtype)
    best = float("inf")
    with torch.inference_mode():
        for _ in range(PROBE_TRIES):
            started = time.perf_counter()
            torch.nn.functional.linear(left, weight)
            best = min(best, time.perf_counter() - started)
    return best
