"""Some rows of an array, in memory or in a file."""

from pathlib import Path

import numpy as np
import pytest

from aecli.data.part import FileRows, Part

ROWS = np.arange(100_000.0)[:, None] * np.ones(50)  # each row holds its number


def in_a_file():
    np.save("rows.npy", ROWS)
    return FileRows("rows.npy", Path("rows.npy").open("rb"), 128, ROWS.dtype, ROWS.shape)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_sample_is_random_rows_of_the_part_each_at_most_once_and_in_order():
    rows = in_a_file()
    size = Part(rows, np.arange(1)).block_rows
    blocks = Part(rows, np.arange(-(-len(rows) // size)))
    for part in (Part(ROWS), Part(rows), *blocks.cut(0.3, np.random.default_rng(0))):
        sample = part.sample(500, np.random.default_rng(1))
        numbers = sample[:, 0]
        assert sample.shape == (500, 50)
        assert (np.diff(numbers) > 0).all()
        assert np.isin(numbers, np.concatenate([x[:, 0] for x in part.chunks(1 << 20)])).all()
        assert numbers.max() - numbers.min() > 90_000
        assert np.array_equal(sample, part.sample(500, np.random.default_rng(1)))
    assert len(Part(ROWS[:7]).sample(500, np.random.default_rng(1))) == 7
