from __future__ import annotations

import subprocess
import sys

import pytest

from tests.api.conftest import Bucket
from tests.api.memory import measure

#: MiB that an upload of any size may add to the API.
BOUND = 64


@pytest.mark.usefixtures("clean_database")
def test_an_upload_of_any_size_adds_little_memory(media: Bucket) -> None:
    added, _ = measure(200)
    assert added < BOUND
    assert len(media.names()) == 2
    for name in media.names():
        media.remove(name)  # the storage's volumes are small


@pytest.mark.usefixtures("clean_database")
def test_the_application_refuses_to_start_with_incomplete_settings() -> None:
    """At the start, in one piece, not at the first upload."""
    ran = subprocess.run(
        [sys.executable, "-m", "uvicorn", "api.app:app", "--port", "0"],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin", "DEEPDEFEND_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"},
    )
    assert ran.returncode != 0
    assert "secret_key" in ran.stderr
