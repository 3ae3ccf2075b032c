"""Images: MNIST with its published counts, Fashion-MNIST from its files, and one's own, checked."""

import functools
import math

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from labkit.base import files
from labkit.base.files import asset
from labkit.data.idx import FILES, to_idx
from labkit.data.images import (
    Labelled,
    balanced_labels,
    balanced_subset,
    fashion_mnist32,
    labelled,
    mnist32,
    to_float,
    to_uint8,
)

COUNTS = {  # of the digits 0..9, as published
    "train": [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949],
    "test": [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009],
}
Y = [0, 1, 2, 0, 1]


@functools.cache
def mnist_arrays():
    with np.load(asset("mnist.npz")) as arrays:
        return dict(arrays)


@pytest.mark.parametrize("split", ["train", "test"])
def test_mnist32_is_mnist_with_a_border_of_background_and_the_published_counts(split):
    images, labels = mnist32(split)
    assert images.shape == (sum(COUNTS[split]), 1, 32, 32) and images.dtype == torch.uint8
    assert labels.bincount().tolist() == COUNTS[split] and labels.dtype == torch.int64
    assert torch.equal(images[:, 0, 2:-2, 2:-2], torch.from_numpy(mnist_arrays()[f"{split}_images"]))
    assert images.sum() == images[:, :, 2:-2, 2:-2].sum()  # so the border is 0, which to_float makes -1


@pytest.mark.parametrize("read", [mnist32, fashion_mnist32])
@pytest.mark.parametrize("split", ["valid", "Train", ""])
def test_another_split_is_refused_with_the_two_that_exist(read, split):
    with pytest.raises(ValueError, match=f"split must be one of train, test; got '{split}'"):
        read(split)


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("inside", [".", "FashionMNIST/raw"])
def test_fashion_mnist_is_read_from_labkit_data(monkeypatch, tmp_path, split, inside):
    monkeypatch.setenv("LABKIT_DATA", str(tmp_path))
    arrays = {part: value[:200] for part, value in mnist_arrays().items()}
    (tmp_path / inside).mkdir(parents=True, exist_ok=True)
    for part, name in FILES.items():
        (tmp_path / inside / name).write_bytes(to_idx(arrays[part]))
    images, labels = fashion_mnist32(split)
    assert torch.equal(images[:, 0, 2:-2, 2:-2], torch.from_numpy(arrays[f"{split}_images"]))
    assert images.shape == (200, 1, 32, 32) and labels.tolist() == arrays[f"{split}_labels"].tolist()
    (tmp_path / inside / FILES[f"{split}_labels"]).unlink()
    with pytest.raises(ValueError, match=f"{FILES[f'{split}_labels']} .* is missing"):
        fashion_mnist32(split)


def test_without_its_files_fashion_mnist_says_what_to_do(monkeypatch, tmp_path):
    for place in ("", str(tmp_path)):
        monkeypatch.setenv("LABKIT_DATA", place)
        with pytest.raises(
            ValueError, match=rf"four idx files \(train-images.* LABKIT_DATA to it; it is '{place}' now"
        ):
            fashion_mnist32("train")


@pytest.mark.parametrize("content", [b"no archive", None], ids=["no archive", "other arrays"])
def test_mnist_that_holds_something_else_is_refused(monkeypatch, tmp_path, content):
    path = tmp_path / "mnist.npz"
    np.savez(path, other=np.zeros(3)) if content is None else path.write_bytes(content)
    files.write_card(path, files.Card("a", "b", "c"))
    monkeypatch.setattr(files, "FOLDER", tmp_path)
    with pytest.raises(ValueError, match=r"mnist\.npz does not hold what its card says"):
        mnist32("test")


def test_pixels_run_from_minus_one_to_one_and_back_to_the_same_bytes():
    as_float = to_float(torch.arange(256, dtype=torch.uint8))
    assert as_float.dtype == torch.float32 and as_float[[0, -1]].tolist() == [-1, 1]
    assert to_uint8(as_float).tolist() == list(range(256)) and to_float(as_float) is as_float
    assert to_uint8(torch.tensor([-7.0, 1.2, math.inf])).tolist() == [0, 255, 255]


