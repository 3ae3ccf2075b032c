"""What shape leaves each part of a network."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn


@torch.no_grad()
def shape_trace(network: nn.Module, *inputs: Tensor) -> list[tuple[str, tuple[int, ...]]]:
    """Call `network(*inputs)` and list `(name, output shape)` of its parts, in the order in which they ran.

    Parts are the modules that the network's own `forward` calls: its children, and those inside its lists.
    """
    trace: list[tuple[str, tuple[int, ...]]] = []
    names = {part: name for name, part in _parts(network)}

    def note(part: nn.Module, _inputs: tuple, output: Tensor) -> None:
        trace.append((names[part], tuple(output.shape)))

    handles = [part.register_forward_hook(note) for part in names]
    try:
        network(*inputs)
    finally:
        for handle in handles:
            handle.remove()
    return trace


def _parts(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    for name, child in module.named_children():
        if isinstance(child, nn.ModuleList):
            yield from _parts(child, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", child
