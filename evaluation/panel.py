"""The detectors that are measured, opened once a process, and what a result depends on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, cast

from core.config import Limits, ModelSettings
from core.domain import Frozen, Modality, Options, Reason
from core.errors import DetectorUnavailable
from core.evidence import DetectorIdentity
from core.report import code_version

if TYPE_CHECKING:
    from workers.detectors.base import AudioDetector, FrameDetector
    from workers.detectors.blend_trace import BlendTrace

#: Of what is stored. Raised when stored results mean something else than before.
FORMAT: Final = 2


class Subject(StrEnum):
    """What figures are about."""

    VIDEO = "video"  #: the detector that looks at faces
    AUDIO = "audio"  #: the detector that listens to voices
    TRACE = "trace"  #: blend-trace
    VERDICT = "verdict"  #: everything together


class Absent(Frozen):
    """A detector that cannot be measured here."""

    code: str
    detail: str
    mend: str | None = None


class Conditions(Frozen):
    """Everything a stored result depends on beside the file: another of these is another result."""

    format: int = FORMAT
    version: str
    options: Options
    limits: Limits
    detectors: tuple[DetectorIdentity, ...]  #: who spoke
    absent: dict[str, str]  #: subject -> code

    @property
    def digest(self) -> str:
        """Short name of these conditions."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]

    @property
    def test_only(self) -> bool:
        """A detector made for tests takes part: its scores mean nothing."""
        return any(one.test_only for one in self.detectors)


class Setup(Frozen):
    """What a process needs to open the same panel as another."""

    models: ModelSettings
    limits: Limits
    options: Options
    wanted: frozenset[Subject]
    asked: frozenset[Subject] = frozenset()  #: of these, those that somebody named
    raw: bool = False  #: the models' own answers, whatever calibration lies beside them
    allow_test: bool = False
    require_sandbox: bool = False
    temp_dir: str | None = None


@dataclass
class Panel:
    """The opened detectors; what could not be opened says why."""

    setup: Setup
    video: FrameDetector | None = None
    audio: AudioDetector | None = None
    trace: BlendTrace | None = None
    absent: dict[Subject, Absent] = field(default_factory=dict)

    @property
    def identities(self) -> tuple[DetectorIdentity, ...]:
        """Who speaks."""
        opened = (self.video, self.audio, self.trace)
        return tuple(detector.identity for detector in opened if detector is not None)

    @property
    def conditions(self) -> Conditions:
        """What results of this panel depend on."""
        return Conditions(
            version=code_version(),
            options=self.setup.options,
            limits=self.setup.limits,
            detectors=self.identities,
            absent={subject.value: absent.code for subject, absent in self.absent.items()},
        )


#: Not opened because nobody asked: no fault, and no mend.
NOT_WANTED: Final = Absent(code="not_wanted", detail="It was left out of this run.")


def open_panel(setup: Setup) -> Panel:
    """Open what is wanted and here. A detector that cannot be opened is part of the answer, not an error."""
    panel = Panel(setup)
    if _wants(setup, Subject.VIDEO):
        panel.video = cast("FrameDetector | None", _opened(panel, Subject.VIDEO))
    if _wants(setup, Subject.AUDIO):
        panel.audio = cast("AudioDetector | None", _opened(panel, Subject.AUDIO))
    if _wants(setup, Subject.TRACE):
        panel.trace = cast("BlendTrace | None", _opened(panel, Subject.TRACE))
    unwanted = {Subject.VIDEO, Subject.AUDIO, Subject.TRACE} - set(panel.absent)
    panel.absent |= {subject: NOT_WANTED for subject in sorted(unwanted) if not _wants(setup, subject)}
    return panel


def reason_of(absent: Absent) -> Reason:
    """Why intervals have no score where a detector could not be opened, as the service says it."""
    return Reason.NOT_ANALYZED if absent == NOT_WANTED else Reason.NO_DETECTOR_WEIGHTS


def _wants(setup: Setup, subject: Subject) -> bool:
    """The verdict needs all of them."""
    return bool(setup.wanted & {subject, Subject.VERDICT})


def _opened(panel: Panel, subject: Subject) -> Any:
    from workers.detectors import blend_trace, registry  # noqa: PLC0415 - torch only where something is scored

    models, allow_test = panel.setup.models, panel.setup.allow_test
    if Subject.TRACE in panel.setup.asked:  # whoever asks for it wants to know what it would be worth
        models = models.model_copy(update={"blend_trace": "on"})
    try:
        if subject is not Subject.TRACE:
            opened = registry.load(Modality(subject.value), models, allow_test=allow_test)
            if panel.setup.raw:
                opened.calibration = None
            return opened
        found = blend_trace.open_trace(models, allow_test=allow_test)
    except DetectorUnavailable as error:
        panel.absent[subject] = Absent(code=error.code, detail=error.detail, mend=error.extra.get("mend"))
        return None
    if found is None:
        panel.absent[subject] = Absent(
            code="switched_off",
            detail="The settings switch it off.",
            mend="deepdefend evaluate --detector trace",
        )
    return found
