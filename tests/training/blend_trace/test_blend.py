from __future__ import annotations

import cv2
import numpy as np
import pytest

from training.blend_trace import blend
from training.blend_trace.blend import Mask
from training.blend_trace.faces import Portrait
from workers.media.faces import Detection


def middle(mask: Mask) -> tuple[float, float]:
    ys, xs = np.nonzero(mask)
    return float(xs.mean()), float(ys.mean())


@pytest.mark.parametrize("seed", range(8))
def test_what_is_replaced_lies_in_the_face(portrait: Portrait, seed: int) -> None:
    left, top, width, height = portrait.face.box
    mask = blend.region(portrait, np.random.default_rng(seed))
    x, y = middle(mask)
    assert left < x < left + width
    assert top < y < top + height
    assert set(np.unique(mask)) == {0.0, 1.0}
    assert 0.03 * width * height < mask.sum() < 2 * width * height


def test_an_ellipse_sits_below_the_eyes_and_turns_with_the_face(drawn: Portrait) -> None:
    upright = blend.ellipse(drawn, 0.5, 1.0, 1.5)
    assert upright.mean(0) == pytest.approx([104, 95 + 20], abs=0.5)
    assert np.ptp(upright, axis=0) == pytest.approx([80, 120], rel=0.02)
    turned = [(220 - y, x) for x, y in drawn.face.landmarks]  # a quarter clockwise
    face = Detection(drawn.face.box, 1.0, (turned[0], turned[1], turned[2], turned[3], turned[4]))
    lying = blend.ellipse(Portrait("x", drawn.group, drawn.picture, face, None), 0.5, 1.0, 1.5)
    assert np.ptp(lying, axis=0) == pytest.approx([120, 80], rel=0.02)
    assert lying.mean(0) == pytest.approx([220 - 115, 104], abs=0.5)


def test_a_profile_is_measured_by_its_mouth(drawn: Portrait) -> None:
    near = [(100.0, 95.0), (108.0, 95.0), *drawn.face.landmarks[2:]]
    face = Detection(drawn.face.box, 1.0, (near[0], near[1], near[2], near[3], near[4]))
    profile = blend.ellipse(Portrait("x", drawn.group, drawn.picture, face, None), 0.5, 1.0, 1.5)
    assert np.ptp(profile[:, 1]) == pytest.approx(np.ptp(blend.ellipse(drawn, 0.5, 1.0, 1.5)[:, 1]), rel=0.05)


def test_a_soft_mask_is_a_mask(portrait: Portrait) -> None:
    rng = np.random.default_rng(1)
    ratios = set()
    for _ in range(30):
        mask = blend.soften(blend.region(portrait, rng), portrait.box, rng)
        assert mask.dtype == np.float32
        assert 0 <= mask.min() <= mask.max() <= 1.0001
        assert mask[0].max() < 0.01  # nothing is pasted at the edge of the picture
        ratios.add(round(float(mask.max()), 1))
    assert len(ratios) > 2


def test_only_the_mask_is_changed_when_only_the_pasted_copy_is(
    portrait: Portrait, monkeypatch: pytest.MonkeyPatch
) -> None:
    height, width = portrait.picture.shape[:2]
    edge = width // 2
    half = np.zeros((height, width), np.float32)
    half[:, :edge] = 1
    monkeypatch.setattr(blend, "soften", lambda *_: half)
    monkeypatch.setattr(blend, "restyle", lambda picture, *_, **__: picture)
    fake = blend.self_blend(portrait, np.random.default_rng(2))
    assert np.array_equal(fake[:, edge:], portrait.picture[:, edge:])
    assert not np.array_equal(fake[:, :edge], portrait.picture[:, :edge])


def test_a_blend_leaves_its_portrait_alone_and_follows_its_seed(portrait: Portrait) -> None:
    before = portrait.picture.copy()
    first, second, other = (blend.self_blend(portrait, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert np.array_equal(portrait.picture, before)
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)
    assert first.shape == before.shape
    assert first.dtype == np.uint8


def test_a_blend_without_change_shows_nothing(drawn: Portrait, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blend, "restyle", lambda picture, *_, **__: picture)
    fake = blend.self_blend(drawn, np.random.default_rng(2))  # grey moved over grey
    assert np.abs(fake.astype(int) - drawn.picture).max() <= 1


def test_a_real_counterpart_is_changed_everywhere_or_nowhere(portrait: Portrait) -> None:
    rng = np.random.default_rng(9)
    untouched = 0
    for _ in range(20):
        real = blend.leave_whole(portrait, rng)
        difference = np.abs(real.astype(int) - portrait.picture).max(2)
        untouched += int(difference.max() == 0)
        assert real.shape == portrait.picture.shape
        if difference.max():
            quarters = [
                part.mean() for half in np.array_split(difference, 2) for part in np.array_split(half, 2, 1)
            ]
            assert min(quarters) > 0.2
    assert 2 < untouched < 12


def test_a_restyled_face_differs_in_colour_or_sharpness(portrait: Portrait) -> None:
    rng = np.random.default_rng(4)
    sharp = [
        cv2.Laplacian(blend.restyle(portrait.picture, rng, portrait.box), cv2.CV_32F).var() for _ in range(20)
    ]
    own = cv2.Laplacian(portrait.picture, cv2.CV_32F).var()
    assert min(sharp) < 0.6 * own < 1.2 * own < max(sharp)
