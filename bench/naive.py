"""The baseline: the script one writes in an afternoon. `python -m bench.naive CLIP VIT WAV2VEC2`.

Every frame is sought, every face goes through PIL and the model alone, in fp32, the sound is read and
judged piece by piece, and one thing waits for the other. It does the same job on the same frames and
the same windows, with the same face and speech detectors, so only the way of doing it is compared; it does
not track faces, measure sound signals, write thumbnails or confine the decoder, which the product does.
"""

from __future__ import annotations

import math
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import fmean
from typing import Any

import cv2
import imageio_ffmpeg
import librosa
import numpy as np
import torch
from PIL import Image
from transformers import (
    AutoFeatureExtractor,
    AutoImageProcessor,
    AutoModelForAudioClassification,
    AutoModelForImageClassification,
)

from bench.outcome import Outcome, milliseconds
from workers.detectors import speech
from workers.detectors.windows import windows
from workers.media.crops import align
from workers.media.faces import FaceDetector, small_bgr

INTERVAL, FRAMES = 2.0, 5
RATE = 16_000


class NaiveScript:
    """Loads both models, then works through one clip."""

    def __init__(self, video: str, audio: str) -> None:
        self.outcome = Outcome("naive")
        with self.outcome.stage("load"):
            self.faces = FaceDetector()
            self.looks = AutoImageProcessor.from_pretrained(video)  # type: ignore[no-untyped-call]
            self.eye = AutoModelForImageClassification.from_pretrained(video, dtype=torch.float32).eval()
            self.sounds = AutoFeatureExtractor.from_pretrained(audio)  # type: ignore[no-untyped-call]
            self.ear = AutoModelForAudioClassification.from_pretrained(audio, dtype=torch.float32).eval()

    def run(self, clip: str) -> Outcome:
        """Picture first, then sound."""
        capture = cv2.VideoCapture(clip)
        fps, count = capture.get(cv2.CAP_PROP_FPS), int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        intervals = []
        for index in range(math.ceil(count / fps / INTERVAL)):
            scores = [self.frame(capture, n, fps) for n in numbers(index, fps) if n < count]
            intervals += [fmean(found) for found in [[s for s in scores if s is not None]] if found]
        capture.release()
        self.outcome.video_score = fmean(intervals) if intervals else None
        self.hear(clip)
        return self.outcome

    def frame(self, capture: Any, number: int, fps: float) -> float | None:
        """Seek one frame and score its largest face."""
        with self.outcome.stage("seek and decode"):
            capture.set(cv2.CAP_PROP_POS_FRAMES, number)
            there, bgr = capture.read()
        if not there:
            return None
        with self.outcome.stage("faces"):
            rgb = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
            found = self.faces.detect(*small_bgr(np.asarray(rgb, np.uint8)))
            crop = align(np.asarray(rgb, np.uint8), found[0]) if found else None
        if crop is None:
            return None
        with self.outcome.stage("look"):
            inputs = self.looks(images=Image.fromarray(crop), return_tensors="pt")
            score = fake(self.eye, inputs)
        self.outcome.frames[milliseconds(number / fps)] = score
        return score

    def hear(self, clip: str) -> None:
        """Take the sound out, find speech, read and score one window after the other."""
        with tempfile.TemporaryDirectory() as folder:
            wav = Path(folder) / "sound.wav"
            with self.outcome.stage("sound"):
                ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
                command = [
                    ffmpeg,
                    "-loglevel",
                    "error",
                    "-i",
                    clip,
                    "-vn",
                    "-ar",
                    str(RATE),
                    "-ac",
                    "1",
                    str(wav),
                ]
                subprocess.run(command, check=True)
                wave, _ = librosa.load(wav, sr=RATE)
                talk = speech.stretches(speech.probabilities(wave), len(wave) / RATE)
            for begin, end in windows(talk, len(wave) / RATE):
                with self.outcome.stage("sound"):
                    piece, _ = librosa.load(wav, sr=RATE, offset=begin, duration=end - begin)
                with self.outcome.stage("listen"):
                    inputs = self.sounds(piece, sampling_rate=RATE, return_tensors="pt")
                    self.outcome.windows[f"{milliseconds(begin)}-{milliseconds(end)}"] = fake(
                        self.ear, inputs
                    )
        heard = self.outcome.windows.values()
        self.outcome.audio_score = fmean(heard) if heard else None


def numbers(interval: int, fps: float) -> list[int]:
    """Frame numbers at the centres of the interval's fifths."""
    centres = [(interval + (k + 0.5) / FRAMES) * INTERVAL for k in range(FRAMES)]
    return [math.ceil(centre * fps - 1e-6) for centre in centres]


def fake(model: Any, inputs: Any) -> float:
    """The probability of the class whose label says fake."""
    labels = {name.lower(): number for number, name in model.config.id2label.items()}
    with torch.no_grad():
        return float(torch.softmax(model(**inputs).logits, -1)[0, labels["fake"]])


if __name__ == "__main__":
    clip_path, *checkpoints = sys.argv[1:]
    NaiveScript(*checkpoints).run(clip_path).hand_over()
