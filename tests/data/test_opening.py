"""What a file or a stream is, is told by its bytes, and every format gives the rows that the clean table has."""

import bz2
import contextlib
import gzip
import io
import json
import lzma
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet
import pytest
from PIL import Image

import aecli
from aecli.data.opening import open_source
from aecli.errors import DataError
from aecli.options import Applying, Columns, Reading

CASES = Path(__file__).parent.parent / "cases" / "tables"
FORMATS, LAYOUT = CASES / "formats", CASES / "parquet-layout"
SAME_ROWS = ("t_gz_named.csv", "t.csv.xz", "t.csv.zip", "records.json", "stream.arrows")
TABLE = pa.table({"a": [1.5, 2.5, 3.5], "b": [4.0, 5.0, 6.25], "c": [0.5, 0.25, -1.0]})
X = np.stack([column.to_numpy() for column in TABLE.columns], axis=1)


def opened(*data, **options):
    return open_source([str(each) for each in data], **options)


def piped(data):
    """Return the reading end of a pipe that gives these bytes."""
    reading, writing = os.pipe()

    def write():
        with os.fdopen(writing, "wb", buffering=0) as stream, contextlib.suppress(BrokenPipeError):
            stream.write(data)

    threading.Thread(target=write, daemon=True).start()
    return os.fdopen(reading, "rb", buffering=0)


def contents():
    """Write the same three rows in every format that holds a table or an array: format -> bytes."""
    csv, parquet, arrow, stream, npy, npz = (io.BytesIO() for _ in range(6))
    pacsv.write_csv(TABLE, csv)
    pa.parquet.write_table(TABLE, parquet)
    for out, new in ((arrow, pa.ipc.new_file), (stream, pa.ipc.new_stream)):
        with new(out, TABLE.schema) as writer:
            writer.write_table(TABLE)
    np.save(npy, X)
    np.savez(npz, X)
    rows = TABLE.to_pylist()
    return {
        "csv": csv.getvalue(),
        "jsonl": "".join(json.dumps(row) + "\n" for row in rows).encode(),
        "json": json.dumps(rows).encode(),
        "indented json": b"\xef\xbb\xbf \n" + json.dumps(rows, indent=4).encode(),
        "parquet": parquet.getvalue(),
        "arrow file": arrow.getvalue(),
        "arrow stream": stream.getvalue(),
        "npy": npy.getvalue(),
        "npz": npz.getvalue(),
        "idx": bytes([0, 0, 0x0E, 2, 0, 0, 0, 3, 0, 0, 0, 3]) + X.astype(">f8").tobytes(),
    }


def zipped(data):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.mkdir("folder")
        archive.writestr("folder/table", data)
        archive.writestr("__MACOSX/folder/._table", b"\0")
    return out.getvalue()


COMPRESSIONS = {
    "plain": lambda data: data,
    "gzip": lambda data: gzip.compress(data[:9]) + gzip.compress(data[9:]),
    "zstd": lambda data: pa.compress(data, codec="zstd", asbytes=True),
    "xz": lambda data: lzma.compress(data[:9]) + lzma.compress(data[9:]) + b"\0\0\0\0",
    "bz2": lambda data: bz2.compress(data[:9]) + bz2.compress(data[9:]),
    "zip": zipped,
    "bz2 in gzip": lambda data: gzip.compress(bz2.compress(data)),
}


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("form", contents())
def test_a_format_is_told_by_its_bytes_under_any_name_and_in_pipes(form, compression):
    data = COMPRESSIONS[compression](contents()[form])
    for name in ("rows.csv", "rows.xyz", "rows"):
        Path(name).write_bytes(data)
        assert opened(name).read().x.tolist() == X.tolist(), name
    with Path("rows").open("rb", buffering=0) as file:
        assert opened("-", stdin=file).read().x.tolist() == X.tolist()
    with piped(data) as pipe:
        assert opened("-", stdin=pipe).read().x.tolist() == X.tolist()


@pytest.mark.parametrize("name", SAME_ROWS)
def test_the_rows_of_the_cases_are_those_of_the_clean_table(name):
    clean = opened(FORMATS / "pandas_index.csv", columns=Columns(features=("a", "b", "c"))).read().x
    assert opened(FORMATS / name).read().x == pytest.approx(clean, rel=1e-6)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP"])
