"""What shape leaves each part of a network, and how many operations it takes."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from labkit.base.inputs import a, takes


@takes(inputs=a(Tensor))
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


@takes(inputs=a(Tensor))
@torch.no_grad()
def flop_count(network: Callable[..., Tensor], *inputs: Tensor) -> int:
    """Floating-point operations of `network(*inputs)` by torch's counter; a multiplication and an addition are two.

    Matrix products, attention and convolutions count; what works on single numbers (norms, activations) does not.
    """
    # Attention is taken apart into its products, because not every torch's counter knows the fused one.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        network(*inputs)
    return counter.get_total_flops()


def _parts(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    for name, child in module.named_children():
        if isinstance(child, nn.ModuleList):
            yield from _parts(child, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", child
