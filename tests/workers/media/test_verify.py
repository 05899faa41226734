from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.config import Limits
from core.domain import Options
from core.errors import MediaError
from core.evidence import Manifest
from tests.workers.media.conftest import SAMPLE
from workers.media.extract import extract
from workers.media.verify import read_manifest


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an honest extraction."""
    work = tmp_path_factory.mktemp("honest")
    extract(SAMPLE, work, options=Options(), limits=Limits(), require_sandbox=False)
    return work


@pytest.fixture
def work(honest: Path, tmp_path: Path) -> Path:
    """A copy of it to tamper with."""
    return Path(shutil.copytree(honest, tmp_path / "work"))


def read(work: Path) -> Manifest:
    return read_manifest(work, options=Options(), max_seconds=1800)


def refused(work: Path, **changes: Any) -> None:
    with pytest.raises(MediaError) as caught:
        read_manifest(work, **{"options": Options(), "max_seconds": 1800, **changes})
    assert caught.value.code == "decoder_crashed"


def set_at(path: str, value: Any) -> Callable[[Any], None]:
    """A change of one value, found by a dotted path, in the manifest's JSON."""

    def change(raw: Any) -> None:
        *way, last = [int(part) if part.isdigit() else part for part in path.split(".")]
        for part in way:
            raw = raw[str(part) if isinstance(raw, dict) else part]
        raw[str(last) if isinstance(raw, dict) else last] = value

    return change


LIES = {
    "a path out of the folder": set_at("crop_shards.0.file", "../../etc/passwd"),
    "another name for the sound": set_at("sound_file", "/etc/passwd"),
    "another name for a thumbnail": set_at("tracks.0.thumbnail", "../track-0.jpg"),
    "a picture of no interval": set_at("frame_thumbnails", {"99": "frame-99.jpg"}),
    "a picture of no frame": set_at("thumbnail_frames.2", 99),
    "a picture of a frame before the first": set_at("thumbnail_frames.2", -1),
    "a picture of another interval's frame": set_at("thumbnail_frames.2", 0),
    "a frame without its picture": set_at("frame_thumbnails", {}),
    "a cut before the beginning": set_at("cuts", [-0.5]),
    "a cut after the end": set_at("cuts", [99.0]),
    "cuts out of order": set_at("cuts", [3.0, 2.0]),
    "more rows than written": set_at("crop_shards.0.rows", 21),
    "fewer rows than written": set_at("crop_shards.0.rows", 19),
    "an endless duration": set_at("facts.duration", 1e300),
    "a negative duration": set_at("facts.duration", -1.0),
    "another timeline": set_at("spans.1.end", 4.5),
    "another interval length": set_at("interval_seconds", 1.0),
    "another number of frames": set_at("frames_per_interval", 25),
    "a frame of another interval": set_at("frames.0.interval", 3),
    "a frame out of the timeline": set_at("frames.0.interval", 400),
    "a frame number used twice": set_at("frames.3.n", 2),
    "time running backwards": set_at("frames.5.time", 0.3),
    "a row used twice": set_at("frames.1.faces.0.row", 0),
    "a row that is not there": set_at("frames.1.faces.0.row", 999),
    "a shard that is not there": set_at("frames.1.faces.0.shard", 7),
    "a reason beside a crop": set_at("frames.1.faces.0.reason", "blurred"),
    "neither a reason nor a crop": set_at("frames.1.faces.0.shard", None),
    "a track that is not there": set_at("frames.1.faces.0.track", 5),
    "a confidence above one": set_at("frames.1.faces.0.confidence", 1.5),
    "markup as a codec": set_at("facts.video.codec", "<script>alert(1)</script>"),
    "markup as a container": set_at("facts.container", "<img src=x>"),
    "a rotation of its own": set_at("facts.video.rotation", 45),
    "a picture without size": set_at("facts.video.width", 0),
    "sound without channels": set_at("facts.audio.channels", 0),
    "sound below nothing": set_at("facts.audio.sample_rate", -1),
    "a sound shard too short": set_at("sound_shards.0.last_interval", 2),
    "a sound shard out of the timeline": set_at("sound_shards.0.end", 100.0),
    "no sound shard": set_at("sound_shards", []),
    "a voice later than was tried": set_at("tracks.0.lips.lag_seconds", 0.3),
    "more voice than there is track": set_at("tracks.0.lips.seconds", 30.0),
    "a negative voice": set_at("tracks.0.lips.seconds", -1.0),
    "a share of its own": set_at("tracks.0.lips.null_share", 0.9),
    "a correlation above one": set_at("tracks.0.lips.correlation", 1.1),
    "an unknown field": set_at("verdict", "REAL"),
    "a huge number": set_at("frames.0.faces.0.sharpness", float("inf")),
    "a number beyond floats": set_at("frames.0.time", 10**400),
    "no number": set_at("frames.0.faces.0.brightness", float("nan")),
    "an interval in two shards": set_at("crop_shards.0.intervals", [0, 0, 1, 2, 3]),
}


