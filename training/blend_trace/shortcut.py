"""The control: colour, sharpness and size alone. Where it does as well, a detector has found no blending."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from training.blend_trace.faces import Picture

Values = NDArray[np.float64]

ROUNDS: Final = 30
RIDGE: Final = 1e-2
FLAT: Final = 1e-6
BLOCK: Final = 8


def statistics(crop: Picture, box: float) -> Values:
    """Fifteen numbers of one 256 x 256 x 3 crop; `box` is the shorter side of the face in frame pixels."""
    colours = crop.reshape(-1, 3).astype(np.float32)
    grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY).astype(np.float32)
    hue = cv2.cvtColor(crop, cv2.COLOR_RGB2HSV)
    bands = []
    for size in (2, 4, 8):
        soft = cv2.GaussianBlur(grey, (0, 0), size / 2)
        bands.append(float(np.log1p((grey - soft).var())))
    fine = np.abs(grey - cv2.medianBlur(crop, 3).mean(2))
    steps = np.abs(np.diff(grey, axis=1)).mean(0)
    edges = steps[BLOCK - 1 :: BLOCK].mean() / (steps.mean() + 1e-6)
    sharp = float(np.log1p(cv2.Laplacian(grey, cv2.CV_32F).var()))
    parts = [colours.mean(0), colours.std(0), [hue[..., 1].mean(), grey.std()], bands]
    return np.concatenate([*parts, [fine.mean(), edges, sharp, np.log(box)]]).astype(np.float64)


@dataclass(frozen=True)
class Shortcut:
    """A logistic regression on the statistics."""

    mean: Values
    spread: Values
    weights: Values  #: one a statistic, and the constant last

    def scores(self, measured: Values) -> Values:
        """N x 15 -> N logits, higher for fakes."""
        rows = (measured - self.mean) / self.spread
        return np.asarray(rows @ self.weights[:-1] + self.weights[-1], np.float64)


def fit_shortcut(real: Values, fake: Values) -> Shortcut:
    """Fitted by Newton's method on the statistics of training crops, N x 15 each."""
    both = np.vstack([real, fake])
    mean, spread = both.mean(0), both.std(0)
    spread[spread < FLAT] = 1.0  # a statistic that never changes has nothing to say
    rows = np.column_stack([(both - mean) / spread, np.ones(len(both))])
    wanted = np.repeat([0.0, 1.0], [len(real), len(fake)])
    weights = np.zeros(rows.shape[1])
    for _ in range(ROUNDS):
        chance = 1 / (1 + np.exp(-np.clip(rows @ weights, -30, 30)))
        bend = (rows * (chance * (1 - chance))[:, None]).T @ rows + RIDGE * np.eye(len(weights))
        weights -= np.linalg.solve(bend, rows.T @ (chance - wanted) + RIDGE * weights)
    return Shortcut(mean, spread, weights)
