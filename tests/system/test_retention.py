"""Zero retention, deletion in the middle of the work, and legal holds, in a real stack."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest

from cli.client import Client
from core.domain import Terms
from tests.cli.stack.patience import eventually
from tests.system.conftest import RunningStack, clean_environment
from tests.system.media import FACE_AND_VOICE, ffmpeg
from tests.system.test_analyses import extracting, get, long_clip, rows
from tests.system.test_cancel import decoders, objects

pytestmark = pytest.mark.system

#: Tables whose rows are about an analysis.
ABOUT = ("steps", "intervals", "tracks", "idempotency_keys", "uploads", "webhook_deliveries")


def clip(folder: Path, seconds: str) -> Path:
    """The sample's first seconds: bytes of its own, that no other test sends."""
    ffmpeg("-i", FACE_AND_VOICE, "-t", seconds, "-c", "copy", folder / "clip.mp4")
    return folder / "clip.mp4"


def left(stack: RunningStack, identity: str) -> list[str]:
    """Tables that have rows about an analysis."""
    columns = [("analyses", "id"), *((table, "analysis_id") for table in ABOUT)]
    queries = {
        table: f"SELECT 1 FROM {table} WHERE {column} = %s LIMIT 1"  # noqa: S608 - our own names
        for table, column in columns
    }
    return [table for table, query in queries.items() if rows(stack, query, identity)]


def file_key(stack: RunningStack, identity: str) -> str:
    query = "SELECT object_key FROM media JOIN analyses ON media_id = media.id WHERE analyses.id = %s"
    return str(rows(stack, query, identity)[0]["object_key"])


def delete(stack: RunningStack, identity: str, key: str | None = None) -> httpx2.Response:
    headers = {"Authorization": f"Bearer {key or stack.api_key}"}
    return httpx2.delete(f"{stack.api_url}/v1/analyses/{identity}", headers=headers, timeout=60)


def test_with_zero_retention_only_the_report_is_left(stack: RunningStack, tmp_path: Path) -> None:
    with Client(stack.api_url, stack.api_key) as client:
        identity = client.submit(clip(tmp_path, "3"), terms=Terms(retention_hours=0))["id"]
        key = file_key(stack, identity)
        assert objects(stack, key) == [key]
        ended = client.wait(identity)
    assert (ended["status"], ended["retention"]["hours"]) == ("completed", 0)
    eventually(lambda: not objects(stack, key) and not objects(stack, f"analyses/{identity}/"))
    eventually(lambda: get(stack, f"/v1/analyses/{identity}")["retention"]["media_erased_at"])
    after = get(stack, f"/v1/analyses/{identity}")
    assert after["report"] == ended["report"]
    assert after["media"]["facts"]["video"]["codec"] == "h264"
    intervals = get(stack, f"/v1/analyses/{identity}/intervals")["items"]
    assert len(intervals) == ended["report"]["total_intervals_analyzed"] == 2
    log = rows(stack, "SELECT action, actor, detail FROM audit_entries WHERE subject = %s", identity)
    assert [(entry["action"], entry["actor"]) for entry in log] == [("media.erased", "worker")]
    assert log[0]["detail"]["media"]["fate"] == "erased"


def test_a_deletion_in_the_middle_of_the_work_leaves_nothing(stack: RunningStack, tmp_path: Path) -> None:
    with Client(stack.api_url, stack.api_key) as client:
        identity = client.submit(long_clip(tmp_path), terms=Terms(retention_hours=0))["id"]
        key = file_key(stack, identity)
        eventually(lambda: extracting(stack, identity) and decoders(stack), seconds=120)
        answered = delete(stack, identity)
        pending = answered.json()
        assert answered.status_code == 202, pending
        assert (pending["complete"], pending["media"]["outcome"]) == (False, "pending")
        assert objects(stack, key) == []
        assert left(stack, identity) == []
        eventually(lambda: not decoders(stack), seconds=60)
        eventually(lambda: get(stack, f"/v1/erasures/{identity}")["complete"], seconds=120)
        receipt = get(stack, f"/v1/erasures/{identity}")
        assert delete(stack, identity).json() == receipt
        assert client.wait(client.submit(clip(tmp_path, "1"))["id"])["status"] == "completed", "it goes on"
    assert (receipt["id"], receipt["media"]["outcome"]) == (pending["id"], "erased")
    assert receipt["objects"] >= 1
    assert objects(stack, f"analyses/{identity}/") == objects(stack, key) == []
    assert left(stack, identity) == []
    assert rows(stack, "SELECT * FROM erasures") == []
    log = rows(stack, "SELECT action, actor FROM audit_entries WHERE subject = %s ORDER BY at", identity)
    assert [entry["action"] for entry in log] == ["analysis.deleted", "analysis.erased"]
    assert {entry["actor"] for entry in log} == {stack.api_key.split("_")[1]}


def make_key(stack: RunningStack, *more: str) -> str:
    """A key of the same owner, as an operator makes it."""
    owner = rows(stack, "SELECT owner FROM api_keys WHERE prefix = %s", stack.api_key.split("_")[1])[0][
        "owner"
    ]
    command = [sys.executable, "-m", "cli.main", "keys", "create", "law", "--owner", owner, *more]
    command += ["--data-dir", str(stack.data_dir)]
    made = subprocess.run(command, check=True, capture_output=True, text=True, env=clean_environment())
    return made.stdout.strip()


def test_a_held_analysis_outlasts_its_time_and_goes_when_it_is_released(
    stack: RunningStack, tmp_path: Path
) -> None:
    admin = make_key(stack, "--scope", "admin")

    def ask(method: str, path: str, **more: Any) -> httpx2.Response:
        headers = {"Authorization": f"Bearer {admin}"}
        return httpx2.request(method, stack.api_url + path, headers=headers, timeout=60, **more)

    with Client(stack.api_url, stack.api_key) as client:
        identity = client.submit(clip(tmp_path, "2"), terms=Terms(retention_hours=0))["id"]
        key = file_key(stack, identity)
        held = ask("POST", f"/v1/analyses/{identity}/hold", json={"reason": "case 7"})
        assert held.status_code == 200, held.text
        client.wait(identity)
    refused = delete(stack, identity)
    assert (refused.status_code, refused.json()["code"]) == (409, "legal_hold")
    assert objects(stack, key) == [key]
    assert get(stack, f"/v1/analyses/{identity}")["retention"]["media_erased_at"] is None
    assert ask("DELETE", f"/v1/analyses/{identity}/hold").status_code == 200
    eventually(lambda: not objects(stack, key), seconds=90)  # at the dispatcher's next look
    eventually(lambda: get(stack, f"/v1/analyses/{identity}")["retention"]["media_erased_at"])
    log = ask("GET", "/v1/audit", params={"subject": identity}).json()["items"]
    assert [entry["action"] for entry in log] == ["media.erased", "hold.released", "hold.set"]
    assert delete(stack, identity).status_code == 200
