"""score: how strange each row is, what makes it so, and whether the rows as a whole are others."""

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import run_here
from scipy.stats import betabinom

import aecli
from aecli import drift
from aecli.strangest import Judged, Strangest

HEADER = "id,day,room,heat,power,damp,flat,label"


def readings(rows, seed=0):
    """Readings of a sensor, as rows of cells: heat, power and damp hang together, room and day do with them."""
    rng = np.random.default_rng(seed)
    heat = rng.normal(20, 4, rows)
    power, damp = heat / 9 + rng.normal(0, 0.05, rows), 90 - 2 * heat + rng.normal(0, 1, rows)
    return [
        [
            str(i + 1),
            f"2024-01-{1 + int(h) % 28:02}",
            "hall" if h > 20 else "lab",
            f"{h:.3f}",
            f"{p:.4f}",
            f"{d:.2f}",
            "7",
            "ok",
        ]
        for i, (h, p, d) in enumerate(zip(heat, power, damp, strict=True))
    ]


def written(rows, name="new.csv"):
    Path(name).write_text("\n".join([HEADER, *map(",".join, rows)]) + "\n")
    return name


def changed(rows, *cells):
    """Return rows with some cells changed: (row counted from 1, column, text)."""
    rows = [list(row) for row in rows]
    for row, column, text in cells:
        rows[row - 1][HEADER.split(",").index(column)] = text
    return rows


