"""What is in the file, by its headers and packets, before one frame is decoded.

Every limit is checked here: the header first (a bomb says its size there), then the packets, which
tell the true presentation times, so that the frames to keep are known before decoding begins.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Final

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from core.errors import MediaError
from workers.media.formats import audio_allowed, video_allowed
from workers.media.job import Job

#: Length given to a lone frame that does not say how long it stays: one frame of PAL.
_LONE_FRAME: Final = Fraction(1, 25)
#: Containers whose header has no duration: FFmpeg divides the size by a bit rate.
_ESTIMATED: Final = frozenset({"mp3", "mpeg"})


@dataclass
class Presentation:
    """Presentation times of one stream, in ticks of `base`; decoding order is gone."""

    base: Fraction
    ticks: list[int] = field(default_factory=list)  #: sorted; for sound only the first packet's
    exact: bool = True  #: every packet had a presentation time; otherwise these are decoding times
    end: int = 0  #: when the last sample stops being presented

    @property
    def start_seconds(self) -> Fraction:
        """When the first sample is presented, on the container's clock."""
        return self.ticks[0] * self.base

    @property
    def end_seconds(self) -> Fraction:
        """When the last sample stops being presented, on the container's clock."""
        return self.end * self.base


@dataclass(frozen=True)
class Probe:
    """The streams to decode, their times, and the origin of the timeline."""

    container: InputContainer
    video_index: int | None  #: number of the stream in the container
    audio_index: int | None
    picture: Presentation | None  #: None: no picture stream, or one without a single packet
    sound: Presentation | None
    broken: bool  #: the container could not be read to its end

    @property
    def origin(self) -> Fraction:
        """Seconds on the container's clock at which the first sample is presented: our zero."""
        return min(p.start_seconds for p in (self.picture, self.sound) if p is not None)

    @property
    def duration(self) -> Fraction:
        """Seconds from the first presented sample to the end of the last one; positive."""
        end = max(p.end_seconds for p in (self.picture, self.sound) if p is not None)
        return max(end - self.origin, Fraction(1, 1000))


def declared_seconds(container: InputContainer) -> float | None:
    """Seconds that the header claims; None where there is no such claim, only FFmpeg's estimate."""
    if container.duration is None or container.format.name in _ESTIMATED:
        return None
    return container.duration / av.time_base


def probe(container: InputContainer, job: Job) -> Probe:
    """Choose the streams and hold the file to its limits.

    Raises MediaError `no_streams`, `too_many_streams`, `too_many_pixels`, `too_long`, `too_many_frames`,
    `unsupported_format` or `undecodable_media`.
    """
    if len(container.streams) > job.max_streams:
        raise MediaError(
            f"The file has {len(container.streams)} streams; {job.max_streams} are allowed.",
            code="too_many_streams",
        )
    video = _choose(s for s in container.streams if isinstance(s, VideoStream) and not _is_cover(s))
    audio = _choose(s for s in container.streams if isinstance(s, AudioStream))
    picture = video if isinstance(video, VideoStream) else None
    sound = audio if isinstance(audio, AudioStream) else None
    if picture is None and sound is None:
        raise MediaError("The file has neither a picture nor a sound stream.", code="no_streams")
    _check_header(container, picture, sound, job)
    found = _scan(container, picture, sound, job)
    if found.picture is None and found.sound is None:
        raise MediaError("The file holds no picture and no sound that can be read.")
    if found.duration > job.max_seconds:
        raise _too_long(float(found.duration), job)
    return found


def _is_cover(stream: Stream) -> bool:
    """Cover art in a sound file is a one-picture stream; it is no video."""
    return bool(stream.disposition & (Disposition.attached_pic | Disposition.timed_thumbnails))


def _choose(streams: Iterator[Stream]) -> Stream | None:
    """The stream a player would play: the first one marked default, else the first."""
    candidates = list(streams)
    preferred = [stream for stream in candidates if stream.disposition & Disposition.default]
    return next(iter(preferred or candidates), None)


def _check_header(
    container: InputContainer, video: VideoStream | None, audio: AudioStream | None, job: Job
) -> None:
    """Refuse by what the header says, before anything is decoded."""
    for stream, allowed in ((video, video_allowed), (audio, audio_allowed)):
        if stream is not None and (stream.codec_context is None or not allowed(stream.codec_context.name)):
            raise MediaError("The file uses a codec that we do not decode.", code="unsupported_format")
    declared = declared_seconds(container)
    if declared is not None and declared > job.max_seconds:
        raise _too_long(declared, job)
    if video is None:
        return
    if video.width * video.height > job.max_pixels:
        raise MediaError(
            f"The picture is {video.width}x{video.height}; at most {job.max_pixels} pixels are allowed.",
            code="too_many_pixels",
        )
    if video.width * video.height <= 0:
        raise MediaError("The picture stream does not say how large it is.")
    if video.frames > job.max_frames:
        raise _too_many_frames(job)


