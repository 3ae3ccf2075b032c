"""Labelled images: MNIST, which ships with the package, Fashion-MNIST, which does not, and your own.

Images are kept as uint8, on whatever device they are used on, and become float32 in [-1, 1] batch by batch.
"""

import os
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.nn.functional import pad

from labkit.base.files import asset
from labkit.base.inputs import a, described, pair, takes, tensor, text, visible, whole
from labkit.data.idx import FILES, read_idx

SLACK = 1e-5  # how far rounding may carry a pixel out of its range


class Labelled(NamedTuple):
    """`images` (N, C, H, W), uint8 or float32 in [-1, 1], and `labels` (N,) int64 in 0..K-1."""

    images: Tensor
    labels: Tensor


@takes(split=text("train", "test"))
def mnist32(split: str) -> Labelled:
    """MNIST, padded from 28x28 to 32x32 with background: 60,000 images for `train`, 10,000 for `test`, as uint8.

    They ship with the package (CC BY-SA 3.0, Yann LeCun and Corinna Cortes; see the card `mnist.npz.json`).
    Raises ValueError for another split or a damaged file.
    """
    path = asset("mnist.npz")
    try:
        with np.load(path) as arrays:
            images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
    except (BadZipFile, KeyError, ValueError) as error:
        raise ValueError(f"mnist.npz does not hold what its card says: {error}") from error
    return labelled(images, labels, multiple=32)


@takes(split=text("train", "test"))
def fashion_mnist32(split: str) -> Labelled:
    """Fashion-MNIST (MIT licence, Zalando), padded to 32x32 like `mnist32`, from its four idx files, plain or .gz.

    They are looked for in the folder LABKIT_DATA and in its FashionMNIST/raw, where torchvision puts them.
    Raises ValueError for another split, and with what to do where files are missing or damaged.
    """
    root = os.environ.get("LABKIT_DATA", "")
    for folder in (Path(root, "FashionMNIST", "raw"), Path(root)):
        if root and any((folder / f"{FILES['train_images']}{end}").is_file() for end in ("", ".gz")):
            return labelled(read_idx(folder, f"{split}_images"), read_idx(folder, f"{split}_labels"), multiple=32)
    raise ValueError(
        f"Fashion-MNIST does not ship. Put its four idx files ({', '.join(FILES.values())}, plain or .gz; from "
        "https://github.com/zalandoresearch/fashion-mnist) into a folder and set the environment variable LABKIT_DATA "
        f"to it; it is {root!r} now"
    )


