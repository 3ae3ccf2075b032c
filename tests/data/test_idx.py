"""The idx format: the very bytes of MNIST come back, and what is no idx file is refused by name."""

import functools
import gzip
import hashlib

import numpy as np
import pytest

from labkit.base.files import asset
from labkit.data.idx import FILES, from_idx, read_idx, to_idx

MD5 = {  # of the unpacked idx files, as published
    "train_images": "6bbc9ace898e44ae57da46a324031adb",
    "train_labels": "a25bea736e30d166cdddb491f175f624",
    "test_images": "2646ac647ad5339dbf082846283269ea",
    "test_labels": "27ae3e4e09519cfbb04c329615203637",
}
ARRAY = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
IDX = to_idx(ARRAY)


@functools.cache
def mnist_arrays():
    with np.load(asset("mnist.npz")) as arrays:
        return dict(arrays)


@pytest.mark.parametrize("key", MD5)
def test_the_four_original_files_come_back_byte_by_byte(key):
    stream = to_idx(mnist_arrays()[key])
    assert hashlib.md5(stream).hexdigest() == MD5[key]
    assert np.array_equal(from_idx(stream), mnist_arrays()[key])


@pytest.mark.parametrize("stream", [b"", b"PNG or so", IDX[1:], IDX[:-1], IDX + b"\0", IDX[:9], IDX[:4]])
def test_what_is_no_idx_stream_is_refused(stream):
    with pytest.raises(ValueError, match="not an idx stream of unsigned bytes: "):
        from_idx(stream)


@pytest.mark.parametrize("part", FILES)
def test_a_file_is_read_plain_or_packed_and_named_where_it_is_missing_or_damaged(tmp_path, part):
    file = tmp_path / f"{FILES[part]}.gz"
    with pytest.raises(
        ValueError, match=rf"{tmp_path} must hold the four idx files; {FILES[part]} \(or .*gz\) is missing"
    ):
        read_idx(tmp_path, part)
    for content in (b"<html>404: not found</html>", gzip.compress(IDX)[:-9], gzip.compress(IDX[:-1])):
        file.write_bytes(content)
        with pytest.raises(ValueError, match=f"{FILES[part]} in .* is damaged: "):
            read_idx(tmp_path, part)
    file.write_bytes(gzip.compress(IDX))
    assert np.array_equal(read_idx(tmp_path, part), ARRAY)
    (tmp_path / FILES[part]).write_bytes(to_idx(ARRAY + 1))
    assert np.array_equal(read_idx(tmp_path, part), ARRAY + 1)  # the plain one first
