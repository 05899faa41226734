"""Detectors with a known answer: what they react to is written down, so that a finding can be checked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from core.domain import Modality
from workers.detectors import store
from workers.detectors.base import AudioDetector, FrameDetector
from workers.detectors.checkpoint import Checkpoint, Wish
from workers.detectors.labels import FakeClass

if TYPE_CHECKING:
    import torch


def wish(folder: Path, modality: Modality = Modality.VIDEO, *, batch_size: int = 4) -> Wish:
    """A wish that a stand-in is made with; its folder is filled with files of no use."""
    folder.mkdir(parents=True, exist_ok=True)
    header = b'{"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}'
    (folder / store.WEIGHTS).write_bytes(len(header).to_bytes(8, "little") + header + b"\0")
    for name in (store.CONFIG, store.PREPROCESSOR):
        (folder / name).write_text("{}")
    return Wish(
        modality=modality,
        name=str(folder),
        revision=None,
        fake_label=None,
        root=folder.parent,
        device="cpu",
        batch_size=batch_size,
        threads=0,
        allow_test=True,
    )


def checkpoint(made: Wish) -> Checkpoint:
    """The checkpoint of a stand-in."""
    return Checkpoint(
        id="test/stand-in",
        folder=Path(made.name),
        version="local",
        digest=None,
        config={},
        preprocessor={},
        fake=FakeClass(indices=(1,), label="fake"),
        test_only=True,
    )


class StandIn(FrameDetector):
    """A frame detector without weights; notes the size of every batch it was given."""

    def load(self) -> None:
        """There is nothing to read."""
        self.batches: list[int] = []

    def predict(self, crops: torch.Tensor) -> torch.Tensor:
        """The mean brightness as a probability."""
        self.batches.append(len(crops))
        return crops.float().mean((1, 2, 3)) / 255

    @classmethod
    def make(cls, folder: Path, *, batch_size: int = 4) -> Self:
        """One with its own folder."""
        asked = wish(folder, batch_size=batch_size)
        return cls(checkpoint(asked), asked)


class Mean(AudioDetector):
    """An audio detector that answers the mean of the samples that are there."""

    def load(self) -> None:
        """There is nothing to read."""
        self.batches: list[tuple[int, int]] = []

    def predict(self, windows: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """The mean over `lengths`, so that padding would show if it were counted."""
        self.batches.append((windows.shape[0], windows.shape[1]))
        return windows.sum(1) / lengths

    @classmethod
    def make(cls, folder: Path, *, batch_size: int = 4) -> Self:
        """One with its own folder."""
        asked = wish(folder, Modality.AUDIO, batch_size=batch_size)
        return cls(checkpoint(asked), asked)


class Weighing(StandIn):
    """Says fake in proportion to the red in one area, as a detector that looks only there would."""

    def watch(self, area: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> Self:
        """Look at `area` (H x W) from now on."""
        self.area = area
        return self

    def predict(self, crops: torch.Tensor) -> torch.Tensor:
        """0.05 for none of it red, 0.95 for all of it."""
        import torch  # noqa: PLC0415

        self.batches.append(len(crops))
        inside = crops[:, torch.from_numpy(self.area)].float()
        red = (inside[..., 0] - inside[..., 1:].amax(-1)).clamp(0, 200).mean(1) / 200
        return 0.05 + 0.9 * red


class Lopsided(StandIn):
    """Says fake in proportion to the difference between the halves of the face."""

    def predict(self, crops: torch.Tensor) -> torch.Tensor:
        """0 for a symmetric picture; a difference of 64 grey values is certain."""
        self.batches.append(len(crops))
        difference = (crops.float() - crops.float().flip(2)).abs()
        return (difference.mean((1, 2, 3)) / 64).clamp(0, 1)
