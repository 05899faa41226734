"""`deepdefend evaluate` and `calibrate`: what they refuse, say, write and store."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from cli.evaluate import interruptible
from cli.main import app
from core import analyses, db, feedback
from core.analyses import StoredUpload
from core.domain import Label, Options
from core.keys import Caller
from evaluation import control, fitting
from evaluation import run as runs
from evaluation.measured import Measured
from evaluation.panel import Panel
from tests.checkpoints import make_audio_checkpoint, make_image_checkpoint
from tests.core.conftest import owner  # noqa: F401 - a fixture
from tests.core.eraser import ended, put
from tests.evaluation.made import measured
from workers.detectors import calibrations


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("checkpoints")
    return {
        "video": make_image_checkpoint(folder / "video"),
        "audio": make_audio_checkpoint(folder / "audio"),
    }


@pytest.fixture(autouse=True)
def own_process() -> Iterator[None]:
    """The commands silence decoders for as long as their process lives; this one lives on."""
    yield
    logging.getLogger("workers").setLevel(logging.NOTSET)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checkpoints: dict[str, Path]) -> Path:
    """A list of 44 files, the test detectors, and scores instead of the pipeline (test_run has that)."""
    for name in [name for name in os.environ if name.startswith("DEEPDEFEND_MODELS__")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("DEEPDEFEND_MODELS__VIDEO", str(checkpoints["video"]))
    monkeypatch.setenv("DEEPDEFEND_MODELS__AUDIO", str(checkpoints["audio"]))
    monkeypatch.setenv("DEEPDEFEND_ALLOW_TEST_DETECTORS", "1")
    monkeypatch.chdir(tmp_path)
    lines = ["path,label,group"]
    for n in range(44):
        (tmp_path / f"{n}.mp4").write_text(f"clip {n}")
        lines.append(f"{n}.mp4,{'fake' if n % 2 else 'real'},p{n // 4}")
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    monkeypatch.setattr(runs, "measure", scored)
    monkeypatch.setattr(control, "REPEATS", 1)
    return tmp_path


def scored(path: Path, sha256: str, _panel: Panel) -> Measured:
    n = int(path.stem)
    score = float(np.clip(0.35 + 0.3 * (n % 2) + 0.2 * np.random.default_rng(n).normal(), 0.01, 0.99))
    return measured(path.name, [score] * 4, audio=None).model_copy(update={"sha256": sha256})


def deepdefend(*words: str) -> Any:
    return CliRunner().invoke(app, words, catch_exceptions=False)


def evaluate(*words: str) -> Any:
    return deepdefend("evaluate", "--detector", "video", "--no-ladder", *words)


def test_it_writes_a_report_and_says_what_matters(here: Path) -> None:
    done = evaluate("--manifest", "labels.csv", "--by", "group", "--out", "results")
    assert done.exit_code == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("test_only: detectors made for tests took part")
    assert lines[1].startswith("Video detector: 44 of 44 files")
    assert lines[-1] == "results/evaluation.md"
    found = json.loads((here / "results" / "evaluation.json").read_text())
    assert found["subjects"][0]["counts"]["scored_real"] == 22
    assert len(found["subjects"][0]["groups"]) == 11
    text = (here / "results" / "evaluation.md").read_text()
    assert "## Video detector by group" in text
    assert str(here) not in text


def test_a_second_run_measures_nothing_and_compares(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert evaluate("--manifest", "labels.csv", "--out", "one").exit_code == 0
    monkeypatch.setattr(runs, "measure", None)
    shutil.copytree(here / "one" / "measured", here / "two" / "measured")
    done = evaluate("--manifest", "labels.csv", "--out", "two", "--against", "one")
    assert done.exit_code == 0, done.stderr
    assert "On the 44 files that both evaluations have" in (here / "two" / "evaluation.md").read_text()


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        ((), 2, "either --manifest or --from-feedback"),
        (("--manifest", "labels.csv", "--from-feedback"), 2, "either --manifest or --from-feedback"),
        (("--manifest", "absent.csv"), 1, "absent.csv cannot be used"),
        (("--manifest", "bad.csv"), 1, "line 2: label 'maybe'"),
        (("--manifest", "labels.csv", "--against", "nowhere"), 1, "cannot be read"),
        (("--manifest", "labels.csv", "--against", ".", "--out", "."), 2, "same folder"),
        (("--manifest", "labels.csv", "--out", "labels.csv"), 1, "labels.csv cannot be made"),
    ],
)
def test_what_it_cannot_do_it_says(here: Path, words: Sequence[str], status: int, said: str) -> None:
    (here / "bad.csv").write_text("path,label\n0.mp4,maybe\n")
    done = evaluate(*words)
    assert (done.exit_code, done.stdout) == (status, "")
    assert said in " ".join(done.stderr.replace("│", " ").split())
    assert not (here / "deepdefend-evaluation").exists()


def test_without_any_detector_there_is_nothing_to_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DEEPDEFEND_ALLOW_TEST_DETECTORS")
    done = evaluate("--manifest", "labels.csv")
    assert done.exit_code == 1
    assert "nothing to measure" in done.stderr


def test_an_interruption_keeps_what_was_measured(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(path: Path, sha256: str, panel: Panel) -> Measured:
        if path.name == "9.mp4":
            raise KeyboardInterrupt
        return scored(path, sha256, panel)

    monkeypatch.setattr(runs, "measure", interrupted)
    done = evaluate("--manifest", "labels.csv")
    assert done.exit_code == 130
    assert "the same command goes on" in done.stderr
    assert len(list(here.glob("deepdefend-evaluation/measured/*/*.json"))) == 9 + 1  # the conditions


def test_calibrating_fits_tells_and_stores(
    here: Path, checkpoints: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitting, "fit", partial(fitting.fit, simulated=50))
    words = ("calibrate", "--manifest", "labels.csv", "--detector", "video")
    tried = deepdefend(*words, "--dry-run")
    assert tried.exit_code == 0, tried.stderr
    assert tried.stdout.splitlines()[-1] == "nothing was stored"
    assert not (checkpoints["video"] / calibrations.FILE).exists()
    try:
        done = deepdefend(*words)
        assert done.exit_code == 0, done.stderr
        assert "test_only" in done.stdout.splitlines()[0]
        assert "22 real and 22 fake files" in done.stdout
        assert "held out, 5 folds by group" in done.stdout
        assert (checkpoints["video"] / calibrations.FILE).is_file()
        again = deepdefend(*words, "--dry-run")
        assert again.exit_code == 0, "a stored calibration does not stand in the way of a new one"
        assert evaluate("--manifest", "labels.csv", "--out", "after").exit_code == 0
        assert "fpr_5, in force" in (here / "after" / "evaluation.md").read_text()
    finally:
        calibrations.remove(checkpoints["video"])


def test_what_does_not_hold_a_calibration_gets_none(checkpoints: dict[str, Path]) -> None:
    """No sound was scored in any file."""
    done = deepdefend("calibrate", "--manifest", "labels.csv", "--detector", "audio")
    assert done.exit_code == 1
    assert "audio is not calibrated: 0 scored real files" in done.stderr
    assert not (checkpoints["audio"] / calibrations.FILE).exists()


def test_feedback_needs_a_service(monkeypatch: pytest.MonkeyPatch, here: Path) -> None:
    monkeypatch.delenv("DEEPDEFEND_DATABASE_URL")
    done = evaluate("--from-feedback", "--data-dir", str(here / "nowhere"))
    assert done.exit_code == 1
    assert "no stack has run" in done.stderr


def test_feedback_is_evaluated_from_database_and_storage(
    here: Path,
    owner: Caller,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    content = b"what somebody sent"
    sha256 = hashlib.sha256(content).hexdigest()
    file = StoredUpload(sha256=sha256, size_bytes=len(content), object_key=put(f"media/{sha256}", content))
    with db.transaction() as session:
        identity = analyses.submit(session, caller=owner, source=file, options=Options()).analysis.id
    ended(identity)
    words = ("--from-feedback", "--out", "results")
    nobody = evaluate(*words)
    assert (nobody.exit_code, "nobody has labelled" in nobody.stderr) == (1, True)
    with db.transaction() as session:
        feedback.give(session, owner, identity, label=Label.FAKE, note="its maker says so")

    def whole(path: Path, digest: str, _panel: Panel) -> Measured:
        assert path.read_bytes() == content
        return measured("it", [0.7, 0.8]).model_copy(update={"sha256": digest})

    monkeypatch.setattr(runs, "measure", whole)
    done = evaluate(*words, "--owner", owner.owner)
    assert done.exit_code == 0, done.stderr
    assert "1 labelled files that are still stored" in done.stderr
    (found,) = json.loads((here / "results" / "evaluation.json").read_text())["files"]
    assert (found["name"], found["label"], found["scores"]["video"]["value"]) == (str(identity), "fake", 0.75)
    assert "its maker" not in (here / "results" / "evaluation.json").read_text()


def test_the_words_of_both_rooms_are_the_same() -> None:
    from cli.evaluate import Which  # noqa: PLC0415 - after the settings
    from evaluation.panel import Subject  # noqa: PLC0415

    assert [which.value for which in Which] == [subject.value for subject in Subject]


def test_a_process_that_was_killed_is_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as ended_with, interruptible(tmp_path):
        raise BrokenProcessPool
    assert ended_with.value.exit_code == 1
    assert "fewer --jobs" in capsys.readouterr().err
