"""What an upload costs in memory: `python -m tests.api.memory 1024` prints MiB for 1 GiB.

A real uvicorn in its own process, the real storage, a body of random bytes made as it is sent.
"""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from cli.stack.servers import PostgresServer, S3Server
from core import db, keys
from core.config import MiB, settings
from tests.api.server import BOUNDARY, form, part

CHUNK = os.urandom(MiB)
WARM_UP = 20  # MiB: loads boto3, opens the pools, sends parts
SAMPLE_SECONDS = 0.02


def measure(mebibytes: int) -> tuple[float, float]:
    """MiB of resident memory that an upload of that size adds, and MiB before it.

    Settings must name a migrated database and a bucket. A first small upload is part of "before".
    """
    with db.transaction() as session:
        _, key = keys.create(session, name="memory")
    with _api(mebibytes) as (address, process):
        _send(address, key, WARM_UP)
        before = process.memory_info().rss
        with _peak_of(process) as peak:
            _send(address, key, mebibytes)
    return (peak[0] - before) / MiB, before / MiB


@contextmanager
def _api(mebibytes: int) -> Iterator[tuple[tuple[str, int], psutil.Process]]:
    """uvicorn as `deepdefend api` runs it, with room for the upload."""
    environment = {**os.environ, "DEEPDEFEND_LIMITS__MAX_UPLOAD_BYTES": str(mebibytes * MiB)}
    with socket.create_server(("127.0.0.1", 0)) as listener:
        command = [sys.executable, "-m", "uvicorn", "api.app:app", "--fd", str(listener.fileno())]
        child = subprocess.Popen(
            [*command, "--no-access-log"],
            env=environment,
            pass_fds=[listener.fileno()],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield listener.getsockname(), psutil.Process(child.pid)
        finally:
            child.terminate()
            child.wait()


def _send(address: tuple[str, int], key: str, mebibytes: int) -> None:
    """One upload; the connection waits in the listener's queue until the server is up."""
    head = part("file", b"", filename="big.mp4")[: -len("\r\n")]
    tail = b"\r\n" + form()
    connection = http.client.HTTPConnection(*address, timeout=600)
    connection.putrequest("POST", "/v1/analyses")
    connection.putheader("Authorization", f"Bearer {key}")
    connection.putheader("Content-Type", f"multipart/form-data; boundary={BOUNDARY}")
    connection.putheader("Content-Length", str(len(head) + mebibytes * MiB + len(tail)))
    connection.endheaders(head)
    for _ in range(mebibytes):
        connection.send(CHUNK)
    connection.send(tail)
    response = connection.getresponse()
    answer = response.read()
    connection.close()
    if response.status != http.client.ACCEPTED:
        raise RuntimeError(f"the upload was not accepted: {response.status} {answer!r}")


@contextmanager
def _peak_of(process: psutil.Process) -> Iterator[list[int]]:
    """The most resident memory seen during the block, in bytes, as the one item of a list."""
    peak, done = [process.memory_info().rss], threading.Event()

    def watch() -> None:
        while not done.wait(SAMPLE_SECONDS):
            peak[0] = max(peak[0], process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        done.set()
        watcher.join()


def main(mebibytes: int) -> None:
    """Measure on servers of our own."""
    with tempfile.TemporaryDirectory(prefix="deepdefend-memory-") as folder:
        servers = postgres, s3 = PostgresServer(Path(folder)), S3Server(Path(folder))
        for server in servers:
            server.start()
        try:
            s3.make_bucket("memory")
            os.environ.update(
                DEEPDEFEND_DATABASE_URL=postgres.url,
                DEEPDEFEND_BROKER_URL="redis://127.0.0.1:1/0",
                DEEPDEFEND_SECRET_KEY=os.urandom(32).hex(),
                DEEPDEFEND_S3__ENDPOINT_URL=s3.url,
                DEEPDEFEND_S3__BUCKET="memory",
                DEEPDEFEND_S3__ACCESS_KEY_ID=s3.access_key_id,
                DEEPDEFEND_S3__SECRET_ACCESS_KEY=s3.secret_access_key,
            )
            settings.cache_clear()
            db.migrate()
            added, before = measure(mebibytes)
            db.engine().dispose()
        finally:
            for server in servers:
                server.stop()
    sys.stdout.write(f"{mebibytes} MiB upload: +{added:.1f} MiB over {before:.1f} MiB\n")


if __name__ == "__main__":
    main(int(sys.argv[1]))
