from __future__ import annotations

import json
import multiprocessing
import os
import resource
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from core.config import Limits
from core.domain import Options, timeline
from core.evidence import Manifest
from tests.workers.media.conftest import SAMPLE, Clip, shared
from tests.workers.media.test_picture import JOB
from workers.media import child, confine, gather, job, sandbox
from workers.media.extract import extract
from workers.media.gather import Gatherer
from workers.media.picture import Sampled
from workers.media.plan import Due


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The child's private folder as the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_good_file_leaves_its_manifest(here: Path) -> None:
    assert child.main(JOB.to_json(), str(SAMPLE)) == 0

    manifest = Manifest.model_validate_json((here / child.MANIFEST).read_text())
    named = {shard.file for shard in manifest.crop_shards} | set(manifest.frame_thumbnails.values())
    named |= {track.thumbnail or "" for track in manifest.tracks} | {manifest.sound_file or ""}
    assert named | {child.MANIFEST} == {path.name for path in here.iterdir()}


def test_two_runs_give_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads may finish in any order; what they found may not depend on it."""
    runs = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        assert child.main(JOB.to_json(), str(SAMPLE)) == 0
        runs.append({path.name: path.read_bytes() for path in Path.cwd().iterdir()})

    assert runs[0] == runs[1]


def test_a_bad_file_leaves_its_reason_on_the_last_line(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = child.main(JOB.to_json(), str(shared("bad_truncated_no_moov.mp4")))

    assert status == child.REFUSED
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["code"] == "undecodable_media"
    assert list(here.iterdir()) == []


@pytest.mark.parametrize("error", [MemoryError(), cv2.error()])
def test_want_of_memory_is_said(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    if isinstance(error, cv2.error):
        error.code = cv2.Error.StsNoMem

    def starve(*_: Any) -> None:
        raise error

    monkeypatch.setattr(child, "decode", starve)

    assert child.main(JOB.to_json(), str(here)) == child.REFUSED
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["code"] == child.OUT_OF_MEMORY


def test_any_other_failure_is_a_crash(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        error = cv2.error("assertion")
        error.code = cv2.Error.StsAssert
        raise error

    monkeypatch.setattr(child, "decode", fail)

    with pytest.raises(cv2.error):
        child.main(JOB.to_json(), str(here))


def test_the_child_imports_no_more_than_it_needs() -> None:
    heavy = (
        "torch",
        "celery",
        "sqlalchemy",
        "boto3",
        "transformers",
        "librosa",
        "scipy",
        "pydantic_settings",
    )
    code = f"import workers.media.child, sys; print([m for m in {heavy!r} if m in sys.modules])"

    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(sandbox.ROOT), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.strip() == "[]"


LAUNCHER = [sys.executable, "-s", "-S", "-m", confine.__name__]


def confined(code: str, **limits: int) -> subprocess.CompletedProcess[str]:
    """A program behind the launcher, as the rlimits level starts it."""
    orders = json.dumps({"limits": limits, "parent": os.getpid(), "filter": True, "writable": None})
    command = [*LAUNCHER, orders, sys.executable, "-I", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=sandbox.ROOT)


def test_limits_hold_in_what_the_launcher_becomes() -> None:
    code = "import resource as r; print(r.getrlimit(r.RLIMIT_NOFILE), r.getrlimit(r.RLIMIT_CPU))"

    assert confined(code, RLIMIT_NOFILE=50, RLIMIT_CPU=7).stdout.strip() == "(50, 50) (7, 9)"


def test_a_limit_is_never_raised() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    code = "import resource as r; print(r.getrlimit(r.RLIMIT_NOFILE)[1])"

    assert confined(code, RLIMIT_NOFILE=hard + 1_000_000).stdout.strip() == str(hard)


def test_a_launcher_whose_parent_is_gone_does_not_start() -> None:
    orders = json.dumps({"limits": {}, "parent": 1})
    command = [*LAUNCHER, orders, sys.executable, "-c", "print('ran')"]

    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=sandbox.ROOT)

    assert (done.returncode, done.stdout) == (1, "")


class Still:
    """A frame that needs no decoder: what `upright` asks of a VideoFrame."""

    def __init__(self, picture: np.ndarray[Any, Any]) -> None:
        self._picture = picture

    def reformat(self, **_: Any) -> Still:
        return self

    def to_ndarray(self) -> np.ndarray[Any, Any]:
        return self._picture


def gathered(folder: Path, times: list[float], *, max_faces: int = 20, corrupt: bool = False) -> Gatherer:
    """The portrait of the sample shown at each of these times of a 4-second clip."""
    with av.open(str(SAMPLE)) as container:
        portrait = next(container.decode(video=0)).to_ndarray(format="rgb24")
    dues = [Due(n, time, int(time // 2)) for n, time in enumerate(times)]
    gatherer = Gatherer(folder, timeline(4, 2), dues, max_faces=max_faces, pixels=640 * 360)
    for due in dues:
        picture = np.full_like(portrait, 40) if due.time < 0.5 else portrait
        frame: Any = Still(picture)
        gatherer.offer(Sampled(due, due.time, frame, corrupt), 0)
    gatherer.finish()
    return gatherer


def test_frames_come_out_in_order_with_the_crops_of_their_interval(tmp_path: Path) -> None:
    gatherer = gathered(tmp_path, [0.2, 0.6, 1.4, 2.2, 3.0])

    assert [(frame.n, frame.interval, frame.time) for frame in gatherer.frames] == [
        (0, 0, 0.2), (1, 0, 0.6), (2, 0, 1.4), (3, 1, 2.2), (4, 1, 3.0),
    ]  # fmt: skip
    assert [len(frame.faces) for frame in gatherer.frames] == [0, 1, 1, 1, 1]
    assert [(face.shard, face.row) for frame in gatherer.frames for face in frame.faces] == [
        (0, 0), (0, 1), (0, 2), (0, 3),
    ]  # fmt: skip
    assert [shard.intervals for shard in gatherer.shards] == [(0, 1)]


def test_the_picture_of_an_interval_is_the_frame_nearest_its_middle(tmp_path: Path) -> None:
    gatherer = gathered(tmp_path, [0.2, 1.1, 1.9, 2.2])

    assert gatherer.stills == {0: "frame-0.jpg", 1: "frame-1.jpg"}
    first = cv2.imread(str(tmp_path / "frame-0.jpg"))
    assert first is not None
    assert first.std() > 20  # the portrait at 1.1 s, not the flat grey of 0.2 s


def test_damaged_frames_give_no_crop_but_keep_their_faces(tmp_path: Path) -> None:
    gatherer = gathered(tmp_path, [0.6, 1.4], corrupt=True)

    assert {str(face.reason) for frame in gatherer.frames for face in frame.faces} == {"decode_error"}
    assert gatherer.shards == []
    assert (tmp_path / "track-0.jpg").exists()


def test_the_budget_of_faces_is_shared_by_all_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert job.FACE_BUDGET // (30 * 60 * 5 // 2) == 10  # half an hour with the default options
    monkeypatch.setattr(gather, "FACE_BUDGET", 1)

    gatherer = gathered(tmp_path, [0.6, 1.4, 2.2])

    assert [len(frame.faces) for frame in gatherer.frames] == [1, 1, 1]


def test_nothing_seen_is_nothing_written(tmp_path: Path) -> None:
    gatherer = gathered(tmp_path, [])

    assert (gatherer.frames, gatherer.tracks, gatherer.shards, gatherer.stills) == ([], [], [], {})
    assert list(tmp_path.iterdir()) == []


def peak_memory(source: Path, folder: Path) -> int:
    """Bytes at its highest of a process that decodes `source` as the child does."""
    folder.mkdir()
    code = """
