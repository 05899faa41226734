"""The entry point: every command is there, and none costs the import of another."""

from __future__ import annotations

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from cli.main import COMMANDS, app, load

CHECK = """
import sys
from typer.testing import CliRunner
from cli.main import app
assert CliRunner().invoke(app, sys.argv[1:]).exit_code == 0
heavy = {"torch", "transformers", "celery", "sqlalchemy", "boto3", "fastapi"} & set(sys.modules)
assert not heavy, heavy
"""


def test_help_lists_every_command() -> None:
    shown = CliRunner().invoke(app, ["--help"])
    assert shown.exit_code == 0
    for name, (_, line) in COMMANDS.items():
        assert name in shown.output
        assert line[:30] in shown.output


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str) -> None:
    shown = CliRunner().invoke(app, [name, "--help"])
    assert shown.exit_code == 0
    assert f"{name} [OPTIONS]" in shown.output


@pytest.mark.parametrize("arguments", [["--help"], ["up", "--help"], ["keys", "--help"], ["demo", "--help"]])
def test_help_is_quick_because_nothing_heavy_is_imported(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CHECK, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_version_is_the_distribution_s() -> None:
    shown = CliRunner().invoke(app, ["--version"])
    assert shown.exit_code == 0
    assert shown.output.strip()[0].isdigit()


def test_a_typo_is_answered_with_a_suggestion() -> None:
    shown = CliRunner().invoke(app, ["analyse"])
    assert shown.exit_code == 2
    assert "analyze" in shown.output


def test_without_a_command_it_shows_what_there_is() -> None:
    shown = CliRunner().invoke(app, [])
    assert shown.exit_code == 2
    assert "Commands:" in shown.output


@pytest.mark.parametrize("option", ["--port", "--flower-port"])
@pytest.mark.parametrize("value", ["0", "65536", "-1", "http"])
def test_an_impossible_port_is_refused_before_anything_starts(option: str, value: str) -> None:
    assert CliRunner().invoke(app, ["up", option, value]).exit_code == 2


def test_a_function_and_a_group_of_commands_both_load() -> None:
    assert load("migrate").name == "migrate"
    assert set(load("keys").commands) == {"create", "list", "revoke"}
