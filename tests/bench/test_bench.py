"""The parts of the benchmark that decide what its figures mean."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench import compare, table
from bench.naive import numbers
from bench.outcome import Outcome, milliseconds
from core.domain import timeline
from workers.media.plan import plan


def outcome(name: str, **stages: float) -> Outcome:
    return Outcome(name, stages=dict(stages), cpu=dict(stages), frames={"200": 0.5}, windows={"0-4000": 0.1})


class TestSameWork:
    @pytest.mark.parametrize(("fps", "seconds"), [(25.0, 60), (30.0, 60), (24.0, 10), (30000 / 1001, 10)])
    def test_the_naive_script_takes_the_frames_that_extraction_plans(self, fps: float, seconds: int) -> None:
        times = [n / fps for n in range(int(seconds * fps))]
        dues = plan(timeline(seconds, 2.0), times, 5)
        naive = [number for interval in range(seconds // 2) for number in numbers(interval, fps)]
        assert [due.position for due in dues] == naive
        assert {milliseconds(due.time) for due in dues} == {milliseconds(n / fps) for n in naive}

    def test_equal_scores_on_the_same_frames_agree(self) -> None:
        scores = {str(n): n / 100 for n in range(100)}
        near = {key: value + 0.01 for key, value in scores.items()}
        found = compare.agreement(scores, near)
        assert found.holds
        assert (found.shared, found.of) == (100, 100)
        assert found.mean == pytest.approx(0.01)

    def test_other_scores_do_not_agree(self) -> None:
        scores = {str(n): n / 100 for n in range(100)}
        assert not compare.agreement(scores, {key: 1 - value for key, value in scores.items()}).holds

    def test_fewer_frames_do_not_agree(self) -> None:
        scores = {str(n): 0.5 for n in range(100)}
        assert not compare.agreement(scores, dict(list(scores.items())[:80])).holds
        assert not compare.agreement({}, {}).holds

    def test_windows_are_compared_where_both_tell_theirs(self) -> None:
        full, bare = outcome("naive"), outcome("stack")
        bare.windows = {}
        assert set(compare.agreements(full, full)) == {"frames", "windows"}
        assert set(compare.agreements(full, bare)) == {"frames"}


class TestFigures:
    def test_loading_is_outside_of_the_total(self) -> None:
        assert outcome("naive", load=100.0, look=2.0, listen=3.0).total == 5.0

    def test_overlapping_stages_count_by_the_clock(self) -> None:
        one = outcome("stack", look=2.0, listen=3.0)
        one.wall = 4.0
        assert one.total == 4.0

    def test_stages_add_up_over_calls(self) -> None:
        one = Outcome("naive")
        for _ in range(2):
            with one.stage("look"):
                pass
        assert list(one.stages) == list(one.cpu) == ["look"]

    def test_time_of_a_process_that_nobody_waits_for_counts(self) -> None:
        grandchild = "import time\nwhile time.process_time() < 0.4: pass"
        child = f"import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', {grandchild!r}]); "
        # As bubblewrap does: learns of the end in another way, and never waits.
        child += "import os; os.waitid(os.P_PID, p.pid, os.WEXITED | os.WNOWAIT); os._exit(0)"
        one = Outcome("functions")
        with one.stage_of_children("extract"):
            subprocess.run([sys.executable, "-c", child], check=True)
        assert one.cpu["extract"] > 0.2

    def test_the_ratio_is_the_median_of_pairs(self) -> None:
        runs = {
            "naive": [outcome("naive", look=seconds) for seconds in (10.0, 20.0, 90.0)],
            "functions": [outcome("functions", look=seconds) for seconds in (2.0, 2.0, 3.0)],
        }
        assert table.ratio(runs, "functions") == 10.0
        assert table.ratio(runs, "naive") == 1.0

    def test_the_page_and_the_file_hold_the_figures_and_no_scores(self, tmp_path: Path) -> None:
        runs = {
            "naive": [outcome("naive", **{"load": 9.0, "seek and decode": 50.0, "look": 30.0})],
            "functions": [outcome("functions", extract=5.0, look=11.0)],
        }
        agreed = {"naive and functions": compare.agreements(runs["naive"][0], runs["functions"][0])}
        page = table.markdown(runs, agreed, {"CPU": "some"})
        tables = [block.split("\n") for block in page.split("\n\n") if block.startswith("|")]
        assert tables
        assert all(len({line.count("|") for line in rows if line}) == 1 for rows in tables)
        assert "| naive | **80.0** (80.0) | 80.0 | 1.0 | 1.0 |" in page
        assert "| functions | **16.0** (16.0) | 16.0 | 5.0 | 5.0 |" in page
        assert "Goal: 5 times, reached." in page
        assert "take 69% of the functions' time: were everything else free, it would be 7.3 times." in page
        assert "| decode, faces, sound | 50.0 | 5.0 | 10.0 |" in page
        assert "| naive and functions | frames | 1 of 1 | 0.0000 | 0.0000 | yes |" in page
        table.write(tmp_path, page, runs, {"CPU": "some"})
        kept = json.loads((tmp_path / "latest.json").read_text())
        assert kept["runs"]["naive"][0]["total"] == 80.0
        assert kept["runs"]["naive"][0]["frames"] == 1

    def test_disagreement_is_written_large(self) -> None:
        one, other = outcome("naive", look=5.0), outcome("functions", look=1.0)
        other.frames = {"200": 0.9}
        page = table.markdown(
            {"naive": [one], "functions": [other]},
            {"naive and functions": compare.agreements(one, other)},
            {},
        )
        assert "| **NO** |" in page
