"""The list of labelled files: what is taken, and what is wrong with every line of a bad one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from core.domain import Label
from evaluation import manifest
from evaluation.manifest import BadManifest, read


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.mp4", "b.mp4", "c d, é.mp4"):
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "below").mkdir()
    return tmp_path


def written(folder: Path, content: str | bytes) -> Path:
    path = folder / "labels.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def problems(folder: Path, content: str | bytes) -> tuple[str, ...]:
    with pytest.raises(BadManifest) as refused:
        read(written(folder, content))
    return refused.value.problems


def test_paths_are_relative_to_the_list_and_columns_in_any_order(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    found = read(written(folder, 'group,Label,path\nx,real,a.mp4\n,fake,"c d, é.mp4"\n\n'))
    assert [(one.name, one.label, one.group) for one in found] == [
        ("a.mp4", Label.REAL, "x"),
        ("c d, é.mp4", Label.FAKE, None),
    ]
    assert found[0].path == folder / "a.mp4"
    assert found[0].sha256 == manifest.digest_of(folder / "a.mp4")


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_what_spreadsheets_write_is_read(folder: Path, ending: str) -> None:
    lines = ["\ufeffpath,label", "a.mp4,real", "b.mp4,fake"]
    assert len(read(written(folder, ending.join(lines)))) == 2


def test_groups_may_be_left_out(folder: Path) -> None:
    assert [one.group for one in read(written(folder, "path,label\na.mp4,real\n"))] == [None]


def test_every_bad_line_is_named_and_nothing_else_is_done(folder: Path) -> None:
    content = "path,label,group\na.mp4,true,x\n,real,x\nnowhere.mp4,fake,x\nb.mp4,Fake,\nbelow,real,\n"
    assert problems(folder, content) == (
        "line 2: label 'true'; it is real or fake",
        "line 3: no path",
        "line 4: 'nowhere.mp4' is not there",
        "line 5: label 'Fake'; it is real or fake",
        "line 6: 'below' is no file",
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "it is empty"),
        ("\n\n", "it is empty"),
        ("path,label\n", "it names no file"),
        ("path,label\n\n , \n", "it names no file"),
        ("path;label\na.mp4;real\n", "line 1: unknown column 'path;label'"),
        ("path,label,why\na.mp4,real,x\n", "line 1: unknown column 'why'"),
        ("path,group\na.mp4,x\n", "line 1: no column 'label'"),
        ("path,label,path\na.mp4,real,b.mp4\n", "line 1: column 'path' twice"),
        ("path,label\na.mp4\n", "line 2: 1 cells under 2 columns"),
        ("path,label\na.mp4,real,more\n", "line 2: 3 cells under 2 columns"),
        ('path,label\n"a.mp4,real\n', "line 2"),
        (b"path,label\na.mp4,real\n\xff\xfe,fake\n", "line 3: it is not UTF-8"),
        ("path,label\na.mp4,real\n".encode("utf-16"), "line 1: it is not UTF-8"),
        ("path,label\na\x00.mp4,real\n", "line 2: a NUL"),
        (f"path,label\n{'a' * 5000},real\n", "line 2"),
        ("path,label\na.mp4,real\n./a.mp4,real\n", "line 3: the same bytes as line 2"),
        ("path,label\na.mp4,real\n./a.mp4,fake\n", "line 3: the same bytes as line 2, with another label"),
    ],
)
def test_a_list_that_is_none_is_refused(folder: Path, content: str | bytes, said: str) -> None:
    assert problems(folder, content)[0].startswith(said)


def test_copies_count_once_whatever_they_are_called(folder: Path) -> None:
    (folder / "copy.mp4").write_bytes((folder / "a.mp4").read_bytes())
    assert "line 3: the same bytes as line 2" in problems(folder, "path,label\na.mp4,real\ncopy.mp4,real\n")


def test_a_pipe_is_not_waited_for(folder: Path) -> None:
    os.mkfifo(folder / "pipe.mp4")
    assert problems(folder, "path,label\npipe.mp4,real\n") == ("line 2: 'pipe.mp4' is no file",)


def test_a_list_that_cannot_be_read_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in (folder / "absent.csv", folder):
        with pytest.raises(BadManifest, match="cannot be read"):
            read(path)
    monkeypatch.setattr(manifest, "MAX_BYTES", 10)
    with pytest.raises(BadManifest, match="more than"):
        read(written(folder, "path,label\na.mp4,real\n"))


def test_a_thousand_faults_are_counted(folder: Path) -> None:
    with pytest.raises(BadManifest, match="and 980 more"):
        read(written(folder, "path,label\n" + "a.mp4,maybe\n" * 1000))
