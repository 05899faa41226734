"""The model store: finding, digests, damage."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.errors import DetectorUnavailable
from tests.checkpoints import make_image_checkpoint
from workers.detectors import store

HUB_ID = "dima806/deepfake_vs_real_image_detection"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_image_checkpoint(tmp_path_factory.mktemp("original") / "checkpoint")


@pytest.fixture
def checkpoint(original: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    for name in store.FILES:
        (folder / name).write_bytes((original / name).read_bytes())
    return folder


def record(folder: Path) -> store.Record:
    """Write the record that a pull of these files would have written."""
    files = store.digests(folder)
    made = store.Record(
        id=HUB_ID,
        revision="a" * 40,
        requested="main",
        files=files,
        digest=store.total(files),
        pulled_at=datetime.now(UTC),
    )
    (folder / store.RECORD).write_text(made.model_dump_json())
    return made


def code_of(folder: Path) -> str:
    with pytest.raises(DetectorUnavailable) as caught:
        store.verify(folder)
    assert folder.name in caught.value.detail
    assert str(folder.parent) not in caught.value.detail
    return caught.value.code


@pytest.mark.parametrize(
    "place",
    [
        "dima806--deepfake_vs_real_image_detection",
        "dima806/deepfake_vs_real_image_detection",
        "deepfake_vs_real_image_detection",
    ],
)
def test_a_folder_dropped_under_any_usual_name_is_found(tmp_path: Path, place: str) -> None:
    (tmp_path / place).mkdir(parents=True)
    assert store.find(HUB_ID, tmp_path) == tmp_path / place


def test_what_pull_writes_comes_before_a_bare_name(tmp_path: Path) -> None:
    for name in ("deepfake_vs_real_image_detection", store.folder_name(HUB_ID)):
        (tmp_path / name).mkdir()
    assert store.find(HUB_ID, tmp_path) == tmp_path / store.folder_name(HUB_ID)


def test_nothing_is_found_where_nothing_is(tmp_path: Path) -> None:
    assert store.find(HUB_ID, tmp_path / "absent") is None
    assert store.find(str(tmp_path / "absent"), tmp_path) is None


def test_a_path_is_taken_as_it_is(checkpoint: Path, tmp_path: Path) -> None:
    assert store.find(str(checkpoint), tmp_path / "elsewhere") == checkpoint


@pytest.mark.parametrize(
    ("name", "path"),
    [
        (HUB_ID, False),
        ("gpt2", False),
        ("/models/own", True),
        ("./own", True),
        ("../own", True),
        ("~/own", True),
        ("a/b/c", True),
        ("..", True),
        ("org/..", True),
        ("", True),
    ],
)
def test_paths_and_hub_ids_are_told_apart(name: str, *, path: bool) -> None:
    assert store.is_path(name) is path


def test_a_relative_folder_that_holds_a_checkpoint_is_a_path(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(checkpoint.parent)
    assert store.is_path("checkpoint")


def test_the_digest_is_over_names_and_contents(checkpoint: Path) -> None:
    before = store.verify(checkpoint)
    assert before.startswith("sha256:")
    assert len(before) == len("sha256:") + 64
    assert store.verify(checkpoint) == before
    with (checkpoint / store.CONFIG).open("a") as file:
        file.write("\n")
    assert store.verify(checkpoint) != before


def test_other_files_in_the_folder_do_not_change_the_digest(checkpoint: Path) -> None:
    before = store.verify(checkpoint)
    (checkpoint / "README.md").write_text("hello")
    assert store.verify(checkpoint) == before


def test_a_folder_that_is_as_recorded_verifies(checkpoint: Path) -> None:
    assert store.verify(checkpoint) == record(checkpoint).digest


@pytest.mark.parametrize("name", [store.CONFIG, store.PREPROCESSOR])
def test_one_changed_byte_is_a_wrong_digest(checkpoint: Path, name: str) -> None:
    record(checkpoint)
    with (checkpoint / name).open("a") as file:
        file.write(" ")
    assert code_of(checkpoint) == "wrong_digest"


def test_one_flipped_bit_in_the_weights_is_a_wrong_digest(checkpoint: Path) -> None:
    record(checkpoint)
    weights = bytearray((checkpoint / store.WEIGHTS).read_bytes())
    weights[-1] ^= 1
    (checkpoint / store.WEIGHTS).write_bytes(weights)
    assert code_of(checkpoint) == "wrong_digest"


def test_a_record_whose_total_was_changed_is_a_wrong_digest(checkpoint: Path) -> None:
    made = record(checkpoint)
    changed = made.model_copy(update={"digest": "sha256:" + "0" * 64})
    (checkpoint / store.RECORD).write_text(changed.model_dump_json())
    assert code_of(checkpoint) == "wrong_digest"


@pytest.mark.parametrize("text", ["", "{}", "[1]", "\x00", '{"id": 1}', "[" * 100_000])
def test_a_damaged_record_is_refused(checkpoint: Path, text: str) -> None:
    (checkpoint / store.RECORD).write_text(text)
    assert code_of(checkpoint) == "checkpoint_damaged"


@pytest.mark.parametrize("name", store.FILES)
def test_a_missing_file_is_named(checkpoint: Path, name: str) -> None:
    (checkpoint / name).unlink()
    assert code_of(checkpoint) == "checkpoint_incomplete"
    with pytest.raises(DetectorUnavailable, match=name.replace(".", r"\.")):
        store.verify(checkpoint)


@pytest.mark.parametrize("keep", [0, 4, 8, 100, -1, -1000])
def test_truncated_weights_are_damage(checkpoint: Path, keep: int) -> None:
    weights = (checkpoint / store.WEIGHTS).read_bytes()
    (checkpoint / store.WEIGHTS).write_bytes(weights[:keep])
    assert code_of(checkpoint) == "checkpoint_damaged"


def test_a_file_shorter_than_what_was_pulled_is_damage_even_if_it_parses(checkpoint: Path) -> None:
    record(checkpoint)
    text = (checkpoint / store.CONFIG).read_text()
    (checkpoint / store.CONFIG).write_text(json.dumps(json.loads(text)))
    assert code_of(checkpoint) == "checkpoint_damaged"


@pytest.mark.parametrize("text", ["", "{", "null", "[]", '"x"', "\xff", "{" * 100_000, "[" * 100_000])
@pytest.mark.parametrize("name", [store.CONFIG, store.PREPROCESSOR])
def test_json_that_is_none_is_damage(checkpoint: Path, name: str, text: str) -> None:
    (checkpoint / name).write_text(text)
    assert code_of(checkpoint) == "checkpoint_damaged"


def test_json_without_end_is_not_read_into_memory(checkpoint: Path) -> None:
    with (checkpoint / store.CONFIG).open("r+b") as file:
        file.truncate(1 << 40)  # sparse
    assert code_of(checkpoint) == "checkpoint_damaged"


@given(header=st.binary(max_size=200), tail=st.binary(max_size=50))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_weights_of_any_bytes_are_damage_and_never_a_crash(
    checkpoint: Path, header: bytes, tail: bytes
) -> None:
    (checkpoint / store.WEIGHTS).write_bytes(len(header).to_bytes(8, "little") + header + tail)
    assert code_of(checkpoint) == "checkpoint_damaged"


@pytest.mark.parametrize(
    "header",
    [
        {},
        {"a": {}},
        {"a": {"data_offsets": [0]}},
        {"a": {"data_offsets": [0, "x"]}},
        {"a": None},
        {"a": {"data_offsets": [0, 1e400]}},
    ],
)
def test_a_header_without_sense_is_damage(checkpoint: Path, header: dict[str, object]) -> None:
    raw = json.dumps(header).encode()
    (checkpoint / store.WEIGHTS).write_bytes(len(raw).to_bytes(8, "little") + raw)
    assert code_of(checkpoint) == "checkpoint_damaged"


def test_a_pickle_is_refused_by_its_own_code(checkpoint: Path) -> None:
    (checkpoint / store.WEIGHTS).rename(checkpoint / "pytorch_model.bin")
    assert code_of(checkpoint) == "pickle_refused"


def test_a_folder_in_place_of_a_file_is_a_missing_file(checkpoint: Path) -> None:
    (checkpoint / store.CONFIG).unlink()
    (checkpoint / store.CONFIG).mkdir()
    assert code_of(checkpoint) == "checkpoint_incomplete"


def test_checkpoints_are_listed_two_levels_deep_and_staging_is_not(tmp_path: Path) -> None:
    for place in ("a", "org/b", ".pull-c", "not"):
        (tmp_path / place).mkdir(parents=True)
        if place != "not":
            (tmp_path / place / store.CONFIG).write_text("{}")
    assert list(store.checkpoints(tmp_path)) == [tmp_path / "a", tmp_path / "org" / "b"]
    assert list(store.checkpoints(tmp_path / "absent")) == []
