"""What is written: cells quoted one by one, and values that keep their types."""

import csv
import io
import json
import uuid
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from aecli.data import sinks
from aecli.errors import DataError

NASTY = [
    "",
    " ",
    "a",
    "a,b",
    'say "x"',
    '"',
    '""',
    "\n",
    "\r",
    "a\tb",
    "a;b",
    "'",
    "ä,ö",
    "NA",
    "nan",
    "007",
    "#x",
    ",",
    None,
]


def written(form, batches, **options):
    stream = io.BytesIO()
    with sinks.to_stream(stream, form, **options) as sink:
        for columns in batches:
            sink.write(columns)
    return stream.getvalue()


def by_python(batches, delimiter):
    """Write the same with Python's csv, whose only other line ending is changed after the fact."""
    lines = []
    for row in [tuple(batches[0]), *(row for columns in batches for row in zip(*columns.values(), strict=True))]:
        out = io.StringIO(newline="")
        csv.writer(out, delimiter=delimiter).writerow(row)
        lines.append(out.getvalue().removesuffix("\r\n") + "\n")
    return "".join(lines).encode()


@pytest.mark.parametrize("seed", range(20))
def test_each_cell_is_quoted_as_python_quotes_it_whatever_the_batch(seed):
    rng = np.random.default_rng(seed)
    names = list(rng.permutation(["a", "b,c", 'd"', "e\n", "f\tg"]))[: rng.integers(1, 6)]
    batches = []
    for _ in range(5):
        rows = int(rng.integers(0, 8))
        few = NASTY if rng.random() < 0.5 else ["a", "", None]
        batches.append({name: [few[i] for i in rng.integers(0, len(few), rows)] for name in names})
    for form, delimiter in (("csv", ","), ("tsv", "\t")):
        for kind in (pa.string(), pa.large_string()):
            columns = [{name: pa.array(cells, kind) for name, cells in batch.items()} for batch in batches]
            assert written(form, columns) == by_python(batches, delimiter)


def test_numbers_are_written_alike_beside_text_that_is_quoted_and_beside_text_that_is_not():
    x = np.random.default_rng(0).normal(size=100) * 10.0 ** np.arange(-30, 30).repeat(2)[:100]
    numbers = {"x": x.astype(np.float32), "y": x, "i": np.arange(100)}
    plain = written("csv", [numbers | {"t": pa.array(["a"] * 100)}])
    quoted = written("csv", [numbers | {"t": pa.array(["a,"] * 100)}])
    assert quoted == plain.replace(b",a\n", b',"a,"\n')
    expected = io.BytesIO()
    pacsv.write_csv(pa.table(numbers), expected, pacsv.WriteOptions(include_header=False))
    assert written("csv", [numbers], header=False) == expected.getvalue()


def test_a_slice_of_a_column_is_written_as_itself():
    texts = pa.array(["x,y", "a", "b,c", "d"])
    assert written("csv", [{"t": texts[1:3], "i": np.arange(2)}]) == b't,i\na,0\n"b,c",1\n'


KEPT = {
    "i": pa.array([1, None], pa.int64()),
    "u": pa.array([1, 255], pa.uint8()),
    "b": pa.array([True, None]),
    "d": pa.array([date(2024, 2, 29), None]),
    "t": pa.array([1_709_208_000_000_000, 1_709_208_000_250_000], pa.timestamp("us")),
    "ns": pa.array([0, 1], pa.timestamp("ns")),
    "far": pa.array([568_971_820_800, None], pa.timestamp("s")),
    "utc": pa.array([datetime(2024, 2, 29, 12, tzinfo=UTC), None], pa.timestamp("ms", "UTC")),
    "c": pa.array([time(12, 30), None], pa.time32("s")),
    "n": pa.array([timedelta(seconds=90), None], pa.duration("ms")),
    "m": pa.array([Decimal("1.50"), Decimal("12345678901234567890.1")], pa.decimal128(30, 2)),
    "f": pa.array([0.5, float("nan")]),
    "l": pa.array([[1.5, float("inf")], None]),
    "s": pa.array([{"x": 1, "y": "a"}, None]),
    "y": pa.array([b"\x00\xff", None]),
    "v": pa.array(["a,b", None], pa.string_view()),
    "k": pa.array(["p", "q"]).dictionary_encode(),
    "z": pa.nulls(2),
}


