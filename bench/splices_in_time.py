"""Short splices in long files: how often they are found, and how often clean files of any length are accused.

A detector is simulated by its quality (the AUC of one scored frame, or of one interval) and by how much
neighbouring frames resemble each other. It is calibrated on simulated labelled files, as `deepdefend
calibrate` would, and then meets clean files of 10 s, 1, 10 and 60 minutes and ten minutes with a few fake
seconds.
Everything is drawn from a fixed seed; `python -m bench.splices_in_time` prints the tables of
docs/detection.md in about two minutes.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.signal import lfilter
from scipy.special import ndtr, ndtri

from core.calibration import Calibration
from core.domain import Label, Modality, OperatingPoint
from core.evidence import DetectorIdentity
from core.fusion.thresholds import ModalityThresholds, choose
from evaluation import chance, fitting
from evaluation.curves import Floats, Labelled, applied

FRAMES: Final = 5
SECONDS: Final = 2
#: Clean files: intervals of 10 s, 1, 10 and 60 minutes, and how many of each are drawn.
CLEAN: Final = ((5, 6000), (30, 6000), (300, 2000), (1800, 600))
TEN_MINUTES: Final = 300
SPLICED: Final = 2000
#: Labelled files of each kind that the calibration is made from, each a minute long.
LABELLED, MINUTE = 400, 30
_SEED: Final = 7


@dataclass(frozen=True)
class Quality:
    """A simulated detector. Its scores are normal before the calibration, shifted by what is fake."""

    auc: float  #: of one frame, or of one interval
    per: str  #: frame or interval
    neighbours: float  #: correlation of scores that follow each other, within a file
    level: float = 0.0  #: share of the variance that is the file's own level

    @property
    def shift(self) -> float:
        """Standard deviations that a fake score lies higher."""
        return float(math.sqrt(2) * ndtri(self.auc))

    def scores(self, fake: npt.NDArray[np.bool_], generator: np.random.Generator) -> Floats:
        """Raw scores, files x intervals x answers, of files in which these intervals are fake."""
        answers = FRAMES if self.per == "frame" else 1
        noise = generator.standard_normal((fake.shape[0], fake.shape[1] * answers))
        noise[:, 1:] *= math.sqrt(1 - self.neighbours**2)
        noise = lfilter([1], [1, -self.neighbours], noise, axis=1)
        level = generator.standard_normal((fake.shape[0], 1))
        values = math.sqrt(1 - self.level) * noise + math.sqrt(self.level) * level
        values += self.shift * np.repeat(fake, answers, axis=1)
        drawn: Floats = ndtr(values - self.shift / 2).reshape(*fake.shape, answers)
        return drawn


@dataclass(frozen=True)
class Rates:
    """What becomes of files of one kind, in percent."""

    accused: float  #: DEEPFAKE
    flagged: float  #: not REAL


def calibrated(quality: Quality, generator: np.random.Generator, *, simulated: int) -> Calibration:
    """The calibration of this detector, from labelled files that are fake throughout or not at all."""
    rows = []
    for label in Label:
        fake = np.full((LABELLED, MINUTE), label is Label.FAKE)
        for n, file in enumerate(quality.scores(fake, generator).tolist()):
            rows.append(
                Labelled(file=f"{label.value} {n:04}", label=label, intervals=tuple(map(tuple, file)))
            )
    identity = DetectorIdentity(
        id="simulated", modality=Modality.VIDEO, version="-", digest="sha256:" + "0" * 64, fake_label="fake"
    )
    return fitting.fit(rows, identity=identity, manifest="sha256:" + "0" * 64, simulated=simulated)


def intervals(calibration: Calibration, raw: Floats) -> Floats:
    """Calibrated interval scores of raw answers: files x intervals."""
    bounds = (calibration.floor, calibration.ceiling)
    scores: Floats = applied(calibration.curve, raw, bounds).mean(axis=2)
    return scores


def limits(calibration: Calibration, point: OperatingPoint, count: int) -> ModalityThresholds:
    """What the verdict of a file of so many intervals compares with, its picture being all there is."""
    identity = DetectorIdentity(
        id=calibration.detector,
        modality=calibration.modality,
        version="-",
        digest=calibration.weights,
        fake_label="fake",
        calibrated=True,
        calibration=calibration.summary,
    )
    return choose([identity], point, intervals=count).video


def rates(scores: Floats, bounds: ModalityThresholds) -> Rates:
    """The verdicts of `core.fusion.verdict` on files with a picture only, all of it scored; all at once."""
    batch = max(1, chance.ROOM // scores.shape[1])
    parts = [_verdicts(scores[n : n + batch], bounds) for n in range(0, len(scores), batch)]
    accused, flagged = (np.concatenate(each) for each in zip(*parts, strict=True))
    return Rates(accused=100 * float(accused.mean()), flagged=100 * float(flagged.mean()))


def _verdicts(
    scores: Floats, bounds: ModalityThresholds
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    evidence = np.log(scores / (1 - scores))
    accused = scores.mean(axis=1) >= bounds.suspicious
    doubted = accused | (scores.mean(axis=1) >= bounds.real_below)
    doubted |= (scores < bounds.real_below).mean(axis=1) < 0.5
    for length, statistic, mean in chance.windows(evidence, scores, bounds.null):
        if length > 1:
            accused |= ((statistic >= bounds.run_excess) & (mean >= bounds.run_floor)).any(axis=1)
        doubted |= ((statistic >= bounds.doubt_excess) & (mean >= bounds.real_below)).any(axis=1)
    return accused, accused | doubted


def spliced(files: int, count: int, fake: int, generator: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Files of `count` intervals of which `fake` neighbours, anywhere, are fake."""
    starts = generator.integers(0, count - fake + 1, files)
    places = np.arange(count)
    return (places >= starts[:, None]) & (places < starts[:, None] + fake)


