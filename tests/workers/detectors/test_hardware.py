"""Device and number format follow what the machine has."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from core.errors import DetectorUnavailable
from workers.detectors import hardware


@pytest.fixture(autouse=True)
def _ask_again() -> Iterator[None]:
    hardware.cpu_multiplies_bfloat16.cache_clear()
    yield
    hardware.cpu_multiplies_bfloat16.cache_clear()


def test_the_cpu_is_used_when_it_is_asked_for() -> None:
    assert hardware.choose_device("cpu") == torch.device("cpu")


def test_auto_takes_cuda_where_there_is_cuda() -> None:
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert hardware.choose_device("auto").type == expected


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_cuda_where_there_is_none_is_an_error_with_a_mend() -> None:
    with pytest.raises(DetectorUnavailable) as caught:
        hardware.choose_device("cuda")
    assert caught.value.code == "no_cuda_device"
    assert caught.value.extra["mend"] == "export DEEPDEFEND_MODELS__DEVICE=auto"


def test_without_amx_the_cpu_stays_with_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True, "amx_bf16": False})
    assert hardware.choose_dtype(torch.device("cpu")) is torch.float32


def test_an_amx_flag_is_not_believed_when_the_product_is_slower(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    seconds = {torch.bfloat16: 2.0, torch.float32: 1.0}
    monkeypatch.setattr(hardware, "_product_seconds", seconds.__getitem__)
    assert not hardware.cpu_multiplies_bfloat16()


def test_bfloat16_is_taken_when_the_product_is_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    seconds = {torch.bfloat16: 1.0, torch.float32: 4.0}
    monkeypatch.setattr(hardware, "_product_seconds", seconds.__getitem__)
    assert hardware.choose_dtype(torch.device("cpu")) is torch.bfloat16


def test_the_probe_measures_something() -> None:
    assert 0 < hardware._product_seconds(torch.float32) < float("inf")


@pytest.mark.parametrize(("capability", "dtype"), [((9, 0), torch.bfloat16), ((7, 5), torch.float32)])
def test_cuda_takes_bfloat16_from_ampere_on(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], dtype: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    assert hardware.choose_dtype(torch.device("cuda")) is dtype