import resource, sys
from workers.media import child
assert child.main(sys.argv[1], sys.argv[2]) == 0
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, JOB.to_json(), str(source)],
        cwd=folder,
        env=sandbox.environment(str(source)),
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout.splitlines()[-1])


def test_memory_is_flat_in_the_length_of_the_clip(tmp_path: Path, clip: Clip) -> None:
    short = clip("hd.mp4", "-i", SAMPLE, "-vf", "scale=1280:720", "-preset", "ultrafast")
    long = clip("hd-long.mp4", "-stream_loop", "5", "-i", short, "-c", "copy")

    grown = peak_memory(long, tmp_path / "long") - peak_memory(short, tmp_path / "short")

    # The crops alone of the 40 seconds more are 20 MB, the frames that were sampled 276 MB.
    assert grown < 16 << 20


def in_a_worker(source: str, folder: str) -> int:
    """What a spawned pool process does: extract, and say how many frames there were."""
    work = Path(folder)
    work.mkdir()
    manifest = extract(Path(source), work, options=Options(), limits=Limits(), require_sandbox=False)
    return len(manifest.frames)


def test_extraction_runs_in_several_spawned_processes_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        counts = list(pool.map(in_a_worker, [str(SAMPLE)] * 3, [str(tmp_path / str(n)) for n in range(3)]))

    assert counts == [20, 20, 20]
