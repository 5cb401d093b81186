"""embed --held-out: which rows the model has not seen, told again from the data alone."""

import csv
import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import aecli
from aecli.data import gather
from aecli.data.digest import Digest
from aecli.errors import UsageError

OLD = Path(__file__).parents[1] / "checkpoints" / "0.1"
ROWS = np.random.default_rng(0).normal(size=(200, 6)).astype(np.float32)


def column(done, name):
    """Read one column of a CSV on stdout."""
    assert done.code == 0, done.err
    return [row[name] for row in csv.DictReader(io.StringIO(done.out))]


def test_the_error_of_the_rows_that_it_names_is_the_one_that_training_reported(run, iris_model, iris_csv):
    done = run("embed", iris_model, iris_csv, "--held-out", "--error")
    assert done.out.splitlines()[0] == "species,z0,z1,mse,held_out"
    mse, held_out = np.array([column(done, "mse"), column(done, "held_out")], float)
    results = aecli.load(iris_model).checkpoint.results
    assert (held_out.sum(), len(held_out)) == (15, 150)
    assert mse[held_out == 1].mean() == pytest.approx(results.test_mse, rel=1e-4)
    assert mse[held_out == 0].mean() == pytest.approx(results.train_mse, rel=1e-4)


def test_the_same_rows_in_another_format_are_the_same_data(run, iris_model, iris_csv):
    frame = pd.read_csv(iris_csv)
    frame.to_parquet("iris.parquet")
    frame.to_json("iris.jsonl", orient="records", lines=True)
    held_out = [column(run("embed", iris_model, name, "--held-out"), "held_out") for name in ("iris.csv",)]
    for name in ("iris.parquet", "iris.jsonl"):
        assert column(run("embed", iris_model, name, "--held-out"), "held_out") == held_out[0]
    run("embed", iris_model, "iris.csv", "--held-out", "-o", "codes.parquet")
    assert pd.read_parquet("codes.parquet")["held_out"].dtype == np.int64


def test_columns_of_all_kinds_and_rare_categories_are_known_again(run):
    kinds = [f"k{i % 3}" if i % 5 else f"rare {i}" for i in range(120)]
    lines = [f"{i * i % 17},{kinds[i]},{'yes' if i % 4 else 'no'},2024-01-{i % 28 + 1:02}," for i in range(120)]
    lines = [line + ("" if i % 7 == 0 else str(i % 11)) for i, line in enumerate(lines)]
    Path("rows.csv").write_text("\n".join(["size,kind,on,day,holed", *lines]) + "\n")
    options = ("--categorical", "kind", "--max-categories", "5", "--missing", "mean", "--epochs", "1", "-q")
    done = run("train", "rows.csv", *options)
    assert done.code == 0, done.err
    done = run("embed", "rows.safetensors", "rows.csv", "--held-out", "-q")
    assert column(done, "held_out").count("1") == 12


@pytest.mark.parametrize("change", ["another order", "fewer rows", "another value"])
def test_rows_in_another_order_or_a_part_of_them_are_other_data(run, iris_model, iris_csv, change):
    head, *lines = iris_csv.read_text().splitlines()
    changed = {
        "another order": lines[::-1],
        "fewer rows": lines[:-1],
        "another value": ["9" + lines[0][1:], *lines[1:]],
    }
    Path("other.csv").write_text("\n".join([head, *changed[change]]) + "\n")
    done = run("embed", iris_model, "other.csv", "--held-out")
    assert (done.code, done.out) == (1, "")
    assert done.err == (
        f"error: other.csv: not the data that {iris_model} was trained on, so which rows were held out is unknown\n"
        "hint: give it all rows of iris.csv, in their order\n"
    )


def test_what_can_be_read_only_once_is_wrong_usage(run, iris_model, iris_csv):
    done = run("embed", iris_model, "-", "--held-out", stdin=iris_csv.read_bytes())
    assert (done.code, done.out) == (2, "")
    assert done.err == (
        "error: --held-out reads DATA twice, and a pipe can be read only once\n"
        "hint: write it to a file, and name the file\n"
    )


