"""`deepdefend analyze --html`: the report as a page, whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.analyze import save
from tests.cli.conftest import Answer, ScriptedApi, envelope
from tests.cli.test_analyze import clip, judged, ready, run

__all__ = ["clip"]
PAGE = Answer(200, raw=b"<!doctype html><p>report", headers={"Content-Type": "text/html; charset=utf-8"})


def test_the_page_is_saved_beside_the_printed_report(api: ScriptedApi, tmp_path: Path, clip: Path) -> None:
    options = ready(api, judged("a1", "DEEPFAKE"))
    api.answer("GET", "/v1/analyses/a1/report.html", PAGE)
    target = tmp_path / "report.html"
    target.write_text("an older one")
    done = run(tmp_path, clip, "--html", target, *options)
    assert (done.returncode, done.stderr) == (3, done.stderr)
    assert target.read_bytes() == PAGE.raw
    assert "DEEPFAKE" in done.stdout
    assert sorted(path.name for path in tmp_path.glob(".report*")) == []
    assert api.requests[-1].headers["Accept"] == "text/html"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Answer(200, {"not": "a page"}, {"Content-Type": "application/json"}), "sent no page"),
        (Answer(409, {"code": "no_report", "detail": "there is no report yet"}), "there is no report yet"),
    ],
)
def test_no_page_is_an_error_that_says_why(
    api: ScriptedApi, tmp_path: Path, clip: Path, answer: Answer, said: str
) -> None:
    options = ready(api, judged("a1", "REAL"))
    api.answer("GET", "/v1/analyses/a1/report.html", answer)
    done = run(tmp_path, clip, "--html", tmp_path / "report.html", *options)
    assert (done.returncode, said in done.stderr) == (1, True), done.stderr
    assert not (tmp_path / "report.html").exists()


def test_a_page_that_cannot_be_written_is_an_error(api: ScriptedApi, tmp_path: Path, clip: Path) -> None:
    options = ready(api, judged("a1", "REAL"))
    api.answer("GET", "/v1/analyses/a1/report.html", PAGE)
    done = run(tmp_path, clip, "--html", tmp_path / "absent" / "report.html", *options)
    assert done.returncode == 1
    assert "No such file or directory" in done.stderr


def test_an_analysis_without_a_report_has_no_page(api: ScriptedApi, tmp_path: Path, clip: Path) -> None:
    done = run(tmp_path, clip, "--html", tmp_path / "r.html", *ready(api, envelope("a1", "canceled")))
    assert done.returncode == 1
    assert not [path for path in api.paths() if path.endswith(".html")]


def test_it_is_for_one_file_that_is_waited_for(tmp_path: Path, clip: Path) -> None:
    assert run(tmp_path, clip, clip, "--html", tmp_path / "r.html").returncode == 2
    assert run(tmp_path, clip, "--no-wait", "--html", tmp_path / "r.html").returncode == 2


def test_a_write_that_fails_leaves_the_older_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "report.html"
    target.write_text("an older one")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        save(b"new", target)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    assert target.read_text() == "an older one"
