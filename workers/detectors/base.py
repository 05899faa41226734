"""The detector an author writes against: `load` and `predict`; everything else is done here.

The base owns the choice of device and number format, batches, the lock, inference mode, the digest of the
weights, the check of every answer and its calibration. torch is imported when a detector starts, never
before: a CUDA call ahead of the worker's spawn would be inherited by nobody and break the children.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from core.domain import Modality
from core.errors import DetectorFailed, DetectorUnavailable
from core.evidence import CROP_SIDE, SOUND_RATE, DetectorIdentity
from workers.detectors import calibrations, hardware, store
from workers.detectors import checkpoint as checkpoints
from workers.detectors.checkpoint import Checkpoint, Wish

if TYPE_CHECKING:
    import torch

Crops = npt.NDArray[np.uint8]
Window = npt.NDArray[np.float32]
Scores = npt.NDArray[np.float32]
Heats = npt.NDArray[np.float32]
Batch = TypeVar("Batch", Crops, Sequence[Window])

CROP_AXES = 4  # N x H x W x 3
#: A tenth of a second at 16 kHz: below it no detector has anything to hear.
SHORTEST_WINDOW = 1600
#: Samples a batch by device type: 16 s of sound fill 0.1 GB in the first layer of wav2vec2, and on a CPU
#: larger batches gain nothing (110 ms a window of 2 s at eight, 128 ms alone, one thread).
BATCH_SAMPLES = {"cpu": 16 * SOUND_RATE, "cuda": 256 * SOUND_RATE}
#: Crops whose attention is kept at once: of ViT-B/16 that is 22 MB a crop.
ATTENTION_BATCH = 6
#: What a broken model or plugin raises out of tensor arithmetic.
FAULTS = (RuntimeError, ValueError, TypeError, LookupError, ArithmeticError)


class Detector(ABC, Generic[Batch]):
    """One loaded model of one modality. Authors subclass FrameDetector or AudioDetector."""

    modality: ClassVar[Modality]

    def __init__(self, checkpoint: Checkpoint, wish: Wish) -> None:
        """Choose where to run and load; raises DetectorUnavailable with a stable code, nothing else."""
        self.checkpoint = checkpoint
        self.batch_size = wish.batch_size
        self._lock = threading.Lock()
        self._digest = store.verify(checkpoint.folder)
        #: What every answer goes through. None: answers are the model's own.
        self.calibration = calibrations.read(checkpoint.folder, self._digest)
        self.device, self.dtype = self._choose(wish)
        self._load()

    @classmethod
    def locate(cls, wish: Wish) -> Checkpoint:
        """Find the files without loading them; a detector that carries its own weights overrides this."""
        return checkpoints.open_checkpoint(wish)

    @abstractmethod
    def load(self) -> None:
        """Read `self.checkpoint` and put the model on `self.device` as `self.dtype`."""

    def probe(self) -> None:
        """Score one empty input: what cannot be told from the files shows now, not in the first analysis.

        Raises DetectorUnavailable: checkpoint_damaged.
        """
        try:
            self._ask_once()
        except DetectorFailed as error:
            raise DetectorUnavailable(
                f"{error.detail} It was loaded but cannot score.", code="checkpoint_damaged"
            ) from error

    @property
    def identity(self) -> DetectorIdentity:
        """Who speaks, with the digest that was computed when it was loaded."""
        return DetectorIdentity(
            id=self.checkpoint.id,
            modality=self.modality,
            version=self.checkpoint.version,
            digest=self._digest,
            fake_label=self.checkpoint.fake.label,
            calibrated=self.calibration is not None,
            calibration=self.calibration.summary if self.calibration else None,
            test_only=self.checkpoint.test_only,
        )

    @abstractmethod
    def _ask_once(self) -> None:
        """Score one input of the usual size."""

    @abstractmethod
    def _ask(self, batch: Batch) -> torch.Tensor:
        """Move a batch to the device and call the author's predict."""

    def _choose(self, wish: Wish) -> tuple[torch.device, torch.dtype]:
        import torch  # noqa: PLC0415

        if wish.threads:
            torch.set_num_threads(wish.threads)
        device = hardware.choose_device(wish.device)
        return device, hardware.choose_dtype(device)

    def _load(self) -> None:
        try:
            self.load()
        except DetectorUnavailable:
            raise
        except ImportError as error:
            raise DetectorUnavailable(
                f"{self.checkpoint.id} needs a package that is not installed: {error.name}.",
                code="missing_dependency",
            ) from error
        except Exception as error:  # a checkpoint is a stranger's file: anything may come out of reading it
            raise DetectorUnavailable(
                f"Checkpoint {self.checkpoint.id} cannot be loaded ({type(error).__name__}).",
                code="checkpoint_damaged",
            ) from error

    def _score(self, batch: Batch, checkpoint: Callable[[], None] | None = None) -> Scores:
        """Probabilities of one batch; halves it, for good, when the device has too little memory."""
        import torch  # noqa: PLC0415

        try:
            with self._lock, torch.inference_mode(), _checkpoints(checkpoint):
                answer = self._ask(batch).to("cpu", torch.float32).numpy()
        except torch.OutOfMemoryError as error:
            if len(batch) == 1:
                raise DetectorFailed(
                    f"{self.checkpoint.id} has too little memory on {self.device}."
                ) from error
            self.batch_size = max(1, len(batch) // 2)
        except FAULTS as error:
            raise DetectorFailed(f"{self.checkpoint.id} broke: {type(error).__name__}.") from error
        else:
            return self._calibrated(self._checked(answer, len(batch)))
        halves = (batch[: self.batch_size], batch[self.batch_size :])
        return np.concatenate([self._score(half, checkpoint) for half in halves])

    def _checked(self, answer: npt.NDArray[np.float32], count: int) -> Scores:
        if answer.shape != (count,):
            raise DetectorFailed(f"{self.checkpoint.id} gave {answer.shape} for {count} inputs.")
        if not np.isfinite(answer).all() or answer.min() < 0 or answer.max() > 1:
            raise DetectorFailed(f"{self.checkpoint.id} answered something that is not a probability.")
        return answer

    def _calibrated(self, answer: Scores) -> Scores:
        if self.calibration is None:
            return answer
        return np.asarray(self.calibration.apply(answer.tolist()), np.float32)


class FrameDetector(Detector[Crops]):
    """Looks at face crops."""

    modality = Modality.VIDEO

    @abstractmethod
    def predict(self, crops: torch.Tensor) -> torch.Tensor:
        """Crops N x H x W x 3, uint8, RGB, on `self.device` -> N probabilities of fake."""

    def scores(self, crops: Crops, *, checkpoint: Callable[[], None] | None = None) -> Scores:
        """Crops N x H x W x 3, uint8, RGB -> N float32 in [0, 1]; N may be 0.

        `checkpoint` is called before each layer of a model and may raise to stop. Raises ValueError for
        another shape or type, DetectorFailed when the model breaks or answers no probability.
        """
        if crops.ndim != CROP_AXES or crops.shape[-1] != 3 or crops.dtype != np.uint8:  # noqa: PLR2004
            raise ValueError(f"crops are N x H x W x 3, uint8; got {crops.shape}, {crops.dtype}")
        answers = [self._score(batch, checkpoint) for batch in even_batches(crops, self.batch_size)]
        return np.concatenate(answers) if answers else np.empty(0, np.float32)

    def attend(self, crops: torch.Tensor) -> torch.Tensor | None:  # noqa: ARG002 - an author's to override
        """Crops as `predict` gets them -> N x h x w over the crop, 0 to 1: where the model looked.

        None, as here, where the model cannot tell: then occlusion finds it out.
        """
        return None

    def attention(self, crops: Crops, *, checkpoint: Callable[[], None] | None = None) -> Heats | None:
        """Crops as for `scores` -> N x h x w float32, 0 to 1, over the whole crop; None: it cannot tell.

        `checkpoint` may raise to stop. A model that breaks over it could not tell: its scores stand.
        """
        import torch  # noqa: PLC0415

        parts = []
        for batch in even_batches(crops, ATTENTION_BATCH):
            try:
                with self._lock, torch.inference_mode(), _checkpoints(checkpoint):
                    answer = self.attend(self._moved(batch))
            except FAULTS:
                return None
            if answer is None:
                return None
            parts.append(answer.to("cpu", torch.float32).numpy())
        found = np.concatenate(parts) if parts else None
        return found if found is not None and np.isfinite(found).all() else None

    def _ask_once(self) -> None:
        self.scores(np.zeros((1, CROP_SIDE, CROP_SIDE, 3), np.uint8))

    def _ask(self, batch: Crops) -> torch.Tensor:
        return self.predict(self._moved(batch))

    def _moved(self, batch: Crops) -> torch.Tensor:
        import torch  # noqa: PLC0415

        # A memory-mapped array may be read-only, which torch warns about: copy that one.
        contiguous = np.require(batch, requirements=["C", "W"])
        return torch.from_numpy(contiguous).to(self.device, non_blocking=True)


class AudioDetector(Detector[Sequence[Window]]):
    """Listens to windows of a voice."""

    modality = Modality.AUDIO
    #: Whether `predict` may be given windows of different lengths, filled up with zeros. Where it is False a
    #: batch holds one length only, so that a score never depends on what else was in the batch.
    takes_padding: bool = False
    #: Length of sound the model was made for; windows are cut to it. None: it does not say.
    window_seconds: float | None = None

    @abstractmethod
    def predict(self, windows: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Windows N x T, float32, 16 kHz, zeros beyond `lengths` (N, int64) -> N probabilities of fake."""

    def scores(self, windows: Sequence[Window], *, checkpoint: Callable[[], None] | None = None) -> Scores:
        """Windows of mono float32 at 16 kHz -> one float32 in [0, 1] each; there may be none.

        `checkpoint` is called before each layer of a model and may raise to stop. Raises ValueError for a
        window that is too short, not finite or not one-dimensional; DetectorFailed as FrameDetector does.
        """
        for window in windows:
            _check_window(window)
        answers = np.empty(len(windows), np.float32)
        for rows in self._batches(windows):
            answers[rows] = self._score([windows[row] for row in rows], checkpoint)
        return answers

    def _batches(self, windows: Sequence[Window]) -> Iterator[list[int]]:
        """Rows that are scored together: neighbours in length, or of one length."""

        def length(row: int) -> int:
            return len(windows[row])

        ordered = sorted(range(len(windows)), key=length)
        lengths = groupby(ordered, length)
        groups = [ordered] if self.takes_padding and ordered else [list(group) for _, group in lengths]
        room = BATCH_SAMPLES.get(self.device.type, BATCH_SAMPLES["cpu"])
        for group in groups:
            yield from even_batches(group, min(self.batch_size, max(1, room // length(group[-1]))))

    def _ask_once(self) -> None:
        self.scores([np.zeros(SOUND_RATE, np.float32)])

    def _ask(self, batch: Sequence[Window]) -> torch.Tensor:
        import torch  # noqa: PLC0415

        lengths = [len(window) for window in batch]
        padded = np.zeros((len(batch), max(lengths, default=0)), np.float32)
        for row, window in enumerate(batch):
            padded[row, : len(window)] = window
        return self.predict(
            torch.from_numpy(padded).to(self.device), torch.tensor(lengths, device=self.device)
        )


@contextmanager
def _checkpoints(checkpoint: Callable[[], None] | None) -> Iterator[None]:
    """Call it before the batch and, inside the block, before each module of any torch model.

    32 crops take a ViT-B/16 seconds on two CPU cores: whoever cancels need not wait for all its layers.
    """
    if checkpoint is None:
        yield
        return
    from torch.nn.modules import module  # noqa: PLC0415

    checkpoint()
    hook = module.register_module_forward_pre_hook(lambda _module, _inputs: checkpoint())
    try:
        yield
    finally:
        hook.remove()


Cut = TypeVar("Cut", Crops, list[int])


def even_batches(items: Cut, size: int) -> Iterator[Cut]:
    """Cut into the fewest batches of at most `size`, of sizes that differ by one at most.

    33 crops at 32 are 17 and 16, not 32 and a straggler that costs as much as ten.
    """
    count = -(-len(items) // size)
    edges = [len(items) * n // count for n in range(count + 1)] if count else [0]
    for start, end in pairwise(edges):
        yield items[start:end]


def _check_window(window: Window) -> None:
    if window.ndim != 1 or window.dtype != np.float32 or len(window) < SHORTEST_WINDOW:
        raise ValueError(
            f"windows are float32 of at least {SHORTEST_WINDOW} samples; got {window.shape}, {window.dtype}"
        )
    if not np.isfinite(window).all():
        raise ValueError("a window holds samples that are not finite")
