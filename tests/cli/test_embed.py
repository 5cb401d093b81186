import csv
import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import feather

import aecli
from aecli.data.opening import open_source

CASES = Path(__file__).parents[1] / "cases" / "tables"


def digits(split="test"):
    return open_source(["digits"], split=split, data_dir=Path()).read()


def test_each_row_is_its_label_and_its_values_in_input_order(run, digits_model):
    done = run("embed", digits_model, "digits")
    assert (done.code, done.err) == (0, "")
    lines = list(csv.reader(io.StringIO(done.out)))
    assert lines[0] == ["label", "z0", "z1", "z2", "z3", "z4"]
    batch = digits()
    assert [int(line[0]) for line in lines[1:]] == batch.labels.tolist()
    z = np.array([line[1:] for line in lines[1:]], np.float32)
    assert np.array_equal(z, aecli.load(digits_model).embed(batch.x))


def test_without_data_the_built_in_set_is_taken_and_named(run, digits_model):
    assert run("embed", digits_model).out == run("embed", digits_model, "digits:test").out
    assert run("embed", digits_model).err == "reading digits:test\n"
    assert run("embed", digits_model, "-q").err == ""


def test_error_adds_each_rows_mean_squared_error(run, digits_model):
    lines = run("embed", digits_model, "digits", "--error", "--no-label", "--no-header").out.splitlines()
    mse = np.array([line.split(",")[-1] for line in lines], np.float64)
    x = digits().x
    recon = aecli.load(digits_model).reconstruct(x)
    assert mse == pytest.approx(np.square((recon - x) / 16).mean(axis=1), abs=1e-6)


def test_label_and_header_can_be_left_out(run, digits_model):
    first = run("embed", digits_model, "digits", "--no-label", "--no-header").out.splitlines()[0]
    assert len(first.split(",")) == 5


def test_kept_columns_and_the_label_come_first(run, iris_model, iris_csv):
    text = iris_csv.read_text().splitlines()
    tagged = ["id," + text[0]] + [f'"no. {i}, of 150",{line}' for i, line in enumerate(text[1:])]
    Path("tagged.csv").write_text("\n".join(tagged) + "\n")
    done = run("embed", iris_model, "tagged.csv", "--keep", "id")
    assert done.code == 0, done.err
    lines = list(csv.reader(io.StringIO(done.out)))
    assert lines[0] == ["id", "species", "z0", "z1"]
    assert lines[1][:2] == ["no. 0, of 150", "setosa"]
    assert lines[150][:2] == ["no. 149, of 150", "virginica"]
    assert '"no. 0, of 150",setosa,' not in run("embed", iris_model, "tagged.csv").out


def test_plain_text_is_not_quoted(run, iris_model, iris_csv):
    assert run("embed", iris_model, iris_csv).out.splitlines()[1].startswith("setosa,")


def test_the_pipe_gives_what_the_file_gives(run, iris_model, iris_csv):
    assert run("embed", iris_model, "-", stdin=iris_csv.read_bytes()).out == run("embed", iris_model, iris_csv).out


def test_the_order_of_columns_does_not_matter(run, iris_model, iris_csv):
    rows = [line.split(",") for line in iris_csv.read_text().splitlines()]
    Path("turned.csv").write_text("\n".join(",".join(row[::-1]) for row in rows) + "\n")
    assert run("embed", iris_model, "turned.csv").out == run("embed", iris_model, iris_csv).out


def test_a_kept_column_whose_name_the_output_needs_is_an_error(run, iris_model, iris_csv):
    lines = iris_csv.read_text().splitlines()
    Path("clash.csv").write_text("\n".join(["z0," + lines[0], *("1," + line for line in lines[1:])]) + "\n")
    done = run("embed", iris_model, "clash.csv", "--keep", "z0")
    assert (done.code, done.out) == (1, "")
    assert done.err == (
        "error: clash.csv: column 'z0' cannot be copied to the output, which has a column 'z0' of its own\n"
        "hint: rename it first\n"
    )


def read_table(path):
    if path.suffix == ".jsonl":
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        return {name: [row[name] for row in rows] for name in rows[0]}
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pydict()
    if path.suffix in (".arrow", ".feather"):
        return feather.read_table(path).to_pydict()
    rows = list(csv.reader(path.read_text().splitlines(), delimiter="\t" if path.suffix == ".tsv" else ","))
    return {name: [row[i] for row in rows[1:]] for i, name in enumerate(rows[0])}


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".jsonl", ".parquet", ".arrow", ".feather"])
def test_the_ending_of_the_output_chooses_its_format(run, digits_model, ending):
    path = Path(f"codes{ending}")
    done = run("embed", digits_model, "digits", "-o", path)
    assert (done.code, done.out, done.err) == (0, "", f"wrote {path}\n")
    table = read_table(path)
    batch = digits()
    z = aecli.load(digits_model).embed(batch.x)
    assert list(table) == ["label", "z0", "z1", "z2", "z3", "z4"]
    assert [int(label) for label in table["label"]] == batch.labels.tolist()
    assert np.array_equal(np.array([table[f"z{i}"] for i in range(5)], np.float32).T, z)
    assert run("embed", digits_model, "digits", "-o", path).err == f"replaced {path}\n"


