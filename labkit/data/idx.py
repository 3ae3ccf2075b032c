"""The idx format, in which MNIST and Fashion-MNIST are published: four files of unsigned bytes, plain or .gz."""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np

FILES = {
    "train_images": "train-images-idx3-ubyte",
    "train_labels": "train-labels-idx1-ubyte",
    "test_images": "t10k-images-idx3-ubyte",
    "test_labels": "t10k-labels-idx1-ubyte",
}


def read_idx(folder: Path, part: str) -> np.ndarray:
    """The array `part`, a key of FILES, from its file in `folder`. Raises ValueError if it is missing or damaged."""
    name = FILES[part]
    plain, packed = folder / name, folder / f"{name}.gz"
    if not plain.is_file() and not packed.is_file():
        raise ValueError(f"{folder} must hold the four idx files; {name} (or {name}.gz) is missing")
    try:
        return from_idx(plain.read_bytes() if plain.is_file() else gzip.decompress(packed.read_bytes()))
    except (ValueError, EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{name} in {folder} is damaged: {error}") from error


def from_idx(stream: bytes) -> np.ndarray:
    """Decode idx bytes: two zero bytes, 8 for unsigned byte, the number of dimensions, each as big-endian int32, and
    the bytes. Raises ValueError for anything else.
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
