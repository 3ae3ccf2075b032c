"""`python -m labkit rebuild-mnist FOLDER`: make the embedded MNIST file from the four original idx files."""

import gzip
import hashlib
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from labkit.base.files import FOLDER, Card, atomic_write, write_card

# Published md5 sums of the unpacked files.
IDX_FILES = {
    "train_images": ("train-images-idx3-ubyte", "6bbc9ace898e44ae57da46a324031adb"),
    "train_labels": ("train-labels-idx1-ubyte", "a25bea736e30d166cdddb491f175f624"),
    "test_images": ("t10k-images-idx3-ubyte", "2646ac647ad5339dbf082846283269ea"),
    "test_labels": ("t10k-labels-idx1-ubyte", "27ae3e4e09519cfbb04c329615203637"),
}


def from_idx(stream: bytes) -> np.ndarray:
    """Decode an idx byte stream of unsigned bytes. Raises ValueError if it is none.

    Format: two zero bytes, 8 for unsigned byte, the number of dimensions, each as big-endian int32, the bytes.
    """
    if len(stream) < 4 or stream[:3] != b"\0\0\x08":
        raise ValueError("not an idx stream of unsigned bytes: it must begin with the bytes 0, 0, 8")
    header = 4 + 4 * stream[3]
    shape = struct.unpack_from(f">{stream[3]}i", stream, 4) if len(stream) >= header else ()
    if len(stream) != header + math.prod(shape):
        raise ValueError(f"not an idx stream of unsigned bytes: {len(stream)} bytes do not fit its header")
    return np.frombuffer(stream, np.uint8, offset=header).reshape(shape)


def to_idx(array: np.ndarray) -> bytes:
    """Encode an array of unsigned bytes as an idx byte stream, the inverse of `from_idx`."""
    return b"\0\0\x08" + struct.pack(f">B{array.ndim}i", array.ndim, *array.shape) + array.tobytes()


def rebuild_mnist(folder: Path, target: Path = FOLDER / "mnist.npz", *, published: bool = True) -> Path:
    """Read the four idx files (plain or .gz) in `folder` and write `target` with its card; returns `target`.

    Raises ValueError if a file is missing, is no idx file, or (unless `published` is False) is not the published one:
    other data sets use the same file names.
    """
    arrays = {}
    for key, (name, md5) in IDX_FILES.items():
        plain, packed = folder / name, folder / f"{name}.gz"
        if not plain.is_file() and not packed.is_file():
            raise ValueError(f"{folder} must hold the four MNIST idx files; {name} (or {name}.gz) is missing")
        try:
            arrays[key] = from_idx(plain.read_bytes() if plain.is_file() else gzip.decompress(packed.read_bytes()))
        except (ValueError, EOFError, OSError, zlib.error) as error:
            raise ValueError(f"{name} in {folder} is damaged: {error}") from error
        if published and hashlib.md5(to_idx(arrays[key])).hexdigest() != md5:
            raise ValueError(f"{name} in {folder} is not MNIST's: its md5 sum is not the published {md5}")
    with atomic_write(target) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)
    write_card(
        target,
        Card(
            title="MNIST: 70,000 handwritten digits, 28x28, all of the train and test sets",
            source="Yann LeCun, Corinna Cortes, Christopher J. C. Burges: The MNIST database of handwritten digits "
            "(1998); packed without change from the four original idx files",
            licence="CC BY-SA 3.0 (Yann LeCun and Corinna Cortes), https://creativecommons.org/licenses/by-sa/3.0/",
            details={"arrays": {key: list(value.shape) for key, value in arrays.items()}},
        ),
    )
    return target
