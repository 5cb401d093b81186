import csv
import io
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

import aecli
from aecli.data.opening import open_source

CASES = Path(__file__).parents[1] / "cases" / "tables"


def test_the_datas_own_columns_come_back_in_its_own_units(run, iris_model, iris_csv, iris_rows):
    done = run("reconstruct", iris_model, iris_csv, "--error", "--keep", "species")
    assert (done.code, done.err) == (0, "")
    lines = list(csv.reader(io.StringIO(done.out)))
    x, names, species = iris_rows
    assert lines[0] == ["species", *names, "mse"]
    assert [line[0] for line in lines[1:]] == species.tolist()
    values = np.array([line[1:] for line in lines[1:]], np.float64)
    assert np.abs(values[:, :4] - x).mean() < 0.5
    scaled = (values[:, :4] - x) / aecli.load(iris_model).scaler.scale
    assert values[:, 4] == pytest.approx(np.square(scaled).mean(axis=1), abs=1e-5)


def test_the_worst_rows_are_found_by_sort(run, iris_model, iris_csv):
    text = iris_csv.read_text() + "50,0.1,9,-4,oddity\n"
    done = run("reconstruct", iris_model, "-", "--error", "--no-header", stdin=text.encode())
    errors = [float(line.split(",")[-1]) for line in done.out.splitlines()]
    assert errors.index(max(errors)) == 150


def test_images_come_back_as_files(run, digits_model):
    done = run("reconstruct", digits_model, "digits", "-o", "rebuilt/")
    assert (done.code, done.out, done.err) == (0, "", "wrote rebuilt\n")
    files = sorted(Path("rebuilt").iterdir())
    assert [file.name for file in files] == [f"{i:06}.png" for i in range(360)]
    x = open_source(["digits"], split="test", data_dir=Path()).read().x[:10]
    recon = aecli.load(digits_model).reconstruct(x)
    shown = np.stack([np.asarray(Image.open(file)) for file in files[:10]])
    assert shown.reshape(10, 64) == pytest.approx(recon / 16 * 255, abs=0.51)
    again = run("reconstruct", digits_model, "digits", "-o", "rebuilt/")
    assert (again.code, again.err) == (
        1, "error: rebuilt: already holds files, and images go to a new folder or an empty one\n",
    )  # fmt: skip


def test_float_images_of_any_range_come_back_grey(run):
    rng = np.random.default_rng(0)
    np.save("photos.npy", rng.uniform(0, 255, (40, 5, 4)))
    np.save("deep.npy", rng.uniform(size=(40, 2, 2, 2, 2)))
    assert run("train", "photos.npy", "--epochs", "2", "-q").code == 0
    assert run("reconstruct", "photos.safetensors", "photos.npy", "-o", "grey/", "-q").code == 0
    with Image.open("grey/000000.tif") as picture:
        assert len(np.unique(np.asarray(picture))) > 3
    assert run("plot", "photos.safetensors", "photos.npy", "--kind", "reconstruction", "-q").code == 0
    assert run("train", "deep.npy", "--epochs", "2", "-q").code == 0
    assert run("plot", "deep.safetensors", "deep.npy", "--kind", "reconstruction", "-q").code == 0


def test_a_folder_in_no_folder_is_an_error(run, digits_model):
    done = run("reconstruct", digits_model, "digits", "-o", "no/such/")
    assert (done.code, done.out) == (1, "")
    assert "there is no folder" in done.err


def test_python_gives_what_the_command_gives(run, digits_model):
    assert run("reconstruct", digits_model, "digits", "-o", "recon.npy").code == 0
    x = open_source(["digits"], split="test", data_dir=Path()).read().x
    model = aecli.load(str(digits_model))
    assert np.array_equal(np.load("recon.npy").reshape(360, 64), model.reconstruct(x))
    assert model.reconstruct(x.reshape(-1, 8, 8)).shape == (360, 8, 8)
    assert np.array_equal(model.decode(model.embed(x)), model.reconstruct(x))


@pytest.mark.parametrize(("name", "column"), [("epoch_ms", "ts"), ("bigint", "c")])
def test_rebuilt_numbers_have_the_digits_that_their_scale_asks_for(run, name, column):
    data = CASES / "types" / f"{name}.csv"
    assert run("train", data, "--features", "*", "--epochs", "2", "-q", "-o", "m.safetensors").code == 0
    model = aecli.load("m.safetensors")
    done = run("reconstruct", "m.safetensors", data, "--error", "-o", "out.parquet")
    assert done.code == 0, done.err
    table = pq.read_table("out.parquet")
    assert {name: str(table.schema.field(name).type) for name in ("a", column, "mse")} == {
        "a": "float", column: "double", "mse": "float",
    }  # fmt: skip
    rebuilt = np.stack([table[name].to_numpy() for name in model.schema.names], axis=1)
    x = model.open(data).read().x
    assert model.reconstruct(x).dtype == np.float64
    np.testing.assert_allclose(model.reconstruct(x), rebuilt, rtol=1e-7)
    place = model.schema.names.index(column)
    assert (rebuilt[:, place] != rebuilt[:, place].astype(np.float32)).any()
    if name == "epoch_ms":  # the others are beyond 2^53, where float64 rounds too
        mse = (((rebuilt - x) / model.scaler.scale) ** 2).mean(axis=1)
        np.testing.assert_allclose(mse, table["mse"].to_numpy(), rtol=1e-3)
