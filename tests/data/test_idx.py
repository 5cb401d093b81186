import gzip
from pathlib import Path

import numpy as np
import pytest

from aecli.data.idx import is_idx, read_idx
from aecli.errors import DataError


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "int32", "float32", "float64"])
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gz"])
def test_what_was_written_is_read(idx, dtype, packed):
    array = np.arange(24).reshape(2, 3, 4).astype(dtype)
    path = Path("a.idx.gz" if packed else "a.idx")
    path.write_bytes(gzip.compress(idx(array)) if packed else idx(array))
    found = read_idx(path)
    assert found.dtype == array.dtype
    assert np.array_equal(found, array)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda data: data[:-1], "takes 40 bytes, and this one has 39"),
        (lambda data: data + b"\0", "takes 40 bytes, and this one has more"),
        (lambda data: b"PK" + data[2:], "not an IDX file"),
        (lambda data: data[:2] + b"\x07" + data[3:], "not an IDX file"),
        (lambda _: b"", "not an IDX file"),
        (lambda data: data[:4] + b"\xff" * 12 + data[16:], "takes"),
    ],
    ids=["too short", "too long", "another magic", "another type", "empty", "a huge shape"],
)
def test_a_file_that_is_not_what_its_header_says_is_refused(idx, change, says):
    Path("a.idx").write_bytes(change(idx(np.zeros((2, 3, 4), np.uint8))))
    with pytest.raises(DataError, match=says):
        read_idx(Path("a.idx"))


def test_a_cut_gzip_stream_is_refused(idx):
    Path("a.idx.gz").write_bytes(gzip.compress(idx(np.zeros((20, 30), np.uint8)))[:-4])
    with pytest.raises(DataError, match="damaged or cut short"):
        read_idx(Path("a.idx.gz"))


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("t10k-images-idx3-ubyte", True),
        ("t10k-images-idx3-ubyte.gz", True),
        ("qmnist-test-labels-idx2-int", True),
        ("digits.idx", True),
        ("table.csv", False),
        ("idx-of-names.csv.gz", False),
    ],
)
def test_idx_files_are_known_by_their_names(name, is_one):
    assert is_idx(Path(name)) is is_one
