"""Cells without a value: no loss and no error counts them, none stops a row, and what the model expects fills them."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import roc_auc_score

import aecli
from aecli import metrics, rebuilding
from aecli.cli import tables
from aecli.config import Schema
from aecli.data import sinks
from aecli.data.part import Part
from aecli.data.source import Batch, Source
from aecli.errors import CheckpointError, DataError
from aecli.model.scaler import Scaler

CASES = Path(__file__).parent / "cases" / "tables" / "na-spellings"
OLD = Path(__file__).parent / "checkpoints"
QUICK = {"device": "cpu", "hidden_dims": (16,), "epochs": 3}


def lines(text):
    return list(csv.reader(io.StringIO(text)))


def plane(rows=300, inputs=6, holes=0.1):
    """Rows near a plane (rows, inputs), and the same with holes."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, 2)) @ rng.normal(size=(2, inputs)) * 3 + 10 + 0.1 * rng.normal(size=(rows, inputs))
    return x, np.where(rng.random(x.shape) < holes, np.nan, x)


@pytest.fixture(scope="module")
def holed_model():
    return aecli.fit(plane()[1], missing="mean", **QUICK)


@pytest.mark.parametrize("missing", [[], ["--missing", "mean"], ["--missing", "drop"]], ids=str)
def test_no_hole_stops_a_row_however_the_model_was_trained(run, missing):
    assert run("train", CASES / "complete.csv", *missing, "--epochs", "2", "-q").code == 0
    table = lines((CASES / "align.csv").read_text())
    holes = sum(cell == "" for row in table for cell in row)
    for command in (["embed"], ["reconstruct"], ["embed", "--error"], ["reconstruct", "--line-buffered", "--error"]):
        done = run(*command, "complete.safetensors", CASES / "align.csv")
        assert (done.code, done.err) == (0, f"{holes} empty cells were replaced by their columns' means\n")
        assert len(lines(done.out)) == len(table)
        assert "nan" not in done.out
        assert all(cell for line in lines(done.out) for cell in line)


def test_a_hole_is_the_mean_and_its_rows_error_is_over_the_other_cells():
    x, holed = plane()
    filled = np.where(np.isnan(holed), np.nanmean(holed, axis=0), holed)
    model = aecli.fit(holed, missing="mean", holdout=0, **QUICK)
    assert model.embed(holed) == pytest.approx(model.embed(filled), abs=1e-5)
    recon, there = model.reconstruct(holed), ~np.isnan(holed)
    squares = np.square((recon - filled) / model.scaler.scale)
    expected = (squares * there).sum(axis=1) / there.sum(axis=1)
    assert model.errors(holed) == pytest.approx(expected, rel=1e-3)
    whole = there.all(axis=1)
    assert np.array_equal(model.errors(holed)[whole], model.errors(x[whole]))
    assert model.checkpoint.results.train_mse == pytest.approx((squares * there).sum() / there.sum(), rel=1e-3)


def test_arrays_may_have_holes_too(run, holed_model):
    holed_model.save("m.safetensors")
    np.save("x.npy", plane()[1])
    done = run("embed", "m.safetensors", "x.npy", "-o", "z.npy")
    assert (
        done.err == f"{np.isnan(plane()[1]).sum()} empty cells were replaced by their columns' means\nwrote z.npy\n"
        or (
            done.err.splitlines()[-1]
            == f"{np.isnan(plane()[1]).sum()} empty cells were replaced by their columns' means"
        )
    )
    assert np.array_equal(np.load("z.npy"), holed_model.embed(plane()[1]))
    with pytest.raises(DataError, match="row 1, column 'x0' is infinite"):
        holed_model.embed(np.full((1, 6), np.inf))


@pytest.mark.usefixtures("one_network")
def test_training_on_holes_makes_no_anomalies_of_them():
    table = lines((CASES / "holes_anomalies.csv").read_text())
    model = aecli.fit(str(CASES / "holes_anomalies.csv"), missing="mean", epochs=10, device="cpu")
    mse, labels = model.errors(CASES / "holes_anomalies.csv"), [int(row[-1]) for row in table[1:]]
    holed = np.array(["" in row for row in table[1:]])
    assert np.median(mse[holed]) <= 1.5 * np.median(mse[~holed])
    assert roc_auc_score(labels, mse) >= 0.985


