"""A deadline that makes no sense is refused, however it is sent."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from core.models import Analysis
from tests.api.conftest import rows, send
from tests.api.test_sources import REMOTE, URL, code


@pytest.mark.parametrize(
    "value",
    ["0", "-1", "9", "-0", "9.99", "10.5", "nan", "NaN", "inf", "-inf", "1e999", "ten", "0x3C", "10s",
     "PT10S", "10 20", "true", "[60]", "--60", "6 0", "1_000_000_000_000_000_000_000_000_000_0"],
)  # fmt: skip
def test_a_deadline_in_a_form_is_a_whole_number_of_seconds(http: httpx2.Client, value: str) -> None:
    sent = send(http, b"x", deadline_seconds=value)
    assert code(sent) in {(422, "invalid_option"), (422, "field_too_large")}
    assert rows(Analysis) == []


@pytest.mark.parametrize(
    "value", [0, -1, 9, 9.99, 10.5, "60", "", True, False, [60], {"seconds": 60}, -(10**300)]
)
def test_a_deadline_in_an_object_is_one_too(http: httpx2.Client, value: Any) -> None:
    assert code(http.post(URL, json={"source_url": REMOTE, "deadline_seconds": value})) == (
        422,
        "invalid_option",
    )
    assert rows(Analysis) == []
