from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz import boxes, mutate
from fuzz.minimise import minimise
from fuzz.seeds import CLIPS, prepare
from workers.media.formats import CONTAINERS

BAIT = ("http://127.0.0.1:00009/x.ts", "/nowhere/secret")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """One seed of each family of containers, small ones."""
    names = (
        "fragmented.mp4",
        "h264.mkv",
        "mpeg4.avi",
        "mpeg1.mpg",
        "vorbis.ogg",
        "speech.flac",
        "speech.mp3",
    )
    return prepare(tmp_path_factory.mktemp("seeds"), names, shared=False)


def test_there_is_a_seed_for_every_container_that_is_taken() -> None:
    families = {
        "mov": {".mp4", ".mov", ".m4a"}, "matroska": {".mkv"}, "webm": {".webm"}, "avi": {".avi"},
        "wav": {".wav"}, "mp3": {".mp3"}, "flac": {".flac"}, "ogg": {".ogg"}, "mpeg": {".mpg"},
    }  # fmt: skip
    assert families.keys() == CONTAINERS
    made = {Path(name).suffix for name in CLIPS}
    assert all(suffixes <= made for suffixes in families.values())


def test_the_same_seed_gives_the_same_files(whole: dict[str, bytes]) -> None:
    cases = [mutate.case(n, 5, whole, BAIT) for n in range(40)]

    assert cases == [mutate.case(n, 5, whole, BAIT) for n in range(40)]
    assert cases != [mutate.case(n, 6, whole, BAIT) for n in range(40)]
    assert len({case.content for case in cases}) > 35


def test_every_way_to_damage_is_drawn(whole: dict[str, bytes]) -> None:
    drawn = {name for n in range(600) for name in mutate.case(n, 1, whole, BAIT).done}

    assert drawn == mutate.MUTATIONS.keys()


@pytest.mark.parametrize("name", sorted(set(mutate.MUTATIONS) - {"refer"}))
def test_each_damage_changes_the_file(name: str, whole: dict[str, bytes]) -> None:
    changed = 0
    for origin in ("fragmented.mp4", "h264.mkv", "mpeg4.avi"):
        for n in range(5):
            chances = mutate.Chances(Random(n), whole, BAIT)  # noqa: S311 - damage, not secrets
            data = mutate.MUTATIONS[name](bytearray(whole[origin]), chances)
            changed += data is not None and bytes(data) != whole[origin]
    assert changed >= 12


def test_a_reference_to_elsewhere_is_written_into_the_file(tmp_path: Path) -> None:
    whole = prepare(tmp_path, ("h264.mp4",), shared=False)
    chances = mutate.Chances(Random(1), whole, BAIT)  # noqa: S311 - damage, not secrets

    data = mutate.refer(bytearray(whole["h264.mp4"]), chances)

    assert data is not None
    assert any(address.encode() in data for address in BAIT)


@given(st.binary(min_size=1, max_size=300), st.sampled_from(sorted(mutate.MUTATIONS)), st.integers(0, 99))
@settings(max_examples=300)
def test_damage_itself_bears_any_bytes(data: bytes, name: str, seed: int) -> None:
    chances = mutate.Chances(Random(seed), {"a": data, "b": b""}, BAIT)  # noqa: S311 - damage, not secrets
    found = mutate.MUTATIONS[name](bytearray(data), chances)

    assert found is None or isinstance(found, bytearray)


@given(
    st.sampled_from([b"\x1aE\xdf\xa3", b"RIFF", b"OggS", b"fLaC", b"ID3", b"\0\0\0\x18ftyp"]),
    st.binary(max_size=200),
)
@settings(max_examples=300)
def test_fields_lie_within_the_file_or_at_its_end(head: bytes, rest: bytes) -> None:
    data = head + rest
    for found in (*boxes.sizes(data), *boxes.declarations(data), *boxes.tables(data)):
        assert 0 <= found.offset <= len(data) + 32
        assert found.size in {1, 2, 3, 4, 5, 6, 8}


def test_boxes_are_found_with_what_is_in_them(whole: dict[str, bytes]) -> None:
    kinds = [kind for kind, _, _ in boxes.boxes(whole["fragmented.mp4"])]

    assert kinds[:3] == [b"ftyp", b"moov", b"mvhd"]
    assert {b"moof", b"traf", b"trun", b"mdat", b"stsd"} <= set(kinds)
    named = {found.name for found in boxes.declarations(whole["fragmented.mp4"])}
    assert {"b'tkhd' width", "b'mdhd' duration", "b'trun' count"} <= named


def test_a_file_is_made_small_for_as_long_as_it_breaks() -> None:
    content = bytes(5000) + b"BREAKS" + bytes(3000)

    small = minimise(content, lambda tried: b"BREAKS" in tried, tries=400)

    assert b"BREAKS" in small
    assert len(small) < 100
    assert minimise(content, lambda _: False) == content
