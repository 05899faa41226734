"""Parts of a file as somebody might pass them on: which frames, how long, how large, and what is believed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.config import Limits
from core.domain import Options, Span, Variant, timeline
from core.errors import Fenced, MediaError
from tests.workers.media.conftest import SAMPLE, Clip, shared
from workers.media import sandbox, variants
from workers.media.attend import Outcome
from workers.media.cutting import LONGEST, Order, Recipe, changed, cut
from workers.media.formats import open_input
from workers.media.job import Job
from workers.media.variants import extract_variant, make_variant

JOB = Job(
    interval_seconds=1.0,
    frames_per_interval=1,
    max_seconds=1800,
    max_pixels=10_000_000,
    max_frames=10_000,
    max_streams=16,
    max_faces_per_frame=20,
)
#: Every frame's brightness is its number, in 250 steps.
COUNTING = "nullsrc=s=64x64:r=25:d={seconds},geq=lum='mod(N,220)+16':cb=128:cr=128"


@pytest.fixture
def counting(clip: Clip) -> Callable[..., Path]:
    """A clip whose pictures say which frame they are."""

    def make(name: str, *arguments: str, seconds: int = 30, but: str = "") -> Path:
        source = COUNTING.format(seconds=seconds) + but
        return clip(name, "-f", "lavfi", "-i", source, "-c:v", "libx264", "-crf", "8", *arguments)

    return make


def cut_out(source: Path, folder: Path, parts: list[tuple[float, float]], **recipe: float) -> Any:
    """The numbers of the parts that have frames, and seconds and brightness of every frame written."""
    target = folder / "variant.mp4"
    order = Order(parts=tuple(parts), recipe=Recipe(**({"crf": 8} | recipe)), job=JOB)  # type: ignore[arg-type]
    kept = cut(str(source), target, Order.from_dict(json.loads(json.dumps(order.to_dict()))))
    with open_input(str(target)) as container:
        frames = [(frame.time, frame.to_ndarray(format="gray").mean()) for frame in container.decode(video=0)]
    return kept, frames


@pytest.mark.parametrize("name", ["count.mp4", "count.mkv", "count.mpg"])
def test_each_part_has_its_own_frames_at_its_own_place(
    counting: Callable[..., Path], tmp_path: Path, name: str
) -> None:
    """Near and far ones: between the last two the file is sought, where that can be done."""
    arguments = ["-c:v", "mpeg2video", "-q:v", "2"] if name.endswith("mpg") else ["-g", "40"]
    source = counting(name, *arguments)
    kept, frames = cut_out(source, tmp_path, [(2, 4), (4, 6), (26, 28)])
    assert kept == [0, 1, 2]
    assert [round(time * 25) for time, _ in frames] == list(range(150))
    numbers = [*range(50, 150), *range(650, 700)]
    wanted = np.asarray([number % 220 * 255 / 219 for number in numbers])
    seen = np.asarray([brightness for _, brightness in frames])
    # At a jump from white to black a codec smears.
    assert np.median(np.abs(seen - wanted)) < 1.5
    assert np.percentile(np.abs(seen - wanted), 95) < 4


def test_a_part_without_a_frame_takes_no_room(counting: Callable[..., Path], tmp_path: Path) -> None:
    source = counting("counting-gap.mkv", "-fps_mode", "vfr", seconds=10, but=",select='lt(t,2)+gte(t,6)'")
    kept, frames = cut_out(source, tmp_path, [(0, 2), (2, 4), (4, 6), (6, 8)])
    assert kept == [0, 3]
    assert [round(time * 25) for time, _ in frames] == list(range(100))


def test_parts_of_which_none_has_a_frame_are_refused(counting: Callable[..., Path], tmp_path: Path) -> None:
    source = counting("counting-gap.mkv", "-fps_mode", "vfr", seconds=10, but=",select='lt(t,2)+gte(t,6)'")
    with pytest.raises(MediaError) as caught:
        cut_out(source, tmp_path, [(2, 4)])
    assert caught.value.code == "undecodable_media"


def test_a_last_part_with_a_single_picture_is_still_an_interval(
    counting: Callable[..., Path], tmp_path: Path
) -> None:
    source = counting("slides.mp4", "-fps_mode", "vfr", seconds=6, but=",select='not(mod(n,50))'")
    kept, frames = cut_out(source, tmp_path, [(0, 2), (2, 4)])
    assert kept == [0, 1]
    assert len(timeline(frames[-1][0] + 0.04, 2.0)) == 2


@pytest.mark.parametrize(
    ("recipe", "size"),
    [
        ({}, (34, 62)),
        ({"scale": 0.5}, (16, 30)),
        ({"scale": 0.25}, (16, 16)),
        ({"margin": 0.1}, (28, 50)),
    ],
)
def test_sides_are_even_and_at_least_sixteen(recipe: dict[str, float], size: tuple[int, int]) -> None:
    picture = np.zeros((35, 63, 3), np.uint8)
    assert changed(picture, Recipe(crf=23, **recipe)).shape == (*size, 3)


def test_what_is_too_large_to_encode_is_scaled_down() -> None:
    assert changed(np.zeros((2000, 8000, 3), np.uint8), Recipe(crf=23)).shape == (960, LONGEST, 3)


def test_frames_beyond_sixty_a_second_are_left_out(clip: Clip, tmp_path: Path) -> None:
    source = clip("fast.mp4", "-f", "lavfi", "-i", "testsrc=s=64x64:r=240:d=3", "-c:v", "libx264")
    _, frames = cut_out(source, tmp_path, [(0, 2)])
    assert 60 <= len(frames) <= 122


def test_a_crop_takes_the_middle() -> None:
    picture = np.zeros((100, 100, 3), np.uint8)
    picture[10:90, 10:90] = 255
    assert changed(picture, Recipe(crf=23, margin=0.1)).min() == 255


def made(
    source: Path, folder: Path, spans: list[Span], variant: Variant = Variant.CRF_28, **more: Any
) -> Any:
    folder.joinpath("work").mkdir(parents=True)
    return extract_variant(
        source,
        folder / "work",
        spans,
        variant,
        options=Options(),
        limits=Limits(),
        require_sandbox=False,
        **more,
    )


SPANS = list(timeline(8.0, 2.0))


def test_a_variant_is_extracted_as_the_original_was(tmp_path: Path) -> None:
    manifest, where = made(SAMPLE, tmp_path, [SPANS[1], SPANS[3]], Variant.HALF)
    assert where == {0: 1, 1: 3}
    assert manifest.facts.duration == pytest.approx(4.0)
    assert (manifest.facts.video.width, manifest.facts.video.height) == (320, 180)
    assert manifest.facts.audio is None
    times = [round(frame.time % 2, 3) for frame in manifest.frames]
    assert times == [0.2, 0.6, 1.0, 1.4, 1.8] * 2, "the frames that stand for an interval of the original"
    assert [path.name for path in tmp_path.iterdir()] == ["work"]


def test_pictures_that_come_slowly_make_no_further_interval(clip: Clip, tmp_path: Path) -> None:
    path = clip("slow.mp4", "-f", "lavfi", "-i", "testsrc=s=64x64:r=5:d=6", "-c:v", "libx264")
    options, spans, work = Options(interval_seconds=1), timeline(6.0, 1.0), tmp_path / "work"
    work.mkdir()
    manifest, where = extract_variant(
        path,
        work,
        [spans[1], spans[3]],
        Variant.CRF_23,
        options=options,
        limits=Limits(),
        require_sandbox=False,
    )
    assert (len(manifest.spans), where) == (2, {0: 1, 1: 3})


def test_a_picture_that_players_turn_is_upright(tmp_path: Path) -> None:
    source = shared("odd_rotated_portrait_displaymatrix.mp4")
    manifest, _ = made(source, tmp_path, [Span(index=0, start=0, end=2)], Variant.CRF_23)
    video = manifest.facts.video
    assert (video.width, video.height, video.rotation) == (200, 288, 0)
    assert any(face.row is not None for frame in manifest.frames for face in frame.faces)


def test_a_file_without_a_picture_has_no_variant(tmp_path: Path, clip: Clip) -> None:
    tone = clip("tone.wav", "-f", "lavfi", "-i", "sine=d=2")
    with pytest.raises(MediaError) as caught:
        make_variant(
            tone, tmp_path / "v.mp4", SPANS[:1], Variant.HALF, limits=Limits(), require_sandbox=False
        )
    assert caught.value.code == "no_streams"


def test_a_checkpoint_stops_it_and_leaves_nothing(tmp_path: Path) -> None:
    def canceled() -> None:
        raise Fenced

    with pytest.raises(Fenced):
        # Ten times the clip, so that it is still at work when the first second is over.
        made(SAMPLE, tmp_path, [Span(index=0, start=0, end=8)] * 60, Variant.CRF_23, checkpoint=canceled)
    assert [path.name for path in tmp_path.iterdir()] == ["work"]
    assert list((tmp_path / "work").iterdir()) == []


def test_nothing_to_cut_is_a_mistake_of_ours(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nothing"):
        make_variant(SAMPLE, tmp_path / "v.mp4", [], Variant.HALF, limits=Limits(), require_sandbox=False)


def link(work: Path) -> None:
    (work / "variant.mp4").unlink()
    (work / "variant.mp4").symlink_to("/etc/passwd")


LIES: dict[str, Callable[[Path], Any]] = {
    "nothing at all": lambda work: (work / "kept.json").unlink(),
    "no list": lambda work: (work / "kept.json").write_text('{"0": 1}'),
    "no numbers": lambda work: (work / "kept.json").write_text('["0"]'),
    "truths": lambda work: (work / "kept.json").write_text("[true]"),
    "no part": lambda work: (work / "kept.json").write_text("[]"),
    "a part that was not asked for": lambda work: (work / "kept.json").write_text("[2]"),
    "a part before the first": lambda work: (work / "kept.json").write_text("[-1]"),
    "a part twice": lambda work: (work / "kept.json").write_text("[1, 1]"),
    "parts out of order": lambda work: (work / "kept.json").write_text("[1, 0]"),
    "far too much": lambda work: (work / "kept.json").write_text("[" + "0, " * 99_999 + "0]"),
    "too deep": lambda work: (work / "kept.json").write_text("[" * 60_000),
    "a link to elsewhere": link,
    "no file": lambda work: (work / "variant.mp4").unlink(),
}


@pytest.mark.parametrize("lie", LIES)
def test_what_a_child_says_that_cannot_be_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lie: str
) -> None:
    def lying(*_: Any, work: Path, **__: Any) -> Outcome:
        (work / "variant.mp4").write_bytes(b"\0" * 64)
        (work / "kept.json").write_text("[0, 1]")
        LIES[lie](work)
        return Outcome(status=0, signal=0, timed_out=False, output="")

    monkeypatch.setattr(sandbox, "run", lying)
    monkeypatch.setattr(sandbox, "level", lambda: "rlimits")
    with pytest.raises(MediaError) as caught:
        make_variant(
            SAMPLE, tmp_path / "v.mp4", SPANS[:2], Variant.HALF, limits=Limits(), require_sandbox=False
        )
    assert caught.value.code == "decoder_crashed"
    assert list(tmp_path.iterdir()) == []


def test_every_variant_has_a_recipe_of_its_own() -> None:
    assert set(variants.RECIPES) == set(Variant)
    assert len({json.dumps(recipe) for recipe in variants.RECIPES.values()}) == len(Variant)
