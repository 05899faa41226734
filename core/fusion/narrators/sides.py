"""Does a text say of picture or sound what their figures do not, or anything of one that has no score?"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from core.domain import Verdict
from core.fusion.judgement import Standing
from core.fusion.narrators.claims import ADVERBS, FAKE, IS, REAL, agrees
from core.fusion.narrators.shape import sentences

#: Name among the figures -> the nouns by which it is spoken of.
_NOUNS: Final = {
    "picture": r"(?:pictures?|faces?|images?|visuals?|frames?)",
    "sound": r"(?:sounds?|voices?|audio|speech|speakers?|soundtrack)",
}
_MENTIONS: Final = {name: re.compile(rf"\b{nouns}\b", re.IGNORECASE) for name, nouns in _NOUNS.items()}
_CLAIMS: Final = {
    (name, verdict): re.compile(rf"\b{nouns}(?:\s+\w+){{0,3}}?{IS}{ADVERBS}{said}", re.IGNORECASE)
    for name, nouns in _NOUNS.items()
    for verdict, said in ((Verdict.REAL, REAL), (Verdict.DEEPFAKE, FAKE))
}
#: What a standing lets be said, in the words of the verdict.
_MEANS: Final = {
    Standing.CLEAR: Verdict.REAL,
    Standing.NEAR: Verdict.DEEPFAKE,
    Standing.FAKE: Verdict.DEEPFAKE,
    Standing.UNCLEAR: Verdict.INCONCLUSIVE,
    Standing.ABSENT: Verdict.INCONCLUSIVE,
}
#: A score or a share; seconds and counts may be told of what was not scored.
_FIGURE: Final = re.compile(
    r"(?<![\w.])\d+(?:\.\d+)?\s*(?:%|per\s?cent\b)|(?<![\w.])\d+\.\d+(?!\s*s(?:ec|\b))", re.IGNORECASE
)
_ABSENCE: Final = re.compile(
    r"\b(?:no|not|never|neither|nor|none|null|without|missing|unavailable|lacks?|absent|nothing|cannot)\b|n['\u2019]t\b",
    re.IGNORECASE,
)
#: Parts of a sentence, each with a subject of its own, roughly.
_CLAUSES: Final = re.compile(r"[,;:]\s|\s(?:and|but|while|whereas|although)\s", re.IGNORECASE)
#: What no unscored picture or sound may be linked with; signals and traces have names of their own.
_LOADED: Final = re.compile(
    r"\b(?:clon(?:e[ds]?|ing)|fak(?:e[ds]?|ing)|forge\w*|genuine|authentic)\b", re.IGNORECASE
)


def faults(text: str, figures: dict[str, Any]) -> Iterator[str]:
    """Stable codes with a detail; `text` is cleaned, its cited intervals blanked."""
    for (name, claim), pattern in _CLAIMS.items():
        means = _MEANS[Standing(figures[name]["standing"])]
        for match in pattern.finditer(text):
            if not agrees(match.group(), claim, means):
                yield f"claim: {match.group()[:60]}"
    for name in _NOUNS:
        if figures[name]["mean_score"] is None:
            yield from _figures_of_nothing(text, name)
            yield from _words_of_nothing(text, name)


def _figures_of_nothing(text: str, name: str) -> Iterator[str]:
    """Figures in sentences about a modality that was not scored, unless they are the other one's."""
    other = next(one for one in _NOUNS if one != name)
    for sentence in sentences(text):
        if not _MENTIONS[name].search(sentence) or not _FIGURE.search(sentence):
            continue
        if not (_MENTIONS[other].search(sentence) and _ABSENCE.search(sentence)):
            yield f"unmeasured: {sentence[:60]}"


def _words_of_nothing(text: str, name: str) -> Iterator[str]:
    """Clauses that give it a figure, or link it with a forgery, and deny nothing."""
    for sentence in sentences(text):
        for clause in _CLAUSES.split(sentence):
            told = _FIGURE.search(clause) or _LOADED.search(clause)
            if _MENTIONS[name].search(clause) and told and not _ABSENCE.search(clause):
                yield f"unmeasured: {clause.strip()[:60]}"
