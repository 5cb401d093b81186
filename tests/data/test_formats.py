"""Every format that is read: the same rows give the same results."""

import gzip
import json
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.feather
import pyarrow.parquet
import pytest
from PIL import Image
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import roc_auc_score

from aecli import load
from aecli.data import arrow
from aecli.data.opening import open_source
from aecli.errors import DataError
from aecli.options import Columns, Reading

MIXED = "id,when,ok,kind,a,b\n1,2020-01-01,true,x,1.5,2\n2,2020-02-01,false,y,2.5,\n3,2020-03-01,true,x,3.5,4\n"


def opened(*data, columns=None, reading=None, **options):
    return open_source(
        list(data), data_dir=Path(), columns=columns or Columns(), reading=reading or Reading(), **options
    )


def written(table, form):
    """Write an Arrow table as a file of a format, and give its name."""
    name = f"rows.{form}"
    match form:
        case "csv":
            pacsv.write_csv(table, name)
        case "tsv":
            pacsv.write_csv(table, name, pacsv.WriteOptions(delimiter="\t"))
        case "jsonl":
            Path(name).write_text("".join(json.dumps(row, default=str) + "\n" for row in table.to_pylist()))
        case "parquet":
            pa.parquet.write_table(table, name)
        case "arrow":
            with pa.ipc.new_file(name, table.schema) as writer:
                writer.write_table(table)
        case "feather":
            pa.feather.write_feather(table, name)
    return name


FORMS = ["csv", "tsv", "jsonl", "parquet", "arrow", "feather"]


@pytest.mark.parametrize("form", FORMS)
def test_the_irises_are_the_same_rows_in_every_format(iris_rows, form):
    x, names, species = iris_rows
    table = pa.table([*x.T, species.astype(str)], [*names, "species"])
    batch = opened(written(table, form), columns=Columns(label="species")).read()
    assert batch.x.tolist() == x.tolist()
    assert batch.labels.to_pylist() == species.tolist()


@pytest.mark.parametrize("form", FORMS)
def test_dates_booleans_categories_and_holes_are_the_same_in_every_format(form):
    Path("mixed.csv").write_text(MIXED)
    table = pacsv.read_csv("mixed.csv")
    columns = Columns(categorical=("kind",), exclude=("id",), missing="mean")
    if form == "jsonl":  # which has no dates
        table = table.drop(["when"])
    source = opened(written(table, form), columns=columns)
    expected = opened("mixed.csv", columns=columns).read().x
    assert source.read().x == pytest.approx(expected[:, 1:] if form == "jsonl" else expected, nan_ok=True)
    assert source.schema.categories[-3:] == (("x", "y"), (), ())


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet", "arrow"])
def test_tables_come_through_standard_input_too(iris_rows, iris_model, process, form):
    x, names, _ = iris_rows
    name = written(pa.table(list(x.T), names), form)
    piped = process("embed", iris_model, "-", "--input-format", form, stdin=Path(name).read_bytes())
    assert piped.code == 0, piped.err
    assert piped.out == process("embed", iris_model, name).out


def test_images_have_one_embedding_in_whatever_file_they_are(run, idx):
    batch = opened("digits:test").read()
    pixels = (batch.x.reshape(-1, 8, 8) * 15).astype(np.uint8)
    np.save("images.npy", pixels)
    np.savez("images.npz", first=pixels, other=pixels[:1])
    Path("images-idx3-ubyte").write_bytes(idx(pixels))
    lines = [",".join(map(str, row)) for row in pixels.reshape(len(pixels), -1).tolist()]
    Path("images.csv").write_text("\n".join(lines) + "\n")
    for i, (label, image) in enumerate(zip(batch.labels, pixels, strict=True)):
        Path(f"images/{label}").mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(f"images/{label}/{i:04}.png")
    done = run("train", "images.npy", "--epochs", "2", "-o", "images.safetensors", "-q")
    assert done.code == 0, done.err
    names = ["images.npy", "images.npz:first", "images-idx3-ubyte", "images.csv"]
    outputs = [run("embed", "images.safetensors", name, "-q").out for name in names]
    assert len(set(outputs)) == 1
    folder = run("embed", "images.safetensors", "images", "-q", "--format", "jsonl").out.splitlines()
    rows = [json.loads(line) for line in folder]
    assert [row["path"] for row in rows] == sorted(map(str, Path("images").glob("*/*.png")))
    assert all(row["label"] == Path(row["path"]).parent.name for row in rows)
    by_place = sorted(rows, key=lambda row: Path(row["path"]).name)
    z = np.array([[row[f"z{k}"] for k in range(5)] for row in by_place], np.float32)
    embedded = load("images.safetensors").embed(pixels)
    assert z == pytest.approx(embedded, abs=1e-5)


