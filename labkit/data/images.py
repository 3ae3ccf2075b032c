"""Data: small clouds in the plane, MNIST (which ships with the package) and Fashion-MNIST (which does not).

Images are kept as uint8, on whatever device they are used on, and become float32 in [-1, 1] batch by batch.
"""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from labkit.base.files import asset

SPLITS = ("train", "test")
CLASSES = 10


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


def real_digits(n: int, seed: int = 0) -> LabelledImages:
    """n training images drawn at random, the classes balanced, with their labels.

    Raises ValueError for more than the training set can balance.
    """
    images, labels = mnist32("train")
    if not 1 <= n <= (most := CLASSES * labels.bincount().min().item()):
        raise ValueError(f"n must lie in 1..{most}, so that the classes can be balanced; got {n}")
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    y = balanced_labels(n, CLASSES)
    chosen = torch.empty_like(y)
    for digit in range(CLASSES):
        wanted = (y == digit).nonzero()[:, 0]
        chosen[wanted] = order[labels[order] == digit][: len(wanted)]
    return LabelledImages(images[chosen], y)


def balanced_labels(n: int, num_classes: int) -> Tensor:
    """n labels 0, 1, ..., K-1, 0, 1, ...: every class equally often, up to one. Shape (n,), int64."""
    return torch.arange(n) % num_classes