def pixels(dtype="float64", shape=(5, 6, 7), seed=0):
    """Images, the first of which has a black and a white pixel: 0 and 255, or -1 and 1."""
    x = np.random.default_rng(seed).uniform(-1, 1, shape)
    x.flat[:2] = -1, 1
    return ((x + 1) * 127.5).round().astype(dtype) if dtype == "uint8" else x.astype(dtype)


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32", "float64"])
@pytest.mark.parametrize("shape", [(5, 6, 7), (5, 3, 6, 7)])
@pytest.mark.parametrize("of", [np.asarray, torch.from_numpy, np.ndarray.tolist])
def test_your_images_stay_as_they_are_and_get_channels(dtype, shape, of):
    x = pixels(dtype, shape)
    if of is np.ndarray.tolist and dtype == "uint8":
        return  # a list of integers does not say that it holds bytes
    images, labels = labelled(of(x), Y)
    assert images.shape == (5, shape[1] if len(shape) == 4 else 1, 6, 7)
    assert images.dtype == (torch.uint8 if dtype == "uint8" else torch.float32)
    assert np.array_equal(images.numpy().reshape(shape), x.astype(np.float32) if dtype != "uint8" else x)
    assert labels.dtype == torch.int64 and labels.tolist() == Y


@pytest.mark.parametrize("lo, hi", [(0, 1), (0, 255), (-0.5, 0.5), (-3.0, 11.0), (0.1, 0.3)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_value_range_carries_black_to_minus_one_and_white_to_one_in_a_line(lo, hi, dtype):
    x = pixels()
    images, _ = labelled((lo + (x + 1) / 2 * (hi - lo)).astype(dtype), Y, value_range=(lo, hi))
    assert images.dtype == torch.float32 and images.min() == -1 and images.max() == 1
    np.testing.assert_allclose(images[:, 0].numpy(), x, rtol=0, atol=1e-5)


def test_the_eight_by_eight_digits_of_scikit_learn_come_in_with_one_line():
    digits = load_digits()
    images, labels = labelled(digits.images, digits.target, value_range=(0, 16))
    assert images.shape == (1797, 1, 8, 8) and torch.equal((images[:, 0] + 1) * 8, torch.tensor(digits.images).float())
    assert labels.tolist() == digits.target.tolist()
    integers, _ = labelled(digits.images.astype(np.int64), digits.target, value_range=(0, 16))
    assert torch.equal(integers, images)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize(
    ("shape", "multiple", "size"), [((5, 6, 7), 4, (8, 8)), ((5, 8, 5), 4, (8, 8)), ((5, 4, 4), 4, (4, 4))]
)
def test_padding_is_even_and_of_background(dtype, shape, multiple, size):
    images, _ = labelled(pixels(dtype, shape), Y, multiple=multiple)
    assert images.shape[2:] == size
    top, left = (size[0] - shape[1]) // 2, (size[1] - shape[2]) // 2
    inside = torch.zeros(size, dtype=torch.bool)
    inside[top : top + shape[1], left : left + shape[2]] = True
    assert np.array_equal(images[:, 0, inside].numpy(), pixels(dtype, shape).reshape(5, -1))
    assert (images[:, 0, ~inside] == (0 if dtype == "uint8" else -1)).all()


@pytest.mark.parametrize(
    ("images", "options", "error", "words"),
    [
        (np.zeros((5, 4)), {}, ValueError, r"images must have shape \(N, H, W\) or .*; got \(5, 4\)"),
        (np.zeros((0, 4, 4)), {}, ValueError, r"images must have shape .* got \(0, 1, 4, 4\)"),
        (np.zeros((5, 4, 4), int), {}, TypeError, r"uint8 or float, or come with their value_range.*; got torch.int64"),
        (np.stack([np.eye(4)] * 5), {}, ValueError, r"images from 0 to 1 have no value below 0, but black is -1 here"),
        (np.full((5, 4, 4), 0.5), {}, ValueError, r"from 0\.5 to 0\.5 have no value below 0.*value_range.*\(0, 1\)"),
        (np.ones((5, 4, 4)) * np.nan, {}, ValueError, r"images must lie in \[-1, 1\]; got nan"),
        (-np.ones((5, 4, 4)) * np.inf, {}, ValueError, r"images must lie in \[-1, 1\]; got -inf"),
        (np.full((5, 4, 4), -1.01), {}, ValueError, r"images must lie in \[-1, 1\]; got -1\.01 to .*value_range"),
        (np.full((5, 4, 4), 17.0), {"value_range": (0, 16)}, ValueError, r"images must lie in \[0, 16\]; got 17"),
        (np.full((5, 4, 4), np.nan), {"value_range": (0, 16)}, ValueError, r"images must lie in \[0, 16\]; got nan"),
        (np.zeros((5, 4, 4)), {"value_range": (1, 0)}, ValueError, r"value_range must be .*lo < hi; got \(1, 0\)"),
        (np.zeros((5, 4, 4)), {"value_range": (0, math.inf)}, ValueError, "value_range must be .*finite"),
        (
            np.zeros((5, 4, 4), np.uint8),
            {"multiple": 0},
            ValueError,
            "multiple must be a whole number, at least 1; got 0",
        ),
    ],
)
def test_images_that_would_be_wrong_in_silence_are_refused_with_what_to_do(images, options, error, words):
    with pytest.raises(error, match=words):
        labelled(images, Y, **options)


@pytest.mark.parametrize(
    "labels", [Y, np.array(Y, np.uint8), np.array(Y, ">i4"), torch.tensor(Y), torch.tensor(Y).int()]
)
def test_labels_come_as_list_array_or_tensor(labels):
    found = labelled(pixels(), labels).labels
    assert found.dtype == torch.int64 and found.tolist() == Y


@pytest.mark.parametrize(
    ("labels", "error", "words"),
    [
        ([1, 2, 3, 1, 2], ValueError, "labels run from 1 to 3; count from 0: labels - 1"),
        ([0, 2, 0, 2, 0], ValueError, "each of which occurs; got 2 different ones, from 0 to 2"),
        ([-1, 0, 1, 0, 1], ValueError, "each of which occurs; got 3 different ones, from -1 to 1"),
        ([0, 1, 2, 0], ValueError, r"labels must have shape \(5,\).*; got \(4,\)"),
        ([[0], [1], [2], [0], [1]], ValueError, r"labels must have shape \(5,\).*; got \(5, 1\)"),
        ([0.0, 1.0, 2.0, 0.0, 1.0], TypeError, "labels must be whole numbers .*; got float64.*return_inverse"),
        (["cat", "dog", "cat", "dog", "cat"], TypeError, "labels must be whole numbers .*return_inverse"),
    ],
)
def test_labels_that_are_no_classes_are_refused_with_what_to_do(labels, error, words):
    with pytest.raises(error, match=words):
        labelled(pixels(), labels)


def test_a_balanced_subset_has_every_class_equally_often_of_the_right_images_and_follows_its_seed():
    y = torch.cat((torch.zeros(20), torch.ones(30), torch.full((25,), 2))).long()
    data = Labelled(torch.arange(75.0).reshape(75, 1, 1, 1), y)
    for n in (1, 7, 60):
        images, labels = balanced_subset(data, n, seed=3)
        assert torch.equal(labels, balanced_labels(n, 3)) and labels.bincount().max() <= -(-n // 3)
        assert torch.equal(y[images.flatten().long()], labels) and len(images.unique()) == n
    first, again, other = (balanced_subset(data, 9, seed).images for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
    for n in (0, 61):
        with pytest.raises(ValueError, match=rf"n must lie in 1\.\.60, so that the classes can be balanced; got {n}"):
            balanced_subset(data, n)
