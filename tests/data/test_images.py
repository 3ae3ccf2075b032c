"""Data: the very bytes of MNIST, streams that resume, and clouds on their supports."""

import functools
import gzip
import hashlib
import math
from itertools import islice
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from scipy.stats import chisquare, kstest

from labkit.base.files import asset, read_card
from labkit.course.commands.rebuild_mnist import IDX_FILES, from_idx, rebuild_mnist, to_idx
from labkit.data.images import fashion_mnist32, mnist32, to_float, to_uint8
from labkit.data.points import checkerboard, moons
from labkit.data.stream import batches, draws
from labkit.flow.mixtures import ring

MD5 = {  # of the unpacked idx files, as published
    "train_images": "6bbc9ace898e44ae57da46a324031adb",
    "train_labels": "a25bea736e30d166cdddb491f175f624",
    "test_images": "2646ac647ad5339dbf082846283269ea",
    "test_labels": "27ae3e4e09519cfbb04c329615203637",
}
COUNTS = {  # of the digits 0..9, as published
    "train": [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949],
    "test": [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009],
}
IDX = to_idx(np.arange(24, dtype=np.uint8).reshape(2, 3, 4))


@functools.cache
def mnist_arrays():
    with np.load(asset("mnist.npz")) as arrays:
        return dict(arrays)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("key", MD5)
def test_the_four_original_files_come_back_byte_by_byte(key):
    stream = to_idx(mnist_arrays()[key])
    assert hashlib.md5(stream).hexdigest() == MD5[key]
    assert np.array_equal(from_idx(stream), mnist_arrays()[key])


def write_idx_folder(folder, packed=()):
    """The first 200 images and labels as idx files in `folder`; returns the arrays."""
    folder.mkdir(parents=True)
    arrays = {key: value[:200] for key, value in mnist_arrays().items()}
    for key, (name, _) in IDX_FILES.items():
        stream = to_idx(arrays[key])
        if key in packed:
            name, stream = f"{name}.gz", gzip.compress(stream)
        (folder / name).write_bytes(stream)
    return arrays


def test_rebuilding_from_idx_files_gives_the_same_arrays_and_a_card(tmp_path):
    arrays = write_idx_folder(tmp_path / "idx", packed=("train_images", "test_labels"))
    target = rebuild_mnist(tmp_path / "idx", tmp_path / "made" / "mnist.npz", published=False)
    with np.load(target) as made:
        assert set(made.files) == set(arrays) and all(np.array_equal(made[key], arrays[key]) for key in arrays)
    assert read_card(target).details["arrays"] == {key: list(value.shape) for key, value in arrays.items()}


def test_rebuilding_names_the_file_that_is_missing_or_damaged_and_writes_nothing(tmp_path):
    for name, _ in IDX_FILES.values():
        write_idx_folder(tmp_path / name)
        (tmp_path / name / name).unlink()
        with pytest.raises(ValueError, match=rf"hold the four MNIST idx files; {name} \(or {name}\.gz\) is missing"):
            rebuild_mnist(tmp_path / name, tmp_path / "mnist.npz", published=False)
    (tmp_path / name / f"{name}.gz").write_bytes(b"<html>404: not found</html>")
    with pytest.raises(ValueError, match=f"{name} in .* is damaged: "):
        rebuild_mnist(tmp_path / name, tmp_path / "mnist.npz", published=False)
    write_idx_folder(tmp_path / "other")  # whole files of those names, but not MNIST's
    with pytest.raises(ValueError, match=f"{next(iter(IDX_FILES.values()))[0]} .* is not MNIST's"):
        rebuild_mnist(tmp_path / "other", tmp_path / "mnist.npz")
    assert not (tmp_path / "mnist.npz").exists()


@pytest.mark.parametrize("stream", [b"", b"PNG or so", IDX[1:], IDX[:-1], IDX + b"\0", IDX[:9], IDX[:4]])
def test_what_is_no_idx_stream_is_refused(stream):
    with pytest.raises(ValueError, match="not an idx stream of unsigned bytes: "):
        from_idx(stream)


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
def test_fashion_mnist_is_read_from_labkit_data(monkeypatch, tmp_path, split):
    monkeypatch.setattr("torchvision.datasets.mnist.download_and_extract_archive", None)  # calling it would fail
    monkeypatch.setenv("LABKIT_DATA", str(tmp_path))
    arrays = write_idx_folder(tmp_path / "FashionMNIST" / "raw")
    images, labels = fashion_mnist32(split)
    assert torch.equal(images[:, 0, 2:-2, 2:-2], torch.from_numpy(arrays[f"{split}_images"]))
    assert images.shape == (200, 1, 32, 32) and labels.tolist() == arrays[f"{split}_labels"].tolist()


@pytest.mark.parametrize("error", [OSError("connection reset"), RuntimeError("all mirrors are down")])
def test_a_download_that_fails_is_tried_again_and_then_says_what_to_do(monkeypatch, tmp_path, error):
    monkeypatch.setattr("torchvision.datasets.FashionMNIST", download := Mock(side_effect=error))
    monkeypatch.setenv("LABKIT_DATA", str(tmp_path))
    words = rf"could not be downloaded \({error}\)\. Put the four idx files into .*raw, or .*LABKIT_DATA"
    with pytest.raises(RuntimeError, match=words) as caught:
        fashion_mnist32("train", retries=4)
    assert download.call_count == 4 and f"is not in {tmp_path} " in str(caught.value)


