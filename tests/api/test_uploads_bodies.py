"""What a stranger may write as the body of a call that takes a little JSON."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from core.config import MiB
from core.models import Upload
from tests.api.conftest import Bucket, rows
from tests.api.server import Raw

URL = "/v1/uploads"


def code(response: httpx2.Response) -> tuple[int, str]:
    assert response.headers["content-type"] == "application/problem+json"
    return response.status_code, response.json()["code"]


@pytest.mark.parametrize(
    ("body", "status", "expected"),
    [
        ({}, 422, "invalid_option"),
        ({"size_bytes": 0}, 422, "invalid_option"),
        ({"size_bytes": -1}, 422, "invalid_option"),
        ({"size_bytes": "1000"}, 422, "invalid_option"),
        ({"size_bytes": True}, 422, "invalid_option"),
        ({"size_bytes": 1.5}, 422, "invalid_option"),
        ({"size_bytes": None}, 422, "invalid_option"),
        ({"size_bytes": [1]}, 422, "invalid_option"),
        ({"size_bytes": 10**300}, 413, "file_too_large"),
        ({"size_bytes": 500 * MiB + 1}, 413, "file_too_large"),
        ({"size_bytes": 1, "sha256": "0" * 63}, 422, "invalid_option"),
        ({"size_bytes": 1, "sha256": "g" * 64}, 422, "invalid_option"),
        ({"size_bytes": 1, "sha256": "0" * 64 + "\n"}, 422, "invalid_option"),
        ({"size_bytes": 1, "filename": "x" * 1025}, 422, "invalid_option"),
        ({"size_bytes": 1, "filename": 1}, 422, "invalid_option"),
        ({"size_bytes": 1, "object_key": "media/mine"}, 422, "invalid_option"),
        ({"size_bytes": 1, "owner": "bob"}, 422, "invalid_option"),
        ({"size_bytes": 1, "part_bytes": 1}, 422, "invalid_option"),
    ],
)
def test_what_cannot_be_begun(
    http: httpx2.Client, media: Bucket, body: dict[str, Any], status: int, expected: str
) -> None:
    assert code(http.post(URL, json=body)) == (status, expected)
    assert media.unfinished() == []
    assert rows(Upload) == []


JSON_TYPE = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("headers", "body", "status", "expected"),
    [
        (JSON_TYPE, b"", 400, "malformed_json"),
        (JSON_TYPE, b"[]", 400, "malformed_json"),
        (JSON_TYPE, b"null", 400, "malformed_json"),
        (JSON_TYPE, b"{", 400, "malformed_json"),
        (JSON_TYPE, b'{"size_bytes": 1, "size_bytes": 2}', 400, "malformed_json"),
        (JSON_TYPE, b'{"size_bytes": NaN}', 400, "malformed_json"),
        (JSON_TYPE, b'{"size_bytes": Infinity}', 400, "malformed_json"),
        (JSON_TYPE, b'{"size_bytes": 1e999}', 400, "malformed_json"),
        (JSON_TYPE, b'{"size_bytes": ' + b"9" * 5000 + b"}", 400, "malformed_json"),
        (JSON_TYPE, b'{"size_bytes": 1, "filename": "\\ud800"}', 400, "malformed_json"),
        (JSON_TYPE, b'{"size_bytes": 1, "filename": "\xff"}', 400, "malformed_json"),
        (JSON_TYPE, "{}".encode("utf-16"), 400, "malformed_json"),
        (JSON_TYPE, b"[" * 60_000, 400, "malformed_json"),
        (JSON_TYPE, b'{"a":' * 12 + b"1" + b"}" * 12, 400, "malformed_json"),
        (JSON_TYPE, b" " * 200_000, 413, "body_too_large"),
        ({"Content-Type": "text/plain"}, b'{"size_bytes": 1}', 415, "unsupported_media_type"),
        ({}, b'{"size_bytes": 1}', 415, "unsupported_media_type"),
        (JSON_TYPE | {"Content-Encoding": "gzip"}, b'{"size_bytes": 1}', 415, "unsupported_media_type"),
    ],
)
def test_bodies_that_are_no_json_object(
    http: httpx2.Client, media: Bucket, headers: dict[str, str], body: bytes, status: int, expected: str
) -> None:
    assert code(http.post(URL, content=body, headers=headers)) == (status, expected)
    assert media.unfinished() == []


def test_numbers_are_json_s_and_the_type_may_have_a_charset(http: httpx2.Client, media: Bucket) -> None:
    headers = {"Content-Type": "Application/JSON; charset=utf-8"}
    response = http.post(URL, content=b'{"size_bytes": 1e3, "filename": null}', headers=headers)
    assert response.json()["size_bytes"] == 1000
    http.delete(response.headers["location"])
    assert media.unfinished() == []


def test_a_body_that_stalls_is_given_up(
    address: tuple[str, int], key: str, set_settings: Callable[..., None]
) -> None:
    set_settings(LIMITS__UPLOAD_IDLE="PT0.2S")
    with Raw(address) as raw:
        raw.head(
            f"Authorization: Bearer {key}",
            "Content-Type: application/json",
            "Content-Length: 50",
            target=URL,
        )
        raw.send(b"{")
        status, _, problem = raw.answer()
    assert (status, problem["code"]) == (408, "upload_stalled")