def test_a_hole_has_no_share_in_the_error(run):
    assert run("train", CASES / "complete.csv", "--epochs", "2", "-q").code == 0
    done = run("reconstruct", "complete.safetensors", CASES / "align.csv", "--error", "--top-features", "3", "-q")
    for cells, found in zip(lines((CASES / "align.csv").read_text())[1:], lines(done.out)[1:], strict=True):
        shares = dict(zip(found[4::2], map(float, found[5::2]), strict=True))
        assert sum(shares.values()) == pytest.approx(1, abs=1e-5)
        assert all(shares[name] == 0 for name, cell in zip("abc", cells, strict=True) if cell == "")


MIXED = "height,kind,born,alive,id\n" + "".join(
    f"{170 + i % 7}.25,{'cat' if i % 3 else 'dog'},20{10 + i % 9}-01-0{1 + i % 5},{'true' if i % 2 else 'false'},n{i}\n"
    for i in range(60)
)


def test_filling_keeps_each_cell_that_is_there(run):
    Path("whole.csv").write_text(MIXED)
    holed = (
        MIXED.replace("171.25,", ",")
        .replace(",dog,", ",,")
        .replace(",2013-01-04", ",")
        .replace(",false,n4\n", ",,n4\n")
    )
    Path("holed.csv").write_text(holed)
    asked = ["--exclude", "id", "--categorical", "kind", "--missing", "mean", "--epochs", "5", "-q"]
    assert run("train", "holed.csv", *asked, "-o", "m.safetensors").code == 0
    done = run("reconstruct", "m.safetensors", "holed.csv", "--fill-holes", "--keep", "id")
    assert (done.code, done.err) == (0, f"filled {sum(line.count('') for line in lines(holed))} empty cells\n")
    before, after = lines(holed), lines(done.out)
    assert after[0] == before[0]
    for old, new in zip(before[1:], after[1:], strict=True):
        assert all(cell for cell in new)
        assert all(cell in ("", filled) for cell, filled in zip(old, new, strict=True))
    assert run("reconstruct", "m.safetensors", "holed.csv", "--fill-holes", "-o", "filled.npy", "-q").code == 0
    heights = after[0].index("height")
    assert np.load("filled.npy")[:, 0].tolist() == [float(row[heights]) for row in after[1:]]
    parts = run("reconstruct", "m.safetensors", "holed.csv", "--fill-holes", "-o", "folder/")
    assert (parts.code, parts.err.splitlines()[0]) == (0, f"holed.csv: {done.err.rstrip()}")
    assert run("reconstruct", "m.safetensors", "holed.csv", "--fill-holes", "-o", "filled.parquet", "-q").code == 0
    assert pq.read_table("folder/holed.parquet").equals(pq.read_table("filled.parquet"))


@pytest.mark.usefixtures("one_network")
def test_filling_is_better_than_the_mean_and_than_rebuilding():
    x, holed = plane(200)
    gone = np.isnan(holed)
    model = aecli.fit(holed, missing="mean", hidden_dims=(64,), epochs=60, device="cpu")
    filled = model.fill_holes(holed)
    assert np.array_equal(filled[~gone], x[~gone])
    errors = [np.square(((values - x) / x.std(axis=0))[gone]).mean() for values in (filled, model.reconstruct(holed))]
    assert errors[0] < 0.1
    assert errors[0] <= errors[1]


def test_a_model_without_means_for_holes_says_where_they_are(digits_model):
    x = np.full((3, 64), 3.0)
    x[1, 2] = np.nan
    with pytest.raises(DataError, match="rows: row 2, column 'x2' is empty or NaN"):
        aecli.load(digits_model).embed(x)


