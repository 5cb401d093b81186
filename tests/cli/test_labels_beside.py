"""Labels of another table: `train --label FILE:COLUMN`."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import aecli

ROWS = np.random.default_rng(0).random((12, 3)).astype(np.float32)
KINDS = ["even" if i % 2 == 0 else "odd" for i in range(12)]


def first_column(text):
    return [line.split(",")[0] for line in text.splitlines()]


@pytest.fixture
def rows():
    """An array, and a table of its rows' kinds in another folder."""
    Path("here").mkdir()
    np.save("here/rows.npy", ROWS)
    Path("here/kinds.csv").write_text("\n".join(["kind", *KINDS]) + "\n")
    return "here/rows.npy"


def test_labels_of_another_table_are_carried_along_as_a_tables_own_are(run, rows):
    done = run("train", rows, "--label", "here/kinds.csv:kind", "--epochs", "1", "-o", "m.safetensors")
    assert (done.code, done.err.splitlines()[0]) == (0, "labels: here/kinds.csv:kind, by row number")
    assert "label          kind, a column of kinds.csv\n" in run("info", "m.safetensors").out
    done = run("embed", "m.safetensors", rows)
    assert first_column(done.out) == ["kind", *KINDS]
    assert done.err == "labels: here/kinds.csv:kind, by row number\n"
    assert first_column(run("embed", "m.safetensors", rows, "--no-label").out)[0] == "z0"
    assert run("plot", "m.safetensors", rows, "-o", "p.svg", "-q").code == 0
    assert {"even", "odd"} <= set(re.findall(r">([^<>]+)</text>", Path("p.svg").read_text()))


def test_other_rows_than_the_table_has_get_no_labels_and_that_is_said(run, rows):
    assert run("train", rows, "--label", "here/kinds.csv:kind", "--epochs", "1", "-o", "m.safetensors", "-q").code == 0
    np.save("here/fewer.npy", ROWS[:5])
    done = run("embed", "m.safetensors", "here/fewer.npy")
    assert done.err == "no labels: here/kinds.csv has another number of rows than here/fewer.npy\n"
    assert first_column(done.out)[0] == "z0"
    np.save("rows.npy", ROWS)
    done = run("embed", "m.safetensors", "rows.npy")
    assert done.err == "no labels: they were in kinds.csv, which is neither beside rows.npy nor here\n"
    assert len(done.out.splitlines()) == 13


def test_other_rows_of_as_many_get_no_labels_by_their_numbers(run, rows):
    assert run("train", rows, "--label", "here/kinds.csv:kind", "--epochs", "1", "-o", "m.safetensors", "-q").code == 0
    np.save("here/others.npy", ROWS[::-1])
    done = run("embed", "m.safetensors", "here/others.npy")
    assert done.err == (
        "no labels: here/kinds.csv is matched by row number, and here/others.npy is not rows.npy, "
        "which the model was trained on\n"
    )
    assert first_column(done.out)[0] == "z0"


def pictures(folder):
    """Write twelve images, m00.png to m11.png."""
    Path(folder).mkdir(parents=True)
    for i in range(12):
        Image.fromarray((np.arange(36).reshape(6, 6) * (i + 1) % 256).astype(np.uint8)).save(f"{folder}/m{i:02}.png")
    return folder


def carried(done):
    """Return the cells before the codes, of each row."""
    return [line.split(",")[: done.out.split(",z0")[0].count(",") + 1] for line in done.out.split()[1:]]


def test_images_find_their_labels_by_a_column_of_their_names(run):
    pictures("pictures")
    lines = ["image,dx", *(f"m{i:02},{KINDS[i]}" for i in reversed(range(12)))]
    Path("kinds.csv").write_text("\n".join(lines) + "\n")
    done = run("train", "pictures", "--label", "kinds.csv:dx", "--epochs", "1", "-o", "m.safetensors")
    assert done.err.splitlines()[0] == "labels: kinds.csv:dx, matched by image"
    assert [line.split(",")[:2] for line in run("embed", "m.safetensors", "pictures").out.split()[1:]] == [
        [f"pictures/m{i:02}.png", KINDS[i]] for i in range(12)
    ]
    done = run("plot", "m.safetensors", "pictures", "--colour", "kinds.csv:dx", "-o", "p.svg")
    assert done.err.splitlines()[1:] == ["colours: kinds.csv:dx, matched by image", "wrote p.svg"]
    for folder in ("a", "b"):
        pictures(f"pictures/{folder}")
    done = run("embed", "m.safetensors", "pictures")
    assert done.code == 0
    assert "no labels: kinds.csv: its row with image 'm00' may belong to " in done.err


