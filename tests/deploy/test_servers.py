"""No container engine runs here, but the very commands of the Compose file do, on the same versions."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import redis
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from cli.stack import s3, valkey
from cli.stack.ports import LOOPBACK, free_port
from tests.deploy import compose

SECRETS = {
    "POSTGRES_PASSWORD": "p" * 32,
    "VALKEY_PASSWORD": secrets.token_hex(16),
    "S3_ACCESS_KEY_ID": secrets.token_hex(10),
    "S3_SECRET_ACCESS_KEY": secrets.token_hex(16),
    "FLOWER_BASIC_AUTH": "flower:password",
    "DEEPDEFEND_SECRET_KEY": secrets.token_hex(32),
}
SERVICES = compose.interpolated(compose.load(), SECRETS)["services"]
Start = Callable[[list[str], dict[str, str]], subprocess.Popen[bytes]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a program in `tmp_path`; it is stopped after the test."""
    started = []

    def begin(command: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
        log = (tmp_path / "log").open("wb")
        process = subprocess.Popen(
            command, env={"PATH": os.environ["PATH"], **environment}, cwd=tmp_path, stdout=log, stderr=log
        )
        log.close()
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.wait()


def until(answer: Callable[[], Any], process: subprocess.Popen[bytes], *errors: type[Exception]) -> Any:
    """The answer, as soon as there is one; fails when the process ends first."""
    while process.poll() is None:
        try:
            return answer()
        except errors:
            try:
                process.wait(timeout=0.2)
            except subprocess.TimeoutExpired:
                continue
    raise AssertionError(f"the server ended with {process.returncode}")


def test_valkey_wants_its_password_appends_and_never_evicts(start: Start, tmp_path: Path) -> None:
    shell, flag, script = SERVICES["valkey"]["command"]
    port = free_port()
    script = script.replace("valkey-server", valkey.program(), 1).replace("--port 6379", f"--port {port}")
    process = start([shell, flag, script.replace("--dir /data", f"--dir {tmp_path}")], environment("valkey"))

    def client(password: str | None = SECRETS["VALKEY_PASSWORD"]) -> redis.Redis:
        return redis.Redis(host=LOOPBACK, port=port, password=password)

    assert until(lambda: client().ping(), process, redis.ConnectionError)
    with pytest.raises(redis.AuthenticationError):
        client(None).ping()
    wanted = {"appendonly": "yes", "maxmemory-policy": "noeviction", "save": "", "appendfsync": "everysec"}
    assert client().config_get(*wanted) == wanted
    command_line = Path(f"/proc/{process.pid}/cmdline").read_bytes()
    assert b"valkey-server" in command_line
    assert SECRETS["VALKEY_PASSWORD"].encode() not in command_line


def environment(service: str) -> dict[str, str]:
    return compose.environment_of(compose.load()["services"][service], SECRETS)


def test_the_s3_server_lets_in_only_who_has_the_keys(start: Start, tmp_path: Path) -> None:
    program, *flags = SERVICES["s3"]["entrypoint"]
    assert program == "/usr/bin/weed"
    port = free_port()
    here = {"-dir=/data": f"-dir={tmp_path}", "-s3.port=8333": f"-s3.port={port}"}
    here["-s3.ip.bind=0.0.0.0"] = f"-s3.ip.bind={LOOPBACK}"
    assert set(here) <= set(flags)
    parts = [f"{part}.port{kind}" for part in ("master", "volume", "filer") for kind in ("", ".grpc")]
    inner = [f"-{part}={free_port()}" for part in parts]
    sockets = [f"-{part}.localSocket={tmp_path}/{part}" for part in ("filer", "s3")]
    command = [s3.program(), *(here.get(flag, flag) for flag in flags), *inner, *sockets]
    process = start([*command, f"-s3.port.grpc={free_port()}"], environment("s3"))

    def client(key: str, secret: str) -> Any:
        once = Config(retries={"total_max_attempts": 1}, connect_timeout=2, read_timeout=10)
        keys = {"aws_access_key_id": key, "aws_secret_access_key": secret}
        where = {"endpoint_url": f"http://{LOOPBACK}:{port}", "region_name": "us-east-1"}
        return boto3.client("s3", **where, **keys, config=once)

    ours = client(SECRETS["S3_ACCESS_KEY_ID"], SECRETS["S3_SECRET_ACCESS_KEY"])
    a = {"Bucket": "deepdefend", "Key": "a"}
    until(lambda: ours.create_bucket(Bucket="deepdefend"), process, BotoCoreError, ClientError)
    until(lambda: ours.put_object(**a, Body=b"1"), process, BotoCoreError, ClientError)
    for stranger in (client(SECRETS["S3_ACCESS_KEY_ID"], "guess"), client("nobody", "guess")):
        with pytest.raises(ClientError) as refused:
            stranger.get_object(**a)
        assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403


def test_the_bucket_step_makes_the_bucket_and_may_run_again(s3: Any, lane: int) -> None:
    entry = SERVICES["bucket"]["entrypoint"]
    bucket = f"composed-{lane}"
    variables = compose.environment_of(compose.load()["services"]["bucket"], SECRETS)
    variables |= {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(compose.ROOT),
        "DEEPDEFEND_S3__ENDPOINT_URL": s3.url,
        "DEEPDEFEND_S3__ACCESS_KEY_ID": s3.access_key_id,
        "DEEPDEFEND_S3__SECRET_ACCESS_KEY": s3.secret_access_key,
        "DEEPDEFEND_S3__BUCKET": bucket,
    }
    assert entry[0] == "python"
    for _ in range(2):
        subprocess.run([sys.executable, *entry[1:]], env=variables, cwd="/", check=True)
    assert s3.client().head_bucket(Bucket=bucket)["ResponseMetadata"]["HTTPStatusCode"] == 200


@pytest.mark.parametrize(("owner", "calls_made"), [("0:0", 1), ("1000:1000", 0), ("1000:0", 1)])
def test_the_owner_step_gives_the_volume_away_once(tmp_path: Path, owner: str, calls_made: int) -> None:
    calls = tmp_path / "calls"
    calls.touch()
    for name, body in (("stat", f"echo {owner}"), ("chown", f'echo "$@" >> {calls}')):
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\n{body}\n")
        program.chmod(0o755)
    entry = SERVICES["s3-owner"]["entrypoint"]
    subprocess.run(entry, env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, check=True)
    assert calls.read_text().splitlines() == ["-R 1000:1000 /data"] * calls_made
