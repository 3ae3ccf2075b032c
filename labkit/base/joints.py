"""The joints of the house: what may be plugged into what.

x is a batch (B, ...) of anything: points, images, latents, clips. t and s are times (B,) in [0, 1]. y is a condition,
see `labkit.base.conditions`. A model called without y is a field.
"""

from typing import Protocol

from torch import Tensor

from labkit.base.conditions import Condition


class Model(Protocol):
    """(x, t, y) -> like x, a vector for every point: what is learned, or exact, and may be told a condition y."""

    def __call__(self, x: Tensor, t: Tensor, y: Condition | None = None, /) -> Tensor: ...


class Field(Protocol):
    """(x, t) -> like x: what a solver takes; `conditional` and `guided` make one of a model."""

    def __call__(self, x: Tensor, t: Tensor, /) -> Tensor: ...


class Step(Protocol):
    """(x, t, s) -> x at s: how a solver moves on, as `simulate` takes it; s is the end of the step, not its length."""

    def __call__(self, x: Tensor, t: Tensor, s: Tensor, /) -> Tensor: ...