def test_pixels_run_from_minus_one_to_one_and_back_to_the_same_bytes():
    as_float = to_float(torch.arange(256, dtype=torch.uint8))
    assert as_float.dtype == torch.float32 and as_float[[0, -1]].tolist() == [-1, 1]
    assert to_uint8(as_float).tolist() == list(range(256)) and to_float(as_float) is as_float
    assert to_uint8(torch.tensor([-7.0, 1.2, math.inf])).tolist() == [0, 255, 255]


def stream(n, batch_size, generator):
    """A stream in which every image is its own label."""
    return batches(torch.arange(float(n))[:, None], torch.arange(n), batch_size, generator)


@pytest.mark.parametrize(("n", "batch_size"), [(12, 4), (12, 5), (7, 7), (5, 1)])
def test_an_epoch_is_a_permutation_less_what_does_not_fill_a_batch(n, batch_size):
    epochs = torch.stack([y for _, y in islice(stream(n, batch_size, seeded()), 4 * (n // batch_size))]).reshape(4, -1)
    for epoch in epochs:
        assert len(epoch.unique()) == n // batch_size * batch_size and epoch.min() >= 0 and epoch.max() < n
    assert len(epochs.unique(dim=0)) > 1  # shuffled anew


def test_images_and_labels_stay_together_and_bytes_come_out_as_floats():
    images = torch.arange(200, dtype=torch.uint8).reshape(200, 1, 1).expand(200, 2, 3)
    for z, y in islice(batches(images, torch.arange(200), 32, seeded()), 40):
        assert z.dtype == torch.float32 and torch.equal(to_uint8(z), y.byte()[:, None, None].expand(32, 2, 3))


@pytest.mark.parametrize("own", [True, False])
def test_a_stream_repeats_with_its_generator_and_without_one_with_the_global_seed(own):
    def run(seed):
        torch.manual_seed(0 if own else seed)
        return [y.tolist() for _, y in islice(stream(10, 3, seeded(seed) if own else None), 9)]

    assert run(5) == run(5) != run(6)


@pytest.mark.parametrize("sample", [None, ring().sample, moons, checkerboard])
@pytest.mark.parametrize("done", [0, 2, 3, 4, 7])
def test_a_resumed_stream_goes_on_as_if_nothing_had_happened(sample, done):
    def run(stream, count):  # the generator also draws other noise, as in a training
        return [(*next(stream), torch.rand(2, generator=stream.generator)) for _ in range(count)]

    first, second = (draws(sample, 6, g) if sample else stream(10, 3, g) for g in (seeded(1), seeded(99)))
    run(first, done)
    second.load_state_dict(first.state_dict())
    expected = run(first, 8)
    for was, now in zip(expected, run(second, 8), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(was, now, strict=True))


def test_batches_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="images and labels must have the same length; got 5 and 4"):
        batches(torch.zeros(5, 1), torch.zeros(4), 2)
    for size in (0, 6):
        with pytest.raises(ValueError, match=rf"batch_size must lie in 1\.\.5, the number of images; got {size}"):
            batches(torch.zeros(5, 1), torch.zeros(5), size)


def test_moons_lie_on_two_half_circles_and_noise_widens_them_by_its_variance():
    z, y = moons(10_000, noise=0.0, generator=seeded())
    upper = torch.where((y == 0)[:, None], z, -z) - torch.tensor([-0.5, -0.25])  # the lower moon turned by half a turn
    assert (upper.norm(dim=1) - 1).abs().max() < 1e-6 and (upper[:, 1] > -1e-6).all()
    angles = torch.atan2(upper[:, 1], upper[:, 0])
    assert all(kstest(angles[y == k], "uniform", args=(0, math.pi)).pvalue > 1e-4 for k in (0, 1))
    assert abs(y.double().mean() - 0.5) < 4 * 0.5 / math.sqrt(10_000)  # four standard errors
    squares = moons(200_000, noise=0.3, generator=seeded())[0].square().sum(1)
    # On the half circle E |z|^2 = 1 + 1/4 + 1/16 - E cos a - E sin a / 2 = 1.3125 - 1 / pi.
    assert abs(squares.mean() - (1.3125 - 1 / math.pi + 2 * 0.3**2)) < 4 * squares.std() / math.sqrt(200_000)


def test_the_checkerboard_is_uniform_on_its_eight_dark_squares():
    z, y = checkerboard(80_000, seeded())
    square = z.floor()
    assert (z.abs() <= 2).all() and (square.sum(1) % 2 == 0).all()
    pairs = torch.cat((y[:, None], square), dim=1).unique(dim=0)
    assert len(pairs) == 8 == len(pairs[:, 1:].unique(dim=0))  # a label is a square and a square a label
    assert min(chisquare(y.bincount()).pvalue, *(kstest(axis, "uniform").pvalue for axis in (z - square).T)) > 1e-4


@pytest.mark.parametrize(("n", "size", "words"), [(6, 2, "length 6; this one has 4"), (4, 3, "batch_size 3; .* has 2")])
def test_the_place_in_another_stream_is_refused(n, size, words):
    other = batches(torch.zeros(n, 2), torch.zeros(n), size)
    with pytest.raises(ValueError, match=f"the state is of a stream with {words}"):
        batches(torch.zeros(4, 2), torch.zeros(4), 2).load_state_dict(other.state_dict())
