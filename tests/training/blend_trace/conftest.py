"""Faces to try the training on: the bundled portrait, recoloured into several people, and a drawn one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from training.blend_trace.faces import Group, Portrait, cut_out, find, gather
from workers.media.faces import Detection, FaceDetector

ROOT = Path(__file__).resolve().parents[3]
SAMPLE = ROOT / "samples" / "pkg_face_photo_real_speech.mp4"


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """On a busy machine torch's threads wait for each other longer than these small tensors take."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def still() -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """One frame of the sample clip, H x W x 3, RGB."""
    reader = cv2.VideoCapture(str(SAMPLE))
    read, bgr = reader.read()
    reader.release()
    assert read
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)


@pytest.fixture(scope="session")
def portrait(still: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> Portrait:
    """The face of the sample clip, with 189 points drawn around its middle."""
    face = find(still, FaceDetector())
    assert face is not None
    left, top, width, height = face.box
    rng = np.random.default_rng(5)
    turns = rng.uniform(0, 2 * np.pi, 189)
    reach = rng.uniform(0.2, 0.5, 189)
    x = left + width / 2 + width * reach * np.cos(turns)
    y = top + height / 2 + height * reach * np.sin(turns)
    return cut_out(still, face, "sample", Group.PORTRAIT, np.column_stack([x, y]))


@pytest.fixture
def drawn() -> Portrait:
    """A flat grey picture that says it holds an upright face, eyes 40 pixels apart."""
    face = Detection(
        box=(60.0, 50.0, 88.0, 120.0),
        confidence=1.0,
        landmarks=((84.0, 95.0), (124.0, 95.0), (104.0, 118.0), (88.0, 139.0), (120.0, 139.0)),
    )
    return Portrait("drawn", Group.PORTRAIT, np.full((220, 208, 3), 128, np.uint8), face, None)


@pytest.fixture(scope="session")
def people(
    tmp_path_factory: pytest.TempPathFactory, still: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]
) -> Path:
    """A folder of eight people: the same portrait in eight colours, each with 189 points."""
    folder = tmp_path_factory.mktemp("people")
    still = np.asarray(cv2.resize(still, None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA), np.uint8)
    face = find(still, FaceDetector())
    assert face is not None
    left, top, width, height = face.box
    rng = np.random.default_rng(6)
    spots = rng.uniform(0.1, 0.9, (189, 2)) * (width, height) + (left, top)
    for n in range(8):
        tinted = np.clip(still * rng.uniform(0.8, 1.1, 3), 0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / f"{n:03}_neutral.jpg"), tinted[..., ::-1])
        moved = spots + rng.uniform(-2, 2, spots.shape)
        np.savetxt(
            folder / f"{n:03}_neutral.landmarks.csv", moved, "%.1f", delimiter=",", header="x,y", comments=""
        )
    return folder


@pytest.fixture(scope="session")
def gathered(people: Path) -> list[Portrait]:
    """The faces of those eight."""
    return gather(people, None)
