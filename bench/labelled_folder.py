"""`python -m bench.labelled_folder --faces DIR --clips DIR --out DIR`: labelled files to try `evaluate` on.

Portraits (as clips of a second) and talkers that blend-trace was not trained on, each untouched and altered:
portraits by a landmark swap with another of them, Poisson and feathered in turn, talkers by blending each
face with a changed copy of itself. Both are encoded alike, so that the codec tells nothing. Writes
`labels.csv`, grouped by person, and `kinds.csv`, grouped by kind. The people are real: for measuring alone.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from av.video.frame import VideoFrame

from training.blend_trace import blend
from training.blend_trace.faces import Group, Part, Picture, Portrait, find, split
from training.blend_trace.measure import SEED
from training.blend_trace.swap import Blending, swap
from workers.media.faces import Detection, FaceDetector
from workers.media.formats import open_input

CRF = 20
#: Of a portrait's clip: a second of slow zoom, half as large as the pictures are.
STILL_FRAMES, STILL_RATE, STILL_ZOOM, STILL_SIDE = 10, Fraction(10), 0.04, 450
#: Of somebody of whom only the name matters.
NOWHERE = Detection(box=(0, 0, 1, 1), confidence=1.0, landmarks=((0, 0),) * 5)
Row = tuple[str, str, str, str]  # path, label, person, kind


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the folder."""
    wanted = _arguments(arguments)
    wanted.out.mkdir(parents=True, exist_ok=True)
    people = _held_out(wanted.faces, wanted.clips)
    rows = [*_portraits(wanted.faces, people[Group.PORTRAIT], wanted.out)]
    rows += _clips(wanted.clips, people[Group.TALKER], wanted.out)
    _write(wanted.out / "labels.csv", [(path, label, person) for path, label, person, _ in rows])
    _write(wanted.out / "kinds.csv", [(path, label, kind) for path, label, _, kind in rows])
    print(f"{len(rows)} files of {sum(map(len, people.values()))} people in {wanted.out}")
    return 0


def _arguments(arguments: Sequence[str] | None) -> Any:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("faces", "clips", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    return parser.parse_args(arguments)


def _held_out(faces: Path, clips: Path) -> dict[Group, list[str]]:
    """The people whom the tables of the model card are made of, as their names alone decide."""
    everybody = {
        Group.PORTRAIT: {path.stem.partition("_")[0] for path in faces.glob("*.jpg")},
        Group.TALKER: {path.stem for path in clips.iterdir() if path.suffix in {".mpg", ".mp4"}},
    }
    nothing = np.zeros((1, 1, 3), np.uint8)
    named = [
        Portrait(person, group, nothing, NOWHERE, None) for group in Group for person in everybody[group]
    ]
    kept = split(named, SEED)[Part.TEST]
    return {group: sorted(one.person for one in kept if one.group is group) for group in Group}


def _portraits(folder: Path, people: Sequence[str], out: Path) -> Iterator[Row]:
    """Each picture as it is, and with the face of the next person's picture in it."""
    detector = FaceDetector()
    paths = [path for path in sorted(folder.glob("*_neutral.jpg")) if path.stem.partition("_")[0] in people]
    found = [one for path in paths if (one := _portrait(path, detector)) is not None]
    for n, (name, taker) in enumerate(found):
        giver = next(one for _, one in found[n + 1 :] + found if one.person != taker.person)
        blending = list(Blending)[n % len(Blending)]
        for label, kind, picture in (
            ("real", "portrait", taker.picture),
            ("fake", f"swap, {blending.value}", swap(giver, taker, blending)),
        ):
            target = out / f"{label}_{name}.mp4"
            _encode(_zoomed(picture), STILL_RATE, target)
            yield target.name, label, taker.person, kind


def _zoomed(picture: Picture) -> list[Picture]:
    """A camera that comes nearer: a picture that stands still has no new frames to look at."""
    side = min(picture.shape[:2])
    found = []
    for n in range(STILL_FRAMES):
        edge = round(side * STILL_ZOOM / 2 * n / STILL_FRAMES)
        part = picture[edge : side - edge, edge : side - edge]
        shown = cv2.resize(part, (STILL_SIDE, STILL_SIDE), interpolation=cv2.INTER_AREA)
        found.append(np.asarray(shown, np.uint8))
    return found


def _portrait(path: Path, detector: FaceDetector) -> tuple[str, Portrait] | None:
    """A whole picture, unlike those of training, which are cut to the face."""
    bgr = cv2.imread(str(path))
    if bgr is None:
        return None
    rgb = np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)
    face = find(rgb, detector)
    if face is None:
        return None
    template = path.with_suffix(".landmarks.csv")
    points = np.loadtxt(template, delimiter=",", skiprows=1) if template.is_file() else None
    return path.stem, Portrait(path.stem.partition("_")[0], Group.PORTRAIT, rgb, face, points)


def _clips(folder: Path, people: Sequence[str], out: Path) -> Iterator[Row]:
    """Each clip as it is, and with every face blended with a changed copy of itself, in the same way."""
    detector = FaceDetector()
    for path in sorted(path for path in folder.iterdir() if path.stem in people):
        with open_input(str(path)) as container:
            rate = container.streams.video[0].average_rate or Fraction(25)
            frames = [
                np.asarray(frame.to_ndarray(format="rgb24"), np.uint8) for frame in container.decode(video=0)
            ]
        altered = [_blended(frame, path.stem, detector) for frame in frames]
        for label, kind, shown in (("real", "talker", frames), ("fake", "self-blended talker", altered)):
            target = out / f"{label}_{path.stem}.mp4"
            _encode(shown, rate, target)
            yield target.name, label, path.stem, kind


def _blended(frame: Picture, person: str, detector: FaceDetector) -> Picture:
    """A changed copy pasted into the frame, by the same draw for every frame, so that nothing flickers.

    Unlike in training the frame around it is left as it is: another colour of it all would tell them apart.
    """
    face = find(frame, detector)
    if face is None:
        return frame
    portrait = Portrait(person, Group.TALKER, frame, face, None)
    generator = np.random.default_rng(list(person.encode()))
    copy = blend.shift(blend.restyle(frame, generator, portrait.box), portrait, generator)
    mask = blend.soften(blend.region(portrait, generator), portrait.box, generator)[..., None]
    return np.asarray(np.clip(copy * mask + frame * (1 - mask) + 0.5, 0, 255), np.uint8)


def _encode(frames: Sequence[Picture], rate: Fraction, target: Path) -> None:
    height, width = (side // 2 * 2 for side in frames[0].shape[:2])
    with av.open(str(target), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": str(CRF), "threads": "1"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for picture in frames:
            shown = np.ascontiguousarray(picture[:height, :width])
            container.mux(stream.encode(VideoFrame.from_ndarray(shown, format="rgb24")))
        container.mux(stream.encode(None))


def _write(path: Path, rows: Sequence[tuple[str, str, str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "label", "group"))
        writer.writerows(rows)


if __name__ == "__main__":
    sys.exit(main())
