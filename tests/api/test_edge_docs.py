"""docs/limits.md says what the code does."""

from __future__ import annotations

from pathlib import Path

import pytest

from api import admission, bounds, pressure, protocol, strangers
from api.authentication import rate_limit_headers
from core import quotas
from core.config import AdmissionSettings
from core.errors import DeepDefendError
from core.quotas import Policy, Standing

TEXT = (Path(__file__).parents[2] / "docs" / "limits.md").read_text()


@pytest.mark.parametrize(
    "said",
    [
        f"| headers | {bounds.MAX_HEADERS}, and {bounds.MAX_HEADER_BYTES // 1024} KiB",
        f"| query | {bounds.MAX_QUERY_BYTES} bytes",
        f"| {bounds.MAX_BODY_BYTES // 1024} KiB, within {bounds.BODY_SECONDS:.0f} s |",
        f"slower than {bounds.SLOWEST_BYTES_PER_SECOND // 1024} KiB/s",
        f"must arrive within {protocol.HEAD_SECONDS:.0f} s",
        f"| connections of one process | {protocol.MAX_CONNECTIONS} |",
        f"every {pressure.FRESH:.0f} s, and waited for no longer than {pressure.PATIENCE:.0f} s",
        f"in the last {pressure.FULL_FOR:.0f} s | {pressure.DISK_RETRY} |",
        f"the bucket does not answer | {pressure.STORAGE_RETRY} |",
        f"| {pressure.QUEUE_RETRY}, {admission.UPLOAD_RETRY} |",
        f"{strangers.REMEMBERED // 1000} 000 addresses",
        f"/{strangers.PREFIX_BITS}.",
    ],
)
def test_its_figures_are_those_of_the_code(said: str) -> None:
    assert said in TEXT


def test_its_example_is_an_answer() -> None:
    defaults = AdmissionSettings()
    window = round(defaults.window.total_seconds())
    standings = [
        Standing(policy=Policy.REQUESTS, quota=600, left=599, allowed=True, window=window, reset=1),
        Standing(policy=Policy.SUBMISSIONS, quota=300, left=299, allowed=True, window=window, reset=1),
        Standing(policy=Policy.IN_FLIGHT, quota=1000, left=998, allowed=True),
    ]
    for name, value in rate_limit_headers(standings, defaults).items():
        assert f"{name}: {value}\n" in TEXT


def test_every_code_is_named() -> None:
    classes: list[type[DeepDefendError]] = [*protocol.FAULTS.values(), protocol.HeadTimeout]
    classes += [protocol.MalformedHttp, bounds.InvalidTarget, bounds.UriTooLong, bounds.BodyTimeout]
    codes = {found.code for found in classes}
    full = Standing(policy=Policy.IN_FLIGHT, quota=1, left=0, allowed=False)
    codes |= {quotas.refusal(full).code, "too_many_uploads", "too_many_failures", "quota_exceeded"}
    assert {code for code in codes if code not in TEXT} <= {"unknown_transfer_encoding"}
