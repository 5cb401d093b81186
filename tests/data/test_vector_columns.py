"""Vectors, read: columns of lists in every format, arrays of safetensors files, and what is wrong with them."""

import csv
import gzip
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_tensors

import aecli
import aecli.config
from aecli.data import arrow, gather, kinds
from aecli.data.opening import open_source
from aecli.data.part import FileRows
from aecli.errors import DataError

X = np.random.default_rng(0).normal(size=(60, 5)).astype(np.float16)  # which all types of floats hold
WHOLE = np.random.default_rng(1).integers(0, 256, (60, 5)).astype(np.uint8)
QUICK = {"epochs": 1, "hidden_dims": (8,), "latent_dim": 2, "device": "cpu", "holdout": 0, "store_rows": 0}
LISTS = {
    "fixed": lambda kind: pa.list_(kind, 5),
    "list": pa.list_,
    "large": pa.large_list,
}
KINDS = {"float16": pa.float16(), "float32": pa.float32(), "float64": pa.float64(), "uint8": pa.uint8()}
KINDS |= {"int64": pa.int64()}


def column(kind, x=X):
    return pa.array(list(x.astype(kind.value_type.to_pandas_dtype())), kind)


def frame(x=X, kind=None):
    return pa.table({"embedding": column(kind or LISTS["fixed"](pa.float32()), x)})


def rows_of(data, model):
    """Return the rows as they come to a model, in pieces."""
    return [batch.x for batch in model.open(data).batches()]


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    """A model of vectors of 5 values."""
    path = tmp_path_factory.mktemp("vectors") / "v.safetensors"
    aecli.fit(frame(), **QUICK).save(path)
    return path


@pytest.fixture
def model(model_file):
    return aecli.load(model_file)


@pytest.mark.parametrize("numbers", KINDS)
@pytest.mark.parametrize("lists", LISTS)
def test_a_vector_column_gives_the_codes_of_the_array_in_every_type(model, lists, numbers):
    x = (WHOLE if numbers in ("uint8", "int64") else X).astype(numbers)
    table = pa.table({"embedding": column(LISTS[lists](KINDS[numbers]), x)})
    pq.write_table(table, "x.parquet")
    with pa.ipc.new_file("x.arrow", table.schema) as writer:
        writer.write_table(table)
    for data in (table, "x.parquet", "x.arrow"):
        assert np.array_equal(model.embed(data), model.embed(x))
        assert {rows.dtype for rows in rows_of(data, model)} == {np.dtype(numbers)}


def test_the_rows_are_the_buffer_of_arrow_as_it_lies(model):
    table = frame(np.repeat(X, 50, axis=0))
    buffer = table["embedding"].chunk(0).values.to_numpy()
    assert all(np.shares_memory(rows, buffer) for rows in rows_of(table, model))


def test_a_tensor_column_is_a_vector(model):
    kind = pa.fixed_shape_tensor(pa.float32(), (5,))
    lists = column(LISTS["fixed"](pa.float32()))
    pq.write_table(pa.table({"embedding": pa.ExtensionArray.from_storage(kind, lists)}), "x.parquet")
    assert np.array_equal(model.embed("x.parquet"), model.embed(X))
    made, same = aecli.fit("x.parquet", **QUICK), aecli.fit(frame(), **QUICK)
    assert made.schema == same.schema
    assert all(np.array_equal(made.tensors[name], tensor) for name, tensor in same.tensors.items())
    assert len(model.embed(pq.read_table("x.parquet").slice(0, 0))) == 0
    within = pa.StructArray.from_arrays([pa.ExtensionArray.from_storage(kind, lists)], ["tensor"])
    pq.write_table(pa.table({"item": within}), "x.parquet")
    assert aecli.fit("x.parquet", **QUICK).schema.column_names == ("item.tensor",)


def test_a_field_of_a_struct_and_numbers_beside_it_are_learnt():
    item = pa.StructArray.from_arrays([column(LISTS["list"](pa.float32())), pa.array([*"ab"] * 30)], ["embedding", "k"])
    pq.write_table(pa.table({"item": item, "price": np.arange(60.0) % 7}), "x.parquet")
    made = aecli.fit("x.parquet", features=("item.embedding", "price"), **QUICK)
    assert [(each.name, each.kind, each.width) for each in made.schema.columns] == [
        ("item.embedding", "vector", 5),
        ("price", "number", 1),
    ]
    assert made.embed("x.parquet").shape == (60, 2)


