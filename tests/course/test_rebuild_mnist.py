"""`python -m labkit rebuild-mnist`: the four idx files become one asset with its card, if they are MNIST's."""

import gzip

import numpy as np
import pytest

from labkit.base.files import asset, read_card
from labkit.course.commands.rebuild_mnist import MD5, rebuild_mnist
from labkit.data.idx import FILES, to_idx


def write_idx_folder(folder, packed=()):
    """The first 200 images and labels as idx files in `folder`; returns the arrays."""
    folder.mkdir(parents=True)
    with np.load(asset("mnist.npz")) as whole:
        arrays = {part: whole[part][:200] for part in FILES}
    for part, name in FILES.items():
        stream = to_idx(arrays[part])
        if part in packed:
            name, stream = f"{name}.gz", gzip.compress(stream)
        (folder / name).write_bytes(stream)
    return arrays


def test_rebuilding_from_idx_files_gives_the_same_arrays_and_a_card(tmp_path):
    arrays = write_idx_folder(tmp_path / "idx", packed=("train_images", "test_labels"))
    target = rebuild_mnist(tmp_path / "idx", tmp_path / "made" / "mnist.npz", published=False)
    with np.load(target) as made:
        assert set(made.files) == set(arrays) and all(np.array_equal(made[key], arrays[key]) for key in arrays)
    assert read_card(target).details["arrays"] == {key: list(value.shape) for key, value in arrays.items()}


def test_rebuilding_names_the_file_that_is_missing_or_foreign_and_writes_nothing(tmp_path):
    for name in FILES.values():
        write_idx_folder(tmp_path / name)
        (tmp_path / name / name).unlink()
        with pytest.raises(ValueError, match=rf"hold the four idx files; {name} \(or {name}\.gz\) is missing"):
            rebuild_mnist(tmp_path / name, tmp_path / "mnist.npz", published=False)
    write_idx_folder(tmp_path / "other")  # whole files of those names, but not MNIST's
    with pytest.raises(
        ValueError, match=f"{FILES['train_images']} .* is not MNIST's: .* published {MD5['train_images']}"
    ):
        rebuild_mnist(tmp_path / "other", tmp_path / "mnist.npz")
    assert not (tmp_path / "mnist.npz").exists()
