"""The sound stream as one 16 kHz mono 16-bit WAV file that lies exactly on the timeline."""

from __future__ import annotations

import wave
from pathlib import Path
from typing import Final

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.packet import Packet

from core.domain import Span
from core.evidence import SOUND_RATE, SoundShard

#: A jump of presentation times beyond this is a real gap, filled with silence; less is rounding of the
#: container's clock (AVI counts in 26 ms), which resampling would turn into clicks.
MAX_DRIFT_SECONDS: Final = 0.05
#: Length of one unit of sound work: long enough to amortise loading it, 10 MB at most.
SHARD_SECONDS: Final = 300.0
_SECOND: Final = np.zeros(SOUND_RATE, np.int16).tobytes()


class SoundWriter:
    """Feeds packets to the decoder and writes samples at once; holds less than a second of them."""

    def __init__(self, stream: AudioStream, path: Path, *, origin: float, duration: float) -> None:
        self.stream = stream
        self._origin = origin
        self._length = round(duration * SOUND_RATE)
        self._file = wave.open(str(path), "wb")  # noqa: SIM115 - closed by `close`, after many packets
        self._file.setnchannels(1)
        self._file.setsampwidth(2)
        self._file.setframerate(SOUND_RATE)
        self._written = 0
        self._resampler: AudioResampler | None = None
        self._source: tuple[str, str, int] | None = None
        self._anchor = 0.0  # where the running resampler began, in seconds of the timeline
        self._consumed = 0  # input samples since then
        self.errors = 0
        self.decoded = 0  # input samples

    def feed(self, packet: Packet[AudioStream]) -> None:
        """Decode one packet; an empty one flushes. Damage is counted, not raised."""
        try:
            frames = packet.decode()
        except MemoryError:
            raise
        except av.FFmpegError:
            self.errors += 1
            return
        for frame in frames:
            self._add(frame)

    def _add(self, frame: AudioFrame) -> None:
        """Put one decoded frame where its presentation time says."""
        self.decoded += frame.samples
        expected = self._anchor + self._consumed / max(frame.sample_rate, 1)
        time = expected if frame.time is None else frame.time - self._origin
        source = (frame.format.name, frame.layout.name, frame.sample_rate)
        if self._resampler is None or source != self._source or abs(time - expected) > MAX_DRIFT_SECONDS:
            self._flush()
            if self._written - time * SOUND_RATE > MAX_DRIFT_SECONDS * SOUND_RATE:
                return  # it repeats what is already there
            self._silence_until(round(time * SOUND_RATE))
            self._resampler = AudioResampler(format="s16", layout="mono", rate=SOUND_RATE)
            self._source, self._anchor, self._consumed = source, time, 0
        self._consumed += frame.samples
        frame.pts = None  # the place is ours; the resampler must neither stretch nor fill
        for piece in self._resampler.resample(frame):
            self._write(piece.to_ndarray().tobytes())

    def _flush(self) -> None:
        """Write what the running resampler still holds."""
        if self._resampler is None:
            return
        for piece in self._resampler.resample(None):
            self._write(piece.to_ndarray().tobytes())
        self._resampler = None

    def _write(self, samples: bytes) -> None:
        """Append 16-bit samples, never beyond the end of the timeline."""
        keep = samples[: 2 * (self._length - self._written)]
        self._file.writeframesraw(keep)
        self._written += len(keep) // 2

    def _silence_until(self, sample: int) -> None:
        """Fill with digital silence up to a sample number."""
        while (missing := min(sample, self._length) - self._written) > 0:
            self._write(_SECOND[: 2 * missing])

    def close(self) -> None:
        """Flush, pad with silence to the timeline's end, and finish the file."""
        self._flush()
        self._silence_until(self._length)
        self._file.close()


def sound_shards(spans: tuple[Span, ...]) -> tuple[SoundShard, ...]:
    """Runs of whole intervals of about five minutes, which together cover the timeline."""
    groups: list[list[Span]] = []
    for span in spans:
        if not groups or span.end - groups[-1][0].start > SHARD_SECONDS + 1e-6:
            groups.append([])
        groups[-1].append(span)
    return tuple(
        SoundShard(
            shard=number,
            first_interval=group[0].index,
            last_interval=group[-1].index,
            start=group[0].start,
            end=group[-1].end,
        )
        for number, group in enumerate(groups)
    )
