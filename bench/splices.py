"""`python -m bench.splices FOLDER`: how many made cuts are found, and how many an hour where nothing was cut.

FOLDER holds one folder of utterances for each speaker (LibriSpeech as it comes, FLAC). Bounds were chosen on
the speakers of `TUNING`; what is printed is of the others unless `--tuning` asks for those.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from bench import splice_material as material
from bench.splice_material import Case, Speech, Wave
from core.evidence import Splice
from workers.detectors.signals import joints, splices

#: Speakers of LibriSpeech test-other on whom the bounds were chosen.
TUNING: Final = ("367", "1688", "2033", "2609")
TOLERANCE: Final = 0.1  #: seconds
KINDS: Final = tuple(splices.BOUNDS)
#: Groups that are coded as a whole afterwards, too.
CODED_AFTERWARDS: Final = (
    "cut-out",
    "another room (20 dB), cross-faded",
    "cut-out under hum (20 dB), cross-faded",
)


class Row(NamedTuple):
    """A line of the table of made cuts."""

    group: str
    cuts: int
    found: Mapping[str, int]  #: cuts found by each kind, and by `any`
    right: int  #: places named that are within reach of a cut
    named: int

    def markdown(self) -> str:
        """Recall by kind and by any, precision of all that was named."""
        shares = [f"{100 * self.found[kind] / self.cuts:.0f}" for kind in (*KINDS, "any")]
        precision = f"{100 * self.right / self.named:.0f}" if self.named else "-"
        return " | ".join(["", self.group, str(self.cuts), *shares, precision, ""]).strip()


def main() -> None:
    """Measure and print two tables in Markdown."""
    asked = _arguments()
    speech = {
        name: waves
        for name, waves in material.recordings(asked.folder).items()
        if (name in TUNING) == asked.tuning
    }
    print("| cut | cuts | " + " | ".join(KINDS) + " | any | precision |")
    print("|---" + "|--:" * (len(KINDS) + 3) + "|")
    for row in rows(_all(speech, asked.each, 1 if asked.tuning else 2)):
        print(row.markdown(), flush=True)
    print("\n| speech as it is | hours | " + " | ".join(KINDS) + " | an hour, all |")
    print("|---" + "|--:" * (len(KINDS) + 2) + "|")
    for group, waves in unspliced(speech):
        print(alarms(group, waves), flush=True)


def places(wave: Wave) -> tuple[Splice, ...]:
    """What is named in a sound."""
    return splices.find(wave, joints.find(wave, _nothing), _nothing)[0]


def rows(cases: Iterable[Case]) -> Iterator[Row]:
    """One row for each group, in the order they come."""
    groups: dict[str, list[tuple[Case, tuple[Splice, ...]]]] = {}
    for case in cases:
        groups.setdefault(case.group, []).append((case, places(case.wave)))
    for group, judged in groups.items():
        found = dict.fromkeys((*KINDS, "any"), 0)
        for case, named in judged:
            for cut in case.cuts:
                kinds = {splice.kind for splice in named if abs(splice.time - cut) <= TOLERANCE}
                for kind in (*kinds, *(["any"] if kinds else [])):
                    found[kind] += 1
        right = sum(_near(splice, case.cuts) for case, named in judged for splice in named)
        total = sum(len(named) for _, named in judged)
        yield Row(group, sum(len(case.cuts) for case, _ in judged), found, right, total)


def unspliced(speech: Speech) -> Iterator[tuple[str, list[Wave]]]:
    """All utterances as they are, and degraded."""
    rng = np.random.default_rng(3)
    waves = [wave for utterances in speech.values() for wave in utterances]
    yield "clean", waves
    for codec in material.CODECS:
        yield codec, [material.coded(wave, codec) for wave in waves]
    yield "telephone (8 kHz, mu law)", [material.telephone(wave) for wave in waves]
    for decibels in (30, 20):
        yield f"noise at {decibels} dB", [material.noisy(wave, decibels, rng) for wave in waves]
        yield f"hum at {decibels} dB", [material.humming(wave, decibels, rng) for wave in waves]


def alarms(group: str, waves: Iterable[Wave]) -> str:
    """How often something is named an hour, as a line of the table."""
    heard = [(len(wave), places(wave)) for wave in waves]
    hours = sum(length for length, _ in heard) / material.RATE / 3600
    count = {kind: sum(s.kind == kind for _, named in heard for s in named) for kind in KINDS}
    shown = [str(count[kind]) for kind in KINDS]
    return " | ".join(["", group, f"{hours:.3f}", *shown, f"{sum(count.values()) / hours:.0f}", ""]).strip()


def _all(speech: Speech, each: int, seed: int) -> Iterator[Case]:
    for case in material.cases(speech, each, seed):
        yield case
        if case.group in CODED_AFTERWARDS:
            for codec in material.CODECS:
                yield Case(f"{case.group}, then {codec}", material.coded(case.wave, codec), case.cuts)


def _near(splice: Splice, cuts: tuple[float, ...]) -> bool:
    return any(abs(splice.time - cut) <= TOLERANCE for cut in cuts)


def _nothing() -> None:
    """Nobody waits for a benchmark."""


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--each", type=int, default=16, help="cases for each speaker and kind of cut")
    parser.add_argument(
        "--tuning", action="store_true", help="measure the speakers the bounds were chosen on"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
