from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from core.evidence import CROP_SIDE
from tests.workers.media.conftest import SAMPLE, Clip, Extracted, shared
from workers.media.faces import Detection
from workers.media.shards import MAX_ROWS, ShardWriter
from workers.media.tracks import CUT_DIFFERENCE, MAX_GAP_SECONDS, Looks, Tracker, looks_of


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


def scene(seed: int, width: int = 320) -> NDArray[np.uint8]:
    """A picture of soft shapes, 180 pixels high."""
    coarse = np.random.default_rng(seed).integers(20, 190, (9, width // 20), dtype=np.uint8)
    grey = cv2.resize(coarse, (width, 180), interpolation=cv2.INTER_CUBIC)
    return np.asarray(cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB), np.uint8)


def after(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> tuple[Tracker, list[int]]:
    """The tracker after a face was seen in the first picture, and the ids of the same face in the second."""
    tracker = Tracker()
    tracker.see(first, 0.0)
    ids(tracker, 0.0, [at(100)], [person(1)])
    tracker.see(second, 0.4)
    return tracker, ids(tracker, 0.4, [at(100)], [person(1)])


def test_a_scene_cut_ends_every_track_and_its_time_is_kept() -> None:
    tracker, found = after(scene(1), scene(2))

    assert found == [1]
    assert tracker.cuts == [0.4]
    assert [(track.id, track.end) for track in tracker.ended] == [(0, 0.0)]


@pytest.mark.parametrize(
    "second",
    [scene(1) // 2, np.minimum(scene(1), 200) + np.uint8(40), np.roll(scene(1), 5, axis=0)],
    ids=["lights dimmed", "lights up", "a nudge"],
)
def test_light_and_a_nudge_are_no_cut(second: NDArray[np.uint8]) -> None:
    tracker, found = after(scene(1), second)

    assert (found, tracker.cuts) == ([0], [])


def test_a_camera_that_pans_is_no_cut() -> None:
    wide = scene(1, width=480)
    first, second = wide[:, :320], wide[:, 50:370]
    assert np.abs(first.astype(float) - second).mean() > CUT_DIFFERENCE  # or it would show nothing

    tracker, found = after(first, second)

    assert (found, tracker.cuts) == ([0], [])


def test_black_before_a_picture_is_a_cut() -> None:
    tracker, found = after(np.zeros_like(scene(1)), scene(1))

    assert (found, tracker.cuts) == ([1], [0.4])


def test_light_does_not_change_the_looks() -> None:
    crop = np.random.default_rng(3).integers(0, 100, (CROP_SIDE, CROP_SIDE, 3), dtype=np.uint8)

    assert float(looks_of(crop) @ looks_of(crop * 2 + 30)) > 0.95
    assert np.isfinite(looks_of(np.zeros_like(crop))).all()


def test_hard_cuts_between_talkers_end_their_tracks(extracted: Extracted) -> None:
    manifest, _ = extracted(shared("real_five_talkers_cuts.mp4"))

    assert [round(track.start / 3) for track in manifest.tracks] == [0, 1, 2, 3, 4]
    assert all(track.end - track.start < 3 for track in manifest.tracks)
    assert [round(time / 3) for time in manifest.cuts] == [1, 2, 3, 4]


def test_a_talker_before_a_panning_camera_is_one_track(clip: Clip, extracted: Extracted) -> None:
    pan = "crop=440:400:x='80+70*sin(2*PI*t/2.9)':y=60"
    source = shared("real_five_talkers_cuts.mp4")
    manifest, _ = extracted(clip("pan.mp4", "-t", "2.9", "-i", source, "-an", "-vf", pan))

    assert [track.frames for track in manifest.tracks] == [10]
    assert manifest.cuts == ()


def test_the_still_of_an_interval_is_the_frame_nearest_to_its_middle(extracted: Extracted) -> None:
    manifest, work = extracted(SAMPLE)

    assert manifest.thumbnail_frames == {0: 2, 1: 7, 2: 12, 3: 17}
    assert manifest.frame_thumbnails == {n: f"frame-{n}.jpg" for n in range(4)}
    assert all((work / name).exists() for name in manifest.frame_thumbnails.values())


def test_the_thumbnail_of_a_track_is_its_sharpest_face(clip: Clip, extracted: Extracted) -> None:
    blur = "gblur=sigma=3:enable='not(between(t,0.85,1.15))'"
    manifest, work = extracted(clip("focus.mp4", "-t", "2", "-i", SAMPLE, "-an", "-r", "10", "-vf", blur))

    (track,) = manifest.tracks
    (sharpest,) = [face for frame in manifest.frames for face in frame.faces if 0.9 <= frame.time <= 1.1]
    assert sharpest.sharpness > 2 * sorted(f.faces[0].sharpness for f in manifest.frames)[-2]
    thumbnail = cv2.cvtColor(np.asarray(cv2.imread(str(work / str(track.thumbnail)))), cv2.COLOR_BGR2RGB)
    crop = np.load(work / "crops-0.npy")[sharpest.row]
    assert np.abs(thumbnail.astype(float) - crop).mean() < 4  # JPEG


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
