"""Sparse codes in and out: embed writes places and values, and decode reads them."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import aecli

ROWS = np.random.default_rng(0).normal(size=(60, 6)).round(3)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("sparse") / "s.safetensors"
    options = {"bottleneck": "sparse", "latent_dim": 24, "active": 3, "epochs": 2, "holdout": 0, "device": "cpu"}
    frame = pd.DataFrame(ROWS, columns=list("abcdef")).assign(label=["x", "y"] * 30)
    aecli.fit(frame, **options).save(path)
    return path


@pytest.fixture(autouse=True)
def _rows():
    frame = pd.DataFrame(ROWS, columns=list("abcdef")).assign(label=["x", "y"] * 30, name=range(60))
    frame.to_csv("rows.csv", index=False)


def test_embed_writes_the_places_of_the_active_values_in_order_and_the_values(run, model):
    assert run("embed", model, "rows.csv", "--keep", "name", "-o", "z.parquet", "-q").code == 0
    found, z = pq.read_table("z.parquet"), aecli.load(model).embed("rows.csv")
    assert found.column_names == ["name", "label", "index", "value"]
    assert [found.schema.field(name).type.value_type for name in ("index", "value")] == [pa.int32(), pa.float32()]
    index, value = (np.array(found[name].to_pylist()) for name in ("index", "value"))
    assert index.shape == value.shape == (60, 3)
    assert (np.diff(index, axis=1) > 0).all()
    dense = np.zeros_like(z)
    np.put_along_axis(dense, index, value.astype(np.float32), axis=1)
    assert np.array_equal(dense, z)


def test_text_has_the_lists_as_json_and_an_array_is_dense(run, model):
    header, first, *_ = run("embed", model, "rows.csv", "--no-label").out.splitlines()
    assert header == "index,value"
    index, value = (json.loads(cell) for cell in first.strip('"').split('","'))
    line = json.loads(run("embed", model, "rows.csv", "--format", "jsonl").out.splitlines()[0])
    assert list(line) == ["label", "index", "value"]
    assert line["index"] == index
    assert line["value"] == pytest.approx(value, rel=1e-6)
    assert run("embed", model, "rows.csv", "-o", "z.npy", "-q").code == 0
    assert np.array_equal(np.load("z.npy"), aecli.load(model).embed("rows.csv"))


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet", "arrow", "npy"])
def test_decode_makes_of_sparse_codes_what_reconstruct_makes_of_the_rows(run, model, form):
    keep = [] if form == "npy" else ["--keep", "name"]
    assert run("embed", model, "rows.csv", *keep, "-o", f"z.{form}", "-q").code == 0
    done = run("decode", model, f"z.{form}", *keep, "-o", "d.parquet")
    assert (done.code, done.err) == (0, "wrote d.parquet\n")
    found = pq.read_table("d.parquet")
    assert found.column_names == ["name"] * bool(keep) + list("abcdef")
    rebuilt = aecli.load(model).reconstruct("rows.csv")
    assert np.column_stack([found[name] for name in "abcdef"]) == pytest.approx(rebuilt, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("form", ["jsonl", "parquet", "arrow"])
def test_as_vector_sparse_codes_are_structs_of_the_two_lists_and_decode_reads_them(run, model, form):
    text = Path("rows.csv").read_text().replace("\n", "\nwhat", 1)  # the first row cannot be read
    Path("bad.csv").write_text(text)
    for words in (("--as-vector=code", "-o", f"code.{form}"), ("-o", f"lists.{form}")):
        assert run("embed", model, "bad.csv", "--bad-rows", "blank", *words, "-q").code == 0
    structs = run("decode", model, f"code.{form}", "--bad-rows", "blank")
    assert structs.code == 0
    assert structs.out == run("decode", model, f"lists.{form}", "--bad-rows", "blank").out
    assert structs.out.splitlines()[1] == ",,,,,"
    if form == "parquet":
        found = pq.read_table("code.parquet")
        lists = [pa.field("index", pa.list_(pa.int32(), 3)), pa.field("value", pa.list_(pa.float32(), 3))]
        assert found.schema.field("code").type == pa.struct(lists)


def test_decode_takes_dense_codes_of_a_sparse_model_and_frames(run, model):
    loaded = aecli.load(model)
    z = loaded.embed("rows.csv")
    pd.DataFrame(z, columns=[f"z{i}" for i in range(24)]).to_csv("z.csv", index=False)
    done = run("decode", model, "z.csv", "-o", "d.npy", "-q")
    assert done.code == 0
    assert np.load("d.npy") == pytest.approx(loaded.decode(z), rel=1e-5, abs=1e-5)
    assert run("embed", model, "rows.csv", "-o", "z.parquet", "-q").code == 0
    assert np.array_equal(loaded.decode(pq.read_table("z.parquet")), loaded.decode(z))


def test_the_way_between_two_sparse_codes_begins_and_ends_at_their_rows(run, model):
    assert run("embed", model, "rows.csv", "-o", "z.jsonl", "-q").code == 0
    assert run("decode", model, "z.jsonl", "--between", "1", "7", "-o", "way.npy", "-q").code == 0
    ends = aecli.load(model).reconstruct("rows.csv")[[0, 6]]
    assert np.load("way.npy")[[0, -1]] == pytest.approx(ends, rel=1e-5, abs=1e-5)


def test_rows_that_cannot_be_read_have_empty_codes_and_no_rows_give_the_header(run, model):
    text = Path("rows.csv").read_text().splitlines()
    text[2] = text[2].replace(text[2].split(",")[0], "what", 1)
    Path("bad.csv").write_text("\n".join(text) + "\n")
    done = run("embed", model, "bad.csv", "--bad-rows", "blank")
    assert (done.code, done.out.splitlines()[2]) == (0, "y,,")
    piped = run("decode", model, "-", "--bad-rows", "blank", stdin=done.out.encode())
    assert (piped.code, piped.out.splitlines()[2], len(piped.out.splitlines())) == (0, ",,,,,", 61)
    Path("none.csv").write_text(text[0] + "\n")
    done = run("embed", model, "none.csv")
    assert (done.code, done.out) == (0, "label,index,value\n")
    assert run("decode", model, "-", stdin=done.out.encode()).out == "a,b,c,d,e,f\n"


@pytest.mark.parametrize(
    ("index", "value", "why"),
    [
        ("[0,1,24]", "[1,2,3]", "column 'index' holds 24, and a code has distinct positions from 0 to 23"),
        ("[0,1.5,2]", "[1,2,3]", "column 'index' holds 1.5, and a code has distinct positions from 0 to 23"),
        ("[0,-1,2]", "[1,2,3]", "column 'index' holds -1, and a code has distinct positions from 0 to 23"),
        (
            "[0,4,4]",
            "[1,2,3]",
            "column 'index' holds the same position twice, and a code has distinct positions from 0 to 23",
        ),
        ("[0,1]", "[1,2,3]", "column 'index' holds '[0,1]', and a list of 3 numbers was expected"),
        ("[0,1,2]", "[1,null,3]", "column 'value' is empty or NaN, and a code has all of its 3 values"),
        ("[0,1,2]", "", "column 'value' is empty or NaN, and a code has all of its 3 values"),
        ("", "[1,2,3]", "column 'index' is empty or NaN, and a code has all of its 3 values"),
    ],
)
def test_codes_that_are_none_are_refused_by_row_and_column_or_left_out(run, model, index, value, why):
    lines = ["index,value", '"[0,1,2]","[1,2,3]"', '"[3,1,2]","[1,2,3]"', f'"{index}","{value}"']
    Path("z.csv").write_text("\n".join(lines) + "\n")
    done = run("decode", model, "z.csv")
    assert (done.code, done.err.splitlines()[0]) == (1, f"error: z.csv: row 3, {why}")
    done = run("decode", model, "z.csv", "--bad-rows", "skip")
    assert (done.code, len(done.out.splitlines())) == (0, 3)


def test_columns_of_numbers_named_index_and_value_are_no_codes(run, model):
    Path("numbers.csv").write_text("index,value\n1,2\n")
    said = run("decode", model, "numbers.csv").err
    assert said.startswith("error: numbers.csv: 24 of the model's 24 columns are missing")


def test_a_line_that_cannot_be_read_before_sparse_codes_is_told_by_itself(run, model):
    Path("z.jsonl").write_text('{"index": [0, 1, 2], "value": [1, 2, 3]}\nno JSON\n')
    assert run("decode", model, "z.jsonl").err.startswith("error: z.jsonl: row 2")
