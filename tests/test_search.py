"""What a search by cosine finds among codes."""

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from aecli import search
from aecli.config import Column, Schema


@pytest.fixture(scope="module")
def rows():
    return np.random.default_rng(0).normal(size=(300, 24)).astype(np.float32)


def brute(queries, rows, coded_queries, coded_rows):
    """Return the recall@10 by scikit-learn."""
    near = [
        NearestNeighbors(n_neighbors=10, algorithm="brute", metric="cosine").fit(among).kneighbors(of)[1]
        for of, among in ((queries, rows), (coded_queries, coded_rows))
    ]
    return np.mean([len(set(a) & set(b)) for a, b in zip(*near, strict=True)]) / 10


def test_recall_is_the_share_of_the_nearest_that_are_found(rows):
    queries = np.random.default_rng(1).normal(size=(40, 24)).astype(np.float32)
    codes = {"first": (queries[:, :6], rows[:, :6]), "all": (queries, rows), "longer": (queries * 3, rows * 7)}
    found = search.recalls(queries, rows, codes)
    assert found["first"] == pytest.approx(brute(queries, rows, queries[:, :6], rows[:, :6]))
    assert 0 < found["first"] < 1
    assert found["all"] == found["longer"] == 1


def test_blocks_of_queries_change_nothing(rows, monkeypatch):
    codes = {"first": (rows[:, :6], rows[:, :6])}
    whole = search.recalls(rows, rows, codes, themselves=True)
    monkeypatch.setattr(search, "BLOCK_VALUES", 7 * len(rows))
    assert search.recalls(rows, rows, codes, themselves=True) == whole


def test_a_row_does_not_find_itself(rows):
    lone = np.eye(24, dtype=np.float32)  # a code that tells a row from all others, and nothing of these
    assert search.recalls(rows, rows, {"own": (rows, rows)}, themselves=True) == {"own": 1}
    told = search.recalls(lone, rows[:24], {"itself": (lone, lone)}, themselves=True)["itself"]
    assert told < 0.9


def test_any_of_equal_rows_will_do(rows):
    equal = np.repeat(rows[:10], 15, axis=0)
    shuffled = np.random.default_rng(0).normal(size=equal.shape) * 1e-4 + equal
    assert search.recalls(equal, equal, {"nearly": (shuffled, shuffled)}, themselves=True) == {"nearly": 1}


def test_the_simplest_codes_take_as_many_bytes_or_values(rows):
    found = search.compare(rows[:50], rows, {"model": (rows[:50, :4], rows[:, :4])})
    assert {name: (code.values, code.bytes) for name, code in found.items()} == {
        "model": (4, 16),
        "int8": (16, 16),
        "truncated": (4, 16),
    }
    wide = search.compare(rows[:50], rows, {"model": (rows[:50, :8], rows[:, :8])})["int8"]
    assert (wide.values, wide.bytes) == (24, 24)  # a row has no more
    assert wide.recall_at_10 > 0.9


def test_int8_keeps_the_direction_of_rows_of_any_length(rows):
    scaled = rows * np.logspace(-20, 15, len(rows), dtype=np.float32)[:, None]
    back = search.unit(search.int8(scaled))
    assert (back * search.unit(rows)).sum(axis=1).min() > 0.999
    assert not search.int8(np.zeros((2, 3), np.float32)).any()


@pytest.mark.parametrize(
    ("schema", "recipe", "is_one"),
    [
        (Schema(3), "modern", True),
        (Schema(3, (Column("v", "vector", width=3),)), "modern", True),
        (Schema(3, tuple(Column(name) for name in "abc")), "modern", False),
        (Schema(3, tuple(Column(name) for name in "abc")), "vectors", True),
        (Schema(4, image_shape=(2, 2)), "modern", False),
        (Schema(4, image_shape=(2, 2)), "vectors", True),
    ],
    ids=["an array", "a column of vectors", "columns", "columns, by recipe", "images", "images, by recipe"],
)
def test_what_is_of_one_unit(schema, recipe, is_one):
    assert search.is_of_one_unit(schema, recipe) is is_one
