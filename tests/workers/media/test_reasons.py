"""Each reason why a face or an interval has no score, out of a real file. The other reasons of pictures:
`too_short` in test_sight.py, `out_of_domain` in test_traces.py, `no_detector_weights` in test_pipeline.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from core.domain import Reason
from core.evidence import Manifest
from tests.workers.media.conftest import SAMPLE, Clip, Extracted

#: Where the face of the sample lies: x 230 to 410, y 100 to 320 of 640 x 360.
FILTERS = {
    Reason.NO_FACE: "crop=200:300:0:0",
    Reason.FACE_TOO_SMALL: "scale=160:90",
    Reason.BLURRED: "gblur=sigma=6",
    Reason.TOO_DARK: "eq=brightness=-0.45:contrast=0.6",
    Reason.OCCLUDED: "crop=640:180:0:0",
}


def why(manifest: Manifest, interval: int) -> Reason:
    """What the interval's row will say; it must have no crop."""
    assert not any(interval in shard.intervals for shard in manifest.crop_shards)
    return manifest.unseen([frame for frame in manifest.frames if frame.interval == interval])


@pytest.mark.parametrize("reason", FILTERS)
def test_a_picture_that_cannot_be_judged_says_why(clip: Clip, extracted: Extracted, reason: Reason) -> None:
    path = clip(f"{reason}.mp4", "-t", "2", "-i", SAMPLE, "-an", "-r", "5", "-vf", FILTERS[reason])
    manifest, _ = extracted(path)
    assert why(manifest, 0) is reason


def test_damage_that_hides_every_face_is_not_called_no_face(tmp_path: Path, extracted: Extracted) -> None:
    data = bytearray(SAMPLE.read_bytes())
    for place in range(len(data) // 3, len(data) - 2000, 150):
        data[place] ^= 0x5A
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(data)
    manifest, _ = extracted(broken)
    owned = {interval for shard in manifest.crop_shards for interval in shard.intervals}
    lost = [span.index for span in manifest.spans if span.index not in owned]
    assert lost
    assert {why(manifest, interval) for interval in lost} == {Reason.DECODE_ERROR}


def test_pictures_that_end_before_the_sound_of_a_torn_file_are_cut_short(
    tmp_path: Path, clip: Clip, extracted: Extracted
) -> None:
    """Header first, then four seconds of pictures, then eight of sound that is torn off after six."""
    sound = ("-f", "lavfi", "-t", "8", "-i", "sine=440")
    whole = clip("torn.mkv", "-t", "4", "-i", SAMPLE, *sound, "-map", "0:v", "-map", "1:a", "-r", "10")
    torn = tmp_path / "torn.mkv"
    torn.write_bytes(whole.read_bytes()[: int(0.97 * whole.stat().st_size)])
    manifest, _ = extracted(torn)
    assert manifest.facts.cut_short
    assert why(manifest, len(manifest.spans) - 1) is Reason.CUT_SHORT
