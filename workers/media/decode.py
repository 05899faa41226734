"""The whole of one file: probe, plan, one decoding pass, and the manifest of what was found."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from core.domain import Span, timeline
from core.errors import MediaError
from core.evidence import AudioFacts, Manifest, MediaFacts, Track, VideoFacts
from workers.media import lips
from workers.media.formats import open_input
from workers.media.gather import Gatherer
from workers.media.job import Job
from workers.media.mouth import MouthTracer
from workers.media.picture import PictureReader
from workers.media.plan import plan
from workers.media.probe import Presentation, Probe, declared_seconds, probe
from workers.media.sound import SoundWriter, sound_shards

SOUND_FILE: Final = "sound.wav"
#: A header may round, and a stream may end a little before another: this much is no cut.
_CUT_SECONDS: Final = 0.5
_CUT_PART: Final = 0.02
#: Gaps between frames that differ by less than this from the usual one are the container's rounding.
_STEADY_PART: Final = 0.25
_STEADY_SECONDS: Final = 0.002


def decode(source: str, folder: Path, job: Job) -> Manifest:
    """Analyse `source` (a path) into files in `folder`. Raises MediaError with a stable code."""
    with open_input(source) as container:
        found = probe(container, job)
        spans = timeline(round(float(found.duration), 6), job.interval_seconds)
        facts = _container_facts(found, Path(source).stat().st_size)
    # Opened anew: a seek to the start is inexact in some containers.
    with open_input(source) as container:
        return _Pass(container, found, spans, folder, job).run(facts)


class _Pass:
    """The one forward pass over the packets of both streams."""

    def __init__(
        self, container: InputContainer, found: Probe, spans: tuple[Span, ...], folder: Path, job: Job
    ) -> None:
        self._container = container
        self._found = found
        self._spans = spans
        self._job = job
        self._video = self._audio = -1  # stream indices
        self._reader: PictureReader | None = None
        self._gatherer: Gatherer | None = None
        self._sound: SoundWriter | None = None
        #: Mouths are only followed where there is a voice to compare them with.
        self._mouths = MouthTracer() if found.audio_index is not None and found.sound is not None else None
        self._folder = folder
        if found.video_index is not None and found.picture is not None:
            self._video = found.video_index
            self._open_picture(container.streams[self._video], found.picture, folder)
        if found.audio_index is not None and found.sound is not None:
            self._audio = found.audio_index
            self._open_sound(container.streams[self._audio], folder)

    def _open_picture(self, stream: object, shown: Presentation, folder: Path) -> None:
        """Plan the frames to keep and set up their way from decoder to files."""
        if not isinstance(stream, VideoStream):
            raise MediaError("The file changed its streams while it was read.")
        times = [float(tick * shown.base - self._found.origin) for tick in shown.ticks]
        dues = plan(self._spans, times, self._job.frames_per_interval)
        limit, mouths = self._job.max_pixels, self._mouths
        self._reader = PictureReader(stream, shown, times, dues, max_pixels=limit, onlooker=mouths)
        self._gatherer = Gatherer(
            folder,
            self._spans,
            dues,
            max_faces=self._job.max_faces_per_frame,
            pixels=stream.width * stream.height,
            mouths=mouths,
        )

    def _open_sound(self, stream: object, folder: Path) -> None:
        """Set up the way of the sound to its file."""
        if not isinstance(stream, AudioStream):
            raise MediaError("The file changed its streams while it was read.")
        origin, duration = float(self._found.origin), self._spans[-1].end
        self._sound = SoundWriter(stream, folder / SOUND_FILE, origin=origin, duration=duration)

    def run(self, facts: MediaFacts) -> Manifest:
        """Read everything once and put the manifest together."""
        streams = [self._container.streams[n] for n in (self._video, self._audio) if n >= 0]
        try:
            for packet in self._container.demux(*streams):
                self._feed(packet)
        except MemoryError:
            raise
        except av.FFmpegError:  # unreadable from here on; the scan before met the same and noted it
            self._flush()
        if self._sound is not None:
            self._sound.close()
        if self._gatherer is not None:
            self._gatherer.finish()
        return self._manifest(facts)

    def _feed(self, packet: Packet[Any]) -> None:
        """Hand a packet to whom it belongs: the empty one that ends a stream says 0 in `stream_index`."""
        index = packet.stream.index
        if index == self._video and self._reader is not None and self._gatherer is not None:
            for sampled in self._reader.feed(packet):
                self._gatherer.offer(sampled, self._reader.rotation)
        elif index == self._audio and self._sound is not None:
            self._sound.feed(packet)

    def _flush(self) -> None:
        """Get out what the decoders still hold, as the end of the file would have."""
        for index in (self._video, self._audio):
            if index >= 0:
                packet: Packet[Any] = Packet()
                packet.stream = self._container.streams[index]
                self._feed(packet)

    def _manifest(self, facts: MediaFacts) -> Manifest:
        """Everything found. Raises MediaError `undecodable_media` when nothing could be decoded."""
        heard = self._sound is not None and self._sound.decoded > 0
        pictures = self._reader is not None and self._reader.outputs > 0
        if not heard and not pictures:
            raise MediaError("Nothing in the file could be decoded.")
        gathered = self._gatherer
        return Manifest(
            facts=facts.model_copy(update={"video": self._video_facts(), "audio": self._audio_facts()}),
            interval_seconds=self._job.interval_seconds,
            frames_per_interval=self._job.frames_per_interval,
            spans=self._spans,
            frames=tuple(gathered.frames) if gathered is not None else (),
            tracks=self._tracks(gathered, heard=heard) if gathered is not None else (),
            crop_shards=tuple(gathered.shards) if gathered is not None else (),
            frame_thumbnails=gathered.stills if gathered is not None else {},
            thumbnail_frames=gathered.still_frames if gathered is not None else {},
            cuts=gathered.cuts if gathered is not None else (),
            sound_shards=sound_shards(self._spans) if heard else (),
            sound_file=SOUND_FILE if heard else None,
        )

    def _tracks(self, gathered: Gatherer, *, heard: bool) -> tuple[Track, ...]:
        """The faces, with the bond of lips and voice where both were there."""
        openings = self._mouths.openings if self._mouths is not None and heard else {}
        return lips.attach(gathered.tracks, openings, self._folder / SOUND_FILE)

    def _video_facts(self) -> VideoFacts | None:
        """The picture stream, as measured."""
        if self._reader is None or self._found.picture is None:
            return None
        stream, reader, shown = self._reader.stream, self._reader, self._found.picture
        sides = (stream.width, stream.height)
        width, height = sides if reader.rotation in {0, 180} else sides[::-1]
        fps, varies = frame_rate(shown)
        return VideoFacts(
            codec=stream.codec_context.name,
            width=width,
            height=height,
            rotation=reader.rotation,
            pixel_format=stream.codec_context.pix_fmt or "unknown",
            fps=fps,
            frames=max(0, len(shown.ticks) - reader.errors) if reader.outputs else 0,
            variable_frame_rate=varies,
            decode_errors=reader.errors + reader.concealed,
        )

    def _audio_facts(self) -> AudioFacts | None:
        """The sound stream, as measured."""
        if self._sound is None:
            return None
        context = self._sound.stream.codec_context
        return AudioFacts(
            codec=context.name,
            sample_rate=context.sample_rate,
            channels=context.layout.nb_channels,
            decode_errors=self._sound.errors,
        )


def _container_facts(found: Probe, size: int) -> MediaFacts:
    """What the container says and what its packets say against it."""
    declared = declared_seconds(found.container)
    duration = float(found.duration)
    cut = declared is not None and declared - duration > max(_CUT_SECONDS, _CUT_PART * declared)
    return MediaFacts(
        container=found.container.format.name,
        duration=round(duration, 6),
        declared_duration=declared,
        size_bytes=size,
        video=None,
        audio=None,
        cut_short=cut or found.broken,
    )


def frame_rate(shown: Presentation) -> tuple[float | None, bool]:
    """Average frames a second from presentation times, and whether more than 1% of the gaps are uneven."""
    if len(shown.ticks) < 2 or shown.ticks[-1] == shown.ticks[0]:  # noqa: PLR2004 - a rate needs two
        return None, False
    gaps = np.diff(np.asarray(shown.ticks)) * float(shown.base)
    usual = float(np.median(gaps))
    uneven = np.abs(gaps - usual) > max(_STEADY_PART * usual, _STEADY_SECONDS)
    return round(1 / float(gaps.mean()), 4), int(uneven.sum()) > len(gaps) // 100
