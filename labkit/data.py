"""Data: small clouds in the plane, MNIST (which ships with the package) and Fashion-MNIST (which does not).

Images are kept as uint8, on whatever device they are used on, and become float32 in [-1, 1] batch by batch.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from labkit.assets import asset

SPLITS = ("train", "test")


class LabelledImages(NamedTuple):
    """`images` (N, 1, 32, 32) uint8 and `labels` (N,) int64 in 0..9."""

    images: Tensor
    labels: Tensor


def mnist32(split: str) -> LabelledImages:
    """MNIST, padded from 28x28 to 32x32 with background: 60,000 images for `train`, 10,000 for `test`.

    The images ship with the package (CC BY-SA 3.0, Yann LeCun and Corinna Cortes; see the card `mnist.npz.json`).
    Raises ValueError for another split or a damaged file.
    """
    _check_split(split)
    with np.load(asset("mnist.npz")) as arrays:
        return _pad32(arrays[f"{split}_images"], arrays[f"{split}_labels"])


def fashion_mnist32(split: str, *, retries: int = 3) -> LabelledImages:
    """Fashion-MNIST (MIT licence, Zalando), padded to 32x32 like `mnist32`; it is read from disk or downloaded.

    Looked for in the folder LABKIT_DATA (the layout of torchvision: FashionMNIST/raw/), else in ~/.cache/labkit;
    where it is missing torchvision downloads it there, with up to `retries` attempts.
    Raises ValueError for another split, RuntimeError with what to do if the download fails.
    """
    _check_split(split)
    from torchvision.datasets import FashionMNIST  # imported late: torchvision takes a second to load

    root = Path(os.environ.get("LABKIT_DATA") or Path.home() / ".cache" / "labkit")
    error: Exception | None = None
    for _ in range(max(1, retries)):
        try:
            found = FashionMNIST(root, train=split == "train", download=True)
            return _pad32(found.data.numpy(), found.targets.numpy())
        except (OSError, RuntimeError) as caught:
            error = caught
    raise RuntimeError(
        f"Fashion-MNIST is not in {root} and could not be downloaded ({error}). Put the four idx files into "
        f"{root / 'FashionMNIST' / 'raw'}, or set LABKIT_DATA to a folder that has FashionMNIST/raw"
    )


def _check_split(split: str) -> None:
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}; got {split!r}")


def _pad32(images: np.ndarray, labels: np.ndarray) -> LabelledImages:
    return LabelledImages(pad(torch.from_numpy(images)[:, None], (2, 2, 2, 2)), torch.from_numpy(labels).long())


def to_float(images: Tensor) -> Tensor:
    """uint8 pixels 0..255 to float32 in [-1, 1] (other tensors pass unchanged)."""
    return images.float() / 127.5 - 1 if images.dtype == torch.uint8 else images


def to_uint8(x: Tensor) -> Tensor:
    """Float pixels in [-1, 1] to uint8 0..255; what lies outside is clipped."""
    return ((x.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


class batches:  # noqa: N801 - used like a function: `for z, y in batches(...)`
    """An endless stream of `(z, y)` batches, shuffled anew in every epoch (whose remainder below a batch is dropped).

    Arguments:
        images: (N, ...) data; uint8 images come out as float32 in [-1, 1]. Batches live on its device.
        labels: (N,) labels, on the same device.
        batch_size: samples a batch, 1..N.
        generator: a CPU generator that draws the permutations (default: a fresh one, seeded from torch's global one).

    `state_dict()` and `load_state_dict()` keep the place in the stream, for trainings that are resumed.
    Raises ValueError if the lengths differ or the batch does not fit.
    """

    def __init__(
        self, images: Tensor, labels: Tensor, batch_size: int, generator: torch.Generator | None = None
    ) -> None:
        if len(images) != len(labels):
            raise ValueError(f"images and labels must have the same length; got {len(images)} and {len(labels)}")
        if not 1 <= batch_size <= len(images):
            raise ValueError(f"batch_size must lie in 1..{len(images)}, the number of images; got {batch_size}")
        self.images, self.labels, self.batch_size = images, labels, batch_size
        self.generator = generator or torch.Generator().manual_seed(int(torch.randint(2**31, ())))
        self._shuffle()

    def _shuffle(self) -> None:
        self._epoch_state = self.generator.get_state()
        order = torch.randperm(len(self.images), generator=self.generator)
        self._order, self._place = order.to(self.images.device), 0

    def __iter__(self) -> "batches":
        return self

    def __next__(self) -> tuple[Tensor, Tensor]:
        if self._place + self.batch_size > len(self.images):
            self._shuffle()
        chosen = self._order[self._place : self._place + self.batch_size]
        self._place += self.batch_size
        return to_float(self.images[chosen]), self.labels[chosen]

    def state_dict(self) -> dict:
        """The place in the stream: position, and the generator's states at the start of the epoch and now."""
        here = {"length": len(self.images), "batch_size": self.batch_size, "place": self._place}
        return here | {"epoch": self._epoch_state, "now": self.generator.get_state()}

    def load_state_dict(self, state: dict) -> None:
        """Go to the place that `state_dict` described. Raises ValueError if that was another stream's."""
        for name, own in {"length": len(self.images), "batch_size": self.batch_size}.items():
            if state[name] != own:
                raise ValueError(f"the state is of a stream with {name} {state[name]}; this one has {own}")
        self.generator.set_state(state["epoch"])
        self._shuffle()
        self.generator.set_state(state["now"])
        self._place = state["place"]


class draws:  # noqa: N801 - used like a function, as `batches` is
    """An endless stream of fresh `(z, y)` from a distribution: `draws(mixture.sample, 256, generator)`.

    `sample(n, generator=...)` returns `(z, y)`, as `GaussianMixture.sample`, `moons` and `checkerboard` do.
    """

    def __init__(
        self, sample: Callable[..., tuple[Tensor, Tensor]], batch_size: int, generator: torch.Generator
    ) -> None:
        self.sample, self.batch_size, self.generator = sample, batch_size, generator

    def __iter__(self) -> "draws":
        return self

    def __next__(self) -> tuple[Tensor, Tensor]:
        return self.sample(self.batch_size, generator=self.generator)

    def state_dict(self) -> dict:
        """The generator's state."""
        return {"now": self.generator.get_state()}

    def load_state_dict(self, state: dict) -> None:
        """Go to the place that `state_dict` described."""
        self.generator.set_state(state["now"])


def moons(n: int, noise: float = 0.1, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """Two interleaved half circles of radius 1, centred on the origin: `(z, y)`, z (n, 2) float32, y (n,) in {0, 1}.

    Upper moon (y=0): (cos a - 1/2, sin a - 1/4); lower moon (y=1): (1/2 - cos a, 1/4 - sin a); a uniform on [0, pi];
    plus Gaussian noise of standard deviation `noise`.
    """
    y = torch.randint(2, (n,), generator=generator)
    angle = torch.pi * torch.rand(n, generator=generator)
    upper = torch.stack((angle.cos() - 0.5, angle.sin() - 0.25), dim=1)
    z = torch.where((y == 0)[:, None], upper, -upper)
    return z + noise * torch.randn(n, 2, generator=generator), y


def checkerboard(n: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """Uniform on the 8 dark squares of a 4x4 board over [-2, 2]^2: `(z, y)`, y (n,) in 0..7 the square."""
    y = torch.randint(8, (n,), generator=generator)
    column, half = y // 2, y % 2
    row = 2 * half + column % 2
    corner = torch.stack((column, row), dim=1) - 2.0
    return corner + torch.rand(n, 2, generator=generator), y