def _too_long(seconds: float, job: Job) -> MediaError:
    """The error for a file beyond the longest allowed duration."""
    return MediaError(
        f"The file lasts {seconds:.0f} s; at most {job.max_seconds:.0f} s are allowed.", code="too_long"
    )


def _too_many_frames(job: Job) -> MediaError:
    """The error for a picture stream with too many frames."""
    return MediaError(f"The picture has more than {job.max_frames} frames.", code="too_many_frames")


def _scan(container: InputContainer, video: VideoStream | None, audio: AudioStream | None, job: Job) -> Probe:
    """Read every packet once without decoding any: 15 microseconds each."""
    picture = _Scan(video) if video is not None else None
    sound = _Scan(audio) if audio is not None else None
    streams = [stream for stream in (video, audio) if stream is not None]
    broken = False
    try:
        for packet in container.demux(*streams):
            for scan in (picture, sound):
                if scan is not None and packet.size and packet.stream_index == scan.index:
                    scan.add(packet)
            if picture is not None and len(picture.ticks) > job.max_frames:
                raise _too_many_frames(job)
    except av.FFmpegError:
        broken = True
    return Probe(
        container,
        picture.index if picture is not None else None,
        sound.index if sound is not None else None,
        picture.presentation() if picture is not None else None,
        sound.presentation() if sound is not None else None,
        broken,
    )


class _Scan:
    """Collects the times of one stream's packets."""

    def __init__(self, stream: VideoStream | AudioStream) -> None:
        self.stream = stream
        self.index = stream.index
        self.base = stream.time_base or Fraction(1, av.time_base)
        self.keep_all = isinstance(stream, VideoStream)
        self.ticks: list[int] = []
        self.exact = True
        self.count = 0
        self.untimed = 0  # packets that came without any time before one that had one
        self.last = (0, 0)  # tick and duration of the packet presented last

    def add(self, packet: Packet[Stream]) -> None:
        """Note one packet that carries data."""
        if packet.is_corrupt:  # cut off by the end of the file, most likely: nothing whole to present
            return
        if packet.is_discard:  # decoded for what follows it, never presented (edit lists, priming)
            return
        tick = packet.pts
        if tick is None:
            self.exact = False
            tick = packet.dts if packet.dts is not None else self._guess()
        if tick is None:
            self.untimed += 1
            return
        self.count += 1
        self.last = (
            max(self.last, (tick, packet.duration or 0)) if self.count > 1 else (tick, packet.duration or 0)
        )
        if self.keep_all or not self.ticks:
            self.ticks.append(tick)

    def _guess(self) -> int | None:
        """A time for a packet that has none at all: where the one before it ends, if there is one."""
        return self.last[0] + max(self.last[1], 1) if self.count else None

    def _lead_in(self) -> None:
        """Times for packets that had none before the first that had one: counted back from it.

        Matroska's clock cannot be negative; what was presented before its zero comes without a time.
        """
        step = self._typical_gap()
        if self.keep_all:
            first = min(self.ticks, default=0)
            self.ticks = [first - step * n for n in range(self.untimed, 0, -1)] + self.ticks
        if not self.count:
            self.last = (-step, step)
        self.count += self.untimed

    def presentation(self) -> Presentation | None:
        """All times sorted, and the end; None when no packet carried anything."""
        if self.untimed and (self.keep_all or self.count):
            self._lead_in()
        if not self.count:
            return None
        self.ticks.sort()
        end = self.last[0] + (self.last[1] or self._typical_gap())
        found = Presentation(self.base, self.ticks, self.exact, end)
        if not self.keep_all:
            self._trim(found)
        return found

    def _typical_gap(self) -> int:
        """How long the last frame stays when it does not say: the mean distance of the others."""
        if len(self.ticks) > 1:
            return max(1, (self.ticks[-1] - self.ticks[0]) // (len(self.ticks) - 1))
        return max(1, int(_LONE_FRAME / self.base))

    def _trim(self, found: Presentation) -> None:
        """Leave out the encoder's priming and padding, which the stream's header knows of."""
        start, length = self.stream.start_time, self.stream.duration
        padding = 2 * max(self.last[1], 1)
        if start is not None and 0 <= start - found.ticks[0] <= padding:
            found.ticks[0] = start
        if length is not None and 0 <= found.end - (found.ticks[0] + length) <= padding:
            found.end = found.ticks[0] + length
