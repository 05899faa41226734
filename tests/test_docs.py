"""What the documents say of commands, calls and figures is what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from api.app import app
from api.routes import pages
from cli.analyze import Outcome
from cli.main import COMMANDS
from core.config import StepSettings
from core.domain import Verdict

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "samples").glob("*.md")])
README = (ROOT / "README.md").read_text()
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_the_readme_begins_with_the_two_commands() -> None:
    commands = re.findall(r"^(make \w+)", README, re.MULTILINE)
    assert commands[:2] == ["make demo", "make test"]
    assert README.index("make test") < README.index("## ")


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_links_lead_somewhere(path: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text())
    dead = [link for link in targets if "://" not in link and not (path.parent / link).exists()]
    assert dead == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_named_files_exist(path: Path) -> None:
    named = re.findall(
        r"`((?:core|api|workers|cli|deploy|docs|scripts|tests|samples)/[\w./-]+)`", path.read_text()
    )
    assert [file for file in named if not (ROOT / file).exists()] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_commands_exist(path: Path) -> None:
    text = path.read_text()
    used = set(re.findall(r"(?:[`/ ])deepdefend ([a-z]+)(?=[\s`])", text))
    verbs = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert used <= set(COMMANDS)
    assert set(re.findall(r"`make ([a-z-]+)", text)) <= verbs
    assert set(re.findall(r"^make ([a-z-]+)", text, re.MULTILINE)) <= verbs


def test_every_call_of_the_readme_is_served() -> None:
    served = {re.sub(r"\{\w+\}", "{id}", path) for path in app.openapi()["paths"]}
    served |= {getattr(route, "path", "") for route in pages.router.routes}
    named = set(re.findall(r"`(?:GET |POST )?(/(?:v1/[\w/{}-]+|healthz|readyz|metrics|docs))`", README))
    assert len(named) >= 8
    assert named <= served


def test_the_exit_statuses_are_those_of_analyze() -> None:
    table = dict(re.findall(r"^\| (\d) \| (REAL|DEEPFAKE|INCONCLUSIVE) \|$", README, re.MULTILINE))
    assert table == {str(int(Outcome[verdict.value])): verdict.value for verdict in Verdict}
    assert f"| {int(Outcome.ERROR)} | an error" in README


def test_the_figures_of_the_failure_table_are_the_defaults() -> None:
    steps = StepSettings()
    for figure, said in (
        (steps.lease, "within 30 s"),
        (steps.heartbeat, "every 10 s"),
        (steps.republish_after, "after 15 s"),
        (steps.chord_grace, "for 3 s"),
    ):
        assert said.split()[1] == f"{figure.total_seconds():.0f}"
        assert said in ARCHITECTURE
    assert f"after {steps.max_attempts} attempts" in ARCHITECTURE
    assert f"({steps.hard_limit.total_seconds() / 3600:.0f} h)" in ARCHITECTURE
