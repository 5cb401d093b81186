"""CSV, from files and from streams."""

import gzip
import io
from pathlib import Path

import numpy as np
import pytest

from aecli.config import Column, Dialect, Schema
from aecli.data import csv, records
from aecli.data.opening import open_source
from aecli.data.stream import Stream
from aecli.data.table import TableSource
from aecli.errors import DataError
from aecli.options import Applying, Columns, Reading, grouped


def source(text, **options):
    data = text if isinstance(text, bytes) else text.encode()
    live, schema, announce = options.pop("live", False), options.pop("schema", None), options.pop("announce", print)
    columns, applying, reading = grouped(options, Columns, Applying, Reading)
    table = csv.CsvTable(Stream("data", io.BytesIO(data)), reading, schema, live=live, announce=announce)
    return TableSource(table, columns, applying, schema)


def test_columns_are_features_but_for_the_label_and_the_excluded():
    rows = source("id,a,b,kind\n7,1,2,x\n8,3,4,y\n", label="kind", exclude=["i*"])
    batch = rows.read()
    assert rows.schema == Schema(2, columns=(Column("a"), Column("b")), label="kind", dialect=Dialect())
    assert batch.x.tolist() == [[1, 2], [3, 4]]
    assert batch.labels.to_pylist() == ["x", "y"]


def test_a_column_named_label_is_the_label():
    assert source("label,a,b\n1,2,3\n4,5,6\n").schema == Schema(
        2, columns=(Column("a"), Column("b")), label="label", dialect=Dialect()
    )


def test_kept_columns_come_as_they_were_written():
    batch = source("id,a,b\n007,1,2\n1e3,3,4\n", keep=["id"]).read()
    assert batch.kept["id"].to_pylist() == ["007", "1e3"]


@pytest.mark.parametrize(
    ("text", "features"),
    [
        ("a,b\n1,2\n", ("a", "b")),
        ("2019,kind\n1,2\n", ("2019", "kind")),
        ("1,2\n3,4\n", None),
        ("1.5,-2e3\n3,4\n", None),
        ("NA,2\n3,4\n", "a hole"),
        ("0,1\n3,4\n", ("0", "1")),
        ("\ufeffa,b\n1,2\n", ("a", "b")),
        ("a,b\r\n1,2\r\n", ("a", "b")),
        ('"a, the first",b\n1,2\n', ("a, the first", "b")),
    ],
    ids=[
        "names",
        "a name that is a number",
        "no header",
        "no header, floats",
        "a hole",
        "pandas",
        "BOM",
        "CRLF",
        "quoted",
    ],
)
def test_a_header_is_found_by_itself(text, features):
    if features == "a hole":
        with pytest.raises(DataError, match="column 'x0' has 1 cell without a value, in row 1, 'NA'"):
            source(text)
        return
    rows = source(text)
    assert rows.schema.features == features
    assert rows.read().x.shape == (1 if features else 2, 2)


def test_a_feature_is_kept_too_as_it_was_written():
    batch = source("a,b\n01,2\n3.50,4\n", keep=["a"], schema=Schema(2, columns=(Column("a"), Column("b")))).read()
    assert batch.x.tolist() == [[1, 2], [3.5, 4]]
    assert batch.kept["a"].to_pylist() == ["01", "3.50"]


def test_one_stray_quote_is_text():
    assert source('a,size,b\n1,5" pipe,2\n3,6,4\n', keep=["size"]).read().x.tolist() == [[1, 2], [3, 4]]


def test_a_models_columns_are_matched_by_name_in_any_order_and_others_let_by():
    model = Schema(2, columns=(Column("a"), Column("b")), label="kind")
    rows = source("b,other,kind,a\n1,zzz,x,2\n3,,y,4\n", schema=model)
    batch = rows.read()
    assert batch.x.tolist() == [[2, 1], [4, 3]]
    assert batch.labels.to_pylist() == ["x", "y"]


def test_data_without_names_is_matched_by_position():
    assert source("1,2\n3,4\n", schema=Schema(2, columns=(Column("a"), Column("b")))).read().x.tolist() == [
        [1, 2],
        [3, 4],
    ]
    with pytest.raises(DataError, match="3 columns of values, and the model takes 2"):
        source("1,2,3\n", schema=Schema(2, columns=(Column("a"), Column("b"))))


