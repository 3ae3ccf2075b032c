"""A training step as one CUDA graph: recorded once, then replayed without Python and without a launch per kernel."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from labkit.base.conditions import Condition, each

Step = Callable[[Tensor, Condition | None], Tensor]
WARMING = 3  # steps taken as they are, in which libraries choose their kernels and allocate what they keep


class Replayed:
    """`step(z, y)` -> tensor on a CUDA device: its first three calls run as they are, the next one is recorded.

    A network of a hundred small layers keeps a GPU waiting for the next launch; a graph has all of them at once. What
    is recorded is device work: the step must do the same work for every batch, and no number that it computed in
    Python may change. Batches of another shape than the recorded one run as they are.
    https://docs.pytorch.org/docs/stable/notes/cuda.html (2026), "CUDA Graphs".
    """

    def __init__(self, step: Step) -> None:
        self.step, self.calls = step, 0
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, z: Tensor, y: Condition | None) -> Tensor:
        self.calls += 1
        if self.calls <= WARMING:
            return self._beside(z, y)
        if self.graph is None:
            self._record(z, y)
        if z.shape != self.z.shape:
            return self.step(z, y)
        self.z.copy_(z)
        if y is not None:
            each(lambda kept, part: kept.copy_(part), self.y, y)
        self.graph.replay()
        return self.row.clone()

    def _beside(self, z: Tensor, y: Condition | None) -> Tensor:
        """The step on a stream of its own, as has to be before a recording."""
        here, side = torch.cuda.current_stream(), torch.cuda.Stream()
        side.wait_stream(here)
        with torch.cuda.stream(side), _fastest_kernels():
            row = self.step(z, y)
        here.wait_stream(side)
        return row

    def _record(self, z: Tensor, y: Condition | None) -> None:
        self.z, self.y = z.clone(), None if y is None else each(torch.clone, y)
        self.graph = torch.cuda.CUDAGraph()
        with _fastest_kernels(), torch.cuda.graph(self.graph):
            self.row = self.step(self.z, self.y)


@contextmanager
def _fastest_kernels() -> Iterator[None]:
    """Let cuDNN try its convolutions and keep the fastest: shapes stay the same here."""
    before, torch.backends.cudnn.benchmark = torch.backends.cudnn.benchmark, True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before
