"""That the fuzz run sees what it is there to see: each fault is made on purpose and must be named."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Self

import pytest

from core.errors import MediaError
from fuzz import __main__ as program
from fuzz import campaign, table, trial
from fuzz.mutate import Case
from fuzz.trap import Trap, laid
from fuzz.trial import LIMITS, Result, attempt
from tests.workers.media.conftest import SAMPLE
from workers.media import extract as extraction
from workers.media import sandbox
from workers.media.sandbox import Probe

WHOLE = Case(0, "sample", (), SAMPLE.read_bytes())
Attempt = Callable[..., Result]


@pytest.fixture
def tried(tmp_path: Path) -> Iterator[Attempt]:
    """One trial at this host's level."""
    with laid(tmp_path / "trap") as trap:
        place = tmp_path / "place"
        place.mkdir()

        def run(case: Case = WHOLE, trap: Trap = trap) -> Result:
            return attempt(case, place, trap, level=sandbox.level(), limits=LIMITS)

        yield run
        assert list(place.iterdir()) == []


def test_a_whole_file_gives_its_manifest(tried: Attempt) -> None:
    result = tried()

    assert (result.outcome, result.faults, result.signal) == ("manifest", (), 0)


def test_a_broken_one_gives_its_code(tried: Attempt) -> None:
    assert tried(replace(WHOLE, content=b"text")).outcome == "unsupported_format"
    assert tried(replace(WHOLE, content=b"")).outcome == "empty_file"


@pytest.mark.parametrize(
    ("code", "outcome", "fault"),
    [
        ("import ctypes; ctypes.string_at(0)", "decoder_crashed", None),
        (
            "raise ZeroDivisionError('of ours')",
            "decoder_crashed",
            "the decoder raised ZeroDivisionError: of ours",
        ),
        ("open('manifest.json', 'w').write('[]')", "decoder_crashed", "the result does not hold: "),
        ("bytearray(1 << 40)", "decoder_out_of_memory", None),
    ],
)
def test_how_a_decoder_ends_is_told_apart(
    tried: Attempt, monkeypatch: pytest.MonkeyPatch, code: str, outcome: str, fault: str | None
) -> None:
    monkeypatch.setattr(extraction, "PROGRAM", ("-I", "-c", code))

    result = tried()

    assert result.outcome == outcome
    assert (result.signal == 11) == ("ctypes" in code)
    assert len(result.faults) == (fault is not None)
    assert fault is None or result.faults[0].startswith(fault)


def replaced(monkeypatch: pytest.MonkeyPatch, deed: Callable[[Path, Path], object]) -> None:
    """The extraction does this and refuses the file."""

    def misbehave(source: Path, work: Path, **_: object) -> None:
        deed(source, work)
        raise MediaError

    monkeypatch.setattr(trial, "extract", misbehave)


def test_other_errors_are_faults(tried: Attempt, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("lost")

    replaced(monkeypatch, fail)
    assert tried().faults == ("raised OSError: lost",)

    def lie(*_: object) -> None:
        raise MediaError(code="made_up")

    replaced(monkeypatch, lie)
    assert tried().faults == ("unknown code made_up",)


def test_what_is_left_behind_is_a_fault(
    tried: Attempt, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    replaced(monkeypatch, lambda source, work: (work / "link").symlink_to(source))
    assert tried().faults == ("made something odd: link",)

    replaced(monkeypatch, lambda source, _: source.write_bytes(b"other"))
    assert tried().faults == ("changed its input",)

    replaced(monkeypatch, lambda *_: (tmp_path / "trap" / "secret").read_bytes())
    assert any(fault.startswith("touched the trap") for fault in tried().faults)

    def litter(source: Path, _: Path) -> None:
        (source.parent / "litter").touch()

    replaced(monkeypatch, litter)
    assert tried().faults == ("left a file: litter",)
    (tmp_path / "place" / "litter").unlink()


def test_a_limit_that_does_not_hold_is_a_fault(tried: Attempt, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter((0.0, LIMITS.decode_seconds.total_seconds() + 16))
    replaced(monkeypatch, lambda *_: None)
    monkeypatch.setattr("fuzz.trial.time.monotonic", lambda: next(clock))

    assert tried().faults == ("the limit of time did not hold",)


def test_the_table_says_it_all() -> None:
    done = Result(
        number=3, origin="a.mp4", done=("truncate",), level="rlimits", outcome="decoder_crashed", signal=11,
        faults=("left a process: 7 sh",), seconds=1.5,
    )  # fmt: skip
    probe = Probe(level="rlimits", files=False, calls=True, why="x")

    text = table.summary(
        [done, replace(done, outcome="manifest", signal=0, faults=())], [probe], seed=9, seconds=4
    )

    assert text.startswith("2 files, seed 9, 4 s, 0.5 a second\n")
    assert "other files hidden: NO; no socket, no process, no signal to others: yes" in text
    assert "SIGSEGV 1" in text
    assert "truncate 2" in text
    assert text.endswith("faults: 1\n  #3 a.mp4 (truncate): left a process: 7 sh")
    assert timedelta(seconds=20) == LIMITS.decode_seconds


def test_a_short_run_finds_no_fault(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    status = program.main(["--files", "60", "--seed", "1", "--own", "--keep", str(tmp_path / "kept")])

    said = capsys.readouterr().out
    assert status == 0, said
    assert "60 files, seed 1" in said
    assert said.rstrip().endswith("faults: 0")
    assert "manifest" in said


def test_a_run_that_finds_a_fault_says_so_and_keeps_the_file(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Result(number=0, origin="a", done=(), level="rlimits", outcome="x", faults=("broken",))
    monkeypatch.setattr(campaign, "attempt", lambda *_, **__: broken)

    class Here:
        """A pool of this process alone: what it calls is replaced here only."""

        def __init__(self, *_: object, **__: object) -> None: ...
        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None: ...
        def submit(self, call: Callable[..., list[Result]], *arguments: object) -> Self:
            self.found = call(*arguments)
            return self

        def result(self) -> list[Result]:
            return self.found

    monkeypatch.setattr(campaign, "ProcessPoolExecutor", Here)

    assert program.main(["--files", "1", "--seed", "1", "--own", "--keep", str(tmp_path / "kept")]) == 1
    assert "broken" in capsys.readouterr().out
    names = sorted(path.name for path in (tmp_path / "kept").iterdir())
    assert names == ["0-x-a", "small-0-x-a"]
