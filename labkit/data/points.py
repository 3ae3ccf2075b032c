"""Small clouds in the plane, drawn afresh from a seed."""

import torch
from torch import Tensor

from labkit.base.inputs import number, takes, whole


@takes(n=whole(0), noise=number(0))
def moons(n: int, noise: float = 0.1, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """Two interleaved half circles of radius 1, centred on the origin: `(z, y)`, z (n, 2) float32, y (n,) in {0, 1}.

    Upper moon (y=0): (cos a - 1/2, sin a - 1/4); lower moon (y=1): (1/2 - cos a, 1/4 - sin a); a uniform on [0, pi];
    plus Gaussian noise of standard deviation `noise`.
    """
    y = torch.randint(2, (n,), generator=generator)
    angle = torch.pi * torch.rand(n, generator=generator)
    upper = torch.stack((angle.cos() - 0.5, angle.sin() - 0.25), dim=1)
    z = torch.where((y == 0)[:, None], upper, -upper)
    return z + noise * torch.randn(n, 2, generator=generator), y


@takes(n=whole(0))
def checkerboard(n: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """Uniform on the 8 dark squares of a 4x4 board over [-2, 2]^2: `(z, y)`, y (n,) in 0..7 the square."""
    y = torch.randint(8, (n,), generator=generator)
    column, half = y // 2, y % 2
    row = 2 * half + column % 2
    corner = torch.stack((column, row), dim=1) - 2.0
    return corner + torch.rand(n, 2, generator=generator), y
