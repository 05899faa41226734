"""The settings of a stack as environment variables."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from cli.stack import StackError
from cli.stack.folder import Folder
from cli.stack.s3 import BUCKET, REGION
from cli.stack.servers import PostgresServer, S3Server, ValkeyServer
from cli.stack.state import State


def of_servers(postgres: PostgresServer, valkey: ValkeyServer, s3: S3Server) -> dict[str, str]:
    """How the product reaches its servers."""
    return {
        "DEEPDEFEND_DATABASE_URL": postgres.url,
        "DEEPDEFEND_BROKER_URL": valkey.url,
        "DEEPDEFEND_S3__ENDPOINT_URL": s3.url,
        "DEEPDEFEND_S3__REGION": REGION,
        "DEEPDEFEND_S3__BUCKET": BUCKET,
        "DEEPDEFEND_S3__ACCESS_KEY_ID": s3.access_key_id,
        "DEEPDEFEND_S3__SECRET_ACCESS_KEY": s3.secret_access_key,
    }


def of_folder(folder: Folder) -> dict[str, str]:
    """What lies in the data directory; a person's own choice of space for temporary files is kept.

    A person's own models folder is kept too: `cli.stack.weights` links its contents into ours.
    """
    return {
        "DEEPDEFEND_MODELS__DIR": str(folder.models),
        "DEEPDEFEND_SECRET_KEY": State(folder.path / "secrets.json").secret("secret_key"),
        "DEEPDEFEND_TEMP_DIR": os.environ.get("DEEPDEFEND_TEMP_DIR", str(folder.temp)),
        "DEEPDEFEND_ADMISSION__DISKS": os.environ.get(
            "DEEPDEFEND_ADMISSION__DISKS", json.dumps([str(folder.path)])
        ),
    }


def of_data_dir(data_dir: Path) -> Mapping[str, str]:
    """The settings of a stack that runs, or last ran, in that directory.

    Raises StackError when none ever did.
    """
    if not (data_dir / "secrets.json").exists():
        raise StackError(f"no stack has run in {data_dir}: start one with `deepdefend up`")
    servers = PostgresServer(data_dir), ValkeyServer(data_dir), S3Server(data_dir)
    for server in servers:
        server.ports = server.state.read().get("ports", {})
    return of_servers(*servers) | of_folder(Folder(data_dir))