def test_texts_and_json_give_the_same_codes(model):
    x = X.astype(np.float64)
    Path("x.csv").write_text("embedding\n" + "".join(f'"{row}"\n' for row in x.tolist()))
    Path("x.jsonl").write_text("".join(json.dumps({"embedding": row}) + "\n" for row in x.tolist()))
    for data in ("x.csv", "x.jsonl"):
        assert np.array_equal(model.embed(data), model.embed(x))


def test_lists_as_python_and_numpy_write_them_are_read_in_text(model):
    x = np.round(4 * X.astype(np.float64)) / 4  # NumPy writes eight digits
    x[3, 1] = np.nan
    np.save("x.npy", x)
    for write in (str, lambda row: str(np.array(row)), lambda row: str(row).replace("nan", "None")):
        Path("x.csv").write_text("embedding\n" + "".join(f'"{write(row)}"\n' for row in x.tolist()))
        assert np.array_equal(model.embed("x.csv"), model.embed("x.npy"))
        assert [column.width for column in aecli.fit("x.csv", missing="mean", **QUICK).schema.columns] == [5]


def test_texts_in_brackets_that_are_no_lists_of_numbers_are_told():
    Path("x.csv").write_text("tags,a,b\n" + "".join(f'"[red, {i}]",{i % 7},{i % 5}\n' for i in range(9)))
    with pytest.raises(DataError) as told:
        aecli.fit("x.csv", **QUICK)
    what = "column 'tags' holds '[red, 0]' in row 1, which is not a list of numbers such as [0.5, 1, 2]"
    assert told.value.message == f"x.csv: {what}: --exclude leaves it out"
    assert told.value.options == ("--exclude", "tags")


