"""What fusion is given: one row per interval of the timeline, and how the branches ended."""

from __future__ import annotations

from core.domain import Frozen, Modality, Reason, Region, SoundSignal, StepStatus
from core.evidence import AudioFinding, VideoFinding


def label(start: float, end: float) -> str:
    """An interval as reports cite it, in seconds: `4.0-6.0`; milliseconds only where there are some."""
    return f"{_seconds(start)}-{_seconds(end)}"


def _seconds(value: float) -> str:
    text = f"{value:.3f}".rstrip("0")
    return text + "0" if text.endswith(".") else text


class IntervalEvidence(Frozen):
    """Everything known of one interval. A modality nobody looked at says so with a reason."""

    index: int
    start: float  #: seconds
    end: float
    video: VideoFinding
    audio: AudioFinding

    @property
    def label(self) -> str:
        """The interval as it is cited."""
        return label(self.start, self.end)

    @property
    def seconds(self) -> float:
        """Length of the interval."""
        return self.end - self.start

    def score(self, modality: Modality) -> float | None:
        """The fake probability of one modality here, or null."""
        return self.video.score if modality is Modality.VIDEO else self.audio.score

    def reason(self, modality: Modality) -> Reason:
        """Why that score is null; a finding without score and reason counts as not analysed."""
        finding = self.video if modality is Modality.VIDEO else self.audio
        return finding.reason or Reason.NOT_ANALYZED

    @property
    def video_regions(self) -> tuple[Region, ...]:
        """Regions that spoke for fake beyond their own scatter over the frames, strongest first."""
        spoke = [effect for effect in self.video.regions if effect.drop > max(0.0, effect.spread)]
        return tuple(effect.region for effect in sorted(spoke, key=lambda effect: -effect.drop))

    @property
    def audio_regions(self) -> tuple[SoundSignal, ...]:
        """Sound signals that crossed their bounds here, scored or not."""
        return tuple(dict.fromkeys(signal.signal for signal in self.audio.signals))

    def scorable_seconds(self, modality: Modality) -> float:
        """How much of this interval a detector could have scored: face time or speech time.

        Face time counts whole intervals; speech time is what voice activity detection measured, or
        the whole interval where it was not measured.
        """
        if self.score(modality) is None and self.reason(modality) in NOTHING_TO_SCORE:
            return 0.0
        if modality is Modality.AUDIO and self.audio.speech_seconds:
            return min(self.audio.speech_seconds, self.seconds)
        return self.seconds


#: Reasons which say that there was nothing a detector could have scored. Every other reason is a gap.
NOTHING_TO_SCORE = frozenset(
    {
        Reason.NO_VIDEO_STREAM,
        Reason.NO_AUDIO_STREAM,
        Reason.NO_FACE,
        Reason.SILENCE,
        Reason.NO_SPEECH,
        Reason.MUSIC,
        Reason.TOO_SHORT,
    }
)


class Branch(Frozen):
    """How one branch step ended, when it did not end `done`."""

    modality: Modality
    status: StepStatus  #: failed or skipped
    reason: Reason
    shard: int = 0
    mend: str | None = None  #: the command that mends it, where the branch knows a better one than the reason
