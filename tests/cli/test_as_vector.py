"""Vectors, written: codes in one column, and rows that come back as the lists that they were."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import aecli
from aecli.data.filling import filled
from aecli.data.sinks import as_lists

X = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)
KINDS = {
    "fixed": pa.list_(pa.float32(), 5),
    "fixed-half": pa.list_(pa.float16(), 5),
    "list": pa.list_(pa.float32()),
    "large": pa.large_list(pa.float64()),
}


def write(path, kind, x=X):
    rows = pa.array([None if row is None else list(row) for row in x], pa.list_(pa.float64())).cast(kind)
    pq.write_table(pa.table({"name": [f"r{i}" for i in range(len(x))], "embedding": rows}), path)


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vectors")
    write(folder / "x.parquet", KINDS["fixed"])
    options = {"epochs": 1, "hidden_dims": (8,), "latent_dim": 2, "device": "cpu", "holdout": 0, "store_rows": 0}
    aecli.fit(folder / "x.parquet", features="embedding", **options).save(folder / "v.safetensors")
    return folder / "v.safetensors"


@pytest.fixture
def data(model_file):
    return model_file.parent / "x.parquet"


@pytest.fixture
def codes(model_file):
    return aecli.load(model_file).embed(X)


def read(path):
    return pa.ipc.open_file(path).read_all() if path.endswith("arrow") else pq.read_table(path)


def matrix(column):
    return np.array(column.to_pylist(), np.float64)


@pytest.mark.parametrize("ending", ["parquet", "arrow"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_codes_are_written_as_one_column_of_lists_of_a_fixed_size(run, model_file, data, codes, ending, dtype):
    out = f"z.{ending}"
    assert run("embed", "--as-vector", model_file, data, "--dtype", dtype, "--keep", "name", "-o", out).code == 0
    table = read(out)
    assert table.column_names == ["name", "z"]
    kind = table.schema.field("z").type
    assert (kind.list_size, str(kind.value_type)) == (2, {"float32": "float", "float16": "halffloat"}[dtype])
    assert np.array_equal(matrix(table["z"]), codes.astype(dtype))


def test_the_column_of_codes_bears_the_name_that_is_given(run, model_file, data, codes):
    done = run("embed", model_file, data, "--as-vector=code", "--error", "--format", "jsonl")
    rows = [json.loads(line) for line in done.out.splitlines()]
    assert [list(row) for row in rows] == [["code", "mse"]] * 40
    assert np.array_equal(np.array([row["code"] for row in rows], np.float32), codes)
    nameless = run("embed", model_file, data, "--as-vector=")
    assert nameless.code == 2
    assert "invalid value for '--as-vector': the name of a column cannot be empty\n" in nameless.err
    taken = run("embed", model_file, data, "--as-vector=name", "--keep", "name")
    assert "column 'name' cannot be copied to the output, which has a column 'name' of its own\n" in taken.err


def test_codes_in_text_are_lists_with_the_digits_that_they_have(run, model_file, data, codes):
    done = run("embed", model_file, data, "--as-vector")
    header, first, *_ = done.out.splitlines()
    plain = run("embed", model_file, data).out.splitlines()
    assert header == "z"
    assert first == f'"[{plain[1]}]"'
    assert np.array_equal(
        np.array([json.loads(json.loads(line)) for line in done.out.splitlines()[1:]], np.float32), codes
    )


def test_an_array_of_codes_is_of_the_type_that_is_asked_for(run, model_file, data, codes):
    for options in (["--dtype", "float16"], ["--dtype", "float16", "--as-vector"]):
        run("embed", model_file, data, *options, "-o", "z.npy", "-q")
        assert np.load("z.npy").dtype == np.float16
        assert np.array_equal(np.load("z.npy"), codes.astype(np.float16))


def test_text_has_no_types_and_half_precision_an_end(run, model_file):
    done = run("embed", model_file, "x.csv", "--dtype", "float16")
    assert (done.code, done.out) == (2, "")
    assert done.err == (
        "error: --dtype float16 is for formats with types, and csv has none\n"
        "hint: name a file of another format: -o codes.parquet\n"
    )
    write("far.parquet", KINDS["fixed"], X * np.float32(1e9))
    done = run("embed", model_file, "far.parquet", "--dtype", "float16", "-o", "z.parquet")
    assert done.code == 1
    assert "beyond the range of float16\nhint: leave --dtype out\n" in done.err
    assert not Path("z.parquet").exists()


@pytest.mark.parametrize("form", ["parquet", "jsonl", "csv"])
def test_codes_in_one_column_are_decoded(run, model_file, data, form):
    expected = run("decode", model_file, "-", stdin=run("embed", model_file, data).out.encode()).out
    run("embed", model_file, data, "--as-vector=code", "--keep", "name", "-o", f"z.{form}", "-q")
    assert run("decode", model_file, f"z.{form}").out == expected
    assert run("decode", model_file, f"z.{form}", "--keep", "name").out.splitlines()[1].startswith("r0,")


def test_codes_in_one_column_are_found_beside_a_row_that_cannot_be_read(run, model_file):
    Path("z.jsonl").write_text('{"code": [1, 2]}\nno\n{"code": [3, 4]}\n')
    assert run("decode", model_file, "z.jsonl").err == "error: z.jsonl: row 2 is not JSON: 'no'\n"
    done = run("decode", model_file, "z.jsonl", "--bad-rows", "skip")
    assert (done.code, done.err) == (0, "left out 1 row that cannot be read: z.jsonl: row 2 is not JSON: 'no'\n")
    Path("z.csv").write_text("z0,z1\n1,2\n3,4\n")
    assert done.out == run("decode", model_file, "z.csv").out


def test_of_several_columns_as_wide_as_codes_the_one_named_z_is_decoded(run, model_file):
    table = pa.table({"place": [[9.0, 9]] * 2, "z": [[1.0, 2], [3, 4]]})
    pq.write_table(table, "z.parquet")
    pq.write_table(table.select(["z"]), "alone.parquet")
    assert run("decode", model_file, "z.parquet").out == run("decode", model_file, "alone.parquet").out
    pq.write_table(table.rename_columns(["place", "code"]), "z.parquet")
    done = run("decode", model_file, "z.parquet")
    assert (done.code, done.err.splitlines()[0]) == (
        1,
        "error: z.parquet: 2 of the model's 2 columns are missing: 'z0', 'z1'",
    )


def test_a_code_that_lacks_a_value_is_named_by_its_column(run, model_file):
    Path("z.jsonl").write_text('{"code": [1, 2]}\n{"code": [1, null]}\n')
    done = run("decode", model_file, "z.jsonl")
    assert "z.jsonl: row 2, column 'code' is empty or NaN, and a code has all of its 2 values\n" in done.err


@pytest.mark.parametrize("kind", KINDS)
def test_rebuilt_vectors_are_lists_of_the_type_that_they_came_in(run, model_file, kind):
    write("x.parquet", KINDS[kind])
    assert run("reconstruct", model_file, "x.parquet", "--error", "-o", "rebuilt.parquet").code == 0
    table = read("rebuilt.parquet")
    assert table.column_names == ["embedding", "mse"]
    assert table.schema.field("embedding").type == read("x.parquet").schema.field("embedding").type
    x = matrix(read("x.parquet")["embedding"]).astype(np.float32)
    near = 1e-3 if kind == "fixed-half" else 1e-6
    assert np.allclose(matrix(table["embedding"]), aecli.load(model_file).reconstruct(x), rtol=near, atol=near)


def test_rebuilt_vectors_in_text_are_lists_and_in_an_array_its_columns(run, model_file, data):
    expected = aecli.load(model_file).reconstruct(X)
    run("reconstruct", model_file, data, "-o", "rebuilt.npy")
    assert np.array_equal(np.load("rebuilt.npy"), expected)
    header, *lines = run("reconstruct", model_file, data).out.splitlines()
    assert header == "embedding"
    assert np.array_equal(np.array([json.loads(json.loads(line)) for line in lines], np.float32), expected)
    rows = [json.loads(line) for line in run("reconstruct", model_file, data, "--format", "jsonl").out.splitlines()]
    assert np.array_equal(np.array([row["embedding"] for row in rows], np.float32), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_holes_in_vectors_are_filled_and_all_else_stays(run, model_file, kind):
    x = [row.tolist() for row in X]
    x[3][1], x[7] = None, None
    write("x.parquet", KINDS[kind], x)
    done = run("reconstruct", model_file, "x.parquet", "--fill-holes", "-o", "filled.parquet")
    assert (done.code, done.err) == (
        0,
        "wrote filled.parquet\nfilled 1 empty cell\nleft blank 1 row without any value: x.parquet: row 8\n",
    )
    before, after = (read(path).to_pylist() for path in ("x.parquet", "filled.parquet"))
    assert np.isfinite(after[3]["embedding"]).all()
    for i, (old, new) in enumerate(zip(before, after, strict=True)):
        if i == 3:
            old["embedding"][1] = new["embedding"][1]
        assert new == old


@pytest.mark.parametrize("kind", [pa.list_(pa.int64()), pa.list_(pa.int64(), 5), pa.large_list(pa.int64())])
def test_holes_in_vectors_of_integers_get_integers_and_the_others_stay_exact(run, model_file, kind):
    rows = [[2**60 + i, i, -i, 7, 1] for i in range(6)]
    rows[2][1] = rows[4][0] = None
    data = pa.table({"embedding": pa.array(rows, kind)})
    pq.write_table(data, "x.parquet")
    done = run("reconstruct", model_file, "x.parquet", "--fill-holes", "-o", "filled.parquet")
    assert (done.code, done.err) == (0, "wrote filled.parquet\nfilled 2 empty cells\n")
    filled = read("filled.parquet")["embedding"]
    assert filled.type == read("x.parquet")["embedding"].type
    for old, new in zip(rows, filled.to_pylist(), strict=True):
        assert [new[i] if value is None else value for i, value in enumerate(old)] == new
        assert None not in new


def test_a_missing_vector_of_integers_beside_another_feature_is_filled():
    own = pa.array([[1, 2], None, [None, 4], [5, 6]], pa.list_(pa.uint8()))
    values = pa.array([[0.0, 0], [3.4, 300], [-8, 0], [0, 0]], pa.list_(pa.float32(), 2))
    found = filled(own, values, np.array([False, True, True, False]))
    assert found.equals(pa.array([[1, 2], [3, 255], [0, 4], [5, 6]], pa.list_(pa.uint8())))


@pytest.mark.parametrize("kind", [pa.int8(), pa.uint8(), pa.int64()])
def test_a_hole_of_integers_gets_no_value_beyond_its_type(kind):
    limits = np.iinfo(kind.to_pandas_dtype())
    own = pa.array([None, None, 7], kind)
    found = filled(own, pa.array([1e30, -1e30, 0.0]), np.array([True, True, False]))
    assert found.equals(pa.array([limits.max, limits.min, 7], kind))


@pytest.mark.filterwarnings("error")
def test_a_rebuilt_value_beyond_half_precision_is_the_largest_of_it():
    found = as_lists(np.array([[7e4, -7e4, np.nan]], np.float32), pa.list_(pa.float16()))
    assert np.array_equal(matrix(found), [[65504, -65504, np.nan]], equal_nan=True)


def test_a_row_that_cannot_be_read_is_an_empty_vector(run, model_file):
    write("x.parquet", KINDS["list"], [*X[:2], X[2][:3], X[3]])
    for command, name in (("embed", "z"), ("reconstruct", "embedding")):
        options = ["--as-vector"] if command == "embed" else []
        run(command, model_file, "x.parquet", *options, "--bad-rows", "blank", "-o", "out.parquet", "-q")
        assert pc.is_null(read("out.parquet")[name]).to_pylist() == [False, False, True, False]


def test_a_vector_beside_other_columns_comes_back_beside_them(run):
    table = pa.table({"e": pa.array(list(X), KINDS["list"]), "price": np.arange(40.0) % 7, "on": [True, False] * 20})
    pq.write_table(table, "x.parquet")
    quick = ("--epochs", 1, "--hidden-dims", 8, "--device", "cpu", "--store-rows", 0, "-q")
    assert run("train", "x.parquet", "-o", "m.safetensors", *quick).code == 0
    run("reconstruct", "m.safetensors", "x.parquet", "-o", "rebuilt.parquet", "-q")
    rebuilt = read("rebuilt.parquet")
    assert rebuilt.column_names == ["e", "price", "on"]
    assert rebuilt.schema.field("e").type == read("x.parquet").schema.field("e").type
    run("embed", "m.safetensors", "x.parquet", "-o", "z.npy", "-q")
    run("decode", "m.safetensors", "z.npy", "-o", "decoded.parquet", "-q")
    assert np.allclose(matrix(read("decoded.parquet")["e"]), matrix(rebuilt["e"]), atol=1e-5)


def test_a_row_without_a_vector_has_no_code_and_is_decoded_to_empty_cells(run, model_file):
    write("holed.parquet", KINDS["fixed"], [None if i in (3, 7) else row for i, row in enumerate(X)])
    for words in (("--as-vector", "-o", "z.parquet"), ("-o", "z.csv"), ("-o", "z.npy")):
        assert run("embed", model_file, "holed.parquet", *words, "-q").code == 0
        codes = words[-1]
        done = run("decode", model_file, codes, "-o", "d.parquet")
        rows = f"{codes}: row 4; {codes}: row 8"
        assert (done.code, done.err) == (0, f"wrote d.parquet\nleft blank 2 rows without any value: {rows}\n")
        Path("d.parquet").rename("blank.parquet")
        decoded = read("blank.parquet")["embedding"].to_pylist()
        assert [i for i, row in enumerate(decoded) if row is None] == [3, 7]
        assert run("decode", model_file, codes, "-o", "skipped.parquet", "--bad-rows", "skip", "-q").code == 0
        assert read("skipped.parquet")["embedding"].to_pylist() == [row for row in decoded if row is not None]


def test_codes_of_another_width_are_told_as_what_they_are(run, model_file):
    pq.write_table(pa.table({"id": [1], "z": pa.array([[1.0, 2.0, 3.0]], pa.list_(pa.float32(), 3))}), "z.parquet")
    done = run("decode", model_file, "z.parquet")
    assert done.code == 1
    assert done.err.splitlines()[0] == (
        "error: z.parquet: column 'z' holds lists of 3, and a code of this model has 2 values"
    )
