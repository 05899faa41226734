"""One checkpoint as the settings want it, opened cheaply: everything but the weights themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, Literal

from core.config import ModelSettings
from core.domain import Frozen, Modality
from core.errors import DetectorUnavailable
from workers.detectors import labels, store
from workers.detectors.labels import FakeClass

#: Written into config.json of checkpoints made for tests; their scores mean nothing.
TEST_MARK: Final = "deepdefend_test_only"
LOCAL: Final = "local"


class Wish(Frozen):
    """What the settings ask for, for one modality."""

    modality: Modality
    name: str  #: hub id or folder
    revision: str | None  #: the pin; None: whatever `models pull` recorded
    fake_label: str | None
    root: Path  #: models.dir
    device: Literal["auto", "cpu", "cuda"]
    batch_size: int
    threads: int
    allow_test: bool

    @classmethod
    def of(cls, modality: Modality, settings: ModelSettings, *, allow_test: bool = False) -> Wish:
        """The wish of this modality."""
        return cls(
            modality=modality,
            name=getattr(settings, modality.value),
            revision=getattr(settings, f"{modality.value}_revision"),
            fake_label=getattr(settings, f"{modality.value}_fake_label"),
            root=settings.dir.expanduser(),
            device=settings.device,
            batch_size=settings.batch_size,
            threads=settings.threads,
            allow_test=allow_test,
        )


class Checkpoint(Frozen):
    """A checkpoint that may be loaded: complete, permitted, and its fake class known."""

    id: str  #: hub id, or the folder's name for a person's own
    folder: Path
    version: str  #: commit, or `local`
    digest: str | None  #: as recorded; None: only loading computes it
    config: dict[str, Any]
    preprocessor: dict[str, Any]
    fake: FakeClass
    test_only: bool


def open_checkpoint(wish: Wish) -> Checkpoint:
    """Find the checkpoint and look at all but its weights.

    Raises DetectorUnavailable: no_detector_weights, checkpoint_incomplete, checkpoint_damaged,
    pickle_refused, wrong_revision, ambiguous_labels, unknown_fake_label, test_checkpoint_refused.
    """
    folder = store.find(wish.name, wish.root)
    if folder is None:
        raise absent(wish)
    store.check_whole(folder)
    record = store.record_of(folder)
    _check_revision(wish, record)
    config = store.read_json(folder, store.CONFIG)
    test_only = bool(config.get(TEST_MARK, False))
    if test_only and not wish.allow_test:
        raise DetectorUnavailable(
            f"Checkpoint {folder.name} was made for tests; its scores mean nothing.",
            code="test_checkpoint_refused",
        )
    return Checkpoint(
        id=record.id if record else display_name(wish),
        folder=folder,
        version=record.revision if record else LOCAL,
        digest=record.digest if record else None,
        config=config,
        preprocessor=store.read_json(folder, store.PREPROCESSOR),
        fake=labels.resolve(labels_of(config, folder), wish.fake_label),
        test_only=test_only,
    )


def display_name(wish: Wish) -> str:
    """The hub id, or the last part of a path: reports must not show where this machine keeps its files."""
    return Path(wish.name).expanduser().resolve().name if store.is_path(wish.name) else wish.name


def absent(wish: Wish) -> DetectorUnavailable:
    """The error of a checkpoint that is not on this machine."""
    return DetectorUnavailable(f"No weights of {display_name(wish)} on this machine.")


def labels_of(config: dict[str, Any], folder: Path) -> dict[int, str]:
    """`id2label` by class number; without one, `LABEL_n` for as many classes as `num_labels` says (2)."""
    raw = config.get("id2label")
    try:
        if raw is None:
            return {index: f"LABEL_{index}" for index in range(int(config.get("num_labels", 2)))}
        named = {int(index): str(label) for index, label in raw.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise DetectorUnavailable(
            f"Checkpoint {folder.name} is damaged: id2label is not a map of class numbers to names.",
            code="checkpoint_damaged",
        ) from error
    if sorted(named) != list(range(len(named))):
        raise DetectorUnavailable(
            f"Checkpoint {folder.name} is damaged: id2label skips class numbers.", code="checkpoint_damaged"
        )
    return named


def _check_revision(wish: Wish, record: store.Record | None) -> None:
    if wish.revision is None or store.is_path(wish.name):
        return
    if record is None or wish.revision not in {record.revision, record.requested}:
        has = f"has {record.revision}" if record else "has no record of its revision"
        raise DetectorUnavailable(
            f"The setting pins {wish.name} to {wish.revision}; what is on this machine {has}.",
            code="wrong_revision",
        )