@pytest.mark.parametrize(
    "cell", ["[1, 2, 3, 4, 1e999999, x]", "[1 2 3 4 ...]", f"[{'9' * 400}, 1, 2, 3, 4]", "12345", '"12345"']
)
def test_a_text_that_is_no_vector_is_a_bad_row(model, cell):
    cells = [*(str(row) for row in X.astype(float).tolist()), cell]
    with Path("x.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([["embedding"], *([each] for each in cells)])
    with pytest.raises(DataError, match=r"row 61, column 'embedding' holds .*a list of 5 numbers was expected"):
        model.embed("x.csv")


def test_vectors_of_whole_numbers_at_first_and_of_fractions_later_are_read_in_json(model, monkeypatch):
    monkeypatch.setattr("aecli.data.jsonl.BLOCK_BYTES", 300)
    rows = [*WHOLE[:30].astype(float), *X[:30]]
    lines = [json.dumps({"embedding": [int(v) if v == int(v) else float(v) for v in row]}) for row in rows]
    Path("x.jsonl").write_text("\n".join(lines))
    assert np.array_equal(model.embed("x.jsonl"), model.embed(np.array(rows, np.float64)))


def test_a_large_group_of_rows_is_read_in_small_pieces(model, monkeypatch):
    monkeypatch.setattr(arrow, "BATCH_VALUES", 60)
    table = frame(np.repeat(X, 5, axis=0))
    pq.write_table(table, "x.parquet", row_group_size=300)
    with pa.ipc.new_file("x.arrow", table.schema) as writer:
        writer.write_table(table)
    for data in ("x.parquet", "x.arrow", table):
        pieces = rows_of(data, model)
        assert max(map(len, pieces)) <= 12
        assert np.array_equal(np.concatenate(pieces), np.repeat(X, 5, axis=0))


@pytest.mark.parametrize("lists", LISTS)
@pytest.mark.parametrize("numbers", ["float32", "uint8"])
def test_missing_and_ragged_vectors_are_found_without_a_list_for_each_row(lists, numbers):
    kind = LISTS[lists](KINDS[numbers])
    rows = [row.tolist() for row in WHOLE.astype(numbers)]
    rows[3] = None
    rows[5] = rows[5] if lists == "fixed" else rows[5][:2]
    read, wrong = kinds.to_numbers(pa.array(rows, kind), aecli.config.Column("e", "vector", width=5))
    bad = [] if lists == "fixed" else [5]
    assert np.flatnonzero(wrong).tolist() == bad
    assert np.flatnonzero(np.isnan(read).any(axis=1)).tolist() == [3, *bad]
    assert np.array_equal(np.delete(read, [3, 5], axis=0), np.delete(WHOLE, [3, 5], axis=0))
    assert kinds.to_numbers(pa.array(rows[6:], kind), aecli.config.Column("e", "vector", width=5))[0].dtype == numbers


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("numbers", ["float16", "uint8"])
@pytest.mark.parametrize("scale", ["standard", "robust"])
def test_small_numbers_train_to_the_bits_of_large_ones_in_memory_and_in_a_file(monkeypatch, tmp_path, numbers, scale):
    x = (X if numbers == "float16" else WHOLE).astype(numbers)
    table = frame(x, LISTS["list"](KINDS[numbers]))
    small, large = (aecli.fit(each, scale=scale, **QUICK) for each in (table, x.astype(np.float64)))
    assert all(np.array_equal(small.tensors[name], tensor) for name, tensor in large.tensors.items())
    monkeypatch.setattr(gather, "MEMORY_BYTES", 10)
    part = gather.gather(open_source(table), tmp_path)
    assert isinstance(part.x, FileRows)
    assert part.x.dtype == numbers
    assert np.array_equal(part.x[:], x)


def test_small_numbers_lie_on_the_device_as_they_are():
    from aecli.config import Schema
    from aecli.data.part import Part
    from aecli.model.scaler import Scaler
    from aecli.training.rows import Rows

    for x, kind in ((X, torch.float16), (WHOLE, torch.uint8)):
        scaler = Scaler.fit("standard", Part(x), Schema(5))
        rows = Rows(Part(x), scaler, torch.device("cpu"))
        assert rows.resident.dtype == kind
        assert np.array_equal(torch.cat(list(rows.batches())), scaler.transform(x))


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_arrays_of_safetensors_are_read_like_those_of_npy(model):
    x = X.astype(np.float32)
    save_file({"emb": x}, "one.safetensors")
    save_file({"other": WHOLE, "emb": X}, "two.safetensors")
    save_tensors({"emb": torch.from_numpy(x).bfloat16()}, "brain.safetensors")
    Path("shards").mkdir()
    save_file({"emb": x[:25]}, "shards/1.safetensors")
    save_file({"emb": x[25:]}, "shards/2.safetensors")
    for data in ("one.safetensors", "two.safetensors:emb", "shards", ["shards/1.safetensors", "shards/2.safetensors"]):
        assert np.array_equal(model.embed(data), model.embed(x))
    assert np.array_equal(model.embed("two.safetensors:other"), model.embed(WHOLE))
    brain = torch.from_numpy(x).bfloat16().float().numpy()
    assert np.array_equal(model.embed("brain.safetensors"), model.embed(brain))
    assert isinstance(open_source("one.safetensors").x, FileRows)
    assert aecli.fit("one.safetensors", **QUICK).schema.inputs == 5


def test_what_is_wrong_with_a_safetensors_file_is_said(run, model_file):
    save_file({"a": X, "b": X}, "two.safetensors")
    Path("cut.safetensors").write_bytes(Path("two.safetensors").read_bytes()[:300])
    save_tensors({"a": torch.zeros(4, 5, dtype=torch.float8_e4m3fn)}, "eight.safetensors")
    names = "hint: name one: two.safetensors:a, two.safetensors:b\n"
    for data, said in {
        "two.safetensors": f"two.safetensors: it holds 2 arrays\n{names}",
        "two.safetensors:c": f"two.safetensors: no array 'c' in it\n{names}",
        "cut.safetensors:b": "cut.safetensors:b: cut short: (60, 5) values of float16 take 600 bytes, it has ",
        "eight.safetensors": "eight.safetensors:a: its values are of type F8_E4M3, and one of F64, ",
        str(model_file): f"{model_file}: an aecli checkpoint, and data was expected\n",
    }.items():
        done = run("embed", model_file, data, "-o", "z.csv")
        assert (done.code, done.out) == (1, "")
        assert done.err.startswith(f"error: {said}")
        assert not Path("z.csv").exists()


def test_a_checkpoint_does_not_take_the_place_of_the_vectors_that_it_is_of(run):
    save_file({"emb": X}, "x.safetensors")
    before = Path("x.safetensors").read_bytes()
    quick = ("--epochs", 1, "--hidden-dims", 4, "--device", "cpu", "-q")
    for data in ("x.safetensors", "x.safetensors:emb"):
        done = run("train", data, "-o", "x.safetensors", "--force", *quick)
        assert (done.code, done.err.splitlines()[0]) == (
            2,
            "error: x.safetensors is an input of this command, and would be overwritten",
        )
    assert run("train", "x.safetensors:emb", *quick).code == 0
    assert Path("x.safetensors").read_bytes() == before
    assert run("embed", "x-model.safetensors", "x.safetensors", "-o", "z.npy", "-q").code == 0


def written(rows, kind=None):
    pq.write_table(
        pa.table({"name": [f"r{i}" for i in range(len(rows))], "embedding": pa.array(rows, kind)}), "x.parquet"
    )


BAD = {
    "vectors of another length": (
        [[1.0] * 7] * 3,
        "row 1, column 'embedding' holds a list of 7, and a list of 5 numbers ",
    ),
    "a ragged one": ([[1.0] * 5, [1.0] * 4], "row 2, column 'embedding' holds a list of 4, and a list of 5 numbers "),
    "lists of lists": ([[[1.0] * 5] * 5] * 3, "row 1, column 'embedding' holds [[1.0, "),
    "empty lists": ([[]] * 3, "row 1, column 'embedding' holds a list of 0, and a list of 5 numbers was expected\n"),
}


@pytest.mark.parametrize(("rows", "says"), BAD.values(), ids=BAD)
def test_bad_vectors_are_an_error_that_leaves_nothing_behind(run, model_file, rows, says):
    written(rows)
    done = run("embed", model_file, "x.parquet", "-o", "z.parquet")
    assert done.code == 1
    assert done.err.startswith(f"error: x.parquet: {says}")
    assert "--bad-rows skip" in done.err
    assert {path.name for path in Path.cwd().iterdir()} <= {"x.parquet", ".stdin"}


TRAINED = {
    "lists of lists": ([[[1.0] * 5] * 5] * 12, "column 'embedding' is of type list<"),
    "empty lists": ([[]] * 12, "column 'embedding' holds empty lists\n"),
    "nothing": ([None] * 12, "column 'embedding' is empty: --exclude leaves it out\n"),
    "one that is ragged": (
        [[1.0] * 5] * 11 + [[1.0] * 4],
        "row 12, column 'embedding' holds a list of 4, and a list of 5 ",
    ),
    "a hole": (
        [[1.0] * 5] * 11 + [[1.0, None, 1, 1, 1]],
        "row 12, column 'embedding.1' is empty or NaN, and every value ",
    ),
}


@pytest.mark.parametrize(("rows", "says"), TRAINED.values(), ids=TRAINED)
def test_what_cannot_be_learnt_of_vectors_is_said(run, rows, says):
    written(rows, pa.list_(pa.float32()) if rows[0] is None else None)
    done = run("train", "x.parquet", "--features", "embedding", "--device", "cpu", "-q")
    assert done.code == 1
    assert done.err.startswith(f"error: x.parquet: {says}")
    assert not Path("x.safetensors").exists()


def test_a_missing_vector_is_a_row_without_a_value_and_nan_in_one_is_a_hole(run, model_file):
    written([[1.0] * 5, None, [1.0, np.nan, 1, 1, 1], [2.0] * 4, [2.0, 1, 2, 1, 2]])
    blank = run("embed", model_file, "x.parquet", "--keep", "name", "--bad-rows", "blank")
    assert [len(line.split(",")) for line in blank.out.splitlines()] == [3] * 6
    assert [line.endswith(",,") for line in blank.out.splitlines()[1:]] == [False, True, False, True, False]
    assert "left blank 1 row that cannot be read: x.parquet: row 4, column 'embedding' holds a list of 4" in blank.err
    assert "left blank 1 row without any value: x.parquet: row 2\n" in blank.err
    assert "1 empty cell was replaced by its column's mean\n" in blank.err
    skipped = run("embed", model_file, "x.parquet", "--keep", "name", "--bad-rows", "skip")
    assert [line.split(",")[0] for line in skipped.out.splitlines()[1:]] == ["r0", "r2", "r4"]
    assert skipped.out.splitlines()[1:] == [blank.out.splitlines()[1:][i] for i in (0, 2, 4)]


def test_half_precision_is_enough_for_no_statistic(run, recwarn):
    x = (100 * X.astype(np.float32)).astype(np.float16)  # sums, squares and spreads go beyond what it holds
    pq.write_table(frame(x, LISTS["fixed"](pa.float16())), "x.parquet")
    done = run("train", "x.parquet", "-o", "m.safetensors", "--hidden-dims", 4, "--epochs", 1, "--device", "cpu")
    assert done.code == 0, done.err
    for words in ("evaluate m.safetensors x.parquet", "score m.safetensors x.parquet --top-features 1 -o s.csv"):
        assert run(*words.split()).code == 0
    assert [str(warning.message) for warning in recwarn] == []
    assert aecli.load("m.safetensors").scaler.scale == pytest.approx(x[:].astype(np.float64).std(axis=0), rel=0.2)


@pytest.mark.parametrize("place", [0, 5])
@pytest.mark.parametrize(
    "cell", ["text", 3, {"a": 1}, ["a"] * 5, [[1]] * 5, [1, 2, "3", 4, 5], [True] * 5, "[1, 2, 3, 4, 5]"]
)
def test_a_json_value_that_is_no_vector_is_one_bad_row_wherever_it_stands(model, place, cell):
    rows = [row.astype(float).tolist() for row in X]
    rows[place] = cell
    Path("x.jsonl").write_text("".join(json.dumps({"embedding": row}) + "\n" for row in rows))
    held = "and the values of this feature must be lists of numbers"
    with pytest.raises(DataError, match=f"x.jsonl: row {place + 1}, column 'embedding' holds .*{held}"):
        model.embed("x.jsonl")
    source = model.open("x.jsonl", bad_rows="skip")
    codes = np.concatenate([out.z for out in model.encoded(source)])
    assert np.array_equal(codes, model.embed(np.delete(X, place, axis=0)))


def test_a_column_of_lists_in_a_dictionary_is_told_and_carried_along(model):
    lists = pa.DictionaryArray.from_arrays(pa.array([0, 1] * 30, pa.int8()), pa.array([[1.5], [2.5]]))
    table = frame().append_column("d", lists)
    with pytest.raises(DataError, match=r"column 'd' is of type dictionary<.*, which cannot be learnt"):
        aecli.fit(table, **QUICK)
    kept = pa.chunked_array([batch.kept["d"] for batch in model.open(table, keep=("d",)).batches()])
    assert kept.to_pylist() == [[1.5], [2.5]] * 30


def test_a_vector_is_no_category():
    table = frame().append_column("price", pa.array(np.arange(60.0) % 7))
    with pytest.raises(
        DataError, match=r"column 'embedding' is of type fixed_size_list<.*, and a category is one text or number$"
    ):
        aecli.fit(table, categorical=("embedding",), **QUICK)


def test_an_array_in_a_compressed_file_is_named_by_its_key(model):
    save_file({"a": X, "b": X[:, :2]}, "x.safetensors")
    Path("x.safetensors.gz").write_bytes(gzip.compress(Path("x.safetensors").read_bytes()))
    assert np.array_equal(model.embed("x.safetensors.gz:a"), model.embed(X))
    save_file({}, "x.safetensors")
    with pytest.raises(DataError, match=r"x.safetensors: no array in it$"):
        model.embed("x.safetensors")


def test_a_column_of_lists_of_another_size_is_an_error_whatever_becomes_of_bad_rows(model):
    table = frame(X[:, :4], pa.list_(pa.float32(), 4))
    with pytest.raises(DataError) as told:
        model.open(table, bad_rows="skip")
    assert told.value.message == (
        "the data frame: column 'embedding' holds lists of 4, and lists of 5 numbers were expected"
    )
