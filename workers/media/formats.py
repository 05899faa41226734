"""What may be opened at all, and the only place that opens it.

FFmpeg knows hundreds of containers and codecs; most of its security bugs are in those nobody sends.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import av
from av.container import InputContainer, OutputContainer

from core.errors import MediaError

#: Demuxers by FFmpeg's own names. No playlist, concat or image format: they open other files.
CONTAINERS: Final = frozenset({"mov", "matroska", "webm", "avi", "wav", "mp3", "flac", "ogg", "mpeg"})
#: Picture codecs: what phones, cameras, messengers and the web produce.
VIDEO_CODECS: Final = frozenset(
    {"h264", "hevc", "vp8", "vp9", "av1", "mpeg1video", "mpeg2video", "mpeg4", "mjpeg", "prores"}
)
#: Sound codecs; every linear and companded PCM is allowed besides (`pcm_` prefix).
AUDIO_CODECS: Final = frozenset(
    {"aac", "mp2", "mp3", "mp3float", "ac3", "eac3", "opus", "vorbis", "flac", "alac"}
)
PCM_PREFIX: Final = "pcm_"
#: Decoders that FFmpeg may run on its own while it probes, by decoder name (not codec name).
_DECODERS: Final = (
    *sorted(VIDEO_CODECS - {"av1"}), "libdav1d", "av1", *sorted(AUDIO_CODECS), "libopus", "mp2float", "mp3",
    *(f"pcm_{kind}" for kind in (
        "s16le", "s16be", "u8", "s8", "s24le", "s24be", "s32le", "s32be", "f32le", "f32be", "f64le", "f64be",
        "mulaw", "alaw",
    )),
)  # fmt: skip
#: First bytes by which a damaged file of a known kind is told from something else: (offset, bytes).
_SIGNATURES: Final = (
    (4, b"ftyp"), (4, b"moov"), (4, b"mdat"), (4, b"free"), (4, b"wide"), (4, b"skip"), (0, b"\x1aE\xdf\xa3"),
    (8, b"AVI "), (8, b"WAVE"), (0, b"fLaC"), (0, b"OggS"), (0, b"ID3"), (0, b"\xff\xfb"), (0, b"\xff\xf3"),
    (0, b"\x00\x00\x01\xba"),
)  # fmt: skip


def open_input(path: str) -> InputContainer:
    """Open a local file under a server-made name, with every allow-list in force.

    The pixel limit is not set here: FFmpeg would then hide the size of a picture that is too large.
    Raises MediaError `unsupported_format` (not one of ours) or `undecodable_media` (one of ours, broken).
    """
    options = {
        "format_whitelist": ",".join(sorted(CONTAINERS)),
        "codec_whitelist": ",".join(_DECODERS),
        "protocol_whitelist": "file",
    }
    try:
        return av.open(f"file:{path}", mode="r", options=options, metadata_errors="replace")
    except MemoryError:
        raise
    except (av.FFmpegError, ValueError) as exc:
        if _known(Path(path)):
            raise MediaError("The file is damaged: its index cannot be read.") from exc
        raise MediaError("The file is no video or sound format we take.", code="unsupported_format") from exc


def open_output(path: str) -> OutputContainer:
    """A new MP4 file of ours."""
    return av.open(f"file:{path}", mode="w", format="mp4")


def _known(path: Path) -> bool:
    """Whether the file begins like a container of ours."""
    with path.open("rb") as file:
        head = file.read(16)
    return any(head[at : at + len(mark)] == mark for at, mark in _SIGNATURES)


def video_allowed(codec: str) -> bool:
    """Whether this picture codec may be decoded."""
    return codec in VIDEO_CODECS or codec == "libdav1d"


def audio_allowed(codec: str) -> bool:
    """Whether this sound codec may be decoded."""
    return codec in AUDIO_CODECS or codec.startswith(PCM_PREFIX)
