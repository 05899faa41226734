"""One log, JSON, with the ids that were bound."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from core import logging as product_logging
from core.config import settings


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers, root.level = before[0], before[1]
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def test_both_kinds_of_logger_write_one_json_line(capsys: pytest.CaptureFixture[str]) -> None:
    product_logging.configure(settings(), "worker")
    with structlog.contextvars.bound_contextvars(analysis_id="a-1"):
        product_logging.get("tests").info("published %s", 3, action="published")
        logging.getLogger("library").warning("careful %s", "now")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["event"], line["level"], line["service"]) for line in lines] == [
        ("published 3", "info", "worker"),
        ("careful now", "warning", "worker"),
    ]
    assert {line["analysis_id"] for line in lines} == {"a-1"}
    assert lines[0]["action"] == "published"


def test_exceptions_are_in_the_line(capsys: pytest.CaptureFixture[str]) -> None:
    product_logging.configure(settings(), "api")
    try:
        _ = 1 / 0
    except ZeroDivisionError:
        product_logging.get("tests").exception("failed")
    line = json.loads(capsys.readouterr().err)
    assert "ZeroDivisionError" in line["exception"]


def test_the_console_form_is_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    product_logging.configure(settings().model_copy(update={"log_format": "console"}), "api")
    product_logging.get("tests").info("hello", action="greet")
    printed = capsys.readouterr().err
    assert "hello" in printed
    assert not printed.startswith("{")


@pytest.mark.parametrize("form", ["console", "json"])
def test_what_a_stranger_says_cannot_write_a_line_or_move_the_cursor(
    form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    product_logging.configure(settings().model_copy(update={"log_format": form}), "api")
    path = "/Zo\xeb\n2026-01-01 [info] let in\r\x1b[2J\x9b2J\u2028\u202e"
    product_logging.get("tests").info("GET %s", path, action="request", path=path)
    logging.getLogger("library").info("GET %s", path)
    printed = capsys.readouterr().err
    assert len(printed.splitlines()) == printed.count("\n") == 2
    assert [sign for sign in printed if not sign.isprintable() and sign != "\n"] == []


def test_a_traceback_keeps_its_lines_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    product_logging.configure(settings().model_copy(update={"log_format": "console"}), "api")
    try:
        _ = 1 / 0
    except ZeroDivisionError:
        product_logging.get("tests").exception("failed")
    assert "\nZeroDivisionError" in capsys.readouterr().err


def test_the_level_is_the_settings(capsys: pytest.CaptureFixture[str]) -> None:
    product_logging.configure(settings().model_copy(update={"log_level": "warning"}), "api")
    product_logging.get("tests").info("quiet")
    assert capsys.readouterr().err == ""
