"""Record batches in, codes out: what an engine such as Spark calls."""

import itertools
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import aecli
from aecli.errors import DataError

COUNT = 3000
RNG = np.random.default_rng(0)
TABLE = pa.table(
    {
        "id": pa.array(range(COUNT)),
        "a": RNG.normal(size=COUNT),
        "at": pa.array(range(COUNT), pa.timestamp("us", tz="UTC")),
        "kind": pa.array(["x", "y", "z"] * (COUNT // 3)),
        "code": pa.array(RNG.normal(size=(COUNT, 4)).astype(np.float32).tolist(), pa.list_(pa.float32())),
        "b": pa.array(range(COUNT), pa.int16()),
    }
)
NO_ROWS = pa.RecordBatch.from_pylist([], TABLE.schema)
QUICK = {"latent_dim": 2, "hidden_dims": (4,), "epochs": 1, "holdout": 0, "device": "cpu"}
FEATURES = {"features": ("a", "b"), "categorical": ("kind",)}


def in_batches(table, rows=700):
    return table.to_batches(max_chunksize=rows)


def as_columns(z):
    return {f"z{i}": values.tolist() for i, values in enumerate(z.T)}


@pytest.fixture(scope="module")
def model():
    return aecli.fit(TABLE[:200], **FEATURES, **QUICK)


@pytest.mark.parametrize(
    "given",
    [
        lambda table: table,
        pa.Table.to_reader,
        in_batches,
        lambda table: iter(in_batches(table)),
        lambda table: [NO_ROWS, *in_batches(table, 77), NO_ROWS],
        lambda table: in_batches(table.select(table.column_names[::-1])),
    ],
    ids=["a table", "a reader", "a list", "an iterator", "batches without rows among them", "columns in another order"],
)
def test_the_codes_of_record_batches_are_those_of_embed(model, given):
    made = [*model.embed_batches(given(TABLE))]
    assert all(type(batch) is pa.RecordBatch for batch in made)
    assert pa.Table.from_batches(made).to_pydict() == as_columns(model.embed(TABLE))


def test_kept_columns_come_first_with_their_types(model):
    made = model.embed_batches(in_batches(TABLE), keep=["id", "at", "kind"]).read_all()
    assert made.schema == pa.schema(
        [*(TABLE.schema.field(name) for name in ("id", "at", "kind")), ("z0", pa.float32()), ("z1", pa.float32())]
    )
    assert made.select(["id", "at", "kind"]).equals(TABLE.select(["id", "at", "kind"]))


def test_batches_without_rows_give_one_of_the_same_columns_and_no_batches_give_none(model):
    schema = model.embed_batches(TABLE, keep=["id"]).schema
    (made,) = model.embed_batches([NO_ROWS] * 2, keep=["id"])
    assert (made.num_rows, made.schema) == (0, schema)
    assert model.embed_batches(TABLE[:0], keep=["id"]).schema == schema
    assert [*model.embed_batches([], keep=["id"])] == []


def test_batches_are_read_as_they_are_needed(model):
    (batch,) = in_batches(TABLE[:100])
    made = model.embed_batches(itertools.repeat(batch), keep=["id"])
    assert [row["id"] for row in next(made).to_pylist()[:101]] == [*range(100), 0]


def test_codes_may_be_one_column_of_lists(model):
    made = model.embed_batches(TABLE, as_vector="code", keep=["id"]).read_all()
    assert made.schema == pa.schema([("id", pa.int64()), ("code", pa.list_(pa.float32()))])
    assert made["code"].to_pylist() == model.embed(TABLE).tolist()


def test_sparse_codes_are_lists_of_places_and_values():
    sparse = aecli.fit(TABLE[:200], **FEATURES, **QUICK | {"latent_dim": 6}, bottleneck="sparse", active=2)
    z = sparse.embed(TABLE)
    made = sparse.embed_batches(TABLE).read_all()
    assert made.schema == pa.schema([("index", pa.list_(pa.int32())), ("value", pa.list_(pa.float32()))])
    places, values = (np.array(made[name].to_pylist()) for name in ("index", "value"))
    assert np.array_equal(np.take_along_axis(z, places, axis=1), values)
    assert (z != 0).sum() == (values != 0).sum() > 0
    structs = sparse.embed_batches(TABLE, as_vector="code").read_all()["code"].to_pylist()
    assert structs == made.to_pylist()


def test_a_column_of_lists_is_a_vector():
    vectors = aecli.fit(TABLE[:200], features=("code",), **QUICK)
    made = vectors.embed_batches(in_batches(TABLE)).read_all()
    assert made.to_pydict() == as_columns(vectors.embed(TABLE.select(["code"])))


def test_an_error_names_the_row_counted_from_the_first_batch(model):
    kinds = TABLE["kind"].to_pylist()
    kinds[2000] = "new"
    table = TABLE.set_column(3, "kind", [kinds])
    message = "the batches: row 2001, column 'kind' holds 'new', and the model knows 'x', 'y', 'z'"
    with pytest.raises(DataError, match=message):
        model.embed_batches(in_batches(table)).read_all()
    z = model.embed(TABLE)
    blank = model.embed_batches(in_batches(table), keep=["id"], bad_rows="blank").read_all()
    assert blank["id"].to_pylist() == [*range(COUNT)]
    assert blank[2000:2001].to_pylist() == [{"id": 2000, "z0": None, "z1": None}]
    assert blank["z0"].to_pylist()[:2000] == z[:2000, 0].tolist()
    left = model.embed_batches(in_batches(table), keep=["id"], bad_rows="skip").read_all()
    assert left["id"].to_pylist() == [i for i in range(COUNT) if i != 2000]
    assert left.schema == blank.schema


@pytest.mark.parametrize(
    ("batches", "options", "message"),
    [
        (TABLE.drop_columns("b"), {}, "the batches: 1 of the model's 3 columns are missing: 'b'"),
        (TABLE, {"keep": ["none"]}, "the batches: --keep 'none' names no column"),
        (TABLE, {"keep": ["id"], "as_vector": "id"}, "column 'id' cannot be kept: the codes have a column 'id'"),
    ],
    ids=["a column is missing", "no such column to keep", "a kept column is named as the codes"],
)
def test_columns_that_do_not_fit_are_an_error_before_any_batch(model, batches, options, message):
    with pytest.raises(DataError) as stopped:
        model.embed_batches(batches, **options)
    assert stopped.value.message == message


def test_a_model_goes_to_another_process_without_its_file_and_without_torch(model):
    Path("task.pickle").write_bytes(pickle.dumps((model.embed_batches, in_batches(TABLE[:1500]))))
    code = """
import pickle, sys
embed, batches = pickle.load(open("task.pickle", "rb"))
print(embed(batches, keep=["id"]).read_all().to_pydict(), "torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    z = model.embed(TABLE[:1500])
    assert done.stdout == f"{ {'id': [*range(1500)]} | as_columns(z) } False\n"
