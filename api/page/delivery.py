"""What becomes of the verdict in other deliveries of the file, and what lips and traces add: none decides."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from api.page.figures import counted, plain, shown
from api.page.material import Material
from core.domain import AvSignal, Variant
from core.reading import at, number, objects, word

VARIANTS: Final = {
    Variant.CRF_23.value: "encoded again, well (CRF 23)",
    Variant.CRF_28.value: "encoded again, as a messenger does (CRF 28)",
    Variant.CRF_35.value: "encoded again, badly (CRF 35)",
    Variant.HALF.value: "both sides halved",
    Variant.QUARTER.value: "both sides quartered",
    Variant.CROPPED.value: "a tenth cut off each edge",
}


@dataclass(frozen=True)
class Delivery:
    """One way of passing the file on."""

    name: str
    verdict: str
    flips: bool
    change: str
    range: str


@dataclass(frozen=True)
class Stability:
    """The outcome in a sentence, and the variants."""

    words: str
    flips: bool
    rows: tuple[Delivery, ...]
    measured: str  #: which intervals were looked at again


def stability(material: Material) -> Stability | None:
    """Null where it was neither measured nor asked for."""
    found, reason = material.report.get("stability"), word(material.report.get("stability_reason"))
    if not isinstance(found, dict):
        return Stability(f"Not measured: {plain(reason)}.", False, (), "") if reason else None  # noqa: FBT003
    flips = found.get("flips") is True
    places = [shown(place) for place in found.get("intervals") or () if isinstance(place, str)]
    return Stability(
        words=_outcome(found, flips=flips),
        flips=flips,
        rows=tuple(_delivery(row) for row in objects(found.get("variants"))),
        measured=f"{counted(len(places), 'interval')}: {', '.join(places)} s" if places else "",
    )


def _outcome(found: dict[str, Any], *, flips: bool) -> str:
    """What the copies say, and no more: an answer that was open stays open, whatever they get."""
    original = shown(found.get("verdict"))
    verdicts = [told for row in objects(found.get("variants")) if (told := word(row.get("verdict")))]
    if flips:
        return (
            f"At least one copy gets another verdict than {original}: that is why the answer is inconclusive."
        )
    if not verdicts:
        return "No copy could be measured: whether the answer survives is not known."
    if any(told != found.get("verdict") for told in verdicts):
        return (
            f"At least one copy gets another verdict than {original}, which was no firm answer to begin with."
        )
    return f"No copy that could be measured gets another verdict than {original}."


def _delivery(row: dict[str, Any]) -> Delivery:
    scores, verdict = row.get("scores"), word(row.get("verdict"))
    change = number(at(scores, "max_change"))
    low, high = number(at(scores, "lowest")), number(at(scores, "highest"))
    name = word(row.get("variant")) or ""
    return Delivery(
        name=VARIANTS.get(name, plain(name)),
        verdict=shown(verdict) if verdict else f"not measured: {plain(row.get('reason') or 'no score left')}",
        flips=row.get("flips") is True,
        change="" if change is None else f"{change:+.3f}",
        range="" if low is None or high is None else f"{low:.3f} to {high:.3f}",
    )


def lips(material: Material) -> str | None:
    """What is said of lips and voice together, where a voice is left without a mouth."""
    signals = at(material.report, "av", "signals")
    if not isinstance(signals, list) or AvSignal.AV_MISMATCH.value not in signals:
        return None
    return (
        "A voice is heard while a face is there whose mouth does not move with it, and no other face "
        "matches. Dubbing, a narrator or a listener does that too: it informs, it does not decide."
    )


def mismatches(material: Material) -> set[int]:
    """Faces whose mouth does not go with the voice."""
    rows = objects(at(material.report, "av", "tracks"))
    return {int(number(row.get("track")) or 0) for row in rows if row.get("av_mismatch") is True}


def trace(material: Material) -> str | None:
    """The manipulation-trace detector's summary in words; null where it did not look."""
    found = material.report.get("trace")
    if not isinstance(found, dict):
        return None
    return " ".join(_trace(found))


def _trace(found: dict[str, Any]) -> Iterator[str]:
    score, limit = number(found.get("score")), number(found.get("threshold"))
    state = "found" if found.get("found") is True else "not found"
    yield f"Manipulation trace {state}"
    if score is not None and limit is not None:
        yield f"(mean {score:.3f}, a trace from {limit:.3f},"
        yield f"{counted(int(number(found.get('scored_intervals')) or 0), 'interval')} looked at)."
    else:
        yield "(nothing of it lies in the detector's domain)."
    yield "It supports an accusation or takes REAL away; it never accuses alone."
