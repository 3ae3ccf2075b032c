"""The joints of the house: what may be plugged into what.

    Model      (x, t, y) -> like x       what is learned, or exact, and can be told a condition y
    Field      (x, t) -> like x          what a solver takes; `conditional` and `guided` make one of a model
    Step       (x, t, s) -> x at s       how a solver moves on; `simulate` takes steps

x is a batch (B, ...) of anything: points, images, latents, clips. t and s are times (B,) in [0, 1]. y is a condition,
see `labkit.base.conditions`. A model called without y is a field.
"""

from typing import Protocol

from torch import Tensor

from labkit.base.conditions import Condition


class Model(Protocol):
    """A vector for every point x (B, ...) at times t (B,), told the condition y or nothing; shaped like x."""

    def __call__(self, x: Tensor, t: Tensor, y: Condition | None = None, /) -> Tensor:
        """The value at (x, t, y)."""


class Field(Protocol):
    """A vector for every point x (B, ...) at times t (B,); shaped like x."""

    def __call__(self, x: Tensor, t: Tensor, /) -> Tensor:
        """The value at (x, t)."""


class Step(Protocol):
    """From x (B, ...) at times t (B,) to x at times s (B,): the end of the step, not its length."""

    def __call__(self, x: Tensor, t: Tensor, s: Tensor, /) -> Tensor:
        """x at s."""