def test_npy_holds_the_numbers_alone(run, digits_model):
    assert run("embed", digits_model, "digits", "-o", "codes.npy").code == 0
    assert np.array_equal(np.load("codes.npy"), aecli.load(digits_model).embed(digits().x))


def test_an_output_that_fails_leaves_no_file_and_keeps_the_old(run, digits_model):
    np.save("holed.npy", np.full((10_000, 64), 3.0))
    rows = np.load("holed.npy")
    rows[9000, 3] = np.nan
    np.save("holed.npy", rows)
    Path("codes.csv").write_text("old")
    done = run("embed", digits_model, "holed.npy", "-o", "codes.csv")
    assert done.code == 1
    assert done.err == (
        "error: holed.npy: row 9001, column 'x3' is empty or NaN, and every value must be a finite number\n"
        "hint: train with --missing mean to fill holes with their column's mean"
        ", or --missing drop to leave such rows out\n"
    )
    assert Path("codes.csv").read_text() == "old"
    assert sorted(path.name for path in Path.cwd().iterdir()) == ["codes.csv", "holed.npy"]


def test_the_input_is_not_written_over(run, iris_model, iris_csv):
    before = iris_csv.read_bytes()
    done = run("embed", iris_model, iris_csv, "-o", "iris.csv")
    assert done.code == 2
    assert done.err.startswith("error: iris.csv is an input of this command, and would be overwritten\n")
    assert iris_csv.read_bytes() == before


@pytest.mark.parametrize("size", [1, 5, 100, 1797])
def test_rows_give_the_same_values_whatever_comes_with_them(digits_model, size):
    model = aecli.load(digits_model)
    x = np.concatenate([digits("train").x, digits("test").x])
    assert np.array_equal(model.embed(x[:size]), model.embed(x)[:size])


def test_kept_columns_keep_their_types(run):
    rows = [
        {"x": i, "y": i % 7, "when": f"2024-01-0{i % 9 + 1}", "id": None if i < 40 else f"a,{i}", "tags": ["a", str(i)]}
        for i in range(60)
    ]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert run("train", "rows.jsonl", "--features", "x", "--features", "y", "--epochs", "1", "-q").code == 0
    keep = ["--keep", "x", "--keep", "when", "--keep", "id", "--keep", "tags"]
    kept = [{name: row[name] for name in ("x", "when", "id", "tags")} for row in rows]
    done = run("embed", "rows.safetensors", "rows.jsonl", *keep, "--format", "jsonl")
    assert [{k: v for k, v in json.loads(line).items() if k != "z0"} for line in done.out.splitlines()] == kept
    assert run("embed", "rows.safetensors", "rows.jsonl", *keep, "-o", "codes.parquet").code == 0
    table = pq.read_table("codes.parquet")
    assert table.drop_columns("z0").to_pylist() == kept
    assert table.schema.field("x").type == pa.int64()
    done = run("embed", "rows.safetensors", "rows.jsonl", *keep)
    cells = list(csv.reader(io.StringIO(done.out)))
    assert cells[41][:4] == ["40", "2024-01-05", "a,40", '["a","40"]']


def test_each_cell_of_a_csv_is_quoted_where_it_needs_it_and_nowhere_else(run):
    data = CASES / "csv-dialect" / "ids_quote.csv"
    assert run("train", data, "--label", "id", "--epochs", "1", "-q", "-o", "m.safetensors").code == 0
    done = run("embed", "m.safetensors", data, "-q")
    ids = [row[0] for row in csv.reader(io.StringIO(data.read_text()))]
    written = [row[0] for row in csv.reader(io.StringIO(done.out))]
    assert written == ids
    quoted = [line for line in done.out.splitlines() if '"' in line]
    assert len(quoted) == sum(any(c in name for c in '",\r\n') for name in ids) < len(ids) / 2


def test_files_whose_kept_columns_are_of_other_types_are_joined_as_what_holds_both(run):
    x = np.random.default_rng(0).normal(size=(40, 2))
    ids = {"null": pa.nulls(40), "int": pa.array(range(40)), "float": pa.array(np.arange(40) + 0.5)}
    ids |= {"text": pa.array([f"k,{i}" for i in range(40)]), "list": pa.array([[i] for i in range(40)])}
    for name, column in ids.items():
        pq.write_table(pa.table([*x.T, column], ["x", "y", "id"]), f"{name}.parquet")
    assert run("train", "text.parquet", "--exclude", "id", "--epochs", "1", "-q", "-o", "m.safetensors").code == 0
    for pair, kind in {"null text": "string", "int float": "double", "int text": "string", "null list": "list"}.items():
        files = [f"{name}.parquet" for name in pair.split()]
        for order in (files, files[::-1]):
            done = run("embed", "m.safetensors", *order, "--keep", "id", "-q", "-o", "out.parquet")
            assert done.code == 0, done.err
            assert str(pq.read_table("out.parquet").schema.field("id").type).startswith(kind)
    done = run("embed", "m.safetensors", "text.parquet", "list.parquet", "--keep", "id", "-q")
    assert done.code == 1
    assert done.err.startswith("error: a kept column is string at first, and list<")