def test_the_pieces_that_a_file_is_read_in_do_not_change_a_bit(digits_model, monkeypatch, run):
    whole = run("embed", digits_model, "digits:train").out
    monkeypatch.setattr("aecli.data.source.ArraySource.batch_size", 37)
    assert run("embed", digits_model, "digits:train").out == whole


def test_several_files_are_read_as_one(iris_rows, iris_model, run):
    x, names, _ = iris_rows
    pacsv.write_csv(pa.table(list(x.T), names), "all.csv")
    pacsv.write_csv(pa.table(list(x[:100].T), names), "part-1.csv")
    pa.parquet.write_table(pa.table(list(x[100:].T)[::-1], names[::-1]), "part-2.parquet")
    assert run("embed", iris_model, "part-1.csv", "part-2.parquet").out == run("embed", iris_model, "all.csv").out


def test_rebuilt_columns_have_the_kinds_of_the_data(run):
    Path("mixed.csv").write_text(MIXED + "".join(f"{i},2021-03-0{10 - i},false,y,{i},{i}\n" for i in range(1, 10)))
    done = run("train", "mixed.csv", "--categorical", "kind", "--exclude", "id", "--missing", "mean", "--epochs", "5")
    assert done.code == 0, done.err
    done = run("reconstruct", "mixed.safetensors", "mixed.csv", "-o", "rebuilt.parquet", "--error", "--top-features", 1)
    assert done.code == 0, done.err
    kinds = {field.name: str(field.type) for field in pa.parquet.read_schema("rebuilt.parquet")}
    numbers = {"a": "float", "b": "float", "mse": "float", "share1": "float"}
    assert kinds == {"when": "date32[day]", "ok": "bool", "kind": "string", "worst1": "string"} | numbers


def test_an_unknown_category_is_an_error_or_none_of_them(run):
    Path("mixed.csv").write_text(MIXED)
    run("train", "mixed.csv", "--categorical", "kind", "--exclude", "id", "--missing", "drop", "--epochs", "1")
    Path("new.csv").write_text("when,ok,kind,a,b\n2020-01-01,true,z,1,2\n")
    done = run("embed", "mixed.safetensors", "new.csv")
    assert (done.code, done.err) == (
        1,
        "error: new.csv: row 1, column 'kind' holds 'z', and the model knows 'x', 'y'\n"
        "hint: --unknown ignore reads such a cell as none of them\n",
    )
    assert run("embed", "mixed.safetensors", "new.csv", "--unknown", "ignore").code == 0


def test_a_broken_image_is_an_error_or_counted(run):
    Path("images").mkdir()
    rng = np.random.default_rng(0)
    for i in range(40):
        Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)).save(f"images/{i:02}.png")
    Path("images/20.png").write_bytes(Path("images/20.png").read_bytes()[:40])
    done = run("train", "images", "--epochs", "1")
    assert done.code == 1
    assert done.err.startswith("error: images/20.png: not an image, or a broken one\n")
    done = run("train", "images", "--epochs", "1", "--skip-broken")
    assert done.code == 0, done.err
    assert "left out 1 image that cannot be read\n" in done.err


