"""The whole product as a user runs it: `deepdefend up`, one upload over HTTP, the report.

`python -m bench.stack CLIP VIT WAV2VEC2 DATA_DIR`. The servers start for this run and end with it.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from statistics import fmean
from typing import Any

import psycopg2

from bench.cpu import Descendants
from bench.outcome import Outcome, milliseconds
from cli.client import Client
from cli.demo import running_stack
from cli.doc import number
from cli.stack.environment import of_data_dir

#: Of each stage the first start and the last end, from the rows the workers keep themselves.
SPANS = """
    select stage, extract(epoch from min(started_at)), extract(epoch from max(closed_at)), count(*)
    from steps where analysis_id = %s group by stage order by 2
"""


def run(clip: Path, video: str, audio: str, data_dir: Path) -> Outcome:
    """Start everything, send the clip, wait for the report, stop everything."""
    outcome = Outcome("stack")
    os.environ |= {
        "DEEPDEFEND_ALLOW_TEST_DETECTORS": "1",
        "DEEPDEFEND_MODELS__VIDEO": video,
        "DEEPDEFEND_MODELS__AUDIO": audio,
    }
    began = time.perf_counter()
    with running_stack(data_dir) as addresses, Client(addresses["api_url"], addresses["api_key"]) as client:
        outcome.stages["load"] = time.perf_counter() - began
        with Descendants() as processes:
            began = time.perf_counter()
            with outcome.stage("upload"):
                identity = client.submit(clip)["id"]
            envelope = client.wait(identity)
            outcome.wall = time.perf_counter() - began
        outcome.cpu["all processes"] = processes.seconds
        outcome.stages |= _stages(of_data_dir(data_dir)["DEEPDEFEND_DATABASE_URL"], identity)
        _note_scores(outcome, envelope, list(client.intervals(identity)))
    return outcome


def _stages(database: str, identity: str) -> dict[str, float]:
    """Seconds of each stage; they overlap, so they do not add up to the wall time."""
    connection = psycopg2.connect(database)
    try:
        with connection.cursor() as cursor:
            cursor.execute(SPANS, (identity,))
            spans = [(str(stage), float(start), float(end)) for stage, start, end, _ in cursor.fetchall()]
    finally:
        connection.close()
    names = {"video": "look", "audio": "listen", "fuse": "judge"}
    return {names.get(stage, stage): end - start for stage, start, end in spans}


def _note_scores(outcome: Outcome, envelope: dict[str, Any], intervals: list[dict[str, Any]]) -> None:
    """What the API says of each frame, and how it ended."""
    if envelope["status"] != "completed":
        raise SystemExit(f"the stack did not complete the analysis: {envelope['error']}")
    for row in intervals:
        faces = (row.get("video") or {}).get("faces", [])
        outcome.frames |= {milliseconds(face["time"]): face["score"] for face in faces}
    outcome.video_score = _mean(intervals, "video_score")
    outcome.audio_score = _mean(intervals, "audio_score")
    outcome.notes["verdict"] = f"{envelope['verdict']} (test weights: it means nothing)"


def _mean(intervals: list[dict[str, Any]], name: str) -> float | None:
    scores = [score for row in intervals if (score := number(row.get(name))) is not None]
    return fmean(scores) if scores else None


if __name__ == "__main__":
    clip_path, video_path, audio_path, folder = sys.argv[1:]
    run(Path(clip_path), video_path, audio_path, Path(folder)).hand_over()
