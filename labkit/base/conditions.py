"""Conditions: what a model may be told beside x and t."""

import torch
from torch import Tensor


def drop_labels(y: Tensor, p: float, null: int, generator: torch.Generator | None = None) -> Tensor:
    """A copy of `y` (B,) in which each label is replaced by `null` with probability `p`, independently.

    Classifier-Free Diffusion Guidance (2022), algorithm 1. Raises ValueError unless 0 <= p <= 1.
    """
    if not 0 <= p <= 1:
        raise ValueError(f"p must be a probability in [0, 1]; got {p}")
    on = y.device if generator is None else generator.device
    dropped = torch.rand(y.shape, generator=generator, device=on).to(y.device) < p
    return torch.where(dropped, null, y)
