"""Real files through the real pipeline: what is kept, what is measured again, and what a bad file costs."""

from __future__ import annotations

import subprocess
from pathlib import Path

import imageio_ffmpeg
import pytest

from core.config import Limits, ModelSettings
from core.domain import Options, Variant
from evaluation import calibrating, run
from evaluation.cache import Cache
from evaluation.manifest import Entry, read
from evaluation.measured import Measured
from evaluation.panel import Panel, Setup, Subject, open_panel
from tests.checkpoints import make_audio_checkpoint, make_image_checkpoint

SAMPLE = Path(__file__).resolve().parents[2] / "samples" / "pkg_face_photo_real_speech.mp4"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Entry, ...]:
    """A second of a face with a voice, a sound without a voice, and a text that calls itself a film."""
    folder = tmp_path_factory.mktemp("labelled")
    for name, arguments in {
        "face.mp4": ("-ss", "1", "-i", str(SAMPLE), "-t", "1.2"),
        "tone.wav": ("-f", "lavfi", "-i", "sine=duration=1"),
    }.items():
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-nostdin", *arguments]
        subprocess.run([*command, str(folder / name)], check=True, timeout=120)
    (folder / "text.mp4").write_text("this is no film")
    (folder / "labels.csv").write_text("path,label,group\nface.mp4,real,a\ntone.wav,fake,\ntext.mp4,fake,\n")
    return read(folder / "labels.csv")


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Panel:
    folder = tmp_path_factory.mktemp("checkpoints")
    models = ModelSettings(
        video=str(make_image_checkpoint(folder / "video")),
        audio=str(make_audio_checkpoint(folder / "audio")),
        device="cpu",
    )
    wanted = frozenset({Subject.VIDEO, Subject.AUDIO})
    return open_panel(
        Setup(models=models, limits=Limits(), options=Options(), wanted=wanted, raw=True, allow_test=True)
    )


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("out")


@pytest.fixture(scope="module")
def measured(files: tuple[Entry, ...], opened: Panel, out: Path) -> dict[str, Measured]:
    return run.run(files, opened, out)


def test_every_file_has_scores_or_a_reason(files: tuple[Entry, ...], measured: dict[str, Measured]) -> None:
    face, tone, text = (measured[one.sha256] for one in files)
    assert face.intervals[0].video.score is not None
    assert face.intervals[0].audio.score is not None
    assert {"red", "sharpness", "loudness", "bandwidth", "duration"} <= set(face.statistics)
    assert tone.intervals[0].video.reason == "no_video_stream"
    assert tone.intervals[0].audio.reason in {"no_speech", "music"}
    assert tone.statistics["centroid"] == pytest.approx(440, abs=30)
    assert (text.error, text.intervals, text.statistics) == ("unsupported_format", (), {})


def test_only_those_speak_who_were_asked(
    files: tuple[Entry, ...], opened: Panel, measured: dict[str, Measured]
) -> None:
    face, tone, text = (measured[one.sha256].spoke for one in files)
    video, audio = (one.id for one in opened.identities)
    assert (face, tone, text) == ((video, audio), (audio,), ())


def test_a_second_run_measures_nothing_again(
    files: tuple[Entry, ...], opened: Panel, out: Path, measured: dict[str, Measured],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(run, "measure", None)
    told: list[tuple[int, int]] = []
    again = run.run(files, opened, out, progress=lambda done, total: told.append((done, total)))
    assert again == measured
    assert told == [(3, 3)]


def test_an_interrupted_run_goes_on(
    files: tuple[Entry, ...], opened: Panel, tmp_path: Path, measured: dict[str, Measured],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def interrupted(path: Path, sha256: str, panel: Panel) -> Measured:
        assert panel is opened
        if path == files[1].path:
            raise KeyboardInterrupt
        return measured[sha256]

    monkeypatch.setattr(run, "measure", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run.run(files, opened, tmp_path)
    asked: list[str] = []

    def going_on(path: Path, sha256: str, _panel: Panel) -> Measured:
        asked.append(path.name)
        return measured[sha256]

    monkeypatch.setattr(run, "measure", going_on)
    assert run.run(files, opened, tmp_path) == measured
    assert asked == ["tone.wav", "text.mp4"]


def test_other_conditions_are_other_results(opened: Panel, out: Path, measured: dict[str, Measured]) -> None:
    assert measured
    sha256 = next(iter(measured))
    other = opened.conditions.model_copy(update={"options": Options(interval_seconds=1)})
    assert Cache(out, opened.conditions).get(sha256) is not None
    assert Cache(out, other).get(sha256) is None


@pytest.mark.parametrize("damage", [b"", b"{", b'{"sha256": "another"}'])
def test_a_damaged_result_is_measured_again(opened: Panel, tmp_path: Path, damage: bytes) -> None:
    cache = Cache(tmp_path, opened.conditions)
    cache.put(Measured(sha256="a", error="unsupported_format"))
    assert cache.get("a") is not None
    (path,) = tmp_path.glob("measured/*/a.json")
    path.write_bytes(damage)
    assert cache.get("a") is None


def test_what_may_be_the_machines_fault_is_not_kept(opened: Panel, tmp_path: Path) -> None:
    cache = Cache(tmp_path, opened.conditions)
    cache.put(Measured(sha256="a", error="decoder_timeout", lasting=False))
    assert cache.get("a") is None


def test_a_variant_is_delivered_and_kept(
    files: tuple[Entry, ...], opened: Panel, out: Path, measured: dict[str, Measured],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Only one, as each costs what the file did; what was measured before is not measured again."""
    assert measured
    monkeypatch.setattr(run, "measure", None)
    monkeypatch.setattr("evaluation.delivery.Variant", [Variant.CRF_35])
    delivered = run.run(files, opened, out, ladder=True)[files[0].sha256].delivered
    assert delivered is not None
    assert delivered.intervals == (0,)
    (only,) = delivered.deliveries
    assert (only.variant, only.error, len(only.video)) == (Variant.CRF_35, None, 1)


@pytest.fixture
def pool(files: tuple[Entry, ...], opened: Panel, tmp_path: Path) -> dict[str, Measured]:
    return run.run(files[1:], opened, tmp_path, jobs=2)


def test_several_processes_say_the_same(pool: dict[str, Measured], measured: dict[str, Measured]) -> None:
    assert pool == {sha256: measured[sha256] for sha256 in pool}
    assert len(pool) == 2


def test_answers_for_a_calibration_are_those_of_the_frames(
    files: tuple[Entry, ...], measured: dict[str, Measured]
) -> None:
    (face, tone) = calibrating.labelled(files, measured, Subject.VIDEO)
    assert (len(face.intervals), tone.intervals) == (1, ((),))
    scores = face.intervals[0]
    assert len(scores) > 1
    assert sum(scores) / len(scores) == pytest.approx(
        measured[files[0].sha256].intervals[0].video.score, abs=1e-6
    )
    assert face.group == "a"
    (voice, _) = calibrating.labelled(files, measured, Subject.AUDIO)
    assert [len(part) for part in voice.intervals] == [1]
