"""blend-trace: the project's own small detector of what pasting one face over another leaves behind.

It reports a *manipulation trace*, which is neither a deepfake nor the lack of one, and it abstains outside
what it was trained on. Its weights, threshold and domain are files of this package;
docs/models/blend-trace.md says how they were made and measured.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt
from pydantic import Field, ValidationError

from core.config import ModelSettings
from core.domain import Frozen, Modality
from core.errors import DetectorUnavailable
from core.evidence import Probability
from workers.detectors import store
from workers.detectors.base import Crops, FrameDetector, Scores
from workers.detectors.checkpoint import Checkpoint, Wish
from workers.detectors.labels import FakeClass

if TYPE_CHECKING:
    import torch

    from workers.detectors.blend_trace_network import Network

ID: Final = "deepdefend/blend-trace"
#: What its high score is called; never "fake".
LABEL: Final = "manipulation trace"
WEIGHTS: Final = Path(__file__).parent / "weights" / "blend-trace"


class Card(Frozen):
    """What config.json says beside the weights; all of it was measured on validation people."""

    version: str
    side: int = Field(ge=32, le=256, multiple_of=16)  #: pixels of the square the network sees
    threshold: Probability  #: from here on a score is a trace
    min_face_pixels: float = Field(ge=0)  #: shorter side of a face's box, in pixels of the frame
    max_distance: float = Field(gt=0)  #: of an embedding from those of training


class BlendTrace(FrameDetector):
    """Scores crops, and says which of them it can speak about."""

    card: Card
    network: Network

    @classmethod
    def locate(cls, wish: Wish) -> Checkpoint:  # noqa: ARG003 - there is nothing to wish for
        """The files of this package. Raises DetectorUnavailable as `located` does."""
        return located(WEIGHTS)

    def load(self) -> None:
        """Read the weights; float32 everywhere: it is small, and bf16 would blur the distances."""
        from safetensors.torch import load_file  # noqa: PLC0415 - torch only where something is scored

        from workers.detectors.blend_trace_network import Network  # noqa: PLC0415

        self.card = card_of(self.checkpoint)
        self.network = Network(self.card.side)
        weights = load_file(self.checkpoint.folder / store.WEIGHTS)
        self.network.load_state_dict({name: value.float() for name, value in weights.items()})
        self.network.eval().to(self.device)
        self._distances = threading.local()  # the base locks one batch, not one call

    @property
    def threshold(self) -> float:
        """A score from here on is a trace: 0 to 1, chosen on people kept for it."""
        return self.card.threshold

    @property
    def min_face_pixels(self) -> float:
        """Faces whose box is narrower are out of its domain."""
        return self.card.min_face_pixels

    def predict(self, crops: torch.Tensor) -> torch.Tensor:
        """See FrameDetector; the distances of the batch are kept for `traces`."""
        logits, distances = self.network(crops)
        kept: list[torch.Tensor] | None = getattr(self._distances, "kept", None)
        if kept is not None:
            kept.append(distances.cpu())
        scores: torch.Tensor = logits.sigmoid()
        return scores

    def traces(
        self,
        crops: Crops,
        sizes: npt.ArrayLike,
        *,
        checkpoint: Callable[[], None] | None = None,
    ) -> tuple[Scores, npt.NDArray[np.bool_]]:
        """Scores in [0, 1] and which of them count, N each.

        `sizes` are the shorter sides of the faces' boxes, in pixels of the frame. A score whose
        crop is out of domain (too small a face, or unlike anything in training) says nothing.
        Raises ValueError unless there is one size a crop, and what `scores` raises.
        """
        pixels = np.asarray(sizes, np.float64)
        if pixels.shape != (len(crops),):
            raise ValueError(f"{len(crops)} crops need as many sizes; got {pixels.shape}")
        self._distances.kept = []
        try:
            scores = self.scores(crops, checkpoint=checkpoint)
            kept = [part.numpy() for part in self._distances.kept]
        finally:
            self._distances.kept = None
        distances = np.concatenate([np.empty(0, np.float32), *kept])
        # Written so that a size or distance that is no number is out of domain.
        return scores, (pixels >= self.card.min_face_pixels) & (distances <= self.card.max_distance)


def located(folder: Path) -> Checkpoint:
    """A folder of blend-trace files as a checkpoint, without its weights read.

    Raises DetectorUnavailable: checkpoint_incomplete, checkpoint_damaged.
    """
    store.check_whole(folder)
    config = store.read_json(folder, store.CONFIG)
    found = Checkpoint(
        id=ID,
        folder=folder,
        version=str(config.get("version")),
        digest=store.total(store.digests(folder)),
        config=config,
        preprocessor=store.read_json(folder, store.PREPROCESSOR),
        fake=FakeClass(indices=(0,), label=LABEL),
        test_only=False,
    )
    card_of(found)
    return found


def card_of(checkpoint: Checkpoint) -> Card:
    """Its config.json, checked. Raises DetectorUnavailable: checkpoint_damaged."""
    try:
        return Card.model_validate(checkpoint.config)
    except ValidationError as error:
        raise DetectorUnavailable(
            f"The config.json of {ID} lacks what it was measured at.", code="checkpoint_damaged"
        ) from error


def open_trace(settings: ModelSettings, *, allow_test: bool = False) -> BlendTrace | None:
    """The loaded detector, or None where the setting says off. Raises DetectorUnavailable when damaged."""
    if settings.blend_trace == "off":
        return None
    wish = Wish.of(Modality.VIDEO, settings, allow_test=allow_test)
    wish = wish.model_copy(update={"name": ID, "revision": None, "fake_label": None})
    detector = BlendTrace(BlendTrace.locate(wish), wish)
    detector.probe()
    return detector
