"""What the page says in words: what a verdict means and what it does not, standings, reasons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from api.page.figures import plain, shown
from core.domain import Reason
from core.fusion.causes import NAMES, Cause
from core.reading import number, objects, word

__all__ = ["NAMES", "VERDICTS", "Meaning", "Told", "meaning", "standing", "told", "why"]


@dataclass(frozen=True)
class Meaning:
    """A verdict for people."""

    code: str
    headline: str
    means: str
    means_not: str
    kind: str  #: fake, real or open: shape and colour of its sign


VERDICTS: Final = {
    "DEEPFAKE": Meaning(
        "DEEPFAKE",
        "Signs of manipulation",
        "Parts of this file score as manipulated, more than chance explains. They are marked below.",
        "It is a measurement by models that make mistakes, not a proof. It does not say who changed the "
        "file, how, or why.",
        "fake",
    ),
    "REAL": Meaning(
        "REAL",
        "No sign of manipulation found",
        "Enough of this file could be scored, and what was scored stays below the point where doubt begins.",
        "It is not a certificate. A method that the detectors do not know leaves no sign they could see, "
        "and a genuine recording can still be shown in a false context.",
        "real",
    ),
    "INCONCLUSIVE": Meaning(
        "INCONCLUSIVE",
        "The evidence does not allow an answer",
        "This is an answer: what could be measured, if anything could, supports neither verdict.",
        "It does not mean “probably real”, nor “probably fake”. The reasons below say what was missing.",
        "open",
    ),
}
_STANDINGS: Final = {
    "absent": "nothing there that could be scored",
    "clear": "looks real, on enough of it",
    "unclear": "says too little, or neither",
    "near": "suspicious, but not decisively",
    "fake": "clearly suspicious",
}


def meaning(verdict: object) -> Meaning:
    """Of a verdict; one that this release does not know says so."""
    unknown = Meaning(shown(verdict), "A verdict unknown to this release", "", "", "open")
    return VERDICTS.get(str(verdict), unknown)


def standing(value: object) -> str:
    """What part a modality had in the verdict."""
    return _STANDINGS.get(str(value), "")


def why(reason: Reason) -> str:
    """A reason for a null score, as a clause."""
    return Cause(reason=reason).words


@dataclass(frozen=True)
class Told:
    """A reason of the report."""

    code: str
    text: str
    intervals: int
    decisive: bool
    mend: str | None


def told(report: Mapping[str, Any]) -> list[Told]:
    """The reasons of a report, the decisive ones first as they stand there."""
    return [
        Told(
            code=shown(found.get("reason")),
            text=shown(word(found.get("text")) or plain(found.get("reason"))),
            intervals=int(number(found.get("intervals")) or 0),
            decisive=found.get("decisive") is True,
            mend=shown(found["mend"]) if word(found.get("mend")) else None,
        )
        for found in objects(report.get("reasons"))
    ]
