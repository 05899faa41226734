"""Without any sandbox: a file that names other files and addresses makes nobody open them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

import av
import pytest

from core.errors import MediaError
from fuzz import mutate
from fuzz.seeds import prepare
from fuzz.trap import Trap, laid
from workers.media.formats import CONTAINERS, open_input


@pytest.fixture
def trap(tmp_path: Path) -> Iterator[Trap]:
    with laid(tmp_path / "trap") as found:
        yield found


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    names = ("h264.mp4", "fragmented.mp4", "prores.mov", "h264.mkv", "mpeg4.avi", "mpeg1.mpg", "aac.m4a")
    return prepare(tmp_path_factory.mktemp("seeds"), names, shared=False)


def read_all(path: Path) -> None:
    """Open and read every packet, as the decoder's process does, but in this one."""
    try:
        with open_input(str(path)) as container:
            for _ in container.demux():
                pass
    except (MediaError, av.FFmpegError):
        pass


@pytest.mark.parametrize("way", ["disguise", "refer"])
def test_nothing_that_a_file_names_is_opened(
    tmp_path: Path, trap: Trap, whole: dict[str, bytes], way: str
) -> None:
    source = tmp_path / "source"
    tried = 0
    for origin, content in whole.items():
        for n in range(40):
            chances = mutate.Chances(Random(f"{origin}{n}"), whole, trap.bait)  # noqa: S311 - no secret
            found = mutate.MUTATIONS[way](bytearray(content), chances)
            if found is not None:
                source.write_bytes(found)
                read_all(source)
                tried += 1

    assert trap.touched() == []
    assert tried >= 120


def box(kind: bytes, content: bytes) -> bytes:
    return (len(content) + 8).to_bytes(4, "big") + kind + content


def test_a_reference_movie_leads_nowhere(tmp_path: Path, trap: Trap) -> None:
    """QuickTime's own way to say that the film lies elsewhere."""
    source = tmp_path / "source"
    for address in trap.bait:
        name = address.encode() + b"\0"
        where = box(b"rdrf", bytes(4) + b"url " + len(name).to_bytes(4, "big") + name)
        source.write_bytes(box(b"ftyp", b"qt  " + bytes(4)) + box(b"moov", box(b"rmra", box(b"rmda", where))))
        read_all(source)

    assert trap.touched() == []


def test_the_trap_would_have_noticed(tmp_path: Path, trap: Trap) -> None:
    """FFmpeg without the allow-list follows a list of files to the secret."""
    source = tmp_path / "source.ffconcat"
    source.write_text(f"ffconcat version 1.0\nfile '{trap.folder / 'secret'}'\n")

    with pytest.raises(av.FFmpegError):
        av.open(str(source), options={"safe": "0"}).close()

    assert any("of secret" in what for what in trap.touched())


def test_no_container_is_taken_whose_demuxer_opens_others() -> None:
    known = {name for name in av.formats_available if av.ContainerFormat(name).is_input}
    assert {part for name in known for part in name.split(",")} >= CONTAINERS
    others = {
        "concat", "hls", "dash", "applehttp", "image2", "image2pipe", "sdp", "rtsp", "rtp", "vobsub", "imf",
        "tee", "concatf", "lavfi", "libmodplug", "webm_dash_manifest", "mpegts", "data",
    }  # fmt: skip
    assert not CONTAINERS & others