def test_labels_by_name_are_not_given_to_images_of_another_folder(run, monkeypatch):
    pictures("set/A")
    pictures("set/B")
    lines = ["image,dx", *(f"m{i:02},{KINDS[i]}" for i in range(12))]
    Path("set/kinds.csv").write_text("\n".join(lines) + "\n")
    asked = ("train", "set/A", "--label", "set/kinds.csv:dx", "--epochs", "1", "-o", "m.safetensors", "-q")
    assert run(*asked).code == 0
    done = run("embed", "m.safetensors", "set/B")
    assert (
        done.err == "no labels: set/kinds.csv is matched by names, and set/B is not A, which the model was trained on\n"
    )
    assert carried(done) == [[f"set/B/m{i:02}.png"] for i in range(12)]
    assert carried(run("embed", "m.safetensors", "set/A/m03.png")) == [["set/A/m03.png", "odd"]]
    monkeypatch.chdir("set/A")
    done = run("embed", "../../m.safetensors", ".")
    assert (done.err, carried(done)[1]) == ("labels: ../kinds.csv:dx, matched by image\n", ["m01.png", "odd"])
    monkeypatch.chdir("../..")
    Path("set/kinds.csv").rename("set/B/kinds.csv")
    done = run("embed", "m.safetensors", "set/B")
    assert (done.err, carried(done)[1]) == ("labels: set/B/kinds.csv:dx, matched by image\n", ["set/B/m01.png", "odd"])
    Path("set/B/kinds.csv").unlink()
    lines = [f"{part}/m{i:02}.png,{i}\n" for part in "AB" for i in range(12)]
    Path("set/kinds.csv").write_text("".join(["path,dx\n", *lines[12:]]))
    assert carried(run("embed", "m.safetensors", "set/B"))[7] == ["set/B/m07.png"]  # B may be a folder of A, too
    Path("set/kinds.csv").write_text("".join(["path,dx\n", *lines]))
    assert carried(run("embed", "m.safetensors", "set/B"))[7] == ["set/B/m07.png", "7"]
    Path("set/kinds.csv").unlink()
    done = run("embed", "m.safetensors", "set/A")
    assert done.err == "no labels: they were in kinds.csv, which is neither in nor beside set/A nor here\n"


def test_labels_by_number_stay_with_their_images_where_one_is_left_out(run):
    pictures("pictures")
    for broken in ("m03", "m11"):
        Path(f"pictures/{broken}.png").write_bytes(b"no image")
    Path("numbers.csv").write_text("n\n" + "".join(f"n{i}\n" for i in range(12)))
    word = "numbers.csv:n"
    asked = ("train", "pictures", "--label", word, "--skip-broken", "--epochs", "1", "-o", "m.safetensors")
    done = run(*asked)
    assert (done.code, done.err.splitlines()[0]) == (0, "labels: numbers.csv:n, by row number")
    whole = [[f"pictures/m{i:02}.png", f"n{i}"] for i in range(12) if i not in (3, 11)]
    assert carried(run("embed", "m.safetensors", "pictures", "--skip-broken")) == whole
    done = run("plot", "m.safetensors", "pictures", "--skip-broken", "--colour", word, "--kind", "map", "-o", "m.html")
    assert (done.code, "colours: numbers.csv:n, by row number" in done.err) == (0, True)
    assert "n3" not in re.findall(r"n\d+", re.search(r'"classes": *\[[^]]*', Path("m.html").read_text())[0])


