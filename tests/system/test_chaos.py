"""A short chaos run: everything is broken a little, and every promise holds over every analysis."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest

from chaos import table
from chaos.run import Wish, run

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]


def test_nothing_is_lost_while_everything_is_killed(tmp_path: Path) -> None:
    wish = Wish(jobs=24, seconds=45, seed=1, settle_seconds=500, grace=timedelta(seconds=20))
    said: list[str] = []
    outcome = run(wish, tmp_path, said.append)
    shown = "\n".join([*said, table.text(wish, outcome)])
    assert outcome.holds, shown
    assert json.loads(table.as_json(wish, outcome))["holds"] is True
    assert sum(outcome.figures["monkey"].values()) >= 3, "the monkey did hardly anything"
    assert outcome.figures["submissions"]["accepted"] >= 15
    assert outcome.figures["endings"]["completed"] >= 5
    assert len(outcome.findings) == 15
