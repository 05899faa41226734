from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.training.blend_trace.conftest import SAMPLE
from training.blend_trace.faces import Group, Part, Portrait, find, gather, moved, split
from workers.media.crops import align
from workers.media.faces import FaceDetector


def many(portrait: Portrait, count: int, group: Group) -> list[Portrait]:
    names = [f"{group.value}-{n}" for n in range(count)]
    return [Portrait(name, group, portrait.picture, portrait.face, None) for name in names for _ in range(2)]


@pytest.mark.parametrize("seed", range(5))
def test_no_person_is_in_two_parts(portrait: Portrait, seed: int) -> None:
    faces = many(portrait, 20, Group.PORTRAIT) + many(portrait, 7, Group.TALKER)
    parts = split(faces, seed)
    people = [{one.person for one in parts[part]} for part in Part]
    assert sum(map(len, people)) == len(set.union(*people)) == 27
    assert sum(len(parts[part]) for part in Part) == len(faces)


def test_every_part_has_people_of_every_group(portrait: Portrait) -> None:
    parts = split(many(portrait, 20, Group.PORTRAIT) + many(portrait, 7, Group.TALKER), 7)
    for part in Part:
        assert {one.group for one in parts[part]} == set(Group)
    tested = {one.person for one in parts[Part.TEST] if one.group is Group.TALKER}
    assert len(tested) == 3


def test_the_split_is_that_of_the_seed_whatever_the_order(portrait: Portrait) -> None:
    faces = many(portrait, 20, Group.PORTRAIT)
    there, back = split(faces, 3), split(faces[::-1], 3)
    for part in Part:
        assert {one.person for one in there[part]} == {one.person for one in back[part]}
    assert {one.person for one in split(faces, 4)[Part.TEST]} != {one.person for one in there[Part.TEST]}


def test_a_cut_out_face_gives_the_crop_of_the_whole_frame(
    portrait: Portrait, still: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]
) -> None:
    whole = find(still, FaceDetector())
    assert whole is not None
    assert np.abs(align(still, whole).astype(int) - portrait.crop()).mean() < 1


def test_scaling_takes_the_landmarks_along(portrait: Portrait) -> None:
    half = portrait.scaled(portrait.box / 2)
    assert half.box == pytest.approx(portrait.box / 2, rel=0.02)
    assert half.points is not None
    assert portrait.points is not None
    assert half.points == pytest.approx(portrait.points / 2, rel=0.02, abs=1)
    assert half.face.landmarks[0][0] == pytest.approx(portrait.face.landmarks[0][0] / 2, rel=0.02)
    assert portrait.scaled(portrait.box) is portrait


def test_a_moved_face_keeps_its_order_of_landmarks(portrait: Portrait) -> None:
    again = moved(moved(portrait.face, (3, 4), (1, 1)), (-3, -4), (1, 1))
    assert np.allclose(again.landmarks, portrait.face.landmarks)
    assert again.box == pytest.approx(portrait.face.box)


def test_people_are_read_from_pictures_and_clips(people: Path, tmp_path: Path) -> None:
    (tmp_path / "someone.mp4").symlink_to(SAMPLE)
    (tmp_path / "notes.txt").write_text("not a clip")
    (people / "broken_neutral.jpg").write_bytes(b"no picture")
    try:
        faces = gather(people, tmp_path)
    finally:
        (people / "broken_neutral.jpg").unlink()
    portraits = [one for one in faces if one.group is Group.PORTRAIT]
    assert {one.person for one in portraits} == {f"{n:03}" for n in range(8)}
    assert all(one.points is not None for one in portraits)
    assert {one.person for one in faces if one.group is Group.TALKER} == {"someone"}


def test_a_folder_without_a_face_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no face"):
        gather(tmp_path, None)


def test_points_of_another_template_are_refused(people: Path, tmp_path: Path) -> None:
    picture = people / "000_neutral.jpg"
    (tmp_path / "a_neutral.jpg").write_bytes(picture.read_bytes())
    (tmp_path / "a_neutral.landmarks.csv").write_text("x,y\n1,2\n3,4\n")
    with pytest.raises(ValueError, match="189"):
        gather(tmp_path, None)
