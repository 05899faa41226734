"""One running API for all tests of this folder, on an empty database, and a caller for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping
from typing import Any

import httpx2
import pytest
from sqlalchemy import select
from structlog.testing import capture_logs

from api import pressure
from cli.stack.servers import S3Server
from core import db, keys, storage
from core.config import settings
from core.keys import Caller, Scope
from tests.api.server import serving


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[MutableMapping[str, Any]]]:
    """What the API logged during the test."""
    with capture_logs() as lines:
        yield lines


@pytest.fixture(autouse=True)
def room_is_looked_for_anew(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the shared API found out about its storage is not held against the next test."""
    if "address" in request.fixturenames:
        monkeypatch.setattr(pressure, "FRESH", -1.0)


@pytest.fixture(scope="session")
def address(database: str, bucket: str) -> Iterator[tuple[str, int]]:
    """Host and port of the API."""
    assert database
    assert bucket
    with serving() as found:
        yield found


@pytest.fixture
def key(clean_database: str) -> str:
    """A key that may do everything; its owner is `alice`."""
    assert clean_database
    return make_key("alice")


@pytest.fixture
def alice(key: str) -> Caller:
    """The caller behind `key`."""
    with db.transaction() as session:
        return keys.authenticate(session, key)


def make_key(owner: str, *scopes: Scope) -> str:
    """A fresh key of that owner; with every scope unless some are named."""
    with db.transaction() as session:
        return keys.create(session, name="test", owner=owner, scopes=scopes or tuple(Scope))[1]


@pytest.fixture
def http(address: tuple[str, int], key: str) -> Iterator[httpx2.Client]:
    """A well-behaved client with `key`."""
    with client(address, key) as opened:
        yield opened


def client(address: tuple[str, int], key: str | None = None) -> httpx2.Client:
    """A client with or without a key."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return httpx2.Client(
        base_url="http://{}:{}".format(*address), headers=headers, timeout=30, trust_env=False
    )


@pytest.fixture
def set_settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Change settings for one test; engines and clients made from them are made anew, then and after."""

    def change(**variables: Any) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(f"DEEPDEFEND_{name}", str(value))
        forget()

    yield change
    monkeypatch.undo()
    forget()


def forget() -> None:
    """Let settings, engine and storage be made anew on their next use."""
    settings.cache_clear()
    if db.engine.cache_info().currsize:
        db.engine().dispose()
    db.engine.cache_clear()
    storage.storage.cache_clear()


class Bucket:
    """What is in the bucket, seen by another client than the API's."""

    def __init__(self, server: S3Server, name: str) -> None:
        self._client, self._name = server.client(), name

    def names(self) -> set[str]:
        """Objects below `media/`."""
        found = self._client.list_objects_v2(Bucket=self._name, Prefix="media/")
        return {item["Key"] for item in found.get("Contents", ())}

    def unfinished(self) -> list[str]:
        """Multipart uploads that nobody completed or aborted."""
        found = self._client.list_multipart_uploads(Bucket=self._name)
        return [item["Key"] for item in found.get("Uploads", ())]

    def abort_unfinished(self) -> None:
        """End what a killed server left."""
        for item in self._client.list_multipart_uploads(Bucket=self._name).get("Uploads", ()):
            self._client.abort_multipart_upload(Bucket=self._name, Key=item["Key"], UploadId=item["UploadId"])

    def read(self, key: str) -> bytes:
        """An object."""
        content: bytes = self._client.get_object(Bucket=self._name, Key=key)["Body"].read()
        return content

    def remove(self, key: str) -> None:
        """Delete an object."""
        self._client.delete_object(Bucket=self._name, Key=key)


@pytest.fixture
def media(s3: S3Server, bucket: str) -> Iterator[Bucket]:
    """The bucket with no media in it."""
    found = Bucket(s3, bucket)
    storage.storage().delete_prefix("media/")
    yield found
    assert found.unfinished() == [], "an upload was left unfinished in the storage"


@pytest.fixture
def parts_go(s3: S3Server, bucket: str) -> Iterator[None]:
    """Uploads in parts that the test began and never ended are gone after it."""
    yield
    Bucket(s3, bucket).abort_unfinished()


def send(http: httpx2.Client, content: bytes, name: str = "clip.mp4", **fields: str) -> httpx2.Response:
    """Submit a file."""
    return http.post("/v1/analyses", files={"file": (name, content)}, data=fields)


def rows(table: type[Any]) -> list[Any]:
    """Every row of a table."""
    with db.read() as session:
        return list(session.scalars(select(table)).unique())