def test_old_checkpoints_take_holes():
    model = aecli.load(OLD / "0.1" / "wine.safetensors")
    table = lines((OLD / "inputs" / "wine.csv").read_text())
    table[1][table[0].index(model.schema.names[0])] = ""
    with Path("holed.csv").open("w", newline="") as file:
        csv.writer(file).writerows(table)
    z = model.embed("holed.csv")
    assert len(z) == len(table) - 1
    assert np.array_equal(z[1:], model.embed(OLD / "inputs" / "wine.csv")[1:])


def test_pca_is_compared_on_the_cells_that_are_there():
    _, holed = plane()
    part, scaler = Part(holed), Scaler.fit("standard", Part(holed), Schema(6, missing="mean"))
    scaled = scaler.transform(holed).astype(np.float64)
    _, _, axes = np.linalg.svd(scaled - scaled.mean(axis=0), full_matrices=False)
    centred = scaled - scaled.mean(axis=0)
    squares = np.square(centred - centred @ axes[:2].T @ axes[:2])[~np.isnan(holed)]
    assert metrics.Pca(part, scaler, 2).mse(part) == pytest.approx(squares.mean(), rel=1e-3)


def test_a_value_out_of_all_proportion_has_a_huge_error_and_stops_no_other(run, iris_model):
    rows = "sepal length (cm),sepal width (cm),petal length (cm),petal width (cm)\n5,3,1.4,0.2\n1,2,1e300,4\n"
    Path("far.csv").write_text(rows)
    done = run("reconstruct", iris_model, "far.csv", "--error", "--top-features", "1")
    assert (done.code, done.err) == (0, "")
    near, far = lines(done.out)[1:]
    assert float(near[4]) < 1
    assert float(far[4]) > 1e30
    assert far[5] == "petal length (cm)"


class Blanked(Source):
    """Three rows of six values, the second of which could not be read."""

    def _batches(self):
        x = np.array([[9.0] * 6, [np.nan] * 6, [11.0] * 6])
        yield Batch(x, np.array(["p", "q", "r"]), blank=np.array([False, True, False]))


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet", "arrow", "npy"])
def test_a_row_that_could_not_be_read_is_empty_cells(holed_model, form):
    source = Blanked("three", holed_model.schema)
    source.filled_with = "mean"
    (out,) = holed_model.rebuilt(source)
    assert source.notes() == []
    assert np.isnan(out.z[1]).all()
    assert np.isfinite(out.mse[[0, 2]]).all()
    with sinks.to_file(Path("out"), form) as sink:
        blank = tables.blank_rows(out, sink)
        columns = dict(zip("abcdef", rebuilding.rebuilt_columns(out, holed_model, blank=blank), strict=True))
        sink.write({"label": out.batch.labels} | columns | rebuilding.emptied({"mse": out.mse}, blank))
    match form:
        case "csv":
            assert Path("out").read_text().splitlines()[2] == "q,,,,,,,"
        case "jsonl":
            row = json.loads(Path("out").read_text().splitlines()[1])
            assert row == {"label": "q", **dict.fromkeys("abcdef"), "mse": None}
        case "parquet":
            table = pq.read_table("out")
            assert table.slice(1, 1).to_pylist() == [{"label": "q", **dict.fromkeys("abcdef"), "mse": None}]
        case "npy":
            assert np.isnan(np.load("out")[1]).all()


def test_a_checkpoint_keeps_what_fills_holes_and_how_quantiles_go(run):
    x, holed = plane()
    Path("x.csv").write_text("a,b,c,d,e,f\n" + "".join(",".join(map(str, row)) + "\n" for row in x))
    model = aecli.fit(holed, missing="mean", scale="quantile", **QUICK)
    model.save("m.safetensors")
    again = aecli.load("m.safetensors")
    assert again.to_bytes() == model.to_bytes()
    assert np.array_equal(again.fill_holes(holed), model.fill_holes(holed))
    done = run("plot", "m.safetensors", "x.csv", "--kind", "map")
    assert done.code == 1
    assert done.err.startswith("error: m.safetensors was trained with --scale quantile, and a page cannot undo that\n")
    model.scaler.knots[0] = model.scaler.knots[0, ::-1].copy()
    model.save("m.safetensors")
    with pytest.raises(CheckpointError, match=r"scaler\.knots are not in ascending order"):
        aecli.load("m.safetensors")
