"""Training within a budget of operations, counted and not timed: how the plans of lessons 06 and 07 are measured."""

from functools import cache

import torch
from torch import Tensor, nn

from labkit.data.images import mnist32
from labkit.data.stream import batches
from labkit.flow.paths import GaussianPath
from labkit.measure.held_out import held_out_loss
from labkit.nn.trace import flop_count
from labkit.training.loop import History, fit
from labkit.training.recipes import flow_loss

PASSES = 3  # a training step costs about three forward passes: one forward, and two for the gradients


def operations(network: nn.Module, side: int = 32) -> int:
    """Floating-point operations of one forward pass of one image by torch's counter; the network stays as it is."""
    on, mode = next(network.parameters()).device, network.training
    inputs = torch.zeros(1, 1, side, side), torch.zeros(1), torch.zeros(1, dtype=torch.int64)
    count = flop_count(network.eval(), *(part.to(on) for part in inputs))
    network.train(mode)
    return count


def steps_within(budget: float, network: nn.Module, batch_size: int) -> int:
    """How many training steps of `batch_size` digits fit into so many operations."""
    return int(budget / (PASSES * operations(network) * batch_size))


def trained_within(
    budget: float, network: nn.Module, batch_size: int, lr: float, seed: int = 0, *, progress: bool = False
) -> History:
    """Train a field on digits, told labels of which a tenth is dropped, for as many steps as the budget pays.

    All randomness comes from `seed`, and torch's global one stays as it was. Raises ValueError if no step fits.
    """
    steps, on = steps_within(budget, network, batch_size), next(network.parameters()).device
    if steps < 1:
        raise ValueError(f"{budget:.2g} operations do not pay one step of {batch_size} images")
    images, labels = (part.to(on) for part in digits("train"))
    stream = batches(images, labels, batch_size, generator=torch.Generator().manual_seed(seed))
    with torch.random.fork_rng(), torch.enable_grad():
        torch.manual_seed(seed)
        return fit(network, flow_loss(GaussianPath()), stream, steps=steps, lr=lr, progress=progress)


def held_out(network: nn.Module, limit: int = 1000) -> float:
    """The loss of a field on the first `limit` test digits, at fixed times and with fixed noise."""
    return held_out_loss(network, GaussianPath(), digits("test"), limit=limit)


@cache
def digits(split: str) -> tuple[Tensor, Tensor]:
    """`mnist32`, read once in a process."""
    return mnist32(split)
