"""Which detector speaks for a modality: found by name, opened by the settings.

Detectors are entry points of the group `deepdefend.detectors`, so that an installed package can add one.
A setting (`DEEPDEFEND_MODELS__VIDEO`) is a checkpoint for the bundled Hugging Face adapter of that modality,
or `key:checkpoint` for the detector registered under `key`. Imports no torch; `load` does.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Final

from core.config import ModelSettings
from core.domain import Modality
from core.errors import DetectorUnavailable
from workers.detectors.base import Detector
from workers.detectors.checkpoint import Wish, display_name

GROUP: Final = "deepdefend.detectors"
DEFAULT_KEYS: Final = {Modality.VIDEO: "hf-image", Modality.AUDIO: "hf-audio"}
#: The states of `status`: usable, not on this machine, on this machine but not to be used.
AVAILABLE, ABSENT, REFUSED = "available", "absent", "refused"
NO_WEIGHTS: Final = DetectorUnavailable.code


def load(
    modality: Modality, settings: ModelSettings, *, allow_test: bool = False, calibrated: bool = True
) -> Detector[Any]:
    """The loaded detector of a modality; its weights are held against their recorded digest.

    With `calibrated=False` its answers are the model's own, as whoever makes a calibration needs them.
    Raises DetectorUnavailable with a stable code and, in `extra["mend"]`, the command that mends it.
    """
    kind, wish = _chosen(modality, settings, allow_test=allow_test)
    try:
        detector = kind(kind.locate(wish), wish)
        detector.probe()
    except DetectorUnavailable as error:
        raise _with_mend(error, wish) from error
    if not calibrated:
        detector.calibration = None
    return detector


def status(settings: ModelSettings, modality: Modality, *, allow_test: bool = False) -> dict[str, Any]:
    """What would happen on loading, as far as can be told in milliseconds, as JSON types.

    Keys: id, modality, state (available, absent, refused), code, detail and mend (null when available),
    version, digest (null when never recorded), fake_label, test_only. The digest is the recorded one: only
    `load` and `models verify` recompute it.
    """
    base: dict[str, Any] = {"id": getattr(settings, modality.value), "modality": modality.value}
    nothing = dict.fromkeys(("code", "detail", "mend", "version", "digest", "fake_label"))
    try:
        kind, wish = _chosen(modality, settings, allow_test=allow_test)
        base["id"] = display_name(wish)
        found = _located(kind, wish)
    except DetectorUnavailable as error:
        state = ABSENT if error.code == NO_WEIGHTS else REFUSED
        told = {"code": error.code, "detail": error.detail, "mend": error.extra.get("mend")}
        return base | {"state": state} | nothing | told | {"test_only": False}
    return (
        base
        | nothing
        | {
            "id": found.id,
            "state": AVAILABLE,
            "version": found.version,
            "digest": found.digest,
            "fake_label": found.fake.label,
            "test_only": found.test_only,
        }
    )


def collect(entries: Iterable[EntryPoint]) -> Mapping[str, EntryPoint]:
    """Entry points by key. Raises DetectorUnavailable when two different detectors claim one key.

    The same line seen twice (a checkout that is also installed) is one detector.
    """
    found: dict[str, EntryPoint] = {}
    for entry in entries:
        other = found.setdefault(entry.name, entry)
        if other.value != entry.value:
            owner = entry.dist.name if entry.dist else "<package>"
            raise DetectorUnavailable(
                f"Two detectors are called {entry.name!r}: {other.value} and {entry.value}.",
                code="duplicate_detector",
                mend=f"pip uninstall {owner}",
            )
    return found


@lru_cache(maxsize=1)
def registered() -> Mapping[str, EntryPoint]:
    """Every detector this process can name; the bundled ones also from a checkout that is not installed."""
    return collect([*entry_points(group=GROUP), *_of_checkout()])


def _of_checkout() -> list[EntryPoint]:
    """The lines of the pyproject.toml above this package, where there is one: never in a wheel."""
    path = Path(__file__).parents[2] / "pyproject.toml"
    if not path.is_file():
        return []
    groups = tomllib.loads(path.read_text(encoding="utf-8")).get("project", {}).get("entry-points", {})
    return [EntryPoint(name, value, GROUP) for name, value in groups.get(GROUP, {}).items()]


def wish_of(settings: ModelSettings, modality: Modality, *, allow_test: bool = False) -> tuple[str, Wish]:
    """The key of the detector, and what it is to open. Raises DetectorUnavailable: duplicate_detector."""
    wish = Wish.of(modality, settings, allow_test=allow_test)
    key, colon, rest = wish.name.partition(":")
    if colon and key in registered():
        return key, wish.model_copy(update={"name": rest})
    return DEFAULT_KEYS[modality], wish


def _chosen(
    modality: Modality, settings: ModelSettings, *, allow_test: bool
) -> tuple[type[Detector[Any]], Wish]:
    """The class and what it is to open."""
    key, wish = wish_of(settings, modality, allow_test=allow_test)
    try:
        kind = registered()[key].load()
    except (KeyError, ImportError, AttributeError) as error:
        raise DetectorUnavailable(
            f"The detector {key!r} cannot be imported.", code="unknown_detector", mend="make setup"
        ) from error
    if not (isinstance(kind, type) and issubclass(kind, Detector) and kind.modality is modality):
        raise DetectorUnavailable(
            f"{key!r} is no detector for {modality.value}.", code="unknown_detector", mend="make setup"
        )
    return kind, wish


def _located(kind: type[Detector[Any]], wish: Wish) -> Any:
    try:
        return kind.locate(wish)
    except DetectorUnavailable as error:
        raise _with_mend(error, wish) from error


def _with_mend(error: DetectorUnavailable, wish: Wish) -> DetectorUnavailable:
    """The same error with the one command that mends it."""
    mends = {
        "ambiguous_labels": f"export DEEPDEFEND_MODELS__{wish.modality.value.upper()}_FAKE_LABEL=<label>",
        "unknown_fake_label": f"export DEEPDEFEND_MODELS__{wish.modality.value.upper()}_FAKE_LABEL=<label>",
        "unsupported_checkpoint": f"unset DEEPDEFEND_MODELS__{wish.modality.value.upper()}",
    }
    pull = f"deepdefend models pull {wish.modality.value}"
    mend = error.extra.get("mend") or mends.get(error.code, pull)
    return DetectorUnavailable(error.detail, code=error.code, **{**error.extra, "mend": mend})
