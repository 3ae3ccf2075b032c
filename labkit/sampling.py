"""Digits on demand: from a model and labels to finished images, the same way in every measurement and widget."""

import torch
from torch import Tensor, nn

from labkit.fields import guided
from labkit.shapes import check_labels
from labkit.solvers import heun, simulate


def balanced_labels(n: int, num_classes: int) -> Tensor:
    """n labels 0, 1, ..., K-1, 0, 1, ...: every class equally often, up to one. Shape (n,), int64."""
    return torch.arange(n) % num_classes


@torch.no_grad()
def draw_images(
    model: nn.Module,
    y: Tensor,
    w: float,
    *,
    noise: Tensor | None = None,
    seed: int = 0,
    steps: int = 16,
    size: int = 32,
    chunk: int = 500,
) -> Tensor:
    """Images (B, C, size, size) in [-1, 1] of the classes y (B,), at guidance scale w, on the CPU.

    Heun's method on a uniform grid from t=0 to t=1: 2 * steps evaluations of each branch of `guided`. The images are
    clipped, as they are when shown. Same seed, same noise: for every w, and on every device.

    Arguments:
        model: a network with the attributes `channels` and `num_classes`, K; label K is null.
        noise: what to start from, shaped like the images (default: drawn on the CPU from `seed`).
        chunk: images that travel together; it changes the memory, not the result.
    Raises ValueError for labels outside 0..K, noise of another shape, and fewer than one step.
    """
    shape = (len(y), model.channels, size, size)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) if noise is None else noise
    check_labels(y, noise, largest=model.num_classes)
    if noise.shape != shape:
        raise ValueError(f"noise must have shape {shape}; got {tuple(noise.shape)}")
    if steps < 1:
        raise ValueError(f"steps must be at least 1; got {steps}")
    on = next(model.parameters()).device
    ts = torch.linspace(0, 1, steps + 1)
    images = [
        simulate(heun(guided(model, some_y.to(on), w, model.num_classes)), x.to(on), ts).clamp(-1, 1).cpu()
        for x, some_y in zip(noise.split(chunk), y.split(chunk), strict=True)
    ]
    return torch.cat(images)
