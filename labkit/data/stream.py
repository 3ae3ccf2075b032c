"""Streams of batches `(z, y)`, from data in memory or from a distribution, that can be resumed in the middle."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Generator, Tensor

from labkit.base.conditions import Condition, check_condition, rows
from labkit.base.inputs import a, insist, takes, whole
from labkit.data.images import to_float


class batches(Iterator):  # noqa: N801 - used like a function: `for z, y in batches(...)`
    """An endless stream of `(z, y)` batches, shuffled anew in every epoch (whose remainder below a batch is dropped).

    Arguments:
        data: (N, ...) of anything; uint8 images come out as float32 in [-1, 1]. Batches live on its device.
        y: the condition of every sample, on the same device: labels (N,), tokens (N, L, D), or a tuple of such.
        generator: a CPU generator that draws the permutations (default: a fresh one, seeded from torch's global one).
    Raises ValueError if the lengths differ, the batch does not fit, or a state to go on from is another stream's.
    """

    @takes()
    def __init__(self, data: Tensor, y: Condition | None, batch_size: int, generator: Generator | None = None) -> None:
        data, y = (torch.from_numpy(part) if isinstance(part, np.ndarray) else part for part in (data, y))
        y = torch.tensor(y) if isinstance(y, list) else y
        insist("data", data, a(Tensor))
        if y is not None:
            check_condition(y, len(data))
        if not 1 <= batch_size <= len(data):
            raise ValueError(f"batch_size must lie in 1..{len(data)}, the number of samples; got {batch_size}")
        self.data, self.y, self.batch_size = data, y, batch_size
        self.generator = generator or Generator().manual_seed(int(torch.randint(2**31, ())))
        self._shuffle()

    def _shuffle(self) -> None:
        self._epoch = self.generator.get_state()
        order = torch.randperm(len(self.data), generator=self.generator)
        self._order, self._place = order.to(self.data.device), 0

    def __next__(self) -> tuple[Tensor, Condition | None]:
        if self._place + self.batch_size > len(self.data):
            self._shuffle()
        chosen = self._order[self._place : self._place + self.batch_size]
        self._place += self.batch_size
        return to_float(self.data[chosen]), None if self.y is None else rows(self.y, chosen)

    def state_dict(self) -> dict:
        here = {"length": len(self.data), "batch_size": self.batch_size, "place": self._place}
        return here | {"epoch": self._epoch, "now": self.generator.get_state()}

    def load_state_dict(self, state: dict) -> None:
        for name, own in {"length": len(self.data), "batch_size": self.batch_size}.items():
            if state[name] != own:
                raise ValueError(f"the state is of a stream with {name} {state[name]}; this one has {own}")
        self.generator.set_state(state["epoch"])
        self._shuffle()
        self.generator.set_state(state["now"])
        self._place = state["place"]


class draws(Iterator):  # noqa: N801 - used like a function, as `batches` is
    """An endless stream of fresh `(z, y)` from a distribution: `draws(mixture.sample, 256, generator)`.

    `sample(n, generator=...)` returns `(z, y)`, as `GaussianMixture.sample`, `moons` and `checkerboard` do.
    """

    @takes(batch_size=whole(1))
    def __init__(self, sample: Callable[..., tuple[Tensor, Tensor]], batch_size: int, generator: Generator) -> None:
        self.sample, self.batch_size, self.generator = sample, batch_size, generator

    def __next__(self) -> tuple[Tensor, Tensor]:
        return self.sample(self.batch_size, generator=self.generator)

    def state_dict(self) -> dict:
        return {"now": self.generator.get_state()}

    def load_state_dict(self, state: dict) -> None:
        self.generator.set_state(state["now"])
