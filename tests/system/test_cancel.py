"""Canceling in the middle of the work, in a real stack."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import boto3
import pytest

from cli.client import Client
from cli.stack.environment import of_data_dir
from tests.cli.stack.patience import eventually
from tests.system.conftest import RunningStack
from tests.system.media import VOICE
from tests.system.test_analyses import extracting, long_clip, rows

pytestmark = pytest.mark.system


def objects(stack: RunningStack, prefix: str) -> list[str]:
    """Names in the bucket, as the storage itself tells them."""
    environment = of_data_dir(stack.data_dir)
    client: Any = boto3.client(
        "s3",
        endpoint_url=environment["DEEPDEFEND_S3__ENDPOINT_URL"],
        aws_access_key_id=environment["DEEPDEFEND_S3__ACCESS_KEY_ID"],
        aws_secret_access_key=environment["DEEPDEFEND_S3__SECRET_ACCESS_KEY"],
        region_name="us-east-1",
    )
    found = client.list_objects_v2(Bucket=environment["DEEPDEFEND_S3__BUCKET"], Prefix=prefix)
    return [item["Key"] for item in found.get("Contents", ())]


def decoders(stack: RunningStack) -> list[int]:
    """Sandboxed children that are decoding."""
    worker = stack.find("--queues extraction")
    return [
        child.pid
        for child in worker.children(recursive=True)
        if "workers.media.child" in " ".join(child.cmdline())
    ]


def test_a_canceled_extraction_stops_and_the_worker_goes_on(stack: RunningStack, tmp_path: Path) -> None:
    with Client(stack.api_url, stack.api_key) as client:
        identity = client.submit(long_clip(tmp_path))["id"]
        eventually(lambda: extracting(stack, identity) and decoders(stack), seconds=120)
        canceled = client.cancel(identity)
        assert (canceled["status"], canceled["report"]) == ("canceled", None)
        eventually(lambda: not decoders(stack), seconds=60)
        assert client.wait(client.submit(VOICE)["id"])["status"] == "completed"
        assert client.cancel(identity) == canceled
    steps = rows(stack, "SELECT stage, status, reason FROM steps WHERE analysis_id = %s", identity)
    assert [tuple(step.values()) for step in steps] == [("extract", "skipped", "analysis_canceled")]
    assert objects(stack, f"analyses/{identity}/") == []
    media = rows(
        stack,
        "SELECT object_key FROM media JOIN analyses ON media_id = media.id WHERE analyses.id = %s",
        identity,
    )
    assert objects(stack, media[0]["object_key"]) == [media[0]["object_key"]]
