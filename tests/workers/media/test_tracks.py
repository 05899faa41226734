from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from core.evidence import CROP_SIDE
from tests.workers.media.conftest import SAMPLE, Clip, Extracted, shared
from workers.media.faces import Detection
from workers.media.shards import MAX_ROWS, ShardWriter
from workers.media.tracks import MAX_GAP_SECONDS, Looks, Tracker, looks_of


def person(seed: int) -> Looks:
    """Somebody's looks, unlike anybody else's."""
    patch = np.random.default_rng(seed).normal(size=144).astype(np.float32)
    patch -= patch.mean()
    return np.asarray(patch / np.linalg.norm(patch), np.float32)


def at(x: float, y: float = 100, size: float = 80) -> Detection:
    """A face at a place."""
    points = tuple((x + dx, y + dy) for dx, dy in ((20, 30), (60, 30), (40, 50), (25, 65), (55, 65)))
    return Detection(box=(x, y, size, size), confidence=0.9, landmarks=points)  # type: ignore[arg-type]


def ids(tracker: Tracker, time: float, faces: list[Detection], looks: list[Looks]) -> list[int]:
    return [track.id for track in tracker.assign(time, faces, looks)]


def test_a_face_that_moves_a_little_stays_the_same() -> None:
    tracker = Tracker()

    found = [ids(tracker, n * 0.4, [at(100 + 30 * n)], [person(1)]) for n in range(10)]

    assert found == [[0]] * 10
    tracker.end_all()
    (track,) = tracker.ended
    assert (track.start, track.frames) == (0.0, 10)
    assert track.end == pytest.approx(3.6)


def test_two_people_keep_their_ids_in_whatever_order_they_are_found() -> None:
    tracker = Tracker()

    assert ids(tracker, 0.0, [at(100), at(400)], [person(1), person(2)]) == [0, 1]
    assert ids(tracker, 0.4, [at(405), at(98)], [person(2), person(1)]) == [1, 0]


def test_people_who_cross_are_told_apart_by_their_looks() -> None:
    tracker = Tracker()
    ids(tracker, 0.0, [at(100), at(160)], [person(1), person(2)])

    assert ids(tracker, 0.4, [at(130), at(131)], [person(2), person(1)]) == [1, 0]


def test_another_face_in_the_same_place_is_another_track() -> None:
    tracker = Tracker()
    ids(tracker, 0.0, [at(100)], [person(1)])

    assert ids(tracker, 0.4, [at(100)], [person(2)]) == [1]


@pytest.mark.parametrize(
    "face", [at(100 + 3 * 80), at(100, size=200)], ids=["across the picture", "suddenly huge"]
)
def test_a_jump_is_another_track(face: Detection) -> None:
    tracker = Tracker()
    ids(tracker, 0.0, [at(100)], [person(1)])

    assert ids(tracker, 0.4, [face], [person(1)]) == [1]


def test_a_gap_is_tolerated_and_a_long_one_is_not() -> None:
    tracker = Tracker()
    ids(tracker, 0.0, [at(100)], [person(1)])
    ids(tracker, 0.4, [], [])

    assert ids(tracker, MAX_GAP_SECONDS, [at(110)], [person(1)]) == [0]
    assert ids(tracker, 2.1 * MAX_GAP_SECONDS, [at(110)], [person(1)]) == [1]


def test_a_scene_cut_ends_every_track() -> None:
    tracker = Tracker()
    scene = np.full((90, 160, 3), 60, np.uint8)
    tracker.see(scene)
    ids(tracker, 0.0, [at(100)], [person(1)])
    tracker.see(scene + 5)
    assert ids(tracker, 0.4, [at(100)], [person(1)]) == [0]
    tracker.see(scene + 100)

    assert ids(tracker, 0.8, [at(100)], [person(1)]) == [1]


def test_light_does_not_change_the_looks() -> None:
    crop = np.random.default_rng(3).integers(0, 100, (CROP_SIDE, CROP_SIDE, 3), dtype=np.uint8)

    assert float(looks_of(crop) @ looks_of(crop * 2 + 30)) > 0.95
    assert np.isfinite(looks_of(np.zeros_like(crop))).all()


def test_hard_cuts_between_talkers_end_their_tracks(extracted: Extracted) -> None:
    manifest, _ = extracted(shared("real_five_talkers_cuts.mp4"))

    assert [round(track.start / 3) for track in manifest.tracks] == [0, 1, 2, 3, 4]
    assert all(track.end - track.start < 3 for track in manifest.tracks)


def test_one_person_is_one_track(extracted: Extracted) -> None:
    manifest, work = extracted(SAMPLE)

    (track,) = manifest.tracks
    assert (track.id, track.frames, track.thumbnail) == (0, 20, "track-0.jpg")
    assert (work / "track-0.jpg").read_bytes()[:3] == b"\xff\xd8\xff"


def test_twenty_faces_are_twenty_tracks(clip: Clip, extracted: Extracted) -> None:
    tiles = "crop=320:320:180:20,scale=256:256,tile=5x4:nb_frames=20"
    still = clip("twenty.png", "-i", SAMPLE, "-vf", tiles, "-frames:v", "1")
    path = clip("twenty.mp4", "-loop", "1", "-i", still, "-t", "2", "-r", "10", "-pix_fmt", "yuv420p")

    manifest, work = extracted(path)

    assert [len(frame.faces) for frame in manifest.frames] == [20] * 5
    assert [track.frames for track in manifest.tracks] == [5] * 20
    assert [(shard.rows, shard.intervals) for shard in manifest.crop_shards] == [(100, (0,))]
    assert np.load(work / "crops-0.npy").shape == (100, CROP_SIDE, CROP_SIDE, 3)
    limited, _ = extracted(path, max_faces_per_frame=3)
    assert [len(frame.faces) for frame in limited.frames] == [3] * 5


@given(st.lists(st.integers(0, 40), max_size=40))
def test_shards_hold_whole_intervals_and_every_crop_once(
    tmp_path_factory: pytest.TempPathFactory, counts: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("shards")
    writer = ShardWriter(folder)
    places: list[tuple[int, int, int, int]] = []
    for interval, count in enumerate(counts):
        for n in range(count):
            mark = (interval * 40 + n) % 251
            shard, row = writer.add(_crop(mark), interval=interval, expected=40)
            places.append((interval, shard, row, mark))
    writer.close()

    arrays = [np.load(folder / shard.file, mmap_mode="r") for shard in writer.shards]
    assert len(list(folder.iterdir())) == len(writer.shards)
    assert all(len(array) == shard.rows for array, shard in zip(arrays, writer.shards, strict=True))
    assert all(int(arrays[shard][row, 5, 7, 1]) == mark for _, shard, row, mark in places)
    assert all(interval in writer.shards[shard].intervals for interval, shard, _, _ in places)
    listed = [n for shard in writer.shards for n in shard.intervals]
    assert listed == [n for n, count in enumerate(counts) if count]
    assert all(shard.rows <= MAX_ROWS for shard in writer.shards)
    for path in folder.iterdir():
        path.unlink()


def _crop(mark: int) -> NDArray[np.uint8]:
    return np.full((CROP_SIDE, CROP_SIDE, 3), mark, np.uint8)


def test_an_interval_larger_than_a_shard_has_a_file_of_its_own(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path)
    for interval, count in ((0, 2), (1, 300), (2, 2)):
        for _ in range(count):
            writer.add(_crop(interval), interval=interval, expected=300)
    writer.close()

    assert [(shard.rows, shard.intervals) for shard in writer.shards] == [(2, (0,)), (300, (1,)), (2, (2,))]
