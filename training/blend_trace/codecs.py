"""Pictures through the codecs that people's files went through, in memory."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from fractions import Fraction
from typing import Final

import av
import cv2
import numpy as np
from av.video.codeccontext import VideoCodecContext

from training.blend_trace.faces import Picture


class Codec(StrEnum):
    """How a picture is stored; `quality` means something else for each."""

    JPEG = "jpeg"  #: 1 to 100, better upward
    WEBP = "webp"  #: 1 to 100, better upward
    H264 = "h264"  #: CRF, better downward
    HEVC = "hevc"  #: CRF, better downward
    VP9 = "vp9"  #: CRF, better downward
    MPEG4 = "mpeg4"  #: quantiser 1 to 31, better downward


STILL: Final = {Codec.JPEG: ".jpg", Codec.WEBP: ".webp"}
_FLAGS: Final = {Codec.JPEG: cv2.IMWRITE_JPEG_QUALITY, Codec.WEBP: cv2.IMWRITE_WEBP_QUALITY}
_NAMES: Final = {
    Codec.H264: ("libx264", "h264"),
    Codec.HEVC: ("libx265", "hevc"),
    Codec.VP9: ("libvpx-vp9", "vp9"),
    Codec.MPEG4: ("mpeg4", "mpeg4"),
}
#: Pixels that the camera drifts between frames: what comes out was predicted, as most frames are.
DRIFT: Final = 1


def recode(picture: Picture, codec: Codec, quality: int, *, frames: int = 2) -> Picture:
    """H x W x 3 RGB as it looks after the codec, same shape; of a video codec the last of `frames`."""
    if codec in STILL:
        _, data = cv2.imencode(STILL[codec], picture[..., ::-1], [_FLAGS[codec], quality])
        decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
        return np.ascontiguousarray(np.asarray(decoded, np.uint8)[..., ::-1])
    height, width = picture.shape[:2]
    edge = (-height % 2, -width % 2)  # chroma is stored at half the size
    even = np.pad(picture, ((0, edge[0]), (0, edge[1]), (0, 0)), mode="edge")
    clip = [np.roll(even, DRIFT * (n + 1 - frames), axis=1) for n in range(frames)]
    return np.ascontiguousarray(_last(clip, codec, quality)[:height, :width])


def _last(clip: Sequence[Picture], codec: Codec, quality: int) -> Picture:
    encoder = _encoder(codec, quality, clip[0].shape[1], clip[0].shape[0])
    packets = []
    for n, picture in enumerate(clip):
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        frame.pts = n
        packets += encoder.encode(frame.reformat(format="yuv420p"))
    packets += encoder.encode(None)
    decoder = av.CodecContext.create(_NAMES[codec][1], "r")
    assert isinstance(decoder, VideoCodecContext)  # noqa: S101 - narrows what the stub leaves open
    decoder.thread_count = 1
    decoder.extradata = encoder.extradata
    shown = [frame for packet in packets for frame in decoder.decode(packet)]
    shown += decoder.decode(None)
    return np.asarray(shown[-1].to_ndarray(format="rgb24"), np.uint8)


def _encoder(codec: Codec, quality: int, width: int, height: int) -> VideoCodecContext:
    encoder = av.CodecContext.create(_NAMES[codec][0], "w")
    assert isinstance(encoder, VideoCodecContext)  # noqa: S101 - narrows what the stub leaves open
    encoder.width, encoder.height = width, height
    encoder.pix_fmt, encoder.time_base = "yuv420p", Fraction(1, 25)
    encoder.framerate = Fraction(25)
    encoder.thread_count = 1
    if codec is Codec.MPEG4:
        encoder.max_b_frames = 0
        encoder.qmin = encoder.qmax = quality
        encoder.bit_rate = 8_000_000
    elif codec is Codec.VP9:
        encoder.bit_rate = 0
        encoder.options = {"crf": str(quality), "cpu-used": "8", "deadline": "realtime", "lag-in-frames": "0"}
    elif codec is Codec.HEVC:
        encoder.options = {
            "crf": str(quality), "preset": "ultrafast", "tune": "zerolatency",
            "x265-params": "log-level=none:pools=none:frame-threads=1",
        }  # fmt: skip
    else:
        encoder.options = {"crf": str(quality), "preset": "veryfast", "tune": "zerolatency"}
    return encoder