@takes(multiple=whole(1))
def labelled(
    images: ArrayLike, labels: ArrayLike, *, value_range: tuple[float, float] | None = None, multiple: int = 1
) -> Labelled:
    """Your own images and labels, checked and brought into the form that networks and `batches` take.

    Arguments:
        images: (N, H, W) or (N, C, H, W), numpy or torch: uint8, which is kept, or float in [-1, 1].
        labels: N whole numbers 0..K-1, every one of which occurs.
        value_range: (lo, hi), the values of black and white, if they are others: they are mapped to -1 and 1.
        multiple: height and width are padded to a multiple of it, evenly, with background (uint8 0, float -1).
    Raises ValueError or TypeError with what came and what to do, for [0, 1] without a `value_range` above all.
    """
    x = _pixels(images, value_range)
    down, right = (-size % multiple for size in x.shape[2:])
    edges = (right // 2, right - right // 2, down // 2, down - down // 2)
    return Labelled(pad(x, edges, value=0 if x.dtype == torch.uint8 else -1), _classes(labels, len(x)))


def _pixels(images: ArrayLike, value_range: tuple[float, float] | None) -> Tensor:
    """Images as (N, C, H, W), uint8 or float32 in [-1, 1]."""
    array = images if isinstance(images, Tensor) else np.array(images, order="C")
    if not isinstance(images, Tensor) and array.dtype.kind not in "fiub":
        raise TypeError(f"images must be numbers, as an array or a tensor; got {described(images)}")
    x = array if isinstance(array, Tensor) else torch.from_numpy(array)
    x = x[:, None] if x.ndim == 3 else x
    if x.ndim != 4 or not x.numel():
        raise ValueError(f"images must have shape (N, H, W) or (N, C, H, W); got {tuple(x.shape)}")
    came = f"{x.min().item():.4g} to {x.max().item():.4g}"
    advice = "value_range=(lo, hi) says what black and white are"
    lo, hi = (-1, 1) if value_range is None else pair("value_range", value_range)
    if value_range is not None:
        x = (x.float() - lo) * (2 / (hi - lo)) - 1
    elif x.dtype == torch.uint8:
        return x
    elif not x.is_floating_point():
        raise TypeError(f"images must be uint8 or float, or come with their value_range=(lo, hi); got {x.dtype}")
    elif x.min() >= 0:
        raise ValueError(f"images from {came} have no value below 0, but black is -1 here. {advice}, such as (0, 1)")
    if not x.abs().max() <= 1 + SLACK:  # written so that NaN fails too
        raise ValueError(f"images must lie in [{lo:g}, {hi:g}]; got {came}. {advice}")
    return x.float().clamp(-1, 1)


def _classes(labels: ArrayLike, n: int) -> Tensor:
    """Labels as int64 (n,), all of 0..K-1."""
    array = labels.cpu().numpy() if isinstance(labels, Tensor) else np.asarray(labels)
    advice = "numpy.unique(labels, return_inverse=True)[1] numbers any others so"
    if array.dtype.kind not in "iu":
        raise TypeError(f"labels must be whole numbers 0..K-1; got {array.dtype}. {advice}")
    if array.shape != (n,):
        raise ValueError(f"labels must have shape ({n},), one for each image; got {array.shape}")
    y = torch.from_numpy(array.astype(np.int64))
    found = y.unique().tolist()
    if found == list(range(1, len(found) + 1)):
        raise ValueError(f"labels run from 1 to {found[-1]}; count from 0: labels - 1")
    if found != list(range(len(found))):
        came = f"{len(found)} different ones, from {found[0]} to {found[-1]}"
        raise ValueError(f"labels must be 0..K-1, each of which occurs; got {came}. {advice}")
    return y.to(labels.device) if isinstance(labels, Tensor) else y


@takes(images=a(Tensor))
def to_float(images: Tensor) -> Tensor:
    """uint8 pixels 0..255 to float32 in [-1, 1] (other tensors pass unchanged)."""
    return images.float() / 127.5 - 1 if images.dtype == torch.uint8 else images


@takes(x=tensor())
def to_uint8(x: Tensor) -> Tensor:
    """Float pixels in [-1, 1] to uint8 0..255; what lies outside is clipped."""
    if visible(x) and x.isnan().any():
        raise ValueError("x must be pixels; it holds NaN")
    return ((x.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


@takes()
def balanced_subset(data: Labelled, n: int, seed: int = 0) -> Labelled:
    """n images of `data` drawn at random, their labels `balanced_labels`. Raises ValueError for more than it has."""
    labels = data.labels.cpu()
    counts = labels.bincount()
    most = len(counts) * counts.min().item()
    if not 1 <= n <= most:
        raise ValueError(f"n must lie in 1..{most}, so that the classes can be balanced; got {n}")
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    y = balanced_labels(n, len(counts))
    chosen = torch.empty_like(y)
    for k in range(len(counts)):
        chosen[y == k] = order[labels[order] == k][: (y == k).sum()]
    return Labelled(data.images[chosen.to(data.images.device)], y.to(data.labels.device))


@takes(n=whole(0), num_classes=whole(1))
def balanced_labels(n: int, num_classes: int) -> Tensor:
    """n labels 0, 1, ..., K-1, 0, 1, ...: every class equally often, up to one. Shape (n,), int64."""
    return torch.arange(n) % num_classes
