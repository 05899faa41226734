"""Which server and key are used when nothing, or not everything, was said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli.client import ClientError
from cli.stack.folder import Folder
from cli.target import NoKey, Target, find, same_place


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def running(folder: Folder, **addresses: object) -> None:
    folder.running.write_text(json.dumps(addresses))


def test_what_was_said_counts(folder: Folder) -> None:
    running(folder, api_url="http://127.0.0.1:9000", api_key="dd_local")
    assert find("http://example.org/", "dd_mine", folder) == Target("http://example.org", "dd_mine")


def test_the_running_stack_fills_in_the_rest(folder: Folder) -> None:
    running(folder, api_url="http://127.0.0.1:9000", api_key="dd_local")
    assert find(None, None, folder) == Target("http://127.0.0.1:9000", "dd_local")
    assert find("http://localhost:9000", None, folder).key == "dd_local"


def test_the_local_key_is_never_sent_elsewhere(folder: Folder) -> None:
    running(folder, api_url="http://127.0.0.1:9000", api_key="dd_local")
    folder.api_key.write_text("dd_first\n")
    for url in ("http://example.org:9000", "http://127.0.0.1:9001", "https://127.0.0.1"):
        with pytest.raises(NoKey, match="deepdefend up"):
            find(url, None, folder)


def test_the_key_that_was_kept_serves_the_usual_address(folder: Folder) -> None:
    folder.api_key.write_text(" dd_first\n")
    assert find(None, None, folder) == Target("http://127.0.0.1:8000", "dd_first")


@pytest.mark.parametrize("content", ["", "{", "[]", '"x"', "\xff"])
def test_a_damaged_file_is_as_none(folder: Folder, content: str) -> None:
    folder.running.write_text(content, encoding="latin-1")
    with pytest.raises(NoKey, match=r"http://127\.0\.0\.1:8000"):
        find(None, None, folder)


def test_a_bad_address_is_named(folder: Folder) -> None:
    for url in ("localhost:8000", "http://127.0.0.1:99999999"):
        with pytest.raises(ClientError, match="not an http or https address"):
            find(url, "k", folder)


def test_the_usual_port_of_a_scheme_is_its_port() -> None:
    assert same_place("http://localhost", "http://127.0.0.1:80")
    assert not same_place("http://localhost", "https://127.0.0.1")
    assert not same_place("http://example.org", "http://example.org")
