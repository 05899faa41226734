"""How English calls something real or fake: the parts of such claims, and whether one goes with a verdict."""

from __future__ import annotations

import re
from typing import Final

from core.domain import Verdict

IS: Final = (
    r"(?:['\u2019]s|\s+(?:is|was|are|were|looks?|sounds?|appears?|seems?|must|should|can|has|have|may|could"
    r"|might|would)(?:n['\u2019]t)?)\b"
)
ADVERBS: Final = (
    r"(?:\s+(?:\w+ly|almost|very|quite|most|not|never|a|an|the|to|be|been|as"
    r"|considered|judged|rated|called))*"
)
REAL: Final = r"\s+(?:real|authentic|genuine|unaltered|unmanipulated|untouched|legitimate|original)\b"
FAKE: Final = (
    r"\s+(?:deep\s?-?fake[ds]?|fake[ds]?|manipulated|synthetic|forged|fabricated|cloned|altered|swapped"
    r"|doctored|tampered|falsified|(?:ai[- ])?generated)\b"
)
_NEGATED: Final = re.compile(r"\b(?:not|never|hardly)\b|n['\u2019]t\b", re.IGNORECASE)
_UNABLE: Final = re.compile(r"\b(?:can|could)\b", re.IGNORECASE)


def agrees(words: str, claim: Verdict, verdict: Verdict) -> bool:
    """Whether words that call something `claim`, or deny it, go with what `verdict` says of it.

    An abstention goes with neither; only "can not be called real" (or fake) is true of it.
    """
    negated = _NEGATED.search(words) is not None
    if verdict is Verdict.INCONCLUSIVE:
        return negated and _UNABLE.search(words) is not None
    return (claim is verdict) != negated
