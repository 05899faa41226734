from __future__ import annotations

import re
import stat
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import pytest
from pydantic import BaseModel, Field

from core.config import Settings
from deploy import settings_text
from tests.deploy import compose

ROOT = compose.ROOT


@pytest.mark.parametrize("name", settings_text.PLACES)
def test_every_list_of_settings_is_that_of_the_code(name: str) -> None:
    document = (ROOT / name).read_text()
    made_anew = settings_text.updated(document, settings_text.PLACES[name]())
    assert document == made_anew, "run: python -m deploy.settings_text"


def test_a_stale_list_is_noticed() -> None:
    document = (ROOT / "docs" / "operations.md").read_text()
    stale = document.replace("`DEEPDEFEND_DEADLINE`", "`DEEPDEFEND_TIMEOUT`")
    assert settings_text.updated(stale, settings_text.table()) != stale


@pytest.mark.parametrize("document", ["", "# settings: begin\n", "settings: end\n", "settings: begin\n" * 2])
def test_a_document_without_both_marks_is_refused(document: str) -> None:
    with pytest.raises(ValueError, match="settings: begin"):
        settings_text.updated(document, "x")


def test_what_is_between_the_marks_is_replaced_and_the_rest_kept() -> None:
    document = "before\n# settings: begin x\nold\nolder\n# settings: end\nafter\n"
    assert (
        settings_text.updated(document, "new") == "before\n# settings: begin x\nnew\n# settings: end\nafter\n"
    )


def test_names_and_required_ones_are_those_that_pydantic_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = {setting.name: setting for setting in settings_text.settings()}
    assert {name for name, setting in listed.items() if setting.required} == {
        "DEEPDEFEND_DATABASE_URL",
        "DEEPDEFEND_BROKER_URL",
        "DEEPDEFEND_SECRET_KEY",
    }
    monkeypatch.setenv("DEEPDEFEND_LIMITS__MAX_STREAMS", "3")
    monkeypatch.setenv("GOOGLE_API_KEY", "given")
    found = Settings(_env_file=None)
    assert found.limits.max_streams == 3
    assert found.google_api_key is not None
    assert {"DEEPDEFEND_LIMITS__MAX_STREAMS", "GOOGLE_API_KEY"} <= set(listed)


def test_a_written_default_reads_back_as_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    for setting in settings_text.settings():
        if not setting.required:
            monkeypatch.delenv(setting.name, raising=False)
    before = Settings(_env_file=None)
    for setting in settings_text.settings():
        if setting.default:
            monkeypatch.setenv(setting.name, setting.default.replace("${HOME}", str(Path.home())))
    assert Settings(_env_file=None) == before


class Sample(BaseModel):
    """Fields with comments in every place."""

    beside: timedelta = timedelta(seconds=90)  # said beside
    # Said above.
    above: Annotated[int, Field(ge=1)] = 3
    silent: str | None = None


def test_the_reason_is_the_comment_in_the_code() -> None:
    found = {setting.name: setting for setting in settings_text._walk(Sample, "X_")}
    assert [(s.default, s.why) for s in found.values()] == [
        ("PT1M30S", "said beside"),
        ("3", "Said above."),
        ("", ""),
    ]


def test_every_variable_of_the_example_is_known() -> None:
    named = set(re.findall(r"^#?(\w+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    settings = {setting.name for setting in settings_text.settings()}
    composed = set(re.findall(r"\$\{(\w+)", (ROOT / "docker-compose.yml").read_text()))
    assert named == settings | composed


def new_env(target: Path) -> subprocess.CompletedProcess[str]:
    command = [ROOT / "scripts" / "new-env", target]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_new_env_writes_a_file_that_only_its_owner_reads(tmp_path: Path) -> None:
    target = tmp_path / ".env"
    assert new_env(target).returncode == 0
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    values = compose.dotenv(target)
    assert re.fullmatch(r"[0-9a-f]{64}", values["DEEPDEFEND_SECRET_KEY"])
    assert re.fullmatch(r"flower:[0-9a-f]{32}", values["FLOWER_BASIC_AUTH"])
    assert all(values.values())
    assert list(tmp_path.iterdir()) == [target]


def test_new_env_never_touches_a_file_that_is_there(tmp_path: Path) -> None:
    target = tmp_path / ".env"
    target.write_text("DEEPDEFEND_SECRET_KEY=precious\n")
    done = new_env(target)
    assert done.returncode == 1
    assert "is there already" in done.stderr
    assert target.read_text() == "DEEPDEFEND_SECRET_KEY=precious\n"


def test_two_installations_share_no_secret(tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert new_env(tmp_path / name).returncode == 0
    first, second = compose.dotenv(tmp_path / "a"), compose.dotenv(tmp_path / "b")
    assert not set(first.values()) & set(second.values())
