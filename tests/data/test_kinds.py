"""Kinds of columns, as people have them: what is learnt of each, and what is said."""

import json
import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import aecli

CASES = Path(__file__).parents[1] / "cases" / "tables"


def trained(run, case, *options, epochs=2):
    """Train on a case: what was said, and the model, or None where it is an error."""
    done = run("train", CASES / case, "--epochs", epochs, "--device", "cpu", "-o", "m.safetensors", "--force", *options)
    return done, aecli.load("m.safetensors") if done.code == 0 else None


def columns(model):
    return {column.name: column.kind for column in model.schema.columns}


def test_an_id_that_counts_up_is_left_out_and_later_rows_are_no_stranger(run):
    done, model = trained(run, "types/log_week1.csv", epochs=10)
    assert "learning 3 columns: a, b, c; left out: id (counts up)\n" in done.err
    week1, week2 = (model.errors(CASES / f"types/log_week{i}.csv").mean() for i in (1, 2))
    assert week2 < 3 * week1
    done, model = trained(run, "types/log_week1.csv", "--features", "*")
    assert "learning 4 columns: id, a, b, c\n" in done.err
    assert list(columns(model)) == ["id", "a", "b", "c"]


def test_a_clock_is_left_out(run):
    done, model = trained(run, "types/ts_week1.csv", epochs=10)
    assert "learning 3 columns: a, b, c; left out: time (the rows are sorted by it)\n" in done.err
    assert model.errors(CASES / "types/ts_april.csv").mean() < 3 * model.errors(CASES / "types/ts_week1.csv").mean()


def test_large_ids_that_count_up_are_left_out(run):
    assert "left out: id (counts up)" in trained(run, "types/intids.csv")[0].err


def test_a_table_of_ramps_is_learnt_and_a_sorted_column_is_with_a_note(run):
    Path("ramps.csv").write_text("a,b,c\n" + "".join(f"{i},{2 * i},{3 * i}\n" for i in range(40)))
    done = run("train", "ramps.csv", "--epochs", "1")
    assert "learning 3 columns: a, b, c\n" in done.err
    rng = np.random.default_rng(0)
    dose = np.sort(rng.choice([0, 1, 2, 5, 10], 40))
    rows = [f"{d},{x:.3f},{y:.3f}\n" for d, (x, y) in zip(dose, rng.normal(size=(40, 2)), strict=True)]
    Path("dose.csv").write_text("dose,x,y\n" + "".join(rows))
    done = run("train", "dose.csv", "--epochs", "1")
    assert "learning 3 columns: dose, x, y\n" in done.err
    assert "column 'dose' only rises or falls, and is learnt: --exclude 'dose' leaves it out\n" in done.err


def test_words_of_a_pair_are_booleans_and_come_back_as_they_came(run):
    _, model = trained(run, "types/yesno.csv")
    assert columns(model) == {"a": "number", "b": "number", "c": "boolean", "d": "boolean"}
    run("reconstruct", "m.safetensors", CASES / "types/yesno.csv", "-o", "out.csv", "-q")
    cells = [line.split(",")[2:] for line in Path("out.csv").read_text().splitlines()[1:]]
    assert {c for c, _ in cells} <= {"yes", "no"}
    assert {d for _, d in cells} <= {"Y", "N"}


def test_a_column_of_one_word_alone_is_no_boolean(run):
    Path("no.csv").write_text("a,b,country\n" + "".join(f"{i % 7},{i % 5},NO\n" for i in range(30)))
    done = run("train", "no.csv", "--epochs", "1")
    assert done.code == 1
    assert "column 'country' holds 'NO' in row 1, which is not a number" in done.err


