"""The network of blend-trace: the first blocks of an EfficientNet-Lite0, mean-pooled, and one linear layer.

Tan and Le 2019 (EfficientNet) without squeeze-and-excitation and with ReLU6, as in its Lite variant; cut
where the stride is 16, because what blending leaves behind is small and local. Written here so that neither
the product nor its training needs the package that the first weights come from.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

#: Kernel, stride, expansion, channels out: blocks 0 to 10 of EfficientNet-Lite0's sixteen.
BLOCKS: Final = (
    (3, 1, 1, 16),
    (3, 2, 6, 24), (3, 1, 6, 24),
    (5, 2, 6, 40), (5, 1, 6, 40),
    (3, 2, 6, 80), (3, 1, 6, 80), (3, 1, 6, 80),
    (5, 1, 6, 112), (5, 1, 6, 112), (5, 1, 6, 112),
)  # fmt: skip
STEM: Final = 32
EPSILON: Final = 1e-3
#: What the first weights were trained with: bytes to about -1 to 1.
MEAN, SPREAD = 127.0, 128.0


class Conv(nn.Module):
    """Convolution without bias, padded as TensorFlow does (more to the right), and its normalisation."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs, eps=EPSILON, momentum=0.01)
        total = kernel - stride  # sides are multiples of 16, so every strided layer meets an even one
        self.edges = (total // 2, total - total // 2) * 2

    def forward(self, x: Tensor) -> Tensor:
        """N x inputs x H x W -> N x outputs x H/stride x W/stride."""
        padded = functional.pad(x, self.edges) if any(self.edges) else x
        out: Tensor = self.norm(self.conv(padded))
        return out


class Block(nn.Module):
    """Expand, filter each channel by itself, project; added to its input where the shapes allow."""

    def __init__(self, inputs: int, kernel: int, stride: int, expansion: int, outputs: int) -> None:
        super().__init__()
        wide = inputs * expansion
        self.expand = Conv(inputs, wide, 1) if expansion > 1 else None
        self.depthwise = Conv(wide, wide, kernel, stride, groups=wide)
        self.project = Conv(wide, outputs, 1)
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """N x inputs x H x W -> N x outputs x H/stride x W/stride."""
        y = x if self.expand is None else functional.relu6(self.expand(x))
        out: Tensor = self.project(functional.relu6(self.depthwise(y)))
        return x + out if self.adds else out


class Network(nn.Module):
    """Crops in, one logit and one embedding each out."""

    centre: Tensor
    whitening: Tensor

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side
        self.stem = Conv(3, STEM, 3, 2)
        inputs = [STEM, *(block[-1] for block in BLOCKS)]
        self.blocks = nn.ModuleList(Block(size, *block) for size, block in zip(inputs, BLOCKS, strict=False))
        self.head = nn.Linear(inputs[-1], 1)
        # The domain: embeddings of training crops have this mean, and unit spread after this matrix.
        self.register_buffer("centre", torch.zeros(inputs[-1]))
        self.register_buffer("whitening", torch.eye(inputs[-1]))

    def prepare(self, crops: Tensor) -> Tensor:
        """Crops N x H x W x 3, uint8 -> N x 3 x side x side, about -1 to 1; antialiased."""
        pictures = crops.permute(0, 3, 1, 2).float()
        size = (self.side, self.side)
        pictures = functional.interpolate(pictures, size=size, mode="bilinear", antialias=True)
        return (pictures - MEAN) / SPREAD

    def rise(self, x: Tensor, first: int = 0, last: int = len(BLOCKS)) -> Tensor:
        """Through blocks `first` to `last` - 1, and through the stem before block 0."""
        if first == 0:
            x = functional.relu6(self.stem(x))
        for block in self.blocks[first:last]:
            x = block(x)
        return x

    def embed(self, pictures: Tensor) -> Tensor:
        """N x 3 x side x side -> N x 112."""
        return self.rise(pictures).mean((2, 3))

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """Crops N x H x W x 3, uint8 -> N logits (above 0: a trace) and N Mahalanobis distances."""
        embedding = self.embed(self.prepare(crops))
        return self.head(embedding)[:, 0], self.distance(embedding)

    def distance(self, embedding: Tensor) -> Tensor:
        """How far each embedding lies from what was seen in training; about 1 for what was seen."""
        return ((embedding - self.centre) @ self.whitening).square().mean(1).sqrt()


def from_imagenet(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The published EfficientNet-Lite0 weights under this network's names; those of no use are left out."""
    parts = {
        "_expand_conv": "expand.conv", "_bn0": "expand.norm",
        "_depthwise_conv": "depthwise.conv", "_bn1": "depthwise.norm",
        "_project_conv": "project.conv", "_bn2": "project.norm",
    }  # fmt: skip
    renamed = {}
    for name, value in weights.items():
        words = name.split(".")
        if words[0] == "_blocks" and int(words[1]) < len(BLOCKS):
            renamed[".".join(("blocks", words[1], parts[words[2]], *words[3:]))] = value
        elif words[0] in {"_conv_stem", "_bn0"}:
            stem = "stem.conv" if words[0] == "_conv_stem" else "stem.norm"
            renamed[".".join((stem, *words[1:]))] = value
    return renamed
