"""What informs a verdict besides its scores, as text for people: traces, splices, lips, other deliveries."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from rich.text import Text

from cli.doc import at, code, number, objects
from cli.plain import plain

SPLICES = 8  # more do not help a reader; the JSON has all
Lines = Iterator[Text]
_HEAD: Final = "bold"


def trace(report: Any) -> Lines:
    """The manipulation trace over the file; nothing where its detector never looked."""
    found = at(report, "trace")
    if not isinstance(found, dict):
        return
    yield Text("Manipulation trace (supports another suspicion or takes REAL away, never more)", style=_HEAD)
    score, threshold = number(found.get("score")), number(found.get("threshold"))
    count = number(found.get("scored_intervals")) or 0
    if score is None:
        yield Text(f"  {plain(found.get('detector'), 80)}: not measured")
        return
    seen = "found" if found.get("found") is True else "none that counts"
    bound = "" if threshold is None else f", a trace from {threshold:.3f} on"
    yield Text(f"  {seen}: {score:.3f} on average over {count:.0f} intervals{bound}")
    if place := at(found, "strongest_run", "interval"):
        yield Text(f"  strongest at {plain(place, 24)} s")


def lips(report: Any) -> Lines:
    """Faces whose mouths do not move with the voice."""
    found = [one for one in objects(at(report, "av", "tracks")) if one.get("av_mismatch") is True]
    if found:
        yield Text("Lips and voice (they inform; the verdict does not rest on them)", style=_HEAD)
    for one in found:
        correlation, share = number(one.get("correlation")) or 0, number(one.get("null_share")) or 0
        yield Text(
            f"  face {number(one.get('track')) or 0:.0f}: correlation {correlation:.2f}; "
            f"{100 * share:.0f} % of real talkers match no better"
        )


def splices(report: Any) -> Lines:
    """Places where two recordings may have been joined, the strongest first."""
    found = sorted(
        objects(at(report, "splices")), key=lambda one: number(one.get("strength")) or 0, reverse=True
    )
    if found:
        yield Text("Sound may be joined (this informs; the verdict does not rest on it)", style=_HEAD)
    for one in found[:SPLICES]:
        time, strength = number(one.get("time")) or 0, number(one.get("strength")) or 0
        yield Text(f"  {time:.2f} s: {code(one.get('kind')) or 'unknown'}, {strength:.2g} times its bound")
    if len(found) > SPLICES:
        yield Text(f"  and {len(found) - SPLICES} more")


def stability(report: Any) -> Lines:
    """What re-encoded, scaled and cropped copies say; nothing where nobody asked."""
    found, reason = at(report, "stability"), at(report, "stability_reason")
    if not isinstance(found, dict):
        if reason:
            yield Text("Other deliveries", style=_HEAD)
            yield Text(f"  not measured [{code(reason)}]")
        return
    variants = objects(found.get("variants"))
    yield Text("Other deliveries", style=_HEAD)
    yield _survival(found, variants)
    for one in variants:
        yield Text(f"  {_variant(one)}")


def _survival(found: dict[str, Any], variants: list[dict[str, Any]]) -> Text:
    verdicts = [one["verdict"] for one in variants if one.get("verdict") is not None]
    if not verdicts:
        return Text("  no copy could be measured: whether the answer survives is not known")
    another = any(verdict != found.get("verdict") for verdict in verdicts)
    return Text(
        f"  {'another' if another else 'no other'} verdict than {plain(found.get('verdict'), 40)}"
        f" in {'a' if another else 'any'} copy that could be measured",
        style="bold" if another else "",
    )


def _variant(one: dict[str, Any]) -> str:
    """One copy: its verdict and how far scores moved, or why it says nothing."""
    name = code(one.get("variant")) or "unknown"
    verdict = one.get("verdict")
    if verdict is None:
        reason = one.get("reason")
        return f"{name}: not measured" + (f" [{code(reason)}]" if reason else "")
    moved = [
        f"{what} {change:+.3f} at most"
        for what, key in (("score", "scores"), ("trace", "traces"))
        if (change := number(at(one, key, "max_change"))) is not None
    ]
    return ", ".join([f"{name}: {plain(verdict, 40)}", *moved])