QUALITIES: Final = (
    Quality(0.95, "interval", 0.0),
    Quality(0.95, "interval", 0.3),
    Quality(0.95, "interval", 0.3, 0.5),
    Quality(0.99, "interval", 0.3),
    Quality(0.995, "interval", 0.3),
    Quality(0.95, "frame", 0.0),
    Quality(0.95, "frame", 0.2),
    Quality(0.95, "frame", 0.4),
    Quality(0.95, "frame", 0.6),
    Quality(0.95, "frame", 0.8),
    Quality(0.95, "frame", 0.4, 0.3),
)


def row(quality: Quality, *, scale: float = 1.0) -> str:
    """One line of both tables, as Markdown; `scale` draws fewer files."""
    generator = np.random.default_rng(_SEED)
    made = calibrated(quality, generator, simulated=int(chance.FILES * scale))
    points = (OperatingPoint.FPR_1, OperatingPoint.FPR_5)
    cells = [f"{quality.auc} per {quality.per}", f"{quality.neighbours}", f"{quality.level}"]
    cells.append(f"{made.held_out.auc:.3f}")
    for count, files in CLEAN:
        clean = quality.scores(np.zeros((int(files * scale), count), bool), generator)
        cells += [_cell(rates(intervals(made, clean), limits(made, point, count))) for point in points]
    for fake in (2, 3, 4):
        where = spliced(int(SPLICED * scale), TEN_MINUTES, fake, generator)
        scores = intervals(made, quality.scores(where, generator))
        cells += [_cell(rates(scores, limits(made, point, TEN_MINUTES))) for point in points]
    return "| " + " | ".join(cells) + " |"


def _cell(found: Rates) -> str:
    return f"{found.accused:.1f} / {found.flagged:.1f}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.splices_in_time", description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the files to draw [1]")
    wanted = parser.parse_args()
    places = ("10 s", "1 min", "10 min", "60 min", "4 s in 10 min", "6 s", "8 s")
    names = ["AUC", "neighbours", "level", "AUC of intervals"]
    names += [f"{place}, {point}" for place in places for point in ("fpr_1", "fpr_5")]
    print("| " + " | ".join(names) + " |\n|" + "---|" * len(names))
    for quality in QUALITIES:
        print(row(quality, scale=wanted.scale), flush=True)


if __name__ == "__main__":
    main()
