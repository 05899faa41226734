"""The same seed gives the same run, with every kind and door in it."""

from __future__ import annotations

from collections import Counter

import pytest

from chaos.clips import HOPELESS, WHOLE, Clips, box
from chaos.plan import Door, Fate, Kind, plan
from core.domain import Lane


def test_a_seed_is_a_run() -> None:
    assert plan(7, 50) == plan(7, 50)
    assert plan(7, 50) != plan(8, 50)
    assert plan(7, 50)[:20] == plan(7, 50)[:20]


def test_the_first_jobs_show_every_kind_and_every_door() -> None:
    jobs = plan(1, 24)
    assert {job.kind for job in jobs} == set(Kind)
    assert {job.door for job in jobs} == set(Door)
    assert [job.number for job in jobs] == list(range(24))


def test_a_long_run_has_its_shares() -> None:
    jobs = plan(3, 4000)
    fates = Counter(job.fate for job in jobs)
    assert 0.05 < fates[Fate.CANCEL] / 4000 < 0.15
    assert 0.05 < fates[Fate.DELETE] / 4000 < 0.2
    assert {job.lane for job in jobs} == set(Lane)
    assert 0.75 < sum(job.keyed for job in jobs) / 4000 < 0.95
    assert any(job.deadline_seconds for job in jobs)
    assert any(job.retention_hours == 0 for job in jobs)


@pytest.mark.parametrize("jobs", [1, 3])
def test_a_tiny_run_is_possible(jobs: int) -> None:
    assert len(plan(1, jobs)) == jobs


def test_every_kind_has_an_expected_count(tmp_path: object) -> None:
    clips = Clips(tmp_path)  # type: ignore[arg-type]
    clips.measured = {(Kind.TRUNCATED, 1.0): 1, (Kind.TRUNCATED, 2.0): 1}
    counts = {(job.kind, job.interval_seconds): clips.intervals(job) for job in plan(1, 300)}
    assert counts[Kind.FACE_AND_VOICE, 1.0] == 3
    assert counts[Kind.FACE_AND_VOICE, 2.0] == 2
    assert counts[Kind.LONG, 1.0] == 14
    assert all(count == 0 for (kind, _), count in counts.items() if kind in HOPELESS)
    assert all(count > 0 for (kind, _), count in counts.items() if kind in WHOLE)


def test_own_bytes_differ_and_shared_ones_do_not(tmp_path: object) -> None:
    clips = Clips(tmp_path)  # type: ignore[arg-type]
    for kind in Kind:
        clips.path(kind).write_bytes(b"film")
    jobs = plan(2, 200)
    own = [clips.content(job) for job in jobs if job.own_bytes]
    assert len(set(own)) == len(own)
    assert {clips.content(job) for job in jobs if not job.own_bytes} == {b"film"}
    assert box("x") == b"\x00\x00\x00\x09freex"
