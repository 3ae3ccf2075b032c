"""How time and class enter a network: as vectors."""

import math

import torch
from torch import Tensor, nn

from labkit.base.shapes import check_labels


class FourierTime(nn.Module):
    """Time t (B,) to `dim` features (B, dim): sin and cos of 2 pi f t, with dim/2 frequencies f from 1/4 to `highest`.

    A network sees t=.50 and t=.51 as nearly the same number, but as clearly different phases of the fast waves.
    Fourier Features Let Networks Learn High Frequency Functions in Low Dimensional Domains (2020), here with
    geometrically spaced frequencies.
    """

    def __init__(self, dim: int, highest: float = 16.0) -> None:
        super().__init__()
        if dim < 2 or dim % 2:
            raise ValueError(f"the width of the time embedding must be even and at least 2; got {dim}")
        frequencies = torch.logspace(math.log2(0.25), math.log2(highest), dim // 2, base=2.0)
        self.register_buffer("frequencies", frequencies, persistent=False)

    def forward(self, t: Tensor) -> Tensor:
        phases = 2 * math.pi * t[:, None] * self.frequencies.to(t.dtype)  # (B, dim/2)
        return torch.cat((phases.sin(), phases.cos()), dim=1)


class Conditioning(nn.Module):
    """Time and class to one vector (B, dim): an MLP of the time features plus a learned row per class.

    With `num_classes` K there are K + 1 rows; row K is the null label, "no class given", and `y=None` means all null.
    `num_classes=None` makes a network without labels, which refuses them.
    """

    def __init__(self, dim: int, num_classes: int | None) -> None:
        super().__init__()
        if num_classes is not None and num_classes < 1:
            raise ValueError(f"num_classes must be at least 1, or None for a network without labels; got {num_classes}")
        self.num_classes = self.null = num_classes
        self.time = nn.Sequential(FourierTime(dim), nn.Linear(dim, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.label = None if num_classes is None else nn.Embedding(num_classes + 1, dim)

    def forward(self, t: Tensor, y: Tensor | None) -> Tensor:
        if y is not None:
            check_labels(y, len(t))
        waves, *layers = self.time
        time = waves(t).to(layers[0].weight.dtype)  # waves need more digits than half precision has
        for layer in layers:
            time = layer(time)
        if self.label is None:
            if y is not None:
                raise ValueError("y was given to a network built without labels (num_classes=None)")
            return time
        if y is None:
            y = torch.full(t.shape, self.num_classes, dtype=torch.int64, device=t.device)
        return time + self.label(y)