@pytest.mark.parametrize(("options", "of_train"), [((), 0), (("--holdout", "0.25"), 359)], ids=["splits", "a share"])
def test_of_a_built_in_set_the_test_split_is_held_out(run, options, of_train):
    assert run("train", "--epochs", "1", "-q", *options).code == 0
    train = column(run("embed", "digits.safetensors", "digits:train", "--held-out"), "held_out")
    test = column(run("embed", "digits.safetensors", "--held-out"), "held_out")
    assert (train.count("1"), len(train)) == (of_train, 1437)
    assert test == ["1"] * 360


def test_rows_that_were_given_as_held_out_ones_are(run):
    np.save("rows.npy", ROWS)
    np.save("test.npy", ROWS[:20] + 1)
    aecli.fit("rows.npy", test="test.npy", epochs=1).save("m.safetensors")
    assert column(run("embed", "m.safetensors", "test.npy", "--held-out"), "held_out") == ["1"] * 20
    assert column(run("embed", "m.safetensors", "rows.npy", "--held-out"), "held_out") == ["0"] * 200


def test_validation_rows_are_not_held_out_for_they_chose_the_weights(run):
    np.save("rows.npy", ROWS)
    assert run("train", "rows.npy", "--patience", "1", "--epochs", "2", "-q").code == 0
    assert column(run("embed", "rows.safetensors", "rows.npy", "--held-out"), "held_out").count("1") == 20


def test_rows_that_were_left_out_for_their_holes_count_as_held_out(run):
    lines = [",".join(map(repr, row.tolist())) for row in ROWS.astype(float)]
    lines[3] = lines[3].replace(lines[3].split(",")[0], "", 1)
    Path("rows.csv").write_text("\n".join(["a,b,c,d,e,f", *lines]) + "\n")
    assert run("train", "rows.csv", "--missing", "drop", "--epochs", "1", "-q").code == 0
    done = run("embed", "rows.safetensors", "rows.csv", "--held-out", "--error", "-q")
    held_out, mse = np.array(column(done, "held_out")) == "1", np.array(column(done, "mse"), float)
    assert held_out[3]
    assert held_out.sum() == 21
    results = aecli.load("rows.safetensors").checkpoint.results
    held_out[3] = False
    assert mse[held_out].mean() == pytest.approx(results.test_mse, rel=1e-4)


def test_rows_too_many_for_memory_are_cut_by_blocks_and_told_all_the_same(run, monkeypatch):
    np.save("rows.npy", ROWS)
    with monkeypatch.context() as patch:
        patch.setattr(gather, "MEMORY_BYTES", 1000)
        patch.setattr("aecli.data.part.BLOCK_BYTES", 170)
        assert run("train", "rows.npy", "--epochs", "1", "-q").code == 0
    done = run("embed", "rows.safetensors", "rows.npy", "--held-out", "--error")
    mse, held_out = np.array([column(done, "mse"), column(done, "held_out")], float)
    made = aecli.load("rows.safetensors").checkpoint
    assert (made.origin.block, held_out.sum()) == (7, made.results.test_rows)
    assert mse[held_out == 1].mean() == pytest.approx(made.results.test_mse, rel=1e-4)


def test_a_checkpoint_of_an_older_version_does_not_know(run):
    model = OLD / "classic.safetensors"
    np.save("rows.npy", np.zeros((3, aecli.load(model).schema.inputs)))
    done = run("embed", model, "rows.npy", "--held-out")
    assert (done.code, done.err) == (
        1,
        f"error: {model} was written by a version of aecli that did not store which rows it trained on\n"
        "hint: train it again\n",
    )


def test_the_digest_depends_on_neither_the_batches_nor_the_type_of_the_numbers():
    x = np.random.default_rng(0).integers(0, 256, (50, 4)).astype(np.uint8)
    digests = set()
    for sizes in ((50,), (1, 49), (20, 20, 10), (50, 0)):
        for kind in (np.uint8, np.int64, np.float32, np.float64):
            found, first = Digest(), 0
            for size in sizes:
                found.add(x[first : first + size].astype(kind))
                first += size
            digests.add(str(found))
    assert len(digests) == 1
    other = Digest()
    other.add(x.reshape(25, 8))
    assert str(other) not in digests