def table(text):
    return list(csv.DictReader(io.StringIO(text)))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A checkpoint trained on 600 readings, none held out."""
    folder = tmp_path_factory.mktemp("readings")
    Path(folder / "log.csv").write_text("\n".join([HEADER, *map(",".join, readings(600))]) + "\n")
    command = "train log.csv --features day --features room --features heat --features power --features damp "
    command += "--features flat --categorical room --label label --epochs 60 --hidden-dims 16 --holdout 0 -q"
    run_here(folder, command)
    return folder / "log.safetensors"


@pytest.fixture
def scored(run, model):
    """Score rows with more words on the command line: the table that is written, and what was said."""

    def scored(rows, *words, code=0):
        done = run("score", model, written(rows), *words)
        assert done.code == code, done.err
        return table(done.out), done.err

    return scored


def test_each_row_is_kept_columns_its_label_and_its_score_in_input_order(scored, model):
    rows = readings(100, seed=1)
    found, said = scored(rows, "--keep", "id")
    assert said == ""
    assert list(found[0]) == ["id", "label", "score", "p", "anomaly"]
    assert [row["id"] for row in found] == [row[0] for row in rows]
    scores = np.array([row["score"] for row in found], np.float32)
    assert np.array_equal(scores, aecli.load(model).score("new.csv"))
    assert all(int(row["anomaly"]) == (float(row["p"]) <= 0.01) for row in found)
    order = np.argsort(scores)
    assert (np.diff(np.array([row["p"] for row in found], float)[order]) <= 0).all()


@pytest.mark.parametrize("cell", [("heat", "1000000000"), ("power", "-1e30"), ("damp", "0"), ("flat", "9")], ids=str)
def test_a_cell_out_of_all_proportion_makes_its_row_the_strangest_and_is_named(scored, cell):
    (row,), _ = scored(changed(readings(200, seed=2), (57, *cell)), "--top", "1", "--top-features", "1", "--keep", "id")
    assert (row["id"], row["row"], row["anomaly"], row["worst1"]) == ("57", "57", "1", cell[0])
    assert float(row["value1"]) == float(cell[1])
    assert np.isfinite(float(row["score"]))


def test_what_was_expected_is_written_as_the_columns_kind_has_it(scored):
    rows = changed(readings(60, seed=3), (5, "heat", "35"), (9, "day", "2029-01-01"))
    rows = changed(rows, (12, "room", "lab" if rows[11][2] == "hall" else "hall"))
    found, _ = scored(rows, "--top-features", "9")
    assert {row["share6"] for row in found} == {"0"}  # what never changed, and has not now, is no reason
    assert len([name for name in found[0] if name.startswith("worst")]) == 6  # as many as there are columns
    assert (found[4]["worst1"], found[4]["value1"]) == ("heat", "35")
    assert abs(float(found[4]["expected1"]) - 9 * float(rows[4][4])) < 6
    assert (found[8]["worst1"], found[8]["value1"][:10]) == ("day", "2029-01-01")
    assert found[8]["expected1"][:4] == "2024"
    of_room = next(i for i in range(1, 7) if found[11][f"worst{i}"] == "room")
    assert {found[11][f"value{of_room}"], found[11][f"expected{of_room}"]} == {"lab", "hall"}
    for row in found:
        assert sum(float(row[f"share{i}"]) for i in range(1, 7)) == pytest.approx(1, abs=1e-5)


def test_a_hole_does_not_stop_a_row_and_is_no_reason(scored):
    rows = readings(60, seed=4)
    found, said = scored(changed(rows, (3, "heat", ""), (8, "room", "")), "--top-features", "6")
    assert said == "2 empty cells were replaced by their columns' means\n"
    assert len(found) == 60
    for row, column in ((3, "heat"), (8, "room")):
        at = next(i for i in range(1, 7) if found[row - 1][f"worst{i}"] == column)
        assert (float(found[row - 1][f"share{at}"]), found[row - 1][f"value{at}"]) == (0, "")
        assert found[row - 1][f"expected{at}"]
    whole, _ = scored(rows)
    assert [row["score"] for row in found[9:]] == [row["score"] for row in whole[9:]]


def test_an_unknown_category_is_strange(scored):
    rows = changed(readings(200, seed=5), (70, "room", "cellar"))
    _, said = scored(rows, code=1)
    assert "holds 'cellar'" in said
    (row,), _ = scored(rows, "--unknown", "ignore", "--top", "1", "--top-features", "1", "--keep", "id")
    assert (row["id"], row["worst1"], row["value1"]) == ("70", "room", "cellar")


def test_equal_rows_have_equal_scores_and_the_first_ones_come_first(scored):
    rows = changed(readings(40, seed=6), (7, "power", "9"))
    found, _ = scored([*rows, *rows, *rows], "--top", "4", "--keep", "id")
    assert [(row["id"], row["row"]) for row in found[:3]] == [("7", "7"), ("7", "47"), ("7", "87")]
    assert len({row["score"] for row in found[:3]}) == 1


def test_a_bad_row_is_an_error_an_empty_row_or_none(scored):
    rows = changed(readings(30, seed=7), (4, "heat", "broken"))
    _, said = scored(rows, code=1)
    assert "row 4, column 'heat' holds 'broken'" in said
    blank, said = scored(rows, "--bad-rows", "blank", "--top-features", "1")
    assert said.startswith("left blank 1 row that cannot be read: new.csv: row 4")
    assert len(blank) == 30
    assert set(blank[3].values()) - {"ok"} == {""}
    assert blank[4]["score"]
    skipped, _ = scored(rows, "--bad-rows", "skip")
    assert [row["score"] for row in skipped] == [row["score"] for row in blank if row["score"]]


def test_only_anomalies_are_those_of_all_rows_with_their_numbers(scored):
    rows = changed(readings(300, seed=8), (20, "power", "3.9"), (150, "heat", "40"), (151, "heat", "broken"))
    every, _ = scored(rows, "--bad-rows", "blank", "--alpha", "0.05")
    wanted = [{"row": str(i + 1), **row} for i, row in enumerate(every) if row["anomaly"] == "1"]
    assert {"20", "150"} <= {row["row"] for row in wanted}
    for bad in ("blank", "skip"):
        found, _ = scored(rows, "--bad-rows", bad, "--alpha", "0.05", "--only-anomalies")
        assert found == wanted
    best, _ = scored(rows, "--bad-rows", "blank", "--alpha", "0.05", "--only-anomalies", "--top", "2")
    assert best == sorted(wanted, key=lambda row: -float(row["score"]))[:2]


def test_the_strangest_of_many_are_found_in_whatever_batches_they_come():
    from aecli.data.source import Batch

    rng = np.random.default_rng(0)
    scores = rng.integers(0, 4000, 20_000).astype(np.float32)
    scores[::50] = np.nan
    for count in (1, 7, 5000, 30_000):
        found = Strangest(count)
        for rows in np.split(np.arange(20_000), np.sort(rng.integers(0, 20_000, 60))):
            found.add(Judged(Batch(np.zeros((len(rows), 1)), numbers=rows), scores[rows], scores[rows]))
        places = found.rows().batch.numbers
        known = np.flatnonzero(~np.isnan(scores))
        assert np.array_equal(places, known[np.argsort(-scores[known], kind="stable")][:count])


def test_top_is_nothing_for_a_stream(run):
    done = run("score", "m.safetensors", "x.csv", "--top", "3", "--line-buffered")
    assert (done.code, done.out, done.err) == (
        2,
        "",
        "error: --top reads all rows before it writes one, and --line-buffered answers each row as it arrives\n"
        "hint: leave one of them out; --only-anomalies works with both\n",
    )


def test_each_row_of_a_stream_is_answered_when_it_comes(model):
    rows = changed(readings(6, seed=9), (2, "heat", "90"))
    command = [sys.executable, "-m", "aecli", "score", model, "-", "--line-buffered", "--keep", "id", "-q"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as program:
        program.stdin.write(f"{HEADER}\n")
        for i, row in enumerate(rows):
            program.stdin.write(",".join(row) + "\n")
            lines = [program.stdout.readline() for _ in range(1 + (i == 0))]
            assert lines[-1].startswith(f"{i + 1},ok,")
            assert lines[-1].rstrip().endswith(",1") or i != 1
        program.stdin.close()
        assert program.wait() == 0


def test_the_exit_code_tells_of_an_anomaly_after_all_is_written(run, model):
    calm = readings(120, seed=10)
    done = run("score", model, written(calm), "--only-anomalies", "--alpha", "0.0034", "--exit-code")
    assert (done.code, done.out) == (0, "label,row,score,p,anomaly\n")
    rows = changed(calm, (3, "heat", "99"))
    done = run("score", model, written(rows), "--only-anomalies", "--alpha", "0.0034", "--exit-code", "-o", "found.csv")
    assert (done.code, done.out, done.err) == (3, "", "wrote found.csv\n")
    assert [row["row"] for row in table(Path("found.csv").read_text())] == ["3"]
    assert run("score", model, written(rows), "--exit-code", "--bad-rows", "skip", "-q", "-o", "-").code == 3
    assert run("score", model, "no.csv", "--exit-code").code == 1


def test_a_file_without_a_row_that_has_a_score_never_looks_as_if_all_were_well(run, model):
    features = ("day", "room", "heat", "power", "damp", "flat")
    for rows in ([], changed(readings(1, seed=10), *((1, name, "") for name in features))):
        assert run("score", model, written(rows)).code == 0
        done = run("score", model, written(rows), "--exit-code", "-q")
        assert done.code == 1
        assert "no row has a score, so --exit-code cannot say whether there are anomalies\nhint: check " in done.err


def test_a_value_far_beyond_all_of_training_is_an_anomaly_in_whatever_column_and_direction(run, model):
    for name in ("heat", "damp", "power"):
        for value in ("-900", "900"):
            done = run("score", model, written(changed(readings(40, seed=12), (7, name, value))), "--only-anomalies")
            assert "7" in [row["row"] for row in table(done.out)], (name, value)


def test_alpha_is_at_least_the_smallest_p(run, model, iris_csv):
    rows = readings(50, seed=11)
    done = run("score", model, written(rows), "--alpha", "0.001", "-q")
    assert (done.code, done.out, done.err) == (
        1,
        "",
        f"error: --alpha is 0.001, and {model} gives no p below 0.00167: 600 training rows calibrate its scores\n"
        "hint: --alpha 0.00167 is the smallest; a model trained on more rows allows a smaller one\n",
    )
    assert run("score", model, "new.csv", "--alpha", "0.00333").code == 0
    assert run("score", model, "new.csv", "--alpha", "1.5").code == 2
    Path("few.csv").write_text("\n".join(iris_csv.read_text().splitlines()[:41]) + "\n")
    assert run("train", "few.csv", "--exclude", "species", "--epochs", "2", "--holdout", "0", "-q").code == 0
    done = run("score", "few.safetensors", "few.csv")
    assert done.err == "only 40 training rows calibrate the scores: a row is an anomaly at p <= 0.0244\n"
    assert run("score", "few.safetensors", "few.csv", "-q").err == ""


def test_a_model_of_too_few_rows_says_so(run, iris_csv):
    Path("few.csv").write_text("\n".join(iris_csv.read_text().splitlines()[:9]) + "\n")
    assert run("train", "few.csv", "--exclude", "species", "--epochs", "2", "--holdout", "0", "-q").code == 0
    done = run("score", "few.safetensors", "few.csv")
    assert (done.code, done.out, done.err) == (
        1,
        "",
        "error: few.safetensors cannot score rows: it was trained on 8 rows, and 10 are needed\n"
        "hint: train on more rows\n",
    )


def test_json_counts_in_place_of_the_rows_and_beside_a_file(run, model):
    rows = changed(readings(200, seed=12), (9, "heat", "77"))
    every = table(run("score", model, written(rows)).out)
    anomalies = sum(row["anomaly"] == "1" for row in every)
    done = run("score", model, "new.csv", "--json")
    facts = json.loads(done.out)
    assert facts == {
        "checkpoint": str(model), "data": "new.csv", "rows": 200, "anomalies": anomalies, "alpha": 0.01,
        "expected": 2.0, "least_p": 1 / 601, "calibration_rows": 600, "drift": None,
    }  # fmt: skip
    beside = run("score", model, "new.csv", "--json", "-o", "rows.csv")
    assert json.loads(beside.out) == facts
    assert table(Path("rows.csv").read_text()) == every
    assert run("score", model, "new.csv", "--json", "-o", "-").err == (
        "error: --json and -o - both want stdout\nhint: write the rows to a file: -o scores.csv\n"
    )


def test_other_formats_hold_the_same(run, model):
    rows = changed(readings(40, seed=13), (2, "room", ""), (5, "heat", "broken"))
    words = ["score", model, written(rows), "--bad-rows", "blank", "--top-features", "1", "-q"]
    plain = table(run(*words).out)
    lines = [json.loads(line) for line in run(*words, "--format", "jsonl").out.splitlines()]
    assert run(*words, "-o", "rows.parquet").code == 0
    stored = pq.read_table("rows.parquet").to_pylist()
    assert [list(row) for row in (plain[0], lines[0], stored[0])] == [list(plain[0])] * 3
    for name in ("score", "p", "anomaly"):
        for found in (lines, stored):
            assert [None if row[name] == "" else float(row[name]) for row in plain] == pytest.approx(
                [row[name] for row in found]
            )
    assert run(*words[:-3], "-o", "rows.npy").code == 0
    assert np.load("rows.npy").shape == (40, 2)


def test_rows_that_differ_as_a_whole_are_said_to_and_the_columns_named(run, model):
    warm = changed(readings(300, seed=14), *((i + 1, "damp", "99") for i in range(60)))
    done = run("score", model, written(warm), "-o", "x.csv")
    assert done.err.splitlines()[0] == "wrote x.csv"
    found = json.loads(run("score", model, "new.csv", "--json", "-q").out)
    assert found["drift"]["columns"] == ["damp"]
    assert 0 <= found["drift"]["p"] < 1e-4
    assert done.err.splitlines()[1] == (
        f"{found['anomalies']} of 300 rows are anomalies, and about 3 were expected: new.csv differs from the "
        "training data, most in column damp: is it time to train again?"
    )
    assert run("score", model, "new.csv", "-o", "x.csv", "-q").err == ""
    few = run("score", model, written(warm[:19]))  # too few to tell
    assert few.err == ""


@pytest.mark.parametrize(("rows", "n", "k"), [(20, 300, 3), (500, 40, 2), (100_000, 5_000, 50), (30, 99, 30)])
def test_the_chance_of_so_many_anomalies_knows_that_few_rows_calibrate_p(rows, n, k):
    expected = int(rows * k / (n + 1))
    for count in range(expected + 1, min(rows, expected + 60)):
        right = betabinom.sf(count - 1, rows, k, n + 1 - k)
        assert drift.at_least(count, rows, n, k) == pytest.approx(right, rel=1e-3, abs=1e-12)


@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.1])
def test_rows_like_the_training_rows_are_anomalies_as_often_as_alpha_says(run, model, alpha):
    done = run("score", model, written(readings(3000, seed=15)), "--alpha", str(alpha), "--json", "-q")
    facts = json.loads(done.out)
    # 600 rows calibrate p, so the share of such anomalies among all rows is itself uncertain
    spread = np.sqrt(alpha * (1 - alpha) * (1 / 3000 + 1 / 600))
    assert abs(facts["anomalies"] / 3000 - alpha) < 3.5 * spread
    assert facts["drift"] is None


def test_the_errors_of_reconstruct_have_the_same_reasons(run, model):
    rows = changed(readings(80, seed=17), (5, "heat", "44"), (6, "flat", "3"))
    rebuilt = table(run("reconstruct", model, written(rows), "--error", "--top-features", "2").out)
    reasons = table(run("score", model, "new.csv", "--top-features", "2").out)
    for name in ("worst1", "share1", "worst2", "share2"):
        assert [row[name] for row in rebuilt] == [row[name] for row in reasons]
    assert list(rebuilt[0])[-5:] == ["mse", "worst1", "share1", "worst2", "share2"]


def test_images_are_scored_and_pixels_named(run):
    aecli.fit("digits", epochs=1, hidden_dims=(16,)).save("digits.safetensors")
    done = run("score", "digits.safetensors", "digits", "--top", "3", "--top-features", "2")
    assert done.code == 0, done.err
    found = table(done.out)
    assert list(found[0])[:5] == ["label", "row", "score", "p", "anomaly"]
    assert all(row["worst1"].startswith("x") and float(row["share1"]) >= float(row["share2"]) > 0 for row in found)


def test_no_code_is_stored_where_none_is_to_be(run, iris_csv):
    for rows in ("0", "30"):
        done = run(
            "train",
            iris_csv,
            "--label",
            "species",
            "--epochs",
            "2",
            "--store-rows",
            rows,
            "-q",
            "-o",
            f"{rows}.safetensors",
        )
        assert done.code == 0, done.err
    none, some = (aecli.load(f"{rows}.safetensors") for rows in ("0", "30"))
    assert (none.checkpoint.score.codes, some.checkpoint.score.codes) == (0, 30)
    assert not any(len(tensor) for name, tensor in none.tensors.items() if name == "score.codes")
    said = dict(line.split("  ", 1) for line in run("info", "30.safetensors").out.splitlines() if "  " in line)
    assert said["scores"].strip() == (
        "fitted; 135 calibration rows, smallest p 0.00736; 30 codes of training rows are stored, which can be decoded"
    )
    assert "no codes of training rows are stored" in run("info", "0.safetensors").out
    strange = iris_csv.read_text() + "50,0.1,9,-4,oddity\n"
    Path("more.csv").write_text(strange)
    (row,) = table(run("score", "0.safetensors", "more.csv", "--top", "1").out)
    assert row["row"] == "151"


def test_a_model_that_stores_other_rows_is_trained_again(run, iris_csv):
    words = ["train", iris_csv, "--exclude", "species", "--epochs", "2", "--resume"]
    assert run(*words, "-q").code == 0
    assert run(*words).err.endswith("already finished: iris.safetensors\n")
    assert "replaced iris.safetensors\n" in run(*words, "--store-rows", "0").err
