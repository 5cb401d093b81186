"""Rows for a trained model: read as its rows were, and what is said of those that cannot be."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import aecli
from aecli.errors import DataError

QUICK = {"device": "cpu", "hidden_dims": (4,), "epochs": 1}
TRAIN = ("--device", "cpu", "--hidden-dims", "4", "--epochs", "1", "-q", "-o", "m.safetensors")


def numbers(rows=60, columns=2):
    return np.random.default_rng(0).normal(size=(rows, columns)).round(3)


def frame(rows=60):
    """A column of each kind."""
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "a": rng.normal(size=rows),
            "ok": rng.random(rows) > 0.5,
            "when": pd.date_range("2024-01-01", periods=rows)[rng.permutation(rows)],
        }
    )


def write(name, rows, header="a,b"):
    Path(name).write_text(header + "\n" + "".join(",".join(map(str, row)) + "\n" for row in rows))


@pytest.fixture
def model(run):
    """The file of a model of the columns a and b of `t.csv`."""
    write("t.csv", numbers())
    assert run("train", "t.csv", *TRAIN).code == 0
    return "m.safetensors"


def test_how_several_files_are_written_is_known_when_one_is_read_alone(run):
    for name, first in (("t1.csv", "1.234"), ("t2.csv", "5.678")):
        rows = [f"{first};{i}.000;0,{i}\n" for i in range(1, 30)]
        Path(name).write_text("a;b;c\n" + "".join(rows))
    done = run("train", "t1.csv", "t2.csv", "--thousands", ".", "--features", "*", *TRAIN)
    assert done.code == 0, done.err
    assert aecli.load("m.safetensors").schema.dialect.thousands == "."
    Path("one.csv").write_text("a;b;c\n1.234;3.000;0,3\n")
    Path("plain.csv").write_text("a;b;c\n1234;3000;0,3\n")
    one, plain = (run("embed", "m.safetensors", name) for name in ("one.csv", "plain.csv"))
    assert (one.code, one.out) == (0, plain.out)


def test_more_spellings_of_a_hole_can_be_named_for_new_rows_of_any_format(run, model):
    rows = pd.DataFrame({"a": [0.5, -999.0], "b": [1.0, 2.0]})
    rows.to_csv("new.csv", index=False)
    rows.to_parquet("new.parquet")
    holed = rows.replace(-999.0, np.nan)
    expected = aecli.load(model).embed(holed)
    for name in ("new.csv", "new.parquet"):
        done = run("embed", model, name, "--na", "-999", "-o", "z.npy")
        assert (done.code, done.err.count("1 empty cell was replaced")) == (0, 1), done.err
        assert np.array_equal(np.load("z.npy"), expected.astype(np.float32))
        Path("z.npy").unlink()


def test_a_key_with_a_dot_and_a_field_of_an_object_are_the_same_column(run):
    rows = numbers()
    Path("t.jsonl").write_text("".join(json.dumps({"p.a": a, "b": b}) + "\n" for a, b in rows))
    Path("n.jsonl").write_text("".join(json.dumps({"p": {"a": a}, "b": b}) + "\n" for a, b in rows))
    assert run("train", "t.jsonl", *TRAIN).code == 0
    dotted, nested = (run("embed", "m.safetensors", name) for name in ("t.jsonl", "n.jsonl"))
    assert (dotted.code, nested.code) == (0, 0), nested.err
    assert dotted.out == nested.out


@pytest.mark.parametrize(
    ("good", "bad", "expected"),
    [
        ("2024-01-{:02}", "2024-02-31", "and the cells of this feature must be dates"),
        ("{:02}:30", "99:00", "and a time was expected"),
    ],
)
def test_a_day_or_an_hour_that_is_none_is_a_bad_row(run, good, bad, expected):
    days = np.random.default_rng(0).permutation(22) + 1
    write("t.csv", [(good.format(day), x) for day, (x, _) in zip(days, numbers(22), strict=True)])
    assert run("train", "t.csv", *TRAIN).code == 0
    write("new.csv", [(good.format(3), 1), (bad, 1)])
    done = run("embed", "m.safetensors", "new.csv")
    assert done.code == 1
    assert f"row 2, column 'a' holds {bad!r}, {expected}" in done.err


LEFT_BLANK, LEFT_OUT = (f"left {what} 1 row without any value: {{}}: row 2\n" for what in ("blank", "out"))


@pytest.fixture(params=["one with a label", "one without", "lines of JSON", "an array"])
def with_an_empty_row(request):
    """A file of 40 rows of which the second has no value, and the third a hole; and the options that it trains with."""
    x = numbers(40)
    x[1], x[2, 0] = np.nan, np.nan
    cells = [["" if np.isnan(value) else f"{value:.3f}" for value in row] for row in x]
    match request.param:
        case "one with a label":
            Path("h.csv").write_text(
                "a,b,y\n" + "".join(f"{','.join(row)},{'pq'[i % 2]}\n" for i, row in enumerate(cells))
            )
            return "h.csv", ["--label", "y"]
        case "one without":
            Path("h.csv").write_text("a,b\n" + "".join(f"{','.join(row)}\n" for row in cells))
            return "h.csv", []
        case "lines of JSON":
            rows = [{name: float(cell) for name, cell in zip("ab", row, strict=True) if cell} for row in cells]
            Path("h.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
            return "h.jsonl", []
    np.save("h.npy", x)
    return "h.npy", []


@pytest.mark.parametrize("missing", ["mean", "drop"])
def test_a_row_without_any_value_stops_no_command_is_never_learnt_and_always_told(run, with_an_empty_row, missing):
    name, options = with_an_empty_row
    quick = ["--hidden-dims", "4", "--epochs", "1", "--device", "cpu", "-o", "h.safetensors"]
    done = run("train", name, *options, "--missing", missing, *quick)
    assert done.code == 0
    assert LEFT_OUT.format(name) in done.err
    assert ("left out 1 row with holes\n" in done.err) == (missing == "drop")
    assert f"on {35 if missing == 'mean' else 34} rows, 4 held out" in done.err
    for command, held_out in ((["embed", "--held-out"], True), (["reconstruct", "--error"], False)):
        done = run(*command, "h.safetensors", name)
        header, *lines = done.out.splitlines()
        assert (done.code, len(lines)) == (0, 40)
        assert done.err.startswith(LEFT_BLANK.format(name))
        carried = [lines[1].split(",")[0]] if held_out and options else []
        assert carried in ([], ["q"])
        assert lines[1].split(",")[len(carried) :] == [""] * (header.count(",") + 1 - len(carried))
        assert all(all(line.split(",")) for line in (lines[0], *lines[2:]))
        skipped = run(*command, "h.safetensors", name, "--bad-rows", "skip")
        assert skipped.out.splitlines() == [header, lines[0], *lines[2:]]
        assert skipped.err.startswith(LEFT_OUT.format(name))
    found = run("evaluate", "h.safetensors", name, "--json")
    assert LEFT_OUT.format(name) in found.err
    told = json.loads(found.out)
    assert (told["rows"], told["trained_rows"]) == (39, 35 if missing == "mean" else 34)
    assert LEFT_OUT.format(name) in run("plot", "h.safetensors", name, "--kind", "errors").err


def test_without_a_word_on_holes_a_row_without_any_value_stops_training(run):
    write("h.csv", [*numbers(20), ("", ""), *numbers(20)])
    done = run("train", "h.csv", *TRAIN)
    assert (done.code, "--missing" in done.err) == (1, True)


def test_python_gives_nan_for_a_row_without_any_value(model):
    x = numbers(3)
    x[1] = np.nan
    made = aecli.load(model)
    for found in (made.embed(x), made.reconstruct(x), made.errors(x)[:, None]):
        assert np.isnan(found).all(axis=1).tolist() == [False, True, False]


def test_lines_above_a_header_that_the_model_knows_are_noted(run, model):
    text = Path("t.csv").read_text()
    Path("new.csv").write_text("9,9\n" + text)
    done, same = run("embed", model, "new.csv"), run("embed", model, "t.csv")
    assert done.out == same.out
    assert done.err == "the header with the model's names is in line 2: line 1 above it is left out\n"


def test_a_number_too_large_for_a_float_has_the_error_it_deserves_and_stops_no_other_row(run, model):
    write("new.csv", [(1, 2), ("1e400", 2), (3, 4)])
    done = run("embed", model, "new.csv", "--error")
    errors = [float(line.split(",")[-1]) for line in done.out.splitlines()[1:]]
    assert done.code == 0
    assert errors[1] > 1e30
    assert max(errors[0], errors[2]) < 100


@pytest.mark.parametrize("how", ["skip", "blank"])
def test_bad_rows_of_two_kinds_are_told_by_their_numbers_in_the_file(run, how):
    rows = pd.DataFrame({"c": np.tile(["x", "y"], 30), "a": numbers()[:, 0]})
    rows.to_parquet("t.parquet")
    assert run("train", "t.parquet", "--categorical", "c", *TRAIN).code == 0
    pd.DataFrame({"c": ["x", "q", None, "y"], "a": [1, 2, None, 3.0]}).to_parquet("new.parquet")
    done = run("embed", "m.safetensors", "new.parquet", "--bad-rows", how)
    assert (done.code, done.err.count("row 2, column 'c' holds 'q'")) == (0, 1)
    assert f"left {'out' if how == 'skip' else 'blank'} 1 row without any value: new.parquet: row 3\n" in done.err


@pytest.mark.parametrize("cell", ["oh", ""])
def test_a_bad_row_is_named_by_the_cells_it_keeps(run, model, cell):
    write("new.csv", [("p", 1, 2), ("q", cell, cell)], header="id,a,b")
    Path("new.jsonl").write_text(
        json.dumps({"id": "p", "a": 1, "b": 2}) + "\n" + json.dumps({"id": "q", "a": cell or None, "b": None}) + "\n"
    )
    for name in ("new.csv", "new.jsonl"):
        done = run("embed", model, name, "--bad-rows", "blank", "--keep", "id")
        assert done.code == 0
        assert [line.split(",").count("q") for line in done.out.splitlines()] == [0, 0, 1], name


def test_a_list_that_is_missing_is_a_hole():
    rows = numbers(60, 3)
    table = pa.table({"v": pa.array(rows.tolist()), "a": rows[:, 0]})
    pq.write_table(table, "t.parquet")
    model = aecli.fit("t.parquet", **QUICK)
    pq.write_table(pa.table({"v": pa.array([None], pa.list_(pa.float64())), "a": [0.5]}), "new.parquet")
    (code,) = model.embed("new.parquet")
    assert np.isfinite(code).all()


def test_a_category_is_the_same_as_a_float_and_as_an_integer(run):
    codes = [2**40, 2**40 + 1]
    write("t.csv", [(codes[i % 2], x) for i, (x, _) in enumerate(numbers())])
    assert run("train", "t.csv", "--categorical", "a", *TRAIN).code == 0
    for name, kind in (("ints", np.int64), ("floats", np.float64)):
        pd.DataFrame({"a": np.array(codes, kind), "b": [0.5, 0.5]}).to_parquet(f"{name}.parquet")
    ints, floats = (run("embed", "m.safetensors", f"{name}.parquet") for name in ("ints", "floats"))
    assert (ints.code, ints.out) == (0, floats.out)


CHANGED = {
    "numbers for dates": ({"when": range(60)}, "row 1, column 'when' holds 0, and a timestamp was expected"),
    "dates for numbers": ({"a": pd.date_range("2024-01-01", periods=60)}, "column 'a' holds"),
    "a boolean of 7": ({"ok": 7}, "row 1, column 'ok' holds 7, and true or false was expected"),
    "text for numbers": ({"a": ["x"] * 60}, "row 1, column 'a' holds 'x'"),
    "lists for numbers": ({"a": [[1.0]] * 60}, "column 'a' holds"),
}


@pytest.mark.parametrize("change", CHANGED)
def test_a_column_of_another_type_names_its_first_cell(change):
    columns, message = CHANGED[change]
    model = aecli.fit(frame(), **QUICK)
    with pytest.raises(DataError) as raised:
        model.embed(frame().assign(**columns))
    assert message in str(raised.value)


def test_a_duration_that_is_kept_comes_back_as_the_same_duration(run, model):
    rows = pd.DataFrame({"a": [1.0], "b": [2.0], "t": pd.to_timedelta([90.5], unit="s")})
    rows.to_parquet("new.parquet")
    done = run("embed", model, "new.parquet", "--keep", "t")
    cells = dict(zip(*(line.split(",") for line in done.out.splitlines()), strict=True))
    assert cells["t"] == "90.5"


def test_a_hole_is_filled_and_each_other_cell_is_the_users_own(run):
    rng = np.random.default_rng(0)
    rows = [(f"0{i:03}", f"{x:.2f}", rng.choice(["Yes", "No"]), f"{y:.4f}") for i, (x, y) in enumerate(numbers())]
    rows[7] = (rows[7][0], "", rows[7][2], "1.50")
    write("t.csv", rows, header="id,a,ok,b")
    assert run("train", "t.csv", "--missing", "mean", "--exclude", "id", *TRAIN).code == 0
    done = run("reconstruct", "m.safetensors", "t.csv", "--fill-holes")
    assert done.code == 0
    given, filled = ([line.split(",") for line in text.splitlines()] for text in (Path("t.csv").read_text(), done.out))
    other = [(i, j) for i, row in enumerate(given) for j in range(len(row)) if (i, j) != (8, 1)]
    assert [filled[i][j] for i, j in other] == [given[i][j] for i, j in other]
    assert np.isfinite(float(filled[8][1]))
