"""Does a text contradict the figures? A language model's words are believed only after this."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import Any, Final

from core.domain import Verdict
from core.fusion.narrators import shape, sides
from core.fusion.narrators.claims import ADVERBS, FAKE, IS, REAL, agrees

_SUBJECT = (
    r"\b(?:it|(?:this|the|whole|entire)\s+(?:\w+\s+)?"
    r"(?:video|clip|file|recording|footage|media|submission|content|verdict))"
)
_CLAIMS: Final = {
    Verdict.REAL: re.compile(_SUBJECT + IS + ADVERBS + REAL, re.IGNORECASE),
    Verdict.DEEPFAKE: re.compile(_SUBJECT + IS + ADVERBS + FAKE, re.IGNORECASE),
}
_SHOUTED: Final = re.compile(r"\b(?:DEEPFAKE|REAL|INCONCLUSIVE|FAKE|AUTHENTIC|GENUINE)\b")
_TRACE: Final = re.compile(r"\btraces?\b", re.IGNORECASE)
_ACCUSATION: Final = re.compile(
    r"\b(?:deep\s?-?fake[ds]?|fake[ds]?|forge[dry]*|fabricat\w+|synthetic|proofs?|prove[ns]?|confirms?)\b",
    re.IGNORECASE,
)
_DENIAL: Final = re.compile(
    r"\b(?:not|no|never|nothing|neither|nor|cannot|hardly)\b|n['\u2019]t\b", re.IGNORECASE
)
#: Denials in form alone: what they stand in says all the more.
_EMPHASIS: Final = re.compile(
    r"\b(?:no\s+(?:doubt|question|other)|not\s+(?:only|just|merely)"
    r"|nothing\s+(?:but|less|short|(?:else|other)\s+than)|can\s?not\s+be\s+(?:denied|doubted))\b",
    re.IGNORECASE,
)
_SECONDS = r"(\d+(?:\.\d+)?)"
_INTERVAL: Final = re.compile(
    rf"\[\s*{_SECONDS}\s*(?:[-\u2010-\u2015]|to)\s*{_SECONDS}\s*s?\s*\]"
    rf"|\b{_SECONDS}\s*[-\u2010-\u2015]\s*{_SECONDS}\b"
    rf"|\b{_SECONDS}\s+to\s+{_SECONDS}\s*s(?:ec(?:ond)?s?)?\b"
)
_NUMBER: Final = re.compile(r"(?<![\w.])[-+]?\d+(?:[.,]\d+)*")
_PERCENT: Final = re.compile(r"\s*(?:%|per\s?cent\b)", re.IGNORECASE)
_SPELLED: Final = re.compile(r"[a-z]+[\s-]+per\s?cent\b", re.IGNORECASE)
#: A score written with fewer digits could stand for almost anything.
_SCORE_DIGITS: Final = 2


def clean(text: str) -> str:
    """The text without control and format characters, in compatibility form; line breaks stay."""
    normal = unicodedata.normalize("NFKC", text)
    kept = "".join(c for c in normal if c == "\n" or not unicodedata.category(c).startswith("C"))
    return re.sub(r"\n{3,}", "\n\n", kept).strip()


def contradictions(text: str, figures: dict[str, Any]) -> list[str]:
    """What a cleaned text says against `figures`, as stable codes with a detail; empty when nothing.

    It errs to suspicion: a text that is right but uses a number of its own is rejected as well.
    """
    uncited = _INTERVAL.sub(" ", text)
    return [
        *shape.faults(text, figures),
        *_verdict(text, Verdict(figures["verdict"])),
        *_citations(text, figures),
        *_numbers(uncited, figures),
        *_traces(uncited, Verdict(figures["verdict"])),
        *sides.faults(uncited, figures),
    ]


def _verdict(text: str, verdict: Verdict) -> Iterator[str]:
    """Wrong verdict words in capitals, and claims about the file in prose that lean another way."""
    shouted = set(_SHOUTED.findall(text))
    if shouted - {verdict.value}:
        yield f"verdict: {min(shouted - {verdict.value})}"
    if verdict.value not in shouted:
        yield "verdict: missing"
    for claim, pattern in _CLAIMS.items():
        for match in pattern.finditer(text):
            if not agrees(match.group(), claim, verdict):
                yield f"claim: {match.group()[:60]}"


def _traces(text: str, verdict: Verdict) -> Iterator[str]:
    """Traces of manipulation are no fake: only beside a verdict that says so may one sentence hold both."""
    if verdict is Verdict.DEEPFAKE:
        return
    for sentence in shape.sentences(text):
        accuses = _TRACE.search(sentence) and _ACCUSATION.search(sentence)
        if accuses and not _DENIAL.search(_EMPHASIS.sub(" ", sentence)):
            yield f"trace: {sentence[:60]}"


def _citations(text: str, figures: dict[str, Any]) -> Iterator[str]:
    """Intervals that were not given, and an accusation without any interval."""
    known = {spot for string in _strings(figures) for spot in _spots(f"[{string}]")}
    used = set(_spots(text))
    for start, end in sorted(used - known):
        yield f"interval: {start:g}-{end:g}"
    if known and not used and figures["verdict"] == Verdict.DEEPFAKE:
        yield "interval: none cited"


def _spots(text: str) -> Iterator[tuple[float, float]]:
    """Every interval that a text names, as (start, end) in seconds."""
    for match in _INTERVAL.finditer(text):
        start, end = (float(part) for part in match.groups() if part is not None)
        yield start, end


def _strings(node: Any) -> Iterator[str]:
    if isinstance(node, dict | list):
        for value in node.values() if isinstance(node, dict) else node:
            yield from _strings(value)
    elif isinstance(node, str):
        yield node


def _numbers(text: str, figures: dict[str, Any]) -> Iterator[str]:
    """Every number must be one of the figures, at the precision it is written with."""
    if match := _SPELLED.search(text):
        yield f"number: {match.group()}"
    given = list(_leaves(figures))
    for match in _NUMBER.finditer(text):
        percent = _PERCENT.match(text, match.end()) is not None
        if not _known(match.group(), given, percent=percent):
            yield f"number: {match.group()}{'%' if percent else ''}"


def _leaves(node: Any, name: str = "") -> Iterator[tuple[str, float]]:
    """Every number of the figures with the key it stands under."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _leaves(value, key)
    elif isinstance(node, list):
        for value in node:
            yield from _leaves(value, name)
    elif isinstance(node, int | float) and not isinstance(node, bool):
        yield name, float(node)


def _known(token: str, given: list[tuple[str, float]], *, percent: bool) -> bool:
    try:
        value = float(token)
    except ValueError:
        return False
    digits = len(token.partition(".")[2])
    match = _is_percent if percent else _is_plain
    return any(match(value, digits, name, figure) for name, figure in given)


def _is_percent(value: float, digits: int, name: str, figure: float) -> bool:
    """Shares as they are and scores times one hundred, rounded to the digits written."""
    if not (_is_score(name) or name.endswith("percent")):
        return False
    return _close(value, 100 * figure if _is_score(name) else figure, 0.5 * 10.0**-digits)


def _is_plain(value: float, digits: int, name: str, figure: float) -> bool:
    """Counts and thresholds exactly, seconds rounded, scores with at least two digits."""
    if name.endswith("percent"):
        return False
    rounded = name.endswith("seconds") or (_is_score(name) and digits >= _SCORE_DIGITS)
    return _close(value, figure, 0.5 * 10.0**-digits if rounded else 0.0)


def _is_score(name: str) -> bool:
    return name.endswith("score") or name in {"real_below", "suspicious_from"}


def _close(value: float, figure: float, tolerance: float) -> bool:
    return abs(value - figure) <= tolerance + 1e-9