def test_images_of_other_sizes_are_refused_unless_a_size_is_asked_for(run):
    Path("images").mkdir()
    for i in range(30):
        Image.new("RGB", (8 + i % 2, 8), (i, 2 * i, 255 - i)).save(f"images/{i:02}.jpg")
    done = run("train", "images", "--epochs", "1")
    assert (done.code, done.err) == (
        1,
        "30 images of 8 × 8 pixels in colour = 192 inputs; 107,216 weights; training takes about 0.6 GB of memory\n"
        "error: images/01.jpg: an image of 9 × 8 pixels, and 8 × 8 were expected\n"
        "hint: train with --image-size 8x8 to resize all to one size\n",
    )
    assert run("train", "images", "--epochs", "1", "--image-size", "6x5", "-q").code == 0
    assert load("images.safetensors").schema.image_shape == (5, 6, 3)
    assert len(run("embed", "images.safetensors", "images", "-q").out.splitlines()) == 31


BROKEN = {
    "cut.parquet": lambda name: Path(name).write_bytes(Path("fine.parquet").read_bytes()[:200]),
    "cut.arrow": lambda name: Path(name).write_bytes(Path("fine.arrow").read_bytes()[:400]),
    "cut.npy": lambda name: Path(name).write_bytes(Path("fine.npy").read_bytes()[:200]),
    "objects.npy": lambda name: np.save(name, np.array([[{}]], dtype=object), allow_pickle=True),
    "cut.csv.gz": lambda name: Path(name).write_bytes(Path("fine.csv.gz").read_bytes()[:-20]),
    "text.jsonl": lambda name: Path(name).write_text('{"a": 1, "b": 2}\n{"a": "x", "b": 3}\n'),
    "no.jsonl": lambda name: Path(name).write_text('{"a": 1, "b": 2}\n{"a": \n'),
    "bomb.png": lambda name: Path(name).write_bytes(_bomb()),
}


def _bomb():
    Image.new("1", (1, 1)).save("small.png")
    data = bytearray(Path("small.png").read_bytes())
    data[16:24] = (60_000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    return bytes(data)


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_a_clear_error(name):
    x = np.random.default_rng(0).normal(size=(100, 3))
    table = pa.table(list(x.T), ["a", "b", "c"])
    for form in ("parquet", "arrow"):
        Path(written(table, form)).rename(f"fine.{form}")
    np.save("fine.npy", x)
    Path("fine.csv.gz").write_bytes(gzip.compress(b"a,b\n" + b"1,2\n3,4\n" * 1000))
    BROKEN[name](name)
    with pytest.raises(DataError, match=f"^{name}: "):
        opened(name).read()


def test_mse_tells_malignant_tumours_from_benign_ones(run):
    x, y = load_breast_cancer(return_X_y=True)
    benign = np.flatnonzero(y == 1)
    held_out = np.concatenate([benign[::4], np.flatnonzero(y == 0)])
    names = [f"f{i}" for i in range(30)]
    pacsv.write_csv(pa.table(list(x[np.setdiff1d(benign, held_out)].T), names), "benign.csv")
    pacsv.write_csv(pa.table(list(x[held_out].T), names), "new.csv")
    assert run("train", "benign.csv", "-q").code == 0
    done = run("reconstruct", "benign.safetensors", "new.csv", "--error", "-o", "rebuilt.parquet", "-q")
    assert done.code == 0, done.err
    mse = pa.parquet.read_table("rebuilt.parquet")["mse"].to_numpy()
    assert roc_auc_score(y[held_out] == 0, mse) >= 0.90


@pytest.mark.parametrize("rows", [3, 10, 11])
def test_all_rows_of_a_large_batch_of_an_arrow_file_are_read(monkeypatch, rows):
    monkeypatch.setattr(arrow, "MAX_BATCH_ROWS", 10)
    table = pa.table({"a": np.arange(3.0 * rows) % 7, "b": np.arange(3.0 * rows) % 5})
    with pa.ipc.new_file("x.arrow", table.schema) as writer:
        writer.write_table(table, max_chunksize=2 * rows)
    batches = list(opened("x.arrow").batches())
    assert max(len(batch.x) for batch in batches) <= 10
    assert np.array_equal(np.concatenate([batch.x for batch in batches])[:, 0], np.arange(3.0 * rows) % 7)