def test_colours_by_number_stay_with_their_rows_where_one_is_left_out(run):
    lines = [f"{i * 7 % 20},{i * i % 7},{'x' if i == 4 else i % 3}" for i in range(20)]
    Path("t.csv").write_text("\n".join(["a,b,c", *lines[:4], "8,2,1", *lines[5:]]) + "\n")
    Path("kinds.csv").write_text("kind\n" + "".join(f"{'even' if i % 2 == 0 else 'odd'}\n" for i in range(20)))
    assert run("train", "t.csv", "--epochs", "1", "-q", "-o", "m.safetensors").code == 0
    Path("t.csv").write_text("\n".join(["a,b,c", *lines]) + "\n")
    asked = ("--bad-rows", "skip", "--colour", "kinds.csv:kind", "--kind", "errors", "-o", "p.svg")
    assert run("plot", "m.safetensors", "t.csv", *asked).code == 0
    assert {"even (9)", "odd (10)"} <= set(re.findall(r">([^<>]+)</text>", Path("p.svg").read_text()))


def test_images_find_their_labels_by_their_paths_and_the_folders_names_give_way(run):
    for i, kind in enumerate(KINDS):
        Path(f"pictures/{kind}").mkdir(parents=True, exist_ok=True)
        Image.fromarray((np.arange(36).reshape(6, 6) * (i + 1) % 256).astype(np.uint8)).save(f"pictures/{kind}/{i}.png")
    lines = ["path,shade", *(f"{KINDS[i]}/{i}.png,{'dark' if i < 4 else 'light'}" for i in reversed(range(12)))]
    Path("shades.csv").write_text("\n".join(lines) + "\n")
    asked = ("train", "pictures", "--label", "shades.csv:shade", "--epochs", "1", "-o", "m.safetensors")
    assert run(*asked).code == 0
    table = [line.split(",")[:2] for line in run("embed", "m.safetensors", "pictures", "--keep", "path").out.split()]
    assert table[0] == ["path", "shade"]
    assert all((int(Path(path).stem) < 4) == (shade == "dark") for path, shade in table[1:])
    Path("shades.csv").write_text("path,shade\nelsewhere.png,dark\n")
    done = run(*asked)
    assert done.code == 1
    assert "error: shades.csv: its column 'path' matches none of the 12 paths of the data\n" in done.err
    done = run("embed", "m.safetensors", "pictures")
    assert done.err.splitlines() == [
        "labels: shades.csv:shade, matched by path",
        "shades.csv has no row for 12 of the 12 paths: they have no shade",
    ]


WRONG = {
    "fewer rows": ("few.csv:kind", "few.csv has 1 row, and the data has 12: rows are matched by number"),
    "no such column": ("few.csv:knd", "few.csv: no column 'knd'"),
    "no such file": ("none.csv:kind", "none.csv: no such file"),
}


@pytest.mark.parametrize(("word", "error"), WRONG.values(), ids=WRONG)
def test_a_table_that_is_not_that_of_the_rows_stops_training_before_it_begins(run, rows, word, error):
    Path("few.csv").write_text("kind\neven\n")
    done = run("train", rows, "--label", word, "-o", "m.safetensors")
    assert done.code == 1
    assert f"error: {error}\n" in done.err
    assert "epoch" not in done.err
    assert not Path("m.safetensors").exists()


@pytest.mark.usefixtures("rows")
def test_a_tables_rows_can_have_labels_of_another_table_too(run):
    lines = [",".join(f"{value:.4f}" for value in row) for row in ROWS]
    Path("here/rows.csv").write_text("\n".join(["a,b,c", *lines]) + "\n")
    assert run("train", "here/rows.csv", "--label", "here/kinds.csv:kind", "--epochs", "1", "-q").code == 0
    done = run("embed", "rows.safetensors", "here/rows.csv")
    assert (
        done.err
        == "no labels: here/kinds.csv is matched by row number, and the number of rows in here/rows.csv is unknown\n"
    )


def test_python_knows_the_labels_of_a_path(rows):
    model = aecli.fit(rows, label="here/kinds.csv:kind", epochs=1)
    assert (model.schema.label, model.schema.label_file) == ("kind", "kinds.csv")
    assert model.open(rows).read().labels.tolist() == KINDS
