"""The sound: its spectrogram with marked spans, signals, splices, and how lips and voice go together."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from api.page.figures import counted, measured, plain
from api.page.gallery import address
from api.page.lanes import place, suspicious_spans
from api.page.material import Material
from core.domain import Modality
from core.evidence import Splice
from core.reading import at, number, objects, word

#: Marks beyond it would only blacken the picture.
MAX_SPLICES = 60


@dataclass(frozen=True)
class SignalRow:
    """A measured oddity of the voice over the whole file."""

    name: str
    value: str
    bound: str
    where: str
    intervals: str


@dataclass(frozen=True)
class Sound:
    """What the page shows of the sound."""

    spectrogram: Markup | None  #: a data: address
    lost: bool  #: it was drawn, and cannot be shown: erased with the file, or not read just now
    suspicious: list[tuple[str, str, str]]  #: begin and width in percent, label
    splices: list[tuple[str, Splice]]
    signals: list[SignalRow]

    @property
    def is_there(self) -> bool:
        """Whether there is anything to show."""
        return bool(self.spectrogram or self.lost or self.signals or self.splices)


def sound(material: Material) -> Sound:
    """Of the whole file."""
    splices = [splice for row in material.intervals for splice in row.audio.splices][:MAX_SPLICES]
    picture = address(material, material.spectrogram)
    return Sound(
        spectrogram=picture,
        lost=picture is None and (material.spectrogram is not None or (material.erased and _heard(material))),
        suspicious=suspicious_spans(material, Modality.AUDIO),
        splices=[(place(material, splice.time, splice.time)[0], splice) for splice in splices],
        signals=[_signal(found) for found in objects(material.report.get("signals"))],
    )


def _heard(material: Material) -> bool:
    """Whether the file has sound: its spectrogram goes with it, and so does the spectrogram's name."""
    return at(material.report, "provenance", "facts", "audio") is not None


def _signal(found: dict[str, object]) -> SignalRow:
    unit = word(found.get("unit")) or ""
    return SignalRow(
        name=plain(found.get("signal")),
        value=measured(number(found.get("value")), unit),
        bound=measured(number(found.get("threshold")), unit),
        where=word(found.get("interval")) or "",
        intervals=counted(int(number(found.get("intervals")) or 0), "interval"),
    )