def test_an_honest_manifest_is_believed(work: Path) -> None:
    manifest = read(work)

    assert len(manifest.frames) == 20
    assert manifest == Manifest.model_validate_json((work / "manifest.json").read_text())


@pytest.mark.parametrize("lie", LIES)
def test_a_manifest_that_lies_is_refused(work: Path, lie: str) -> None:
    raw = json.loads((work / "manifest.json").read_text())
    LIES[lie](raw)
    (work / "manifest.json").write_text(json.dumps(raw))

    refused(work)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000, '{"facts": 1}', "\x00"])
def test_a_manifest_that_is_none_is_refused(work: Path, text: str) -> None:
    (work / "manifest.json").write_text(text)

    refused(work)


def test_other_options_and_limits_are_noticed(work: Path) -> None:
    refused(work, options=Options(interval_seconds=3))
    refused(work, options=Options(frames_per_interval=4))
    refused(work, max_seconds=5)


@pytest.mark.parametrize("name", ["manifest.json", "crops-0.npy", "sound.wav", "track-0.jpg", "frame-2.jpg"])
@pytest.mark.parametrize("how", ["missing", "link", "hard link", "pipe", "folder", "empty", "other bytes"])
def test_a_file_that_is_not_what_it_should_be_is_refused(work: Path, name: str, how: str) -> None:
    path = work / name
    whole = path.with_suffix(".whole")
    path.rename(whole)
    if how == "link":
        path.symlink_to(whole)
    elif how == "hard link":
        os.link(whole, path)
    elif how == "pipe":
        os.mkfifo(path)
    elif how == "folder":
        path.mkdir()
    elif how == "empty":
        path.touch()
    elif how == "other bytes":
        path.write_bytes(b"#!/bin/sh\n" * 100)

    refused(work)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((20, 256, 256, 4), np.uint8),
        np.zeros((20, 256, 256, 3), np.int8),
        np.asfortranarray(np.zeros((20, 256, 256, 3), np.uint8)),
        np.array([{"a": 1}], dtype=object),
    ],
    ids=["shape", "type", "order", "pickle"],
)
def test_an_array_of_another_kind_is_refused(work: Path, array: np.ndarray[Any, Any]) -> None:
    np.save(work / "crops-0.npy", array, allow_pickle=True)

    refused(work)


def test_an_array_cut_short_is_refused(work: Path) -> None:
    path = work / "crops-0.npy"
    os.truncate(path, path.stat().st_size - 1)

    refused(work)


def test_sound_cut_short_is_refused(work: Path) -> None:
    path = work / "sound.wav"
    os.truncate(path, path.stat().st_size // 2)

    refused(work)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)


def places(raw: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) in a JSON value."""
    keys: list[Any] = []
    if isinstance(raw, dict):
        keys = list(raw)
    elif isinstance(raw, list):
        keys = list(range(len(raw)))
    found = [(raw, key) for key in keys]
    for key in keys:
        found += places(raw[key])
    return found


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(data=st.data())
def test_whatever_the_child_writes_is_a_manifest_or_a_crash(
    work: Path, honest: Path, data: st.DataObject
) -> None:
    """One value anywhere replaced by any other: never another exception, never a number out of bounds."""
    raw = json.loads((honest / "manifest.json").read_text())
    found = places(raw)
    container, key = found[data.draw(st.integers(0, len(found) - 1))]
    container[key] = data.draw(JSON)
    (work / "manifest.json").write_text(json.dumps(raw))

    try:
        manifest = read(work)
    except MediaError as error:
        code: str | None = error.code
        assert code == "decoder_crashed"
    else:
        assert 0 < manifest.facts.duration <= 1800
        assert all(0 <= frame.time <= 8.01 for frame in manifest.frames)
