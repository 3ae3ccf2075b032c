"""What a model scores on the test split: a loss on a fixed grid of times, or a count of wrong answers."""

import torch
from torch import nn

from labkit.data.images import mnist32, to_float
from labkit.flow.losses import cfm_loss
from labkit.flow.paths import GaussianPath


@torch.no_grad()
def held_out_loss(model: nn.Module, path: GaussianPath, chunk: int = 1000) -> float:
    """CFM loss with labels on the MNIST test images, at times on a fixed uniform grid and with noise from seed 0."""
    on = next(model.parameters()).device
    images, labels = mnist32("test")
    generator = torch.Generator().manual_seed(0)
    total = 0.0
    for z, y in zip(to_float(images).split(chunk), labels.split(chunk), strict=True):
        t = (torch.arange(len(z)) + 0.5) / len(z)
        eps = torch.randn(z.shape, generator=generator)
        total += cfm_loss(model, path, z.to(on), y.to(on), t=t.to(on), eps=eps.to(on)).item() * len(z)
    return total / len(images)


@torch.no_grad()
def count_wrong(model: nn.Module, chunk: int = 1000) -> int:
    """How many of the 10,000 MNIST test images a classifier gets wrong."""
    on = next(model.parameters()).device
    parts = zip(*(part.split(chunk) for part in mnist32("test")), strict=True)
    return sum((model(to_float(z.to(on))).argmax(1) != y.to(on)).sum().item() for z, y in parts)
