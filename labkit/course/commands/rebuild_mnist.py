"""`python -m labkit rebuild-mnist FOLDER`: make the embedded MNIST file from the four original idx files."""

import hashlib
from pathlib import Path

import numpy as np

from labkit.base.files import FOLDER, Card, atomic_write, write_card
from labkit.data.idx import FILES, read_idx, to_idx

MD5 = {  # of the unpacked files, as published
    "train_images": "6bbc9ace898e44ae57da46a324031adb",
    "train_labels": "a25bea736e30d166cdddb491f175f624",
    "test_images": "2646ac647ad5339dbf082846283269ea",
    "test_labels": "27ae3e4e09519cfbb04c329615203637",
}


def rebuild_mnist(folder: Path, target: Path = FOLDER / "mnist.npz", *, published: bool = True) -> Path:
    """Write the four idx files (plain or .gz) in `folder` to `target`, with its card; returns `target`.

    Raises ValueError if a file is missing, is no idx file, or (unless `published` is False) is not the published one:
    other data sets use the same file names.
    """
    arrays = {part: read_idx(folder, part) for part in FILES}
    for part, md5 in MD5.items():
        if published and hashlib.md5(to_idx(arrays[part])).hexdigest() != md5:
            raise ValueError(f"{FILES[part]} in {folder} is not MNIST's: its md5 sum is not the published {md5}")
    with atomic_write(target) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)
    card = Card(
        title="MNIST: 70,000 handwritten digits, 28x28, all of the train and test sets",
        source="Yann LeCun, Corinna Cortes, Christopher J. C. Burges: The MNIST database of handwritten digits (1998); "
        "packed without change from the four original idx files",
        licence="CC BY-SA 3.0 (Yann LeCun and Corinna Cortes), https://creativecommons.org/licenses/by-sa/3.0/",
        details={"arrays": {key: list(value.shape) for key, value in arrays.items()}},
    )
    write_card(target, card)
    return target
