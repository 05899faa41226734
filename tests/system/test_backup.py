"""A backup of a service at work, read by another service with servers of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import psycopg2
import pytest

from cli.client import Client
from cli.demo import sample
from cli.stack import environment
from cli.stack.ports import free_port
from cli.stack.servers import PostgresServer, S3Server
from tests.cli.stack.patience import eventually
from tests.system.conftest import RunningStack, clean_environment

pytestmark = pytest.mark.system


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cli.main", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, env=clean_environment() | variables, check=False
    )


def test_another_service_gives_the_same_report(
    stack: RunningStack, postgres: PostgresServer, s3: S3Server, tmp_path: Path
) -> None:
    with Client(stack.api_url, stack.api_key) as client:
        accepted = client.submit(sample())
        client.wait(accepted["id"])
    path, folder = f"/v1/analyses/{accepted['id']}", str(tmp_path / "backup")
    expected = [get(stack.api_url, stack.api_key, path + tail) for tail in ("", "/intervals")]

    made = run("backup", folder, "--data-dir", str(stack.data_dir))
    assert made.returncode == 0, made.stderr
    secret = environment.of_data_dir(stack.data_dir)["DEEPDEFEND_SECRET_KEY"]
    variables = {
        "DEEPDEFEND_DATABASE_URL": fresh(postgres),
        "DEEPDEFEND_SECRET_KEY": secret,
        "DEEPDEFEND_BROKER_URL": "redis://127.0.0.1:1/0",  # what is owed does not lie there
        "DEEPDEFEND_S3__ENDPOINT_URL": s3.url,
        "DEEPDEFEND_S3__BUCKET": "another-service",
        "DEEPDEFEND_S3__ACCESS_KEY_ID": s3.access_key_id,
        "DEEPDEFEND_S3__SECRET_ACCESS_KEY": s3.secret_access_key,
    }
    back = run("restore", folder, **variables)
    assert back.returncode == 0, back.stderr
    assert back.stderr == ""
    with another_api(tmp_path, variables) as url:
        assert [get(url, stack.api_key, path + tail) for tail in ("", "/intervals")] == expected


def fresh(postgres: PostgresServer) -> str:
    """URL of an empty database."""
    connection = psycopg2.connect(postgres.database_url("postgres"))
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("DROP DATABASE IF EXISTS another_service WITH (FORCE)")
        cursor.execute("CREATE DATABASE another_service")
    connection.close()
    return postgres.database_url("another_service")


def get(url: str, key: str, path: str) -> Any:
    answer = httpx2.get(url + path, headers={"Authorization": f"Bearer {key}"}, timeout=30)
    assert answer.status_code == 200
    return answer.json()


@contextmanager
def another_api(folder: Path, variables: dict[str, str]) -> Iterator[str]:
    """The API alone, on the restored servers."""
    port = free_port()
    command = [sys.executable, "-m", "cli.main", "api", "--port", str(port)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, env=clean_environment() | variables, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    try:
        eventually(lambda: answers(url))
        yield url
    finally:
        process.terminate()
        process.wait()


def answers(url: str) -> bool:
    try:
        return httpx2.get(url + "/healthz").status_code == 200
    except httpx2.TransportError:
        return False