@pytest.mark.parametrize("block", [7, 50, 1000])
def test_blocks_end_at_records_whatever_their_size(monkeypatch, block):
    monkeypatch.setattr(records, "BLOCK_BYTES", block)
    text = "a,note,b\n" + "".join(f'{i},"line one\nline ""two"" of {i}",{i / 4}\n' for i in range(200))
    batches = list(source(text, keep=["note"]).batches())
    assert np.concatenate([b.x for b in batches]).tolist() == [[i, i / 4] for i in range(200)]
    notes = [note for b in batches for note in b.kept["note"].to_pylist()]
    assert notes == [f'line one\nline "two" of {i}' for i in range(200)]
    assert len(batches) > 1 or block == 1000


def test_an_error_names_the_row_across_blocks(monkeypatch):
    monkeypatch.setattr(records, "BLOCK_BYTES", 64)
    text = "a,b\n" + "1,2\n" * 500 + "1,two\n" + "1,2\n" * 500
    with pytest.raises(DataError, match=r"column 'b' holds 'two' in row 501"):
        source(text).read()
    text = "a,b\n" + "1,2\n" * 500 + "1\n" + "1,2\n" * 500
    with pytest.raises(DataError, match=r"row 501 \(line 502\) has 1 cell, and 2 were expected: '1'"):
        source(text).read()


@pytest.mark.parametrize("workers", [1, 2, 4, 100])
def test_the_first_error_is_said_and_the_rows_before_it_come(monkeypatch, workers):
    monkeypatch.setattr(csv, "WORKERS", workers)
    monkeypatch.setattr(records, "BLOCK_BYTES", 64)
    unclosed = '1,"2\n' + "1,2\n" * 20
    with pytest.raises(DataError, match=r"column 'b' holds 'bad' in row 41"):
        source("a,b\n" + "1,2\n" * 40 + "1,bad\n" + "1,2\n" * 20 + unclosed).read()
    table = source("a,b\n" + "1,2\n" * 80 + unclosed)
    with pytest.raises(DataError, match="a quote is opened and never closed"):
        list(table.batches())
    assert table.rows_read == 80


@pytest.mark.parametrize("cell", ["256", "-1", "0.5", "-0.0", "1e3", "", "nan"])
def test_small_whole_numbers_are_as_exact_as_others_wherever_they_end(monkeypatch, cell):
    monkeypatch.setattr(records, "BLOCK_BYTES", 64)
    text = "a,b\n" + "1,2\n" * 500 + f"255,{cell}\n" + "0,3\n" * 500
    expected = [[1, 2]] * 500 + [[255, float(cell or "nan")]] + [[0, 3]] * 500
    schema = Schema(2, columns=(Column("a"), Column("b")), missing="mean")
    for options in ({"schema": schema}, {"missing": "mean"}):
        found = list(source(text, **options).batches())
        np.testing.assert_array_equal(np.concatenate([batch.x for batch in found]), expected)
        assert (found[0].x.dtype == np.uint8) == ("schema" in options)
        assert found[-1].x.dtype == np.float64


def test_a_stray_quote_inside_a_cell_is_text():
    assert source('a,size,b\n1,5" pipe,2\n3,6" pipe,4\n', keep=["size"]).read().x.tolist() == [[1, 2], [3, 4]]


def test_compressed_files_and_tabs_are_read(tmp_path):
    Path("data.tsv.gz").write_bytes(gzip.compress(b"a\tb\n1\t2\n3\t4\n"))
    rows = open_source(["data.tsv.gz"], split="train", data_dir=tmp_path)
    assert rows.read().x.tolist() == [[1, 2], [3, 4]]


def test_twenty_thousand_columns_are_read():
    width = 20_000
    text = ",".join(f"a column of number {i:020}" for i in range(width)) + "\n" + ",".join(["1"] * width) + "\n"
    assert source(text).read().x.shape == (1, width)


def test_large_whole_numbers_keep_their_digits():
    assert source("t,b\n1700000000123,2\n1700000000124,3\n").read().x[:, 0].tolist() == [1700000000123, 1700000000124]


def test_dates_of_other_centuries_are_numbers_too():
    Path("days.csv").write_text("a,day\n1,2424-02-06\n2,0024-01-05\n")
    x = open_source(["days.csv"], split="train", data_dir=Path()).read().x
    assert x[:, 1].tolist() == [14329958400.0, -61409491200.0]


def test_a_quote_inside_a_cell_holds_up_no_row(monkeypatch):
    monkeypatch.setattr(records, "BLOCK_BYTES", 64)
    text = "a,size,b\n" + "".join(f'{i},5" pipe,2\n' if i == 3 else f"{i},x,2\n" for i in range(60))
    batches = list(source(text, keep=["size"], exclude=["size"]).batches())
    assert len(batches) > 5
    assert [row for batch in batches for row in batch.x[:, 0].tolist()] == list(range(60))