def test_json_lines_hold_real_json():
    first, second = map(json.loads, written("jsonl", [KEPT]).splitlines())
    assert first == {
        "i": 1, "u": 1, "b": True, "d": "2024-02-29", "t": "2024-02-29T12:00:00", "ns": "1970-01-01T00:00:00",
        "far": "20000-01-01T00:00:00", "utc": "2024-02-29T12:00:00Z", "c": "12:30:00", "n": 90.0, "m": 1.5, "f": 0.5,
        "l": [1.5, None], "s": {"x": 1, "y": "a"}, "y": "AP8=", "v": "a,b", "k": "p", "z": None,
    }  # fmt: skip
    assert second == dict.fromkeys(first) | {
        "u": 255, "t": "2024-02-29T12:00:00.250000", "ns": "1970-01-01T00:00:00.000000001",
        "m": "12345678901234567890.10", "k": "q",
    }  # fmt: skip


@pytest.mark.parametrize("form", ["parquet", "arrow"])
def test_types_are_kept(form):
    columns = {name: column for name, column in KEPT.items() if name != "z" and (form == "arrow" or name != "n")}
    data = pa.BufferReader(written(form, [columns]))
    table = pq.read_table(data) if form == "parquet" else pa.ipc.open_file(data).read_all()
    for name, column in columns.items():
        kind = table.schema.field(name).type
        assert kind == column.type or (form == "parquet" and name in ("far", "c")), name  # of milliseconds


def test_csv_writes_what_is_nested_as_json_bytes_as_base64_and_durations_in_seconds():
    chosen = {name: KEPT[name][:1] for name in ("i", "l", "s", "y", "v", "k", "n", "z")}
    assert (
        written("csv", [chosen]).decode()
        == 'i,l,s,y,v,k,n,z\n1,"[1.5,null]","{""x"":1,""y"":""a""}",AP8=,"a,b",p,90,\n'
    )


def test_csv_writes_a_uuid_as_its_text():
    text = "12345678-1234-5678-1234-567812345678"
    ids = pa.array([uuid.UUID(text).bytes, None], pa.uuid())
    assert written("csv", [{"u": ids, "n": pa.array([1, 2])}]).decode() == f"u,n\n{text},1\n,2\n"


@pytest.mark.parametrize("form", ["parquet", "arrow"])
def test_a_type_does_not_change_where_a_batch_has_no_value(form, monkeypatch):
    for size in (sinks.Arrow.GROUP_BYTES, 1):
        monkeypatch.setattr(sinks.Arrow, "GROUP_BYTES", size)
        batches = [{"k": pa.nulls(3)}, {"k": pa.array(["a", None])}, {"k": pa.nulls(2)}]
        data = pa.BufferReader(written(form, batches))
        table = pq.read_table(data) if form == "parquet" else pa.ipc.open_file(data).read_all()
        assert table.to_pydict() == {"k": [None, None, None, "a", None, None, None]}
        assert table.schema.field("k").type == pa.string()


def test_values_that_change_their_type_are_an_error(monkeypatch):
    monkeypatch.setattr(sinks.Arrow, "GROUP_BYTES", 1)
    with pytest.raises(DataError, match=r"^parquet cannot hold these columns: Failed to parse string: 'x'"):
        written("parquet", [{"k": pa.array([1, 2])}, {"k": pa.array(["x"])}])


def test_npy_is_float64_where_a_column_is():
    data = written("npy", [{"x": np.ones(2, np.float32), "y": np.array([1e17, 1.5])}])
    array = np.load(io.BytesIO(data))
    assert (array.dtype, array.tolist()) == (np.float64, [[1.0, 1e17], [1.0, 1.5]])