def test_numbers_written_as_text_are_numbers_but_codes_are_not(run):
    _, model = trained(run, "types/j_str.jsonl")
    assert set(columns(model).values()) == {"number"}
    _, model = trained(run, "parquet-types/strnum.parquet")
    assert set(columns(model).values()) == {"number"}
    rows = [{"a": i % 7, "b": i % 5, "zip": f"{i * 37 % 90:05}", "account": f"{10**16 + i}"} for i in range(40)]
    Path("codes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = run("train", "codes.jsonl")
    assert done.code == 1
    assert "column 'zip' holds '00000' in row 1, which is written as text, and looks like a code" in done.err
    assert "column 'account' holds '10000000000000000' in row 1" in done.err
    assert done.err.endswith("hint: aecli train codes.jsonl --exclude zip --exclude account\n")


def test_all_columns_that_have_to_be_spoken_for_are_named_with_a_command_that_trains(run):
    rows = "".join(f"{i},{i * i % 11},{'ab'[i % 2]},note {i},{'' if i == 4 else i % 3}\n" for i in range(1, 40))
    Path("mixed.csv").write_text("x,y,kind,note,level\n" + rows)
    done = run("train", "mixed.csv", "--epochs", "1")
    assert done.code == 1
    said = "which is not a number: --categorical, --label or --exclude says what it is"
    assert done.err == (
        f"error: mixed.csv: 3 columns cannot be learnt as they are: column 'kind' holds 'b' in row 1, {said}; "
        f"column 'note' holds 'note 1' in row 1, {said}; column 'level' has 1 cell without a value, in row 4: "
        "--missing says what to do with it\n"
        "hint: aecli train mixed.csv --epochs 1 --categorical kind --exclude note --missing mean\n"
    )
    command = done.err.splitlines()[-1].removeprefix("hint: aecli ").split()
    assert run(*command).code == 0


def test_times_of_day_and_durations_are_seconds(run):
    _, model = trained(run, "types/timeofday.csv")
    assert columns(model)["c"] == "time"
    _, model = trained(run, "parquet-types/duration.parquet", "--features", "*")
    assert columns(model)["d"] == "duration"
    run("reconstruct", "m.safetensors", CASES / "parquet-types/duration.parquet", "-o", "out.parquet", "-q")
    assert str(pq.read_schema("out.parquet").field("d").type) == "duration[us]"


@pytest.mark.parametrize("name", ["fsl_f32.parquet", "list_f32.parquet", "vec.jsonl"])
def test_a_column_of_lists_of_one_length_is_so_many_values(run, name):
    _, model = trained(run, f"list-columns/{name}", "--exclude", "id")
    assert columns(model) == {"embedding": "vector"}
    assert model.schema.names == tuple(f"embedding.{i}" for i in range(8))
    assert model.embed(CASES / "list-columns" / name).shape[0] == 60


def test_a_list_column_stands_beside_a_number(run):
    _, model = trained(run, "list-columns/vec_and_num.parquet")
    assert columns(model) == {"embedding": "vector", "x": "number"}
    assert model.schema.inputs == 9


def test_lists_written_as_text_are_so_many_values(run):
    _, model = trained(run, "types/array_text.csv")
    assert model.schema.columns[0].width == 3


@pytest.mark.parametrize(
    ("name", "says"),
    [("ragged.parquet", "a list of 8 numbers was expected"), ("null_vec.parquet", "has 1 cell without a value")],
)
def test_lists_of_other_lengths_and_missing_ones_are_errors_that_name_the_row(run, name, says):
    done, _ = trained(run, f"list-columns/{name}", "--exclude", "id")
    assert done.code == 1
    assert says in done.err
    assert re.search(r"row \d+", done.err)


def test_one_category_is_one_however_it_is_written(run):
    _, model = trained(run, "categories/int.parquet", "--categorical", "k")
    assert next(column for column in model.schema.columns if column.name == "k").categories == ("1", "2", "3")
    codes = [model.embed(CASES / "categories" / name) for name in ("int.parquet", "float_nan.csv")]
    assert codes[0].shape == codes[1].shape
    _, model = trained(run, "categories/intcode.jsonl", "--categorical", "k")
    assert next(column for column in model.schema.columns if column.name == "k").categories == ("1", "2", "3")


def test_blanks_around_a_category_are_nobodys(run):
    _, model = trained(run, "categories/spaces.csv", "--categorical", "k")
    kind = next(column for column in model.schema.columns if column.name == "k")
    assert all(text == text.strip() for text in kind.categories or kind.words)


def test_rare_categories_are_grouped_and_what_looks_like_an_id_is_refused(run):
    done, model = trained(run, "categories/cat.csv", "--categorical", "k", "--max-categories", "4")
    kind = next(column for column in model.schema.columns if column.name == "k")
    assert kind.other
    assert len(kind.categories) == 5
    assert "rarest are merged into one, 'other'" in done.err
    Path("new.csv").write_text("a,b,k\n1,2,never seen\n")
    assert run("embed", "m.safetensors", "new.csv").code == 0
    done, _ = trained(run, "categories/many.csv", "--categorical", "k", "--max-categories", "10")
    assert done.code == 1
    assert "it looks like an id" in done.err


def test_a_dictionary_column_is_a_category(run):
    _, model = trained(run, "parquet-types/pandas_cat.parquet")
    assert columns(model)["k"] == "category"


@pytest.mark.parametrize("how", ["error", "blank", "skip"])
def test_a_cell_that_cannot_be_read_is_an_error_a_blank_row_or_no_row(run, how):
    _, model = trained(run, "types/yesno.csv")
    assert model is not None
    Path("new.csv").write_text("a,b,c,d\n1,2,yes,N\n3,4,maybe,N\n5,6,no,Y\n")
    done = run("embed", "m.safetensors", "new.csv", "--bad-rows", how, "--line-buffered")
    rows = done.out.splitlines()[1:]
    bad = "new.csv: row 2, column 'c' holds 'maybe', and no or yes was expected"
    if how == "error":
        assert (done.code, len(rows)) == (1, 1)
        assert done.err.startswith(f"error: {bad}\n")
    else:
        assert done.code == 0
        assert len(rows) == {"blank": 3, "skip": 2}[how]
        said = {"blank": "left blank", "skip": "left out"}[how]
        assert done.err == f"{said} 1 row that cannot be read: {bad}\n"
    if how == "blank":
        assert set(rows[1]) <= {","}
