"""Digits on demand: from a model and labels to finished images, the same way in every measurement and widget."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from labkit.base.runtime import autocast, half_precision
from labkit.base.shapes import Field, check_labels
from labkit.flow.guidance import guided
from labkit.flow.solvers import midpoint, simulate

Guide = Callable[[Field, Tensor, float, int], Field]


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
    half: bool = False,
    guide: Guide = guided,
) -> Tensor:
    """Images (B, C, size, size) in [-1, 1] of the classes y (B,), at guidance scale w, on the CPU.

    The midpoint method on a uniform grid from t=0 to t=1: 2 * steps evaluations of each branch of `guided`, none of
    them at t=1, where a network's error is large and leaves specks on the paper. Images are clipped, as when shown.
    Same seed, same noise: for every w, and on every device.

    Arguments:
        model: a network with the attributes `channels` and `num_classes`, K; label K is null.
        noise: what to start from, shaped like the images (default: drawn on the CPU from `seed`).
        chunk: images that travel together; it changes the memory, not the result.
        half: evaluate the network in the fast precision of the device (`half_precision`), where it has one; the solver
            stays in float32.
        guide: what makes a field of model, labels, w and null label, such as `labkit.fields.projected`.
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
    dtype = half_precision(on, heavy=True) if half else None

    def field(x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        with autocast(on, dtype):
            return model(x, t, y).to(x.dtype)  # only the network's own work is rough, not the solver's

    ts = torch.linspace(0, 1, steps + 1)
    images = [
        simulate(midpoint(guide(field, some_y.to(on), w, model.num_classes)), x.to(on), ts).clamp(-1, 1).cpu()
        for x, some_y in zip(noise.split(chunk), y.split(chunk), strict=True)
    ]
    return torch.cat(images)
