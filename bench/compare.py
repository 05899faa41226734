"""Whether two contenders did the same work: the same frames and windows, and the same scores on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bench.outcome import Outcome

#: bf16 moves a probability of the seed's checkpoints by less than 0.005, but test weights have their logits
#: spread forty times, two decoders turn YUV into RGB with other roundings, and PIL resizes another way.
MEAN_TOLERANCE = 0.02
#: Frames and windows that both must have scored; of thirty windows, the last one ends where the last word
#: is heard to end, and two resamplers may disagree on that.
SHARED = 0.9


@dataclass(frozen=True)
class Agreement:
    """Of one kind of score."""

    shared: int  #: keys that both have
    of: int  #: keys that either has
    mean: float  #: mean absolute difference over the shared ones
    worst: float

    @property
    def holds(self) -> bool:
        """Nearly everything is shared, and the scores are the same within tolerance."""
        return self.of > 0 and self.shared >= SHARED * self.of and self.mean <= MEAN_TOLERANCE


def agreement(one: Mapping[str, float], other: Mapping[str, float]) -> Agreement:
    """Compare scores by place."""
    keys = one.keys() & other.keys()
    differences = [abs(one[key] - other[key]) for key in keys]
    mean = sum(differences) / len(differences) if differences else 1.0
    return Agreement(len(keys), len(one.keys() | other.keys()), mean, max(differences, default=1.0))


def agreements(one: Outcome, other: Outcome) -> dict[str, Agreement]:
    """By kind; windows only where both tell theirs (the API gives intervals, not windows)."""
    found = {"frames": agreement(one.frames, other.frames)}
    if one.windows and other.windows:
        found["windows"] = agreement(one.windows, other.windows)
    return found
