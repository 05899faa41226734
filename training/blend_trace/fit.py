"""The training loop: pairs of a real face and its self-blend, damaged alike, seen a few times each."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from training.blend_trace import blend, damage
from training.blend_trace.faces import Group, Picture, Portrait
from training.blend_trace.warp import feathered_swap
from workers.detectors.blend_trace_network import Network, from_imagenet

#: 2 x pairs x 256 x 256 x 3, uint8: real ones first, each beside its own fake.
Pairs = NDArray[np.uint8]

#: Rows of the pairs, and 1 to mirror them -> what goes into the network.
Batch = Callable[[NDArray[np.int64], int], Tensor]

#: Share of the pairs that talkers have; they are few people, but they are what clips look like.
TALKERS: Final = 0.35
#: Share of the fakes that are swaps with another person of the same part; the rest are self-blends.
SWAPS: Final = 0.6
#: Shorter sides of the box at which faces are blended: what a swap program works at.
BLENDED: Final = (90.0, 240.0)
#: Of the average of the weights over the last steps, which is what is kept (Polyak).
DECAY: Final = 0.98
#: Pairs that one process makes at a time.
CHUNK: Final = 100
#: Blocks that the late steps leave alone, and their stem.
FROZEN: Final = 3
#: Batches by which the layers' means and spreads are measured at the end.
SETTLING: Final = 30
#: Steps between two lines about the loss.
TELL: Final = 50
#: Labels are drawn in by this much: some blends leave nothing to see.
DOUBT: Final = 0.03


@dataclass(frozen=True)
class Plan:
    """How long and how large; the defaults take two CPU cores half an hour."""

    pairs: int = 3000
    steps: int = 300  #: of the whole network
    late: int = 1200  #: of its upper blocks alone
    batch: int = 16  #: pairs a step
    side: int = 128
    rate: float = 1e-3
    seed: int = 7


def pair(face: Portrait, rng: np.random.Generator, giver: Portrait | None = None) -> tuple[Picture, Picture]:
    """A real crop and its fake, 256 x 256 x 3 each, after the same damage.

    The fake is a self-blend, or with a giver a feathered swap.
    """
    worked = face.scaled(min(face.box, float(rng.uniform(*BLENDED))))
    real = worked.with_picture(blend.leave_whole(worked, rng))
    pasted = blend.self_blend(worked, rng) if giver is None else feathered_swap(giver, worked, rng)
    fake = worked.with_picture(pasted)
    way = damage.draw(rng)
    return way.apply(real), way.apply(fake)


def pairs(faces: Sequence[Portrait], count: int, seed: int) -> Pairs:
    """`count` pairs of these faces, the same for the same seed."""
    rng = np.random.default_rng(seed)
    groups = [[one for one in faces if one.group is group] for group in Group]
    made = []
    for _ in range(count):
        chosen = groups[int(rng.random() < TALKERS)] or faces
        face, other = (chosen[int(n)] for n in rng.integers(len(chosen), size=2))
        swaps = rng.random() < SWAPS and face.person != other.person
        made.append(pair(face, rng, other.scaled(min(other.box, BLENDED[1])) if swaps else None))
    return np.stack([np.stack(side) for side in zip(*made, strict=True)])


def many_pairs(faces: Sequence[Portrait], count: int, seed: int, processes: int) -> Pairs:
    """The same from several processes: blending and codecs take as long as learning."""
    sizes = [min(CHUNK, count - start) for start in range(0, count, CHUNK)]
    seeds = range(seed * 1_000_003, seed * 1_000_003 + len(sizes))
    if processes == 1:
        return np.concatenate([pairs(faces, *one) for one in zip(sizes, seeds, strict=True)], 1)
    with ProcessPoolExecutor(processes, get_context("spawn"), _start, (list(faces),)) as pool:
        chunks = list(pool.map(_chunk, sizes, seeds))
    return np.concatenate(chunks, 1)


def fit(made: Pairs, plan: Plan, start: Path | None) -> Network:
    """A network trained on these pairs; `start` holds EfficientNet-Lite0's ImageNet weights (a .pth file).

    First all of it, then the upper blocks alone on what the lower ones make of each crop, which is kept:
    the lower blocks cost more than half of a step and change least.
    """
    torch.manual_seed(plan.seed)
    network = Network(plan.side)
    if start is not None:
        weights = torch.load(start, map_location="cpu", weights_only=True)
        network.load_state_dict(from_imagenet(weights), strict=False)
    network = whole(network, made, plan)
    return upper(network, made, plan) if plan.late else network


def whole(network: Network, made: Pairs, plan: Plan) -> Network:
    """The network with all of it trained for `plan.steps`."""

    def batch(rows: NDArray[np.int64], mirror: int) -> Tensor:
        crops = np.ascontiguousarray(made[:, rows, :, :: -1 if mirror else 1])
        return network.prepare(torch.from_numpy(crops).flatten(0, 1))

    return _descend(network, 0, batch, made.shape[1], plan, plan.steps)


def upper(network: Network, made: Pairs, plan: Plan) -> Network:
    """The network with all but its stem and first FROZEN blocks trained for `plan.late` steps."""
    kept = []
    with torch.inference_mode():
        for start in range(0, made.shape[1], plan.batch):
            crops = torch.from_numpy(np.ascontiguousarray(made[:, start : start + plan.batch])).flatten(0, 1)
            low = network.rise(network.prepare(crops), 0, FROZEN)
            kept.append(low.half().numpy().reshape(2, -1, *low.shape[1:]))
    lows = np.concatenate(kept, 1)

    def batch(rows: NDArray[np.int64], mirror: int) -> Tensor:  # noqa: ARG001 - the padding is not symmetric
        return torch.from_numpy(lows[:, rows]).flatten(0, 1).float()

    return _descend(network, FROZEN, batch, made.shape[1], plan, plan.late)


def _descend(network: Network, first: int, batch: Batch, count: int, plan: Plan, steps: int) -> Network:
    """Steps of AdamW from block `first` on; the average of the last ones is the result."""
    average = torch.optim.swa_utils.AveragedModel(
        network,
        multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(DECAY),  # type: ignore[no-untyped-call]
        use_buffers=True,
    )
    trained = [*network.blocks[first:], network.head] if first else [network]
    parameters = [parameter for part in trained for parameter in part.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=plan.rate, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, plan.rate, steps, pct_start=0.15)
    wanted = torch.arange(2).repeat_interleave(min(plan.batch, count)).float() * (1 - 2 * DOUBT) + DOUBT
    rng = np.random.default_rng(plan.seed + first)
    for part in trained:
        part.train()
    started, losses = time.perf_counter(), []
    for step in range(steps):
        rows = rng.choice(count, min(plan.batch, count), replace=False)
        pictures = batch(rows, int(rng.integers(2))).contiguous(memory_format=torch.channels_last)
        logits = network.head(network.rise(pictures, first).mean((2, 3)))[:, 0]
        loss = functional.binary_cross_entropy_with_logits(logits, wanted)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(parameters, 5.0)
        optimiser.step()
        schedule.step()
        average.update_parameters(network)
        losses.append(float(loss.detach()))
        if step % TELL == TELL - 1:
            seconds = time.perf_counter() - started
            print(f"step {step + 1}: loss {np.mean(losses[-TELL:]):.3f}, {seconds:.0f} s", file=sys.stderr)
    result = average.module
    assert isinstance(result, Network)  # noqa: S101 - narrows what the stub leaves open
    _renormalise(result, first, [batch(rng.permutation(count)[: plan.batch], 0) for _ in range(SETTLING)])
    return result.eval()


def _renormalise(network: Network, first: int, batches: Sequence[Tensor]) -> None:
    """Measure again what each layer's outputs are like: averaged weights never met the running figures."""
    norms = [m for block in network.blocks[first:] for m in block.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms if first else [*norms, network.stem.norm]:
        norm.train()
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over what follows
    with torch.no_grad():
        for pictures in batches:
            network.rise(pictures, first)


_FACES: list[Portrait] = []


def _start(faces: list[Portrait]) -> None:
    """In a new process: the faces once, and one thread a process."""
    cv2.setNumThreads(1)
    _FACES[:] = faces


def _chunk(count: int, seed: int) -> Pairs:
    return pairs(_FACES, count, seed)