def test_an_image_is_one_under_any_name_and_in_pipes(form):
    Image.new("L", (4, 3), 200).save("image", format=form)
    data = Path("image").read_bytes()
    pixels = opened("image").read().x
    assert pixels == pytest.approx(200, abs=3)
    Path("image.csv").write_bytes(gzip.compress(data))
    assert opened("image.csv").read().x.tolist() == pixels.tolist()
    with piped(data) as pipe:
        assert opened("-", stdin=pipe).read().x.tolist() == pixels.tolist()
    Image.new("L", (4, 3), 9).save("other.png")  # what lies in the folder is not read in its stead
    with Path("image").open("rb", buffering=0) as file:
        assert opened("-", stdin=file).read().x.tolist() == pixels.tolist()


def test_text_that_begins_as_a_format_does_is_text():
    for start in ("PAR1", "BM", "BMI", "FEA1", "ORC", "GIF", "RIFF", "BZh9", "PK"):
        Path("rows").write_text(f"{start},b\n1,2\n")
        assert opened("rows").read().x.tolist() == [[1, 2]]


def test_a_named_pipe_is_opened_when_its_turn_comes():
    """One producer writes first the one, then the other: who opened both at once would wait for ever."""
    for name in ("first", "second"):
        os.mkfifo(name)

    def write():
        Path("first").write_bytes(contents()["parquet"])
        Path("second").write_bytes(contents()["json"])

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    assert opened("first", "second").read().x.tolist() == np.concatenate([X, X]).tolist()
    writer.join()


def _spreadsheet():
    with zipfile.ZipFile("t.xlsx", "w") as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr("xl/workbook.xml", "<workbook/>")


def _two_files():
    with zipfile.ZipFile("two.zip", "w") as archive:
        for name in ("a.csv", "b c.csv"):
            archive.writestr(name, "a,b\n1,2\n")


def _database():
    with sqlite3.connect("t.sqlite") as database:
        database.execute("create table rows (a, b)")
    database.close()


