"""The pictures of an analysis: what they are, who may see them, and how it is said that one is gone."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event, Semaphore
from uuid import UUID, uuid4

import cv2
import httpx2
import numpy as np
import pytest
from sqlalchemy import func, update

from api import pictures
from core import analyses, db
from core.errors import StorageError
from core.models import Analysis, Track
from core.storage import storage
from tests.api import exhibits
from tests.api.conftest import send

PICTURES = [
    "tracks/0.jpg",
    "frames/2.jpg",
    "intervals/2/faces/0.jpg",
    "intervals/2/heatmaps/0.jpg",
    "spectrogram.png",
]
NEVER_MADE = ["tracks/1.jpg", "tracks/9.jpg", "frames/99.jpg", "intervals/0/faces/0.jpg"]
NEVER_MADE += ["intervals/2/faces/1.jpg", "intervals/2/heatmaps/1.jpg", "intervals/99/heatmaps/0.jpg"]
ODD = ["frames/-1.jpg", "frames/2147483648.jpg", "tracks/x.jpg", "intervals/2/faces/1e3.jpg"]


@pytest.fixture
def shown(http: httpx2.Client) -> Iterator[str]:
    """Path of an analysis with every picture there can be."""
    identity = str(send(http, uuid4().bytes).json()["id"])
    exhibits.exhibit(identity)
    yield f"/v1/analyses/{identity}"
    storage().delete_prefix(analyses.folder(UUID(identity)))


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_is_a_picture(http: httpx2.Client, shown: str, name: str) -> None:
    answer = http.get(f"{shown}/{name}")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == ("image/png" if name.endswith("png") else "image/jpeg")
    assert answer.headers["cache-control"] == "private, max-age=300"
    assert answer.headers["vary"] == "Authorization"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_COLOR) is not None


@pytest.mark.parametrize("name", NEVER_MADE)
def test_what_was_never_made_is_not_found(http: httpx2.Client, shown: str, name: str) -> None:
    answer = http.get(f"{shown}/{name}")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize("name", ODD)
def test_odd_numbers_are_refused(http: httpx2.Client, shown: str, name: str) -> None:
    assert http.get(f"{shown}/{name}").status_code == 422


@pytest.mark.parametrize("name", PICTURES)
def test_what_retention_erased_is_gone_and_says_so(http: httpx2.Client, shown: str, name: str) -> None:
    """First the object, and a moment later the row says so too."""
    identity = UUID(shown.rpartition("/")[2])
    storage().delete_prefix(analyses.folder(identity))
    first = http.get(f"{shown}/{name}")
    with db.transaction() as session:
        session.execute(
            update(Analysis).where(Analysis.id == identity).values(media_erased_at=func.now(), artifacts={})
        )
        session.execute(update(Track).where(Track.analysis_id == identity).values(thumbnail_key=None))
    second = http.get(f"{shown}/{name}")
    assert {(answer.status_code, answer.json()["code"]) for answer in (first, second)} == {
        (410, "picture_erased")
    }


def test_an_object_that_is_no_picture_is_not_served(http: httpx2.Client, shown: str) -> None:
    exhibits.put(exhibits.key_of(shown.rpartition("/")[2], "still-2"), b"<html><script>alert(1)</script>")
    answer = http.get(f"{shown}/frames/2.jpg")
    assert (answer.status_code, answer.json()["code"]) == (503, "storage_unavailable")
    assert "script" not in answer.text


def test_a_storage_that_hangs_holds_up_pictures_and_nothing_else(
    http: httpx2.Client, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, answers = Semaphore(0), Event()

    def hang(_key: str) -> bytes:
        asked.release()
        answers.wait()
        raise StorageError

    monkeypatch.setattr(pictures, "_read", hang)
    crowd = 45  # more than the threads that serve everything else
    with ThreadPoolExecutor(crowd) as pool:
        try:
            waiting = [
                pool.submit(
                    httpx2.get, f"{http.base_url}{shown}/frames/2.jpg", headers=http.headers, timeout=30
                )
                for _ in range(crowd)
            ]
            for _ in range(pictures.PICTURE_THREADS):
                assert asked.acquire(timeout=30)
            assert http.get(shown).status_code == 200
        finally:
            answers.set()
        assert {one.result().status_code for one in waiting} == {503}


def test_tracks_are_listed_with_scores_lips_and_where_to_look(http: httpx2.Client, shown: str) -> None:
    first, second = http.get(f"{shown}/tracks").json()["items"]
    assert (first["id"], first["score"], first["lips"]["correlation"]) == (0, 0.61, 0.41)
    assert http.get(first["links"]["thumbnail"]).status_code == 200
    assert (second["lips"], second["links"]["thumbnail"]) == (None, None)


def test_every_link_of_an_interval_leads_to_a_picture_until_they_are_erased(
    http: httpx2.Client, shown: str
) -> None:
    rows = http.get(f"{shown}/intervals").json()["items"]
    (looked,) = rows[2]["video"]["pictures"]
    for link in (rows[2]["still"], looked["face"], looked["heatmap"]):
        assert http.get(link).headers["content-type"] == "image/jpeg"
    assert "crop" not in looked, "an object key is our own affair"
    with db.transaction() as session:
        session.execute(update(Analysis).values(media_erased_at=func.now()))
    row = http.get(f"{shown}/intervals").json()["items"][2]
    assert row["still"] is None
    assert {row["video"]["pictures"][0][name] for name in ("face", "heatmap")} == {None}
    assert {track["links"]["thumbnail"] for track in http.get(f"{shown}/tracks").json()["items"]} == {None}
