"""A multilayer perceptron for clouds of points: the network of the lessons in the plane."""

import torch
from torch import Tensor, nn

from labkit.base.inputs import takes, whole
from labkit.base.shapes import check_dtype, check_time
from labkit.nn.embeddings import Conditioning


class MLP(nn.Module):
    """A field on vectors: `forward(x, t, y=None)` with x (B, dim), t (B,) in [0, 1], y (B,) in 0..K or None.

    `num_classes` is K, or None for a network without labels; label K is "no class given", and so is y=None. There are
    `depth` hidden layers of `width` units, an even number.
    """

    @takes(dim=whole(1), num_classes=whole(1), width=whole(2), depth=whole(1))
    def __init__(self, dim: int = 2, num_classes: int | None = None, *, width: int = 128, depth: int = 3) -> None:
        super().__init__()
        self.dim = dim
        self.num_classes = self.null = num_classes
        self.conditioning = Conditioning(width, num_classes)
        layers: list[nn.Module] = [nn.Linear(dim + width, width), nn.SiLU()]
        for _ in range(depth - 1):
            layers += [nn.Linear(width, width), nn.SiLU()]
        self.body = nn.Sequential(*layers, nn.Linear(width, dim))

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        check_dtype(x, self.body[-1].weight)
        if x.ndim != 2 or x.shape[1] != self.dim:
            raise ValueError(f"x must have shape (B, {self.dim}); got {tuple(x.shape)}")
        check_time(t, x)
        return self.body(torch.cat((x, self.conditioning(t, y)), dim=1))  # (B, dim + width) to (B, dim)
