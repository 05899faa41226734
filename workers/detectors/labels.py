"""Which class of a checkpoint means fake: by its name, never by its position.

Published deepfake checkpoints use both orders, and some name no class at all; taking "class 1" for fake
would turn every verdict of the others around.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from core.domain import Frozen
from core.errors import DetectorUnavailable

FAKE_WORDS: Final = frozenset({"fake", "spoof", "spoofed", "synthetic", "deepfake", "generated", "ai"})
REAL_WORDS: Final = frozenset({"real", "bonafide", "genuine", "human", "authentic"})
#: A label such as `not_fake` or `non-human` needs reading, not matching.
NEGATIONS: Final = frozenset({"not", "non", "no", "un", "without", "anti"})


class FakeClass(Frozen):
    """The classes whose probabilities add up to the fake score."""

    indices: tuple[int, ...]
    label: str  #: their labels as the checkpoint writes them, joined with commas


def resolve(id2label: Mapping[int, str], chosen: str | None) -> FakeClass:
    """The fake class among `id2label`; `chosen` is the setting that names it and has the last word.

    With more than two classes the fake-named ones are summed (face swaps and lip syncs are all fake), but
    only if every other class is named real: the share of a class that says neither belongs to nobody.
    Raises DetectorUnavailable: ambiguous_labels, unknown_fake_label.
    """
    if len(id2label) < 2:  # noqa: PLR2004 - one class has nothing to be told from
        raise DetectorUnavailable(
            f"The checkpoint has {len(id2label)} class; at least two are needed.", code="ambiguous_labels"
        )
    if chosen is not None:
        return _chosen(id2label, chosen)
    kinds = {index: meaning(label) for index, label in id2label.items()}
    if None in kinds.values() or len(set(kinds.values())) < 2:  # noqa: PLR2004 - fake and real
        raise DetectorUnavailable(
            f"The labels {listed(id2label)} do not say which class is fake.", code="ambiguous_labels"
        )
    return _class(id2label, tuple(sorted(index for index, fake in kinds.items() if fake)))


def meaning(label: str) -> bool | None:
    """True for a label that says fake, False for one that says real, None for one that says neither."""
    words = set(re.findall(r"[a-z]+", _spaced(label)))
    if words & NEGATIONS:
        return None
    fake, real = bool(words & FAKE_WORDS), bool(words & REAL_WORDS or {"bona", "fide"} <= words)
    return None if fake == real else fake


def listed(id2label: Mapping[int, str]) -> str:
    """The labels in class order, for people."""
    return ", ".join(repr(id2label[index]) for index in sorted(id2label))


def _spaced(label: str) -> str:
    """`AIGenerated` and `BonaFide` as lower-case words."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", label).lower()


def _chosen(id2label: Mapping[int, str], chosen: str) -> FakeClass:
    wanted = {part.strip().lower() for part in chosen.split(",") if part.strip()}
    found = {
        part: index
        for part in wanted
        for index, label in id2label.items()
        if part in {label.strip().lower(), str(index)}
    }
    if not wanted or wanted != set(found) or len(set(found.values())) == len(id2label):
        raise DetectorUnavailable(
            f"The setting names {chosen!r} as fake; the checkpoint's labels are {listed(id2label)}.",
            code="unknown_fake_label",
        )
    return _class(id2label, tuple(sorted(set(found.values()))))


def _class(id2label: Mapping[int, str], indices: tuple[int, ...]) -> FakeClass:
    return FakeClass(indices=indices, label=",".join(id2label[index] for index in indices))
