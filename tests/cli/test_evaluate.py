"""evaluate: how good a model and its embedding are, as a table or as JSON."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.manifold import trustworthiness

import aecli
from aecli import evaluation
from aecli.data.opening import open_source
from aecli.errors import DataError

OF_ROWS = ["mse", "explained_variance", "trustworthiness", "continuity", "knn_recall", "rank_correlation"]
OF_LABELS = ["knn_accuracy", "silhouette"]
FAVOURED = "PCA with 2 components is fitted to these rows themselves, which favours it\n"


def judged(done):
    """Read the JSON on stdout, and what was said on stderr."""
    assert done.code == 0, done.err
    return json.loads(done.out), done.err


def written(rows, name="rows.csv", header="a,b,c,d"):
    Path(name).write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return name


def first_irises(count, name="some.csv"):
    """Write the header and the first rows of iris.csv, of all species by turns."""
    header, *lines = Path("iris.csv").read_text().splitlines()
    Path(name).write_text("\n".join([header, *[lines[i % 3 * 50 + i // 3] for i in range(count)]]) + "\n")
    return name


def test_a_table_has_a_line_for_each_metric_and_the_same_values_as_json(run, digits_model):
    done = run("evaluate", digits_model)
    assert (done.code, done.err) == (
        0,
        "reading digits:test\nPCA with 5 components is fitted to these rows themselves, which favours it\n",
    )
    header, *lines = done.out.splitlines()
    assert header.split() == ["metric", "model", "PCA", "rows"]
    assert [line.split()[0] for line in lines] == [*OF_ROWS, *OF_LABELS]
    assert all(len(line) <= 80 and line == line.rstrip() for line in (header, *lines))
    assert len({re.match(r"\S+ +\S+ +\S+ +\S+", line).end() for line in lines}) == 1  # columns are aligned
    found, said = judged(run("evaluate", digits_model, "digits", "--json", "-q"))
    assert said == ""
    for line in lines:
        name, *cells = line.split()[:4]
        for cell, column in zip(cells, ("model", "pca", "original"), strict=True):
            value = found[column][name]
            assert (cell == "-") if value is None else float(cell) == pytest.approx(value, abs=6e-4)


def test_a_model_with_the_digits_is_judged_by_rows_that_it_has_not_seen(run, digits_model):
    found, _ = judged(run("evaluate", digits_model, "--json"))
    results = aecli.load(digits_model).checkpoint.results
    assert (found["rows"], found["sample_rows"], found["trained_rows"]) == (360, 360, 0)
    assert found["model"]["mse"] == pytest.approx(results.test_mse, rel=1e-4)
    assert found["pca"]["mse"] < results.pca_mse  # which was fitted to the training rows
    batch = open_source(["digits"], split="test", data_dir=Path()).read()
    z = aecli.load(digits_model).embed(batch.x)
    expected = trustworthiness(batch.x, z, n_neighbors=15)
    assert found["model"]["trustworthiness"] == pytest.approx(expected, abs=1e-3)  # ties differ
    assert found["model"]["knn_accuracy"] > 0.8
    assert found["original"]["knn_accuracy"] > 0.9


def test_a_linear_model_of_the_rows_is_as_good_as_pca(run):
    rng = np.random.default_rng(0)
    name = written((rng.normal(size=(40, 4)) * [8, 4, 1, 1]).round(4))
    model = aecli.fit(name, holdout=0, scale="none", latent_dim=2)
    assert model.checkpoint.train.init == "pca"  # no network rebuilt such rows better
    model.save("rows.safetensors")
    found, _ = judged(run("evaluate", "rows.safetensors", name, "--json"))
    for metric in OF_ROWS:
        assert found["model"][metric] == pytest.approx(found["pca"][metric], abs=1e-3)
    x = np.loadtxt(name, delimiter=",", skiprows=1)
    fitted = PCA(2).fit(x)
    assert found["pca"]["mse"] == pytest.approx(
        np.square(fitted.inverse_transform(fitted.transform(x)) - x).mean(), rel=1e-4
    )
    assert found["pca"]["explained_variance"] == pytest.approx(fitted.explained_variance_ratio_.sum(), rel=1e-4)


def test_without_labels_the_metrics_of_labels_are_left_out(run, iris_model, iris_csv):
    lines = iris_csv.read_text().splitlines()
    Path("plain.csv").write_text("\n".join(line.rpartition(",")[0] for line in lines) + "\n")
    table = run("evaluate", iris_model, "plain.csv").out
    assert table.splitlines()[0].split() == ["metric", "model", "PCA"]
    assert [line.split()[0] for line in table.splitlines()[1:]] == OF_ROWS
    with_labels, _ = judged(run("evaluate", iris_model, iris_csv, "--json"))
    found, _ = judged(run("evaluate", iris_model, "plain.csv", "--json"))
    assert [found["model"][name] for name in OF_LABELS] == [None, None]
    assert {name: found["model"][name] for name in OF_ROWS} == {name: with_labels["model"][name] for name in OF_ROWS}


def test_without_labels_a_note_tells_how_to_give_them(run, iris_model, iris_csv):
    text = iris_csv.read_text()
    lines = text.splitlines()
    Path("plain.csv").write_text("\n".join(line.rpartition(",")[0] for line in lines) + "\n")
    Path("kinds.csv").write_text("\n".join(line.rpartition(",")[2] for line in lines) + "\n")
    Path("other.csv").write_text(text.replace("species", "kind", 1))
    note = "no labels: knn_accuracy and silhouette are left out; --label names a column of them, or FILE:COLUMN\n"
    assert run("evaluate", iris_model, "plain.csv").err.endswith(note)
    assert "no labels" not in run("evaluate", iris_model, iris_csv).err
    expected, _ = judged(run("evaluate", iris_model, iris_csv, "--json"))
    for data, label, told in (
        ("plain.csv", "kinds.csv:species", "labels: kinds.csv:species, by row number\n"),
        ("other.csv", "kind", ""),
        ("iris.csv", "species", ""),
    ):
        found, said = judged(run("evaluate", iris_model, data, "--label", label, "--json"))
        assert {**found, "data": None} == {**expected, "data": None}
        assert said.startswith(told)
        assert ("labels: " in said) == bool(told)


def test_labels_by_number_stay_with_their_rows_where_some_are_left_out(run, iris_model, iris_csv):
    header, *lines = iris_csv.read_text().splitlines()
    kinds = [line.rpartition(",")[2] for line in lines]
    cells = [line.split(",")[:-1] for line in lines]
    cells[3], cells[70] = ["", "", "", ""], ["x", "1", "1", "1"]
    Path("holed.csv").write_text("\n".join([header.rpartition(",")[0], *map(",".join, cells)]) + "\n")
    Path("kinds.csv").write_text("\n".join(["kind", *kinds]) + "\n")
    asked = ("evaluate", iris_model, "holed.csv", "--bad-rows", "skip", "--label", "kinds.csv:kind", "--json")
    found, _ = judged(run(*asked))
    kept = [i for i in range(150) if i not in (3, 70)]
    x = np.array([cells[i] for i in kept], float)
    expected = aecli.load(iris_model).evaluate(x, labels=np.array(kinds)[kept])
    assert (found["rows"], found["model"]) == (148, expected.model.to_json())
    Path("kinds.csv").write_text("\n".join(["kind", *kinds[1:]]) + "\n")
    done = run(*asked)
    assert done.code == 1
    assert "error: kinds.csv has 149 rows, and the data has " in done.err


@pytest.mark.usefixtures("iris_csv")
def test_labels_that_are_not_there_are_an_error(run, iris_model):
    done = run("evaluate", iris_model, "iris.csv", "--label", "specis")
    assert (done.code, done.out) == (1, "")
    assert done.err == "error: iris.csv: --label 'specis' names no column\nhint: did you mean 'species'?\n"
    np.save("x.npy", np.ones((3, 4)))
    done = run("evaluate", iris_model, "x.npy", "--label", "kind")
    assert done.err.endswith(
        "error: x.npy: --label 'kind' names no column\nhint: name a column of another file as FILE:COLUMN\n"
    )


@pytest.mark.parametrize(
    ("labels", "why"),
    [
        (["one"] * 150, "has one value"),
        ([f"name {i}" for i in range(150)], "has 150 values in 150 rows"),
        ([i % 70 / 8 for i in range(150)], "has 70 different numbers, and is no class"),
        ([f"20{10 + i % 70}-01-01" for i in range(150)], "has 70 different dates, and is no class"),
    ],
    ids=["one value", "each row its own", "numbers", "dates"],
)
def test_a_label_that_is_no_class_is_named(run, iris_model, iris_csv, labels, why):
    header, *lines = iris_csv.read_text().splitlines()
    changed = [f"{line.rpartition(',')[0]},{label}" for line, label in zip(lines, labels, strict=True)]
    Path("other.csv").write_text("\n".join([header, *changed]) + "\n")
    done = run("evaluate", iris_model, "other.csv")
    assert f"knn_accuracy and silhouette are left out: the label 'species' {why}\n" in done.err
    assert "silhouette" not in done.out


def test_training_rows_are_named_with_the_error_on_those_that_were_held_out(run, iris_model, iris_csv):
    found, said = judged(run("evaluate", iris_model, iris_csv, "--json"))
    results = aecli.load(iris_model).checkpoint.results
    assert found["trained_rows"] == 135
    assert said == (
        "the model was trained on 135 of these 150 rows; on those that training held out its mse is "
        f"{results.test_mse:.4g}, PCA's {results.pca_mse:.4g}\n{FAVOURED}"
    )
    mse = (135 * results.train_mse + 15 * results.test_mse) / 150
    assert found["model"]["mse"] == pytest.approx(mse, rel=1e-4)


def test_other_rows_under_the_name_of_the_training_data_may_be_training_rows(run, iris_model, iris_csv):
    text = iris_csv.read_text()
    Path("new.csv").write_text(text[: text.rstrip().rindex("\n") + 1])
    found, said = judged(run("evaluate", iris_model, "new.csv", "--json"))
    assert (found["trained_rows"], said) == (None, FAVOURED)
    Path("new.csv").rename("iris.csv")
    assert judged(run("evaluate", iris_model, "iris.csv", "--json"))[1] == (
        f"iris.csv may hold rows that the model was trained on: it has the name of their data\n{FAVOURED}"
    )


def test_a_pipe_gives_what_the_file_gives(process, iris_model, iris_csv):
    piped = process("evaluate", iris_model, "-", stdin=iris_csv.read_bytes())
    assert piped == process("evaluate", iris_model, iris_csv)
    assert piped.code == 0


@pytest.mark.parametrize(
    ("count", "left", "said"),
    [
        (
            1,
            ["mse"],
            "PCA with 2 components rebuilds so few rows exactly, and is left out\n"
            "trustworthiness, continuity, knn_recall, rank_correlation and metrics of labels are left out: "
            "all rows are the same\n"
            "knn_accuracy and silhouette are left out: the label 'species' has one value\n",
        ),
        (
            2,
            ["mse", "explained_variance"],
            "PCA with 2 components rebuilds so few rows exactly, and is left out\n"
            "trustworthiness, continuity and knn_recall need more than 30 rows, and there are 2\n"
            "rank_correlation needs more than 2 rows, and there are 2\n"
            "knn_accuracy and silhouette are left out: the label 'species' has 2 values in 2 rows\n",
        ),
        (
            30,
            ["mse", "explained_variance", "rank_correlation", "silhouette"],
            FAVOURED
            + "trustworthiness, continuity, knn_recall and knn_accuracy need more than 30 rows, and there are 30\n",
        ),
        (31, [*OF_ROWS, *OF_LABELS], FAVOURED),
    ],
    ids=str,
)
@pytest.mark.usefixtures("iris_csv")
def test_of_few_rows_what_cannot_be_had_is_left_out_and_named(run, iris_model, count, left, said):
    done = run("evaluate", iris_model, first_irises(count))
    assert (done.code, done.err) == (0, said)
    assert [line.split()[0] for line in done.out.splitlines()[1:]] == left


def test_no_rows_are_an_error(run, iris_model, iris_csv):
    Path("none.csv").write_text(iris_csv.read_text().splitlines()[0] + "\n")
    done = run("evaluate", iris_model, "none.csv")
    assert (done.code, done.out) == (1, "")
    assert done.err.endswith("error: none.csv: no rows to evaluate\n")


@pytest.mark.usefixtures("iris_csv")
def test_rows_or_codes_that_are_all_the_same_have_no_neighbours(run, iris_model):
    header, line = Path("iris.csv").read_text().splitlines()[:2]
    Path("same.csv").write_text("\n".join([header, *[line] * 40]) + "\n")
    done = run("evaluate", iris_model, "same.csv")
    assert "rank_correlation and metrics of labels are left out: all rows are the same\n" in done.err
    assert [row.split()[0] for row in done.out.splitlines()[1:]] == ["mse"]
    model = aecli.load(iris_model)
    for name in ("encoder.0.weight", "encoder.0.bias"):
        model.tensors[name][:] = 0
    model.save("dead.safetensors")
    done = run("evaluate", "dead.safetensors", "iris.csv")
    assert "rank_correlation and metrics of labels are left out: all codes are the same\n" in done.err
    assert [row.split()[0] for row in done.out.splitlines()[1:]] == ["mse", "explained_variance"]


@pytest.mark.usefixtures("iris_csv")
def test_holes_count_in_no_error_and_rows_that_cannot_be_read_are_left_out(run, iris_model):
    cells = [line.split(",") for line in Path("iris.csv").read_text().splitlines()]
    cells[5][0] = cells[60][2] = ""
    cells[10] = ["x"] * 5
    Path("holed.csv").write_text("\n".join(map(",".join, cells)) + "\n")
    assert run("evaluate", iris_model, "holed.csv").code == 1
    skipped, blank = (
        run("evaluate", iris_model, "holed.csv", "--bad-rows", way, "--json") for way in ("skip", "blank")
    )
    assert skipped == blank
    found, said = judged(skipped)
    assert said.startswith("left out 1 row that cannot be read: holed.csv: row 10, ")
    assert "2 empty cells were replaced by their columns' means\n" in said
    errors = run("embed", iris_model, "holed.csv", "--bad-rows", "skip", "--error", "-q").out.splitlines()[1:]
    mse = np.array([line.split(",")[-1] for line in errors], float)
    values = np.full(149, 4)
    values[[4, 58]] = 3
    assert found["rows"] == 149
    assert found["model"]["mse"] == pytest.approx((mse * values).sum() / values.sum(), rel=1e-5)


@pytest.mark.usefixtures("iris_csv")
def test_a_row_out_of_all_proportion_leaves_the_table_in_its_columns(run, iris_model):
    lines = Path("iris.csv").read_text().splitlines()
    Path("far.csv").write_text("\n".join([*lines, "1e300,3,1,0.2,setosa"]) + "\n")
    header, *rows = run("evaluate", iris_model, "far.csv").out.splitlines()
    assert len(rows) == 8
    assert {row.index("  ", header.index("rows") + 3) for row in rows} == {len(header)}
    assert all(len(row) <= 80 for row in rows)
    assert float(rows[0].split()[1]) > 1e30


def test_of_many_rows_a_random_sample_is_compared_and_the_error_is_of_all(run, iris_model, iris_csv, monkeypatch):
    whole, _ = judged(run("evaluate", iris_model, iris_csv, "--json"))
    monkeypatch.setattr(evaluation, "SAMPLE_ROWS", 60)
    done = run("evaluate", iris_model, iris_csv, "--json")
    found, said = judged(done)
    assert (found["rows"], found["sample_rows"]) == (150, 60)
    assert "the model's mse and explained_variance cover all 150 rows; all else uses a random sample of 60\n" in said
    for name in ("mse", "explained_variance"):
        assert found["model"][name] == whole["model"][name]
        assert found["pca"][name] != whole["pca"][name]
    assert found["model"]["trustworthiness"] == pytest.approx(whole["model"]["trustworthiness"], abs=0.2)
    assert run("evaluate", iris_model, iris_csv, "--json") == done


def test_a_model_trained_on_a_file_has_no_data_of_its_own(run, iris_model):
    done = run("evaluate", iris_model)
    assert (done.code, done.out) == (2, "")
    assert done.err.endswith(f"hint: aecli evaluate {iris_model} DATA\n")


def test_python_evaluates_what_the_command_evaluates(run, iris_model, iris_csv, iris_rows):
    made = aecli.load(iris_model)
    found = made.evaluate(iris_csv)
    assert isinstance(found, aecli.Evaluation)
    printed, said = judged(run("evaluate", iris_model, iris_csv, "--json"))
    assert found.to_json().items() <= printed.items()
    assert "".join(f"{note}\n" for note in found.notes) == said
    x, _, species = iris_rows
    assert made.evaluate(x, labels=species).to_json() == found.to_json()
    assert made.evaluate(x).model.silhouette is None
    with pytest.raises(DataError, match="rows: more rows than the 149 labels"):
        made.evaluate(x, labels=species[:-1])
    with pytest.raises(DataError, match="rows: 149 rows, and there are 150 labels"):
        made.evaluate(x[:-1], labels=species)