def test_the_last_rows_are_held_out_and_known_again(run):
    np.save("rows.npy", ROWS)
    assert run("train", "rows.npy", "--holdout-last", "0.2", "--patience", "2", "--epochs", "2", "-q").code == 0
    done = run("embed", "rows.safetensors", "rows.npy", "--held-out", "--error")
    assert column(done, "held_out") == ["0"] * 160 + ["1"] * 40
    results = aecli.load("rows.safetensors").checkpoint.results
    assert (results.rows, results.test_rows) == (144, 40)
    assert np.array(column(done, "mse"), float)[160:].mean() == pytest.approx(results.test_mse, rel=1e-4)
    assert (
        "the model was trained on 160 of these 200 rows; on those that training held out its mse is "
        f"{results.test_mse:.4g}" in run("evaluate", "rows.safetensors", "rows.npy").err
    )


@pytest.mark.parametrize("days", ["files in order", "files in another order", "falling"])
def test_a_line_says_if_rows_are_not_in_the_order_of_their_time_column(run, days):
    lines = [f"2024-01-{day:02},{day * 7 % 11},{day * 3 % 8}\n" for day in range(1, 31)]
    Path("a.csv").write_text("day,x,y\n" + "".join(lines[:20]))
    Path("b.csv").write_text("day,x,y\n" + "".join(lines[20:]))
    Path("c.csv").write_text("day,x,y\n" + "".join(lines[::-1]))
    files = {"files in order": ["a.csv", "b.csv"], "files in another order": ["b.csv", "a.csv"], "falling": ["c.csv"]}
    done = run("train", *files[days], "--holdout-last", "0.2", "--epochs", "1", "--hidden-dims", "4", "--device", "cpu")
    said = [line for line in done.err.splitlines() if line.startswith("--holdout-last: ")]
    line = "the rows are not in the order of column 'day': sort them by it, and name the files in that order"
    assert (done.code, said) == (0, [f"--holdout-last: {line}"] * (days != "files in order"))


def csv_of(rows):
    return "\n".join(",".join(map(repr, row)) for row in rows.tolist()).encode()


def test_the_last_blocks_of_rows_too_many_for_memory_are_held_out_and_known_again(run, monkeypatch):
    np.save("rows.npy", ROWS)
    with monkeypatch.context() as patch:
        patch.setattr(gather, "MEMORY_BYTES", 1000)
        patch.setattr("aecli.data.part.BLOCK_BYTES", 170)
        assert run("train", "rows.npy", "--epochs", "1", "-q", "--holdout-last", "0.2").code == 0
    held_out = column(run("embed", "rows.safetensors", "rows.npy", "--held-out"), "held_out")
    made = aecli.load("rows.safetensors").checkpoint
    assert (made.origin.block, made.results.rows, made.results.test_rows) == (7, 161, 39)
    assert held_out == ["0"] * 161 + ["1"] * 39


def test_the_rows_to_stop_by_are_the_last_of_those_that_are_left():
    x = np.array(ROWS)
    x[144:160] *= 100
    history = aecli.fit(x, holdout_last=0.2, patience=1, epochs=1, hidden_dims=(4,)).checkpoint.history
    assert history.validation_loss[0] > 1000 * max(history.loss[0], history.test_loss[0])


def test_rows_of_files_of_ones_own_are_held_out_and_matched_by_name(run):
    def write(name, header, rows):
        Path(name).write_bytes(header.encode() + b"\n" + csv_of(rows) + b"\n")

    write("rows.csv", "a,b,c,d,e,f", ROWS)
    write("july.csv", "f,e,d,c,b,a", ROWS[:20, ::-1] + 1)
    write("august.csv", "a,b,c,d,e,f", ROWS[20:50] + 1)
    options = ["--epochs", "1", "--test", "july.csv", "--test", "august.csv"]
    done = run("train", "rows.csv", *options, "--device", "cpu")
    assert "on 200 rows, 50 held out, on CPU" in done.err
    rebuilt = run("embed", "rows.safetensors", "july.csv", "august.csv", "--held-out", "--error")
    assert column(rebuilt, "held_out") == ["1"] * 50
    results = aecli.load("rows.safetensors").checkpoint.results
    assert np.array(column(rebuilt, "mse"), float).mean() == pytest.approx(results.test_mse, rel=1e-4)
    assert "already finished" in run("train", "rows.csv", *options, "--device", "cpu", "--resume").err
    Path("less.csv").write_text("a,b\n1,2\n")
    done = run("train", "rows.csv", "--epochs", "1", "--test", "less.csv", "-q")
    assert (done.code, done.err.splitlines()[0]) == (
        1,
        "error: less.csv: 4 of the model's 6 columns are missing: 'c', 'd', 'e', 'f'",
    )