REFUSED = {
    "t.h5": (
        (FORMATS / "t.h5").read_bytes,
        "an HDF5 file, which is not read",
        """python -c 'import pandas; pandas.read_hdf("t.h5").to_parquet("t.parquet")', or for a plain array """
        """python -c 'import h5py, numpy; numpy.save("t.npy", h5py.File("t.h5")["NAME"][:])'""",
    ),
    "rec.npy": (
        (FORMATS / "rec.npy").read_bytes,
        "an array of records, which is not read",
        """python -c 'import numpy, pandas; pandas.DataFrame(numpy.load("rec.npy")).to_parquet("rec.parquet")'""",
    ),
    "sparse.npz": (
        (FORMATS / "sparse.npz").read_bytes,
        "a sparse matrix, which is not read",
        "python -c 'import numpy, scipy.sparse; "
        """numpy.save("sparse.npy", scipy.sparse.load_npz("sparse.npz").toarray())'""",
    ),
    "Xy.npz": (
        (FORMATS / "Xy.npz").read_bytes,
        "it holds 2 arrays",
        "name one: Xy.npz:X, Xy.npz:y",
    ),
    "t.xlsx": (
        _spreadsheet,
        "a spreadsheet, which is not read",
        """python -c 'import pandas; pandas.read_excel("t.xlsx").to_csv("t.csv", index=False)'""",
    ),
    "frame.pkl": (
        lambda: pd.to_pickle(TABLE.to_pandas(), "frame.pkl"),
        "a pickle, which is not read",
        "only if you trust it, because it may run any program: "
        """python -c 'import pandas; pandas.read_pickle("frame.pkl").to_parquet("frame.parquet")'""",
    ),
    "two.zip": (
        _two_files,
        "a zip archive of 2 files, and one was expected: 'a.csv', 'b c.csv'",
        "read one of them: unzip -p two.zip a.csv | aecli COMMAND ... -",
    ),
    "t.tar.gz": (
        lambda: shutil.make_archive("t", "gztar", FORMATS),
        "a tar archive, which is not read",
        "tar xOf t.tar.gz NAME | aecli COMMAND ... -",
    ),
    "t.sqlite": (
        _database,
        "an SQLite database, which is not read",
        """python -c 'import pandas, sqlite3; pandas.read_sql("select * from TABLE", sqlite3.connect("t.sqlite"))"""
        """.to_parquet("t.parquet")'""",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_read_is_refused_with_the_command_that_makes_a_table_of_it(name):
    make, says, hint = REFUSED[name]
    made = make()
    if isinstance(made, bytes):
        Path(name).write_bytes(made)
    for given in (name, f"{name}.csv"):  # the name does not matter
        Path(given).write_bytes(Path(name).read_bytes())
        with pytest.raises(DataError) as refused:
            opened(given)
        assert refused.value.message == f"{given}: {says}"
        if given == name:
            assert refused.value.hint == hint


def test_the_command_in_a_hint_makes_a_table():
    shutil.copy(FORMATS / "rec.npy", "it's.npy")
    with pytest.raises(DataError) as refused:
        opened("it's.npy")
    command = refused.value.hint.replace("python", sys.executable, 1)
    subprocess.run(command, shell=True, check=True)
    assert opened("it's.parquet").read().x.shape == (60, 3)


WRONG = {
    "text.png": (b"a,b\n1,2\n", "text.png: not an image, or a broken one"),
    "text.npy": (b"a,b\n1,2\n", "text.npy: not an NPY file of plain numbers, or cut short"),
    "text.npz": (b"a,b\n1,2\n", "text.npz: not an NPZ archive of plain numbers, or a damaged one"),
    "text.parquet": (b"a,b\n1,2\n", "text.parquet: not a Parquet file, or a damaged one"),
    "text.arrow": (b"a,b\n1,2\n", "text.arrow: not an Arrow file, or a damaged one"),
    "text.idx": (b"a,b\n1,2\n", "text.idx: not an IDX file"),
    "noise.csv": (
        b"\1\2\3\4",
        "noise.csv: not text, and no format that aecli reads: byte 1 is b'\\x01'",
    ),
    "cut.csv.gz": (gzip.compress(b"a,b\n1,2\n" * 99)[:-9], "cut.csv.gz: the file is damaged or cut short"),
    "cut.csv.xz": (lzma.compress(b"a,b\n1,2\n" * 99)[:-9], "cut.csv.xz: the file is damaged or cut short"),
    "cut.csv.bz2": (bz2.compress(b"a,b\n1,2\n" * 99)[:-9], "cut.csv.bz2: the file is damaged or cut short"),
    "cut.csv.zip": (zipped(b"a,b\n1,2\n" * 99)[:-9], "cut.csv.zip: the zip archive is damaged or cut short"),
    "open.json": (b'[{"a": 1, "b": 2}', "open.json: the JSON array is never closed: the file is damaged or cut short"),
    "more.json": (b'[{"a": 1, "b": 2}] x', "more.json: there is text after the end of the JSON array: 'x'"),
    "indented.jsonl": (
        b'{\n"a": 1\n}\n',
        "indented.jsonl: an object on several lines, and one object per line or an array was expected",
    ),
    "row.json": (b'[{"a": 1, "b": 2}, 5]', "row.json: row 2 is 5, and an object was expected"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_not_what_its_name_says_or_is_damaged_is_a_clear_error(name):
    data, says = WRONG[name]
    Path(name).write_bytes(data)
    with pytest.raises(DataError) as refused:
        opened(name).read()
    assert refused.value.message.startswith(says)


def test_a_decompression_bomb_is_refused_unless_it_is_forced(monkeypatch):
    monkeypatch.setattr("aecli.data.stream.BOMB_BYTES", 10**5)
    rows = b"a,b\n" + b"0,0\n" * 10**5
    assert len(bz2.compress(rows)) * 1000 < len(rows)
    for name, packed in (("bomb.bz2", bz2.compress(rows)), ("bomb.zip", zipped(bz2.compress(rows)))):
        Path(name).write_bytes(packed)
        with pytest.raises(
            DataError, match=f"^{name}: may be a decompression bomb: .* bytes become .* or more$"
        ) as bomb:
            opened(name).read()
        assert bomb.value.hint == "unpack it first, if you trust it; --force reads it anyway"
        assert opened(name, force=True).read().x.shape == (10**5, 2)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1 << 22])
def test_an_array_of_objects_is_cut_between_them_wherever_its_blocks_end(monkeypatch, size):
    monkeypatch.setattr("aecli.data.jsonl.BLOCK_BYTES", size)
    texts = ["", ",", "}", "]},{", '"', "\\", '\\"', '\\\\"', "\n", "é", "[{"]
    rows = [{"a": i, "text": text, "list": [{"b": "]", "c": [[i], []]}, {}]} for i, text in enumerate(texts)]
    for indent in (None, 2):
        Path("rows.json").write_text(json.dumps(rows, indent=indent, ensure_ascii=indent is None))
        batch = opened("rows.json", columns=Columns(features=("a",), label="text")).read()
        assert batch.x[:, 0].tolist() == list(range(len(texts)))
        assert batch.labels.to_pylist() == texts


def test_a_folder_of_parquet_files_is_a_table_and_its_partitions_are_columns():
    source = opened(
        LAYOUT / "hive", columns=Columns(features=("a", "b", "c", "year")), applying=Applying(keep=("site",))
    )
    batch = source.read()
    assert (batch.x.shape, source.schema.kinds) == ((60, 4), ("number",) * 4)
    assert batch.x[:, 3].tolist() == [year for year in (2022, 2023, 2024) for _ in range(20)]
    assert batch.kept["site"].to_pylist() == ["x", "y"] * 0 + [site for _ in range(3) for site in "x" * 10 + "y" * 10]


def test_what_programs_leave_in_a_folder_of_parquet_files_is_ignored_and_other_tables_are_not():
    shutil.copytree(LAYOUT / "hive", "hive")
    for name in ("_SUCCESS", "_metadata", ".part-0.parquet.crc", "README.md"):
        Path("hive", name).write_bytes(b"?")
    Path("hive", "year=2023", "site=x").rename("hive/year=2023/site=a%2Fb")
    Path("hive", "year=2024").rename("hive/year=__HIVE_DEFAULT_PARTITION__")
    batch = opened("hive", columns=Columns(exclude=("site", "year")), applying=Applying(keep=("year", "site"))).read()
    assert set(batch.kept["year"].to_pylist()) == {2022, 2023, None}
    assert set(batch.kept["site"].to_pylist()) == {"x", "y", "a/b"}
    Path("hive/more.csv").write_text("a,b,c\n1,2,3\n")
    with pytest.raises(
        DataError, match=r"^hive: a folder with Parquet files and other data, such as hive/.*parquet and hive/"
    ):
        opened("hive")


def test_the_index_of_pandas_is_known_and_so_are_partitions():
    from aecli.data.arrow import FrameTable, ParquetTable
    from aecli.data.stream import Stream

    frame = TABLE.to_pandas().set_index("a")
    frame.to_parquet("named.parquet")
    TABLE.to_pandas().set_index(pd.Index([5, 9, 7])).to_parquet("nameless.parquet")
    for name, index in (("named.parquet", "a"), ("nameless.parquet", "__index_level_0__")):
        assert ParquetTable(Stream.open(Path(name))).aside == {index: "row index"}
    assert FrameTable(frame).aside == {"a": "row index"}
    assert ParquetTable(Stream.open(CASES / "parquet-types/pandas_index.parquet")).aside == {}


@pytest.mark.parametrize("names", [("p_int", "p_extra"), ("p_extra", "p_int")])
def test_a_column_that_some_files_lack_is_an_error_where_it_is_learnt_and_a_note_elsewhere(names):
    files = [LAYOUT / f"{name}.parquet" for name in names]
    lacks = LAYOUT / "p_int.parquet"
    with pytest.raises(DataError) as refused:
        opened(*files).read()
    assert refused.value.message == f"{lacks}: columns of other files are missing: 'extra'"
    assert refused.value.hint == "leave them out: --exclude 'extra'"
    notes = []
    batch = opened(*files, columns=Columns(exclude=("extra",)), announce=notes.append).read()
    assert batch.x.shape == (40, 4)
    assert notes == [f"{lacks}: no column 'extra', so it is not learnt"]
    notes.clear()
    labels = opened(*files, columns=Columns(label="extra"), announce=notes.append).read().labels.to_pylist()
    assert labels.count(None) == 20
    assert notes == [f"{lacks}: no column 'extra', so it is empty for these rows"]


def test_whole_numbers_in_one_file_and_others_in_another_are_one_column_of_numbers():
    pa.parquet.write_table(pa.table({"a": [1, 2], "b": [3, 4]}), "whole.parquet")
    pa.parquet.write_table(pa.table({"a": [1.5, 2], "b": [3, None]}), "others.parquet")
    for names in (("whole.parquet", "others.parquet"), ("others.parquet", "whole.parquet")):
        source = opened(*names, columns=Columns(missing="mean"))
        assert (source.schema.kinds, np.nansum(source.read().x)) == (("number", "number"), 16.5)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("opening") / "model.safetensors"
    rows = FORMATS / "records.json"
    aecli.fit(str(rows), epochs=1, hidden_dims=(4,), latent_dim=2).save(path)
    return path


def empties():
    """Write no rows in every way: name -> bytes."""
    schema = pa.schema([(name, pa.float64()) for name in "abc"])
    out = {"header.csv": b"a,b,c\n", "line": b"a,b,c", "nothing": b"", "blank.csv": b"\n", "none.json": b"[ ]"}
    for name, new in (("none.arrow", pa.ipc.new_file), ("stream", pa.ipc.new_stream), ("none.parquet", None)):
        stream = io.BytesIO()
        if new is None:
            pa.parquet.write_table(schema.empty_table(), stream)
        else:
            new(stream, schema).close()
        out[name] = stream.getvalue()
    array = io.BytesIO()
    np.save(array, np.zeros((0, 3)))
    out["none.npy"] = array.getvalue()
    out["header.csv.gz"] = gzip.compress(out["header.csv"])
    return out


@pytest.mark.parametrize("name", empties())
def test_no_rows_give_the_header_of_the_output(run, model, name):
    data = empties()[name]
    Path(name).write_bytes(data)
    done = run("embed", model, name, "--error")
    assert (done.code, done.out, done.err) == (0, "z0,z1,mse\n", f"{name}: no rows in it\n")
    done = run("reconstruct", model, "-", "-q", stdin=data)
    assert (done.code, done.out, done.err) == (0, "a,b,c\n", "")
    with pytest.raises(DataError, match=r": no rows to read, (only a header|only columns|it is empty)$"):
        opened(name)


def test_no_rows_are_none_in_every_format_of_output(run, model):
    for form in ("jsonl", "parquet", "arrow", "npy"):
        keep = [] if form == "npy" else ["--keep", "id"]
        done = run("embed", model, "-", "-q", "-o", f"out.{form}", *keep, stdin=b"id,a,b,c\n")
        assert done.code == 0, done.err
    assert Path("out.jsonl").read_bytes() == b""
    assert pa.parquet.read_table("out.parquet").schema.names == ["id", "z0", "z1"]
    assert pa.ipc.open_file("out.arrow").read_all().shape == (0, 3)
    assert np.load("out.npy").shape == (0, 2)
    assert run("embed", model, "-", "--line-buffered", "-q", stdin=b"a,b,c\n").out == "z0,z1\n"


def test_a_part_without_rows_is_a_note(run, model):
    Path("rows.csv").write_bytes(contents()["csv"])
    Path("header.csv").write_bytes(b"a,b,c,other\n")
    Path("empty.csv").write_bytes(b"")
    expected = run("embed", model, "rows.csv", "rows.csv").out
    done = run("embed", model, "empty.csv", "rows.csv", "header.csv", "rows.csv", "empty.csv")
    assert (done.code, done.out) == (0, expected)
    notes = [f"{name}: no rows in it\n" for name in ("empty.csv", "header.csv", "empty.csv")]
    assert done.err == "".join(notes)
    said = []
    parts = opened("header.csv", "rows.csv", "empty.csv", "header.csv", announce=said.append)
    assert parts.read().x.tolist() == X.tolist()
    assert said == ["header.csv: no rows in it", "empty.csv: no rows in it", "header.csv: no rows in it"]
    done = run("embed", model, "empty.csv", "header.csv")
    assert (done.code, done.out) == (0, "z0,z1\n")


def test_input_format_says_what_the_bytes_do_not():
    Path("rows").write_bytes(gzip.compress(b"a\tb\n1\t2\n"))
    assert opened("rows", reading=Reading(input_format="tsv")).read().x.tolist() == [[1, 2]]
