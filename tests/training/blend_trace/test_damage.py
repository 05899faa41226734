from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from training.blend_trace import damage
from training.blend_trace.codecs import Codec, recode
from training.blend_trace.damage import LEARNED, draw, stored_as
from training.blend_trace.faces import Portrait
from training.blend_trace.fit import pair, pairs

Picture = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]


@pytest.mark.parametrize("seed", range(6))
def test_real_and_fake_go_the_same_way(portrait: Portrait, seed: int) -> None:
    """The same picture under either name comes out the same: no damage tells the classes apart."""
    way = draw(np.random.default_rng(seed))
    real, fake = way.apply(portrait), way.apply(portrait.with_picture(portrait.picture.copy()))
    assert np.array_equal(real, fake)
    assert real.shape == (256, 256, 3)


def test_damage_does_not_know_what_it_is_done_to(portrait: Portrait, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pair whose blend changes nothing is twice the same picture, whatever was drawn."""
    monkeypatch.setattr("training.blend_trace.blend.self_blend", lambda face, _: face.picture)
    monkeypatch.setattr("training.blend_trace.blend.leave_whole", lambda face, _: face.picture)
    for seed in range(4):
        real, fake = pair(portrait, np.random.default_rng(seed))
        assert np.array_equal(real, fake)


def test_ways_vary_in_everything() -> None:
    rng = np.random.default_rng(0)
    ways = [draw(rng) for _ in range(200)]
    for field in ("box", "gamma", "gains", "seed"):
        assert len({getattr(way, field) for way in ways}) > 150
    for field in ("blur", "noise", "sharpen", "slope", "codecs"):
        given = [bool(np.any(getattr(way, field))) for way in ways]
        assert 0.05 < np.mean(given) < 0.95
    assert {way.flip for way in ways} == {True, False}
    assert {codec for way in ways for codec, _ in way.codecs} == set(LEARNED)
    assert {len(way.codecs) for way in ways} == {0, 1, 2}


def test_codecs_of_the_tables_are_never_learned() -> None:
    assert not set(LEARNED) & {Codec.WEBP, Codec.HEVC, Codec.VP9}


def test_a_face_is_never_enlarged(portrait: Portrait) -> None:
    assert stored_as(10_000).stored(portrait).picture.shape == portrait.picture.shape
    assert stored_as(60).stored(portrait).box == pytest.approx(60, abs=1)


def test_nothing_drawn_is_nothing_done(portrait: Portrait) -> None:
    assert np.array_equal(stored_as(10_000).apply(portrait), portrait.crop())


def test_a_flip_mirrors_and_jitter_moves(portrait: Portrait) -> None:
    plain = stored_as(10_000)
    assert np.array_equal(replace(plain, flip=True).apply(portrait), portrait.crop()[:, ::-1])
    moved = replace(plain, jitter=0.02, seed=3).apply(portrait)
    assert not np.array_equal(moved, portrait.crop())
    assert np.array_equal(moved, replace(plain, jitter=0.02, seed=3).apply(portrait))


def test_pairs_are_those_of_their_seed(portrait: Portrait) -> None:
    first, again, other = pairs([portrait], 2, 1), pairs([portrait], 2, 1), pairs([portrait], 2, 2)
    assert first.shape == (2, 2, 256, 256, 3)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(
    ("codec", "worse", "better"),
    [
        (Codec.JPEG, 20, 95), (Codec.WEBP, 10, 95), (Codec.H264, 42, 16), (Codec.HEVC, 42, 16),
        (Codec.VP9, 58, 15), (Codec.MPEG4, 25, 2),
    ],
)  # fmt: skip
def test_a_codec_gives_the_picture_back_a_little_worse(
    portrait: Portrait, codec: Codec, worse: int, better: int
) -> None:
    odd = portrait.scaled(60).picture
    odd = np.ascontiguousarray(odd[: odd.shape[0] // 2 * 2 - 1, : odd.shape[1] // 2 * 2 - 1])

    def loss(quality: int) -> float:
        out = recode(odd, codec, quality)
        assert out.shape == odd.shape
        return float(np.abs(out.astype(int) - odd).mean())

    assert 0 < loss(better) < loss(worse) < 25


def test_what_a_clip_shows_was_predicted(portrait: Portrait) -> None:
    small = portrait.scaled(60).picture
    assert not np.array_equal(
        recode(small, Codec.H264, 30, frames=1), recode(small, Codec.H264, 30, frames=2)
    )


def test_landmarks_wander_by_about_the_jitter(portrait: Portrait) -> None:
    rng = np.random.default_rng(0)
    wandered = [damage.jittered(portrait.face, 0.01, rng).landmarks for _ in range(200)]
    spread = np.std(np.array(wandered), axis=0).mean()
    assert spread == pytest.approx(0.01 * portrait.box, rel=0.15)