def test_rows_to_test_on_may_hold_unknown_categories_and_bad_cells_if_options_say_so(run):
    Path("old.csv").write_text("a,b,kind\n" + "".join(f"{i * 3 % 8},{i * i % 7},{'xy'[i % 2]}\n" for i in range(20)))
    Path("new.csv").write_text("a,b,kind\n3,1,x\n5,2,z\nfive,2,x\n")
    ways = ("--unknown", "ignore", "--bad-rows", "skip")
    done = run(
        "train", "old.csv", "--categorical", "kind", "--test", "new.csv", "--epochs", "1", "--device", "cpu", *ways
    )
    assert done.code == 0, done.err
    assert "left out 1 row that cannot be read: new.csv: row 3, column 'a' holds 'five'" in done.err
    assert "on 20 rows, 2 held out, on CPU" in done.err
    mse = column(run("embed", "old.safetensors", "new.csv", "--error", *ways), "mse")
    results = aecli.load("old.safetensors").checkpoint.results
    assert np.array(mse, float).mean() == pytest.approx(results.test_mse, rel=1e-4)


TWICE = {
    "a share and the last rows": (
        ("rows.npy", "--holdout", "0", "--holdout-last", "0.2"),
        "--holdout and --holdout-last both choose the held-out rows\nhint: leave one of them out",
    ),
    "rows and a share": (
        ("rows.npy", "--test", "rows.npy", "--holdout", "0.2"),
        "--test names the held-out rows, and --holdout holds out others\nhint: leave --test or --holdout out",
    ),
    "rows and the last rows": (
        ("rows.npy", "--test", "rows.npy", "--holdout-last", "0.2"),
        "--test names the held-out rows, and --holdout-last holds out others\nhint: leave --test or --holdout-last out",
    ),
    "a split and the last rows": (
        ("digits", "--holdout-last", "0.2"),
        "--holdout-last is for rows in time order, and digits has a test split, which is held out\n"
        "hint: leave --holdout-last out",
    ),
    "nothing": (
        ("rows.npy", "--holdout-last", "0"),
        "--holdout-last is 0, and must be a share of the rows, above 0 and below 1\n"
        "hint: leave it out, or choose a share: --holdout-last 0.2",
    ),
    "all": (
        ("rows.npy", "--holdout-last", "1"),
        "invalid value for '--holdout-last': it must be less than or equal to 0.9\n"
        "hint: aecli train --help shows what it takes",
    ),
    "no number": (
        ("rows.npy", "--holdout-last", "nan"),
        "invalid value for '--holdout-last': it must be less than or equal to 0.9\n"
        "hint: aecli train --help shows what it takes",
    ),
    "standard input twice": (
        ("-", "--test", "-", "-o", "m.safetensors"),
        "standard input can be read only once\nhint: name a file for DATA or for --test",
    ),
    "standard input, to go on": (
        ("rows.npy", "--test", "-", "--resume"),
        "there is no run to resume: rows from standard input cannot be read again, so their run is not saved",
    ),
}


@pytest.mark.parametrize(("argv", "error"), TWICE.values(), ids=TWICE)
def test_what_says_no_one_thing_of_held_out_rows_is_wrong_usage(run, argv, error):
    np.save("rows.npy", ROWS)
    done = run("train", *argv)
    assert (done.code, done.err) == (2, f"error: {error}\n")


@pytest.mark.parametrize("share", [0, 1, -0.5, np.nan])
def test_a_share_of_last_rows_that_is_none_is_wrong_usage_in_python_too(share):
    with pytest.raises(UsageError, match=r"--holdout-last is .*, and must be a share of the rows, above 0 and below 1"):
        aecli.fit(ROWS, holdout_last=share)
