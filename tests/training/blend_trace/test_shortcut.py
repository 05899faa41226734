from __future__ import annotations

import cv2
import numpy as np

from training.blend_trace.faces import Portrait
from training.blend_trace.rules import auc
from training.blend_trace.shortcut import fit_shortcut, statistics


def test_the_control_sees_colour_sharpness_and_size(portrait: Portrait) -> None:
    crop = portrait.crop()
    plain = statistics(crop, 100)
    assert plain.shape == (15,) or plain.ndim == 1
    assert np.isfinite(plain).all()
    darker, softer = statistics(crop // 2, 100), statistics(np.asarray(cv2.blur(crop, (5, 5)), np.uint8), 100)
    assert (darker[:3] < plain[:3]).all()
    assert softer[-2] < plain[-2]
    assert statistics(crop, 50)[-1] < plain[-1]
    assert np.isfinite(statistics(np.zeros_like(crop), 48)).all()


def test_the_control_learns_what_is_there_to_learn() -> None:
    rng = np.random.default_rng(0)
    real, fake = rng.normal(size=(300, 4)), rng.normal((1.5, 0, 0, 0), size=(300, 4))
    real[:, 3] = fake[:, 3] = 7.0  # never changes: has no say
    control = fit_shortcut(real[:200], fake[:200])
    assert 0.8 < auc(control.scores(real[200:]), control.scores(fake[200:])) < 0.95
    assert abs(control.weights[3]) < 1e-6
    assert control.weights[0] > 1


def test_a_perfect_shortcut_does_not_blow_up() -> None:
    real, fake = np.zeros((50, 2)), np.ones((50, 2))
    control = fit_shortcut(real, fake)
    assert np.isfinite(control.weights).all()
    assert auc(control.scores(real), control.scores(fake)) == 1
