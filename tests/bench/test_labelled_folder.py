"""The folder to try `evaluate` on, made of a few of the shared people."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest

from bench import labelled_folder
from evaluation.manifest import read
from workers.media.formats import open_input

SHARED = Path(os.environ.get("DEEPDEFEND_SHARED", Path(__file__).resolve().parents[3] / "shared")) / "data"


def frames(path: Path) -> list[np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]:
    with open_input(str(path)) as container:
        return [np.asarray(frame.to_ndarray(format="rgb24"), np.uint8) for frame in container.decode(video=0)]


def test_real_and_altered_differ_in_the_face_alone(tmp_path: Path) -> None:
    if not (SHARED / "london").is_dir():
        pytest.skip(f"the shared faces are not here: {SHARED}")
    for kind in ("london", "grid"):
        (tmp_path / kind).mkdir()
    for path in sorted((SHARED / "london").glob("*_neutral.*"))[:12]:
        shutil.copy(path, tmp_path / "london")
    for path in sorted((SHARED / "grid").glob("*.mpg"))[:2]:
        command = [
            imageio_ffmpeg.get_ffmpeg_exe(),
            "-v",
            "error",
            "-nostdin",
            "-i",
            str(path),
            "-frames:v",
            "4",
        ]
        subprocess.run([*command, "-q:v", "2", str(tmp_path / "grid" / path.name)], check=True, timeout=60)
    out = tmp_path / "out"
    assert (
        labelled_folder.main(
            ["--faces", str(tmp_path / "london"), "--clips", str(tmp_path / "grid"), "--out", str(out)]
        )
        == 0
    )
    entries = read(out / "labels.csv")
    assert len(entries) == 6, "of six portraits and two talkers, two people and one are held out"
    assert [one.label.value for one in entries] == ["real", "fake"] * 3
    assert len({one.group for one in entries}) == 3
    assert {one.group for one in read(out / "kinds.csv")} >= {"portrait", "talker", "self-blended talker"}
    for real, fake in zip(entries[::2], entries[1::2], strict=True):
        before, after = frames(real.path), frames(fake.path)
        assert len(before) == len(after)
        change = np.abs(before[0].astype(int) - after[0].astype(int)).mean(axis=2)
        assert (change > 12).mean() > 0.005, "something was altered"
        corner = change[: change.shape[0] // 10, : change.shape[1] // 10]
        assert corner.mean() < 3, "and the background was not"
