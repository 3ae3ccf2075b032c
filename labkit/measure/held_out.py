"""What a model scores on images it has not seen: a loss on a fixed grid of times, or a count of wrong answers."""

import torch
from torch import nn

from labkit.base.inputs import a, takes, whole
from labkit.data.images import Labelled, mnist32, to_float
from labkit.flow.losses import cfm_loss
from labkit.flow.paths import GaussianPath


@takes(data=a(tuple), limit=whole(1), chunk=whole(1))
@torch.no_grad()
def held_out_loss(
    model: nn.Module, path: GaussianPath, data: Labelled | None = None, *, limit: int | None = None, chunk: int = 1000
) -> float:
    """CFM loss, told the labels, of a model that gives a velocity on `path`, with noise from seed 0.

    The first `limit` images of `data` count (default: all MNIST test images), `chunk` at a time, and each chunk has its
    own uniform grid of times.
    """
    generator, total = torch.Generator().manual_seed(0), 0.0
    images, labels = (part[:limit] for part in data or mnist32("test"))
    on = next(model.parameters()).device
    for z, y in zip(to_float(images).split(chunk), labels.split(chunk), strict=True):
        t = (torch.arange(len(z)) + 0.5) / len(z)
        eps = torch.randn(z.shape, generator=generator)
        total += cfm_loss(model, path, z.to(on), y.to(on), t=t.to(on), eps=eps.to(on)).item() * len(z)
    return total / len(images)


@takes(data=a(tuple), limit=whole(1), chunk=whole(1))
@torch.no_grad()
def count_wrong(model: nn.Module, data: Labelled | None = None, *, limit: int | None = None, chunk: int = 1000) -> int:
    """How many images of `data` a classifier gets wrong; arguments as in `held_out_loss`."""
    on = next(model.parameters()).device
    parts = zip(*(part[:limit].split(chunk) for part in data or mnist32("test")), strict=True)
    return sum((model(to_float(z.to(on))).argmax(1) != y.to(on)).sum().item() for z, y in parts)
