"""Threshold and domain, from people who are kept for them, and the files that carry both."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from training.blend_trace import damage
from training.blend_trace.blend import self_blend
from training.blend_trace.codecs import Codec
from training.blend_trace.faces import Group, Part, Portrait
from training.blend_trace.fit import pairs
from workers.detectors import store
from workers.detectors.blend_trace import Card
from workers.detectors.blend_trace_network import MEAN, SPREAD, Network

#: Of the real validation faces of each group this part stays below the threshold.
QUIET: Final = 0.97
#: Of all validation faces this part is nearer than the farthest distance that counts as known.
KNOWN: Final = 0.995
#: Boxes tried for the size rule, in pixels, and how the smallest good one is told.
BOXES: Final = (40.0, 48.0, 56.0, 64.0, 80.0, 96.0, 128.0)
GOOD_AUC, MAX_ALARMS = 0.85, 0.05
#: How much of the covariance is replaced by its diagonal; 112 numbers from some thousand faces.
SHRINK: Final = 0.1
BATCH: Final = 32

Scores = NDArray[np.float64]


def ask(network: Network, crops: NDArray[np.uint8]) -> tuple[Scores, Scores, NDArray[np.float32]]:
    """N x 256 x 256 x 3 -> N scores, N distances, N x 112 embeddings."""
    scores, distances, embeddings = [], [], []
    with torch.inference_mode():
        for start in range(0, len(crops), BATCH):
            part = network.prepare(torch.from_numpy(crops[start : start + BATCH]))
            embedding = network.embed(part)
            embeddings.append(embedding.numpy())
            scores.append(network.head(embedding)[:, 0].sigmoid().double().numpy())
            distances.append(network.distance(embedding).double().numpy())
    return np.concatenate(scores), np.concatenate(distances), np.concatenate(embeddings)


def auc(real: Scores, fake: Scores) -> float:
    """How often a fake scores above a real one; ties count half."""
    ordered = np.sort(real)
    below, upto = (np.searchsorted(ordered, fake, side=side) for side in ("left", "right"))
    return float((below + upto).mean() / 2 / len(real))


def settle(
    network: Network, parts: dict[Part, list[Portrait]], *, version: str, seed: int, count: int
) -> Card:
    """Give the network its domain, and choose threshold, distance and size; `count` pairs a group."""
    known = pairs(parts[Part.TRAIN], 2 * count, seed + 1).reshape(-1, 256, 256, 3)
    _whiten(network, ask(network, known)[2])
    watched = parts[Part.VALIDATION]
    quiet, far = [], []
    for group in Group:
        people = [one for one in watched if one.group is group]
        if people:
            real, fake = pairs(people, count, seed + 2)
            scores, distances, _ = ask(network, real)
            quiet.append(float(np.quantile(scores, QUIET)))
            far += [distances, ask(network, fake)[1]]
    threshold = round(max([0.5, *quiet]), 4)
    return Card(
        version=version,
        side=network.side,
        threshold=threshold,
        min_face_pixels=_smallest(network, watched, threshold, seed),
        max_distance=round(float(np.quantile(np.concatenate(far), KNOWN)), 4),
    )


def save(network: Network, card: Card, folder: Path) -> None:
    """Write the three files of a checkpoint; filters (four axes) in half precision, the rest as it is."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = {
        name: (value.half() if value.dim() == 4 else value.float()).contiguous()
        for name, value in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    save_file(kept, folder / store.WEIGHTS)
    prepared = {"size": {"height": card.side, "width": card.side}, "mean": MEAN, "spread": SPREAD}
    for name, value in ((store.CONFIG, card.model_dump()), (store.PREPROCESSOR, prepared)):
        (folder / name).write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def _whiten(network: Network, embeddings: NDArray[np.float32]) -> None:
    """Mahalanobis: the mean of the embeddings, and the root of their inverse covariance."""
    centre = embeddings.mean(0)
    spread = np.cov(embeddings, rowvar=False).astype(np.float64)
    spread = (1 - SHRINK) * spread + SHRINK * np.diag(np.diag(spread))
    spread += 1e-6 * np.eye(len(spread)) * np.trace(spread) / len(spread)
    root = np.linalg.cholesky(np.linalg.inv(spread))
    network.centre.copy_(torch.from_numpy(centre))
    network.whitening.copy_(torch.from_numpy(root).float())


def _smallest(network: Network, faces: Sequence[Portrait], threshold: float, seed: int) -> float:
    """The smallest box from which on validation faces are told apart, and real ones left alone."""
    good = BOXES[-1]
    for box in reversed(BOXES):
        real, fake = _at(faces, box, seed)
        scores, others = ask(network, real)[0], ask(network, fake)[0]
        if auc(scores, others) < GOOD_AUC or (scores >= threshold).mean() > MAX_ALARMS:
            break
        good = box
    return good


def _at(faces: Sequence[Portrait], box: float, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    rng = np.random.default_rng(seed)
    ways = (
        damage.stored_as(box),
        damage.stored_as(box, (Codec.JPEG, 80)),
        damage.stored_as(box, (Codec.H264, 26)),
    )
    made = []
    for face in faces:
        worked = face.scaled(min(face.box, 220.0))
        fake = worked.with_picture(self_blend(worked, rng))
        made += [(way.apply(worked), way.apply(fake)) for way in ways]
    real, fakes = zip(*made, strict=True)
    return np.stack(real), np.stack(fakes)
