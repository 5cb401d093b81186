import csv
import json
import select
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image

import aecli
from aecli.errors import DataError

OLD = Path(__file__).parents[1] / "checkpoints" / "0.1" / "wine.safetensors"
PROGRAM = [sys.executable, "-m", "aecli"]


@pytest.fixture
def codes(run, iris_model, iris_csv):
    """The irises' codes, as embed writes them: species, z0, z1."""
    assert run("embed", iris_model, iris_csv, "-o", "codes.csv").code == 0
    return Path("codes.csv")


def table(text):
    return list(csv.reader(text.splitlines()))


def numbers(text):
    return np.array(table(text)[1:], np.float64)


@pytest.mark.parametrize("form", ["csv", "tsv", "jsonl", "parquet", "arrow", "npy"])
def test_what_embed_wrote_becomes_what_reconstruct_writes(run, iris_model, iris_csv, form):
    rebuilt = run("reconstruct", iris_model, iris_csv)
    assert run("embed", iris_model, iris_csv, "-o", f"codes.{form}", "-q").code == 0
    done = run("decode", iris_model, f"codes.{form}")
    assert (done.code, done.err) == (0, "")
    assert table(done.out)[0] == table(rebuilt.out)[0]
    np.testing.assert_allclose(numbers(done.out), numbers(rebuilt.out), rtol=1e-6)


@pytest.mark.parametrize("data", ["flat.npy", "images.npy", "pixels.csv"])
def test_pixels_whose_channels_came_first_come_back_so(run, data):
    pixels = np.random.default_rng(0).integers(0, 256, (30, 3, 6, 5), dtype=np.uint8)
    np.save("images.npy", pixels)
    np.save("flat.npy", pixels.reshape(30, -1))
    pd.DataFrame(pixels.reshape(30, -1), columns=[f"p{i}" for i in range(90)]).to_csv("pixels.csv", index=False)
    shape = () if data == "images.npy" else ("--image-shape", "3x5x6")
    assert run("train", data, *shape, "--epochs", "2", "-o", "m.safetensors", "-q").code == 0
    assert run("embed", "m.safetensors", data, "-o", "codes.parquet", "-q").code == 0
    done, rebuilt = run("decode", "m.safetensors", "codes.parquet"), run("reconstruct", "m.safetensors", data)
    assert table(done.out)[0] == table(rebuilt.out)[0]
    np.testing.assert_allclose(numbers(done.out), numbers(rebuilt.out), rtol=1e-5)
    assert run("decode", "m.safetensors", "codes.parquet", "-o", "d.npy", "-q").code == 0
    assert run("reconstruct", "m.safetensors", data, "-o", "r.npy", "-q").code == 0
    assert np.load("d.npy").shape == (30, 3, 6, 5)
    np.testing.assert_allclose(np.load("d.npy").reshape(30, -1), np.load("r.npy").reshape(30, -1), rtol=1e-5)


def test_a_pipe_of_codes_is_rebuilt(digits_model):
    line = f"{{0}} embed {digits_model} digits | {{0}} decode {digits_model} -".format(" ".join(PROGRAM))
    done = subprocess.run(["bash", "-c", line], capture_output=True, check=True, text=True)
    model = aecli.load(digits_model)
    assert numbers(done.stdout) == pytest.approx(model.reconstruct("digits"), abs=1e-5)


def test_columns_are_found_by_name_in_any_order_and_others_are_carried_where_asked(run, iris_model, codes):
    frame = pd.read_csv(codes)
    frame.insert(0, "id", [f"r{i}" for i in range(150)])
    frame[["z1", "id", "species", "z0"]].to_csv("shuffled.csv", index=False)
    plain = run("decode", iris_model, codes)
    done = run("decode", iris_model, "shuffled.csv", "--keep", "id", "--keep", "species")
    assert (done.code, done.err) == (0, "")
    lines = table(done.out)
    assert lines[0] == ["id", "species", *table(plain.out)[0]]
    assert [line[:2] for line in lines[1:3]] == [["r0", "setosa"], ["r1", "setosa"]]
    assert [line[2:] for line in lines] == table(plain.out)
    kept = run("decode", iris_model, "shuffled.csv", "--keep", "nope")
    assert kept.code == 1
    assert "--keep 'nope' names no column" in kept.err


def test_dates_booleans_and_categories_come_back_as_what_they_are(run):
    rows = [f"2024-01-{1 + i % 28:02},{'yes' if i % 3 else 'no'},{'abc'[i % 3]},{i}.5" for i in range(60)]
    Path("t.csv").write_text("\n".join(["day,fine,kind,value", *rows]) + "\n")
    done = run("train", "t.csv", "--categorical", "kind", "--features", "*", "--epochs", "2", "-q")
    assert done.code == 0, done.err
    rebuilt = run("reconstruct", "t.safetensors", "t.csv").out
    assert run("embed", "t.safetensors", "t.csv", "-o", "codes.parquet", "-q").code == 0
    assert run("decode", "t.safetensors", "codes.parquet").out == rebuilt
    drawn = table(run("decode", "t.safetensors", "--samples", "5").out)
    assert drawn[0] == ["day", "fine", "kind", "value"]
    assert {line[1] for line in drawn[1:]} <= {"yes", "no"}
    assert {line[2] for line in drawn[1:]} <= {"a", "b", "c"}


WRITTEN = "codes are what aecli embed writes: z0 to z1; aecli reconstruct takes the rows themselves"
WRONG = {
    "too few": (
        "z0\n1\n",
        "1 of the model's 2 columns are missing: 'z1'",
        WRITTEN,
    ),
    "too many": (
        "z0,z1,z2\n1,2,3\n",
        "a column 'z2', and the model has 2 latent values",
        WRITTEN,
    ),
    "a hole": (
        "z0,z1\n1,2\n3,\n",
        "row 2, column 'z1' is empty or NaN, and a code has all of its 2 values",
        "--bad-rows skip leaves such rows out, --bad-rows blank writes empty ones",
    ),
    "too large": (
        "z0,z1\n1e300,2\n",
        "row 1, column 'z0' is infinite, or too large, and a code has all of its 2 values",
        "--bad-rows skip leaves such rows out, --bad-rows blank writes empty ones",
    ),
    "text": (
        "z0,z1\n1,2\n3,x\n",
        "row 2, column 'z1' holds 'x', and the cells of this feature must be numbers",
        "correct the cell, or use --bad-rows blank or --bad-rows skip",
    ),
}


@pytest.mark.parametrize(("text", "error", "hint"), WRONG.values(), ids=WRONG)
def test_what_is_no_code_is_named_with_the_way_out(run, iris_model, text, error, hint):
    Path("codes.csv").write_text(text)
    done = run("decode", iris_model, "codes.csv")
    assert (done.code, done.err) == (1, f"error: codes.csv: {error}\nhint: {hint}\n")


def test_bad_codes_are_left_out_or_left_blank(run, iris_model):
    Path("codes.csv").write_text("z0,z1\n1,2\n3,\n5,x\n7,8\n")
    rows = aecli.load(iris_model).decode([[1, 2], [7, 8]])
    skipped = run("decode", iris_model, "codes.csv", "--bad-rows", "skip")
    assert skipped.code == 0
    assert numbers(skipped.out) == pytest.approx(rows, rel=1e-5)
    assert skipped.err.startswith("left out 2 rows that cannot be read: codes.csv: row 2, column 'z1' is empty or NaN")
    blank = run("decode", iris_model, "codes.csv", "--bad-rows", "blank")
    lines = table(blank.out)[1:]
    assert lines[1] == lines[2] == [""] * 4
    assert np.array([lines[0], lines[3]], np.float64) == pytest.approx(rows, rel=1e-5)


def test_bad_rows_of_categories_alone_are_left_blank(run):
    Path("c.csv").write_text("a,b\n" + "".join(f"x{i % 3},y{i % 2}\n" for i in range(40)))
    flags = ("--categorical", "a", "--categorical", "b", "--latent-dim", "1", "--epochs", "2", "-q")
    assert run("train", "c.csv", *flags).code == 0
    Path("later.csv").write_text("a,b\nx1,y0\nzz,y1\n")
    rebuilt = run("reconstruct", "c.safetensors", "later.csv", "--bad-rows", "blank", "-q")
    assert (rebuilt.code, rebuilt.err) == (0, "")
    assert table(rebuilt.out)[2] == ["", ""]
    coded = run("embed", "c.safetensors", "later.csv", "--bad-rows", "blank", "-q").out
    assert run("decode", "c.safetensors", "-", "--bad-rows", "blank", "-q", stdin=coded.encode()).out == rebuilt.out


def test_arrays_of_another_width_images_and_data_sets_are_no_codes(run, iris_model):
    np.save("wide.npy", np.zeros((4, 3)))
    np.save("images.npy", np.zeros((4, 2, 1)))
    hint = "hint: codes are what aecli embed writes: z0 to z1; aecli reconstruct takes the rows themselves\n"
    said = {
        "wide.npy": "wide.npy: 3 values per row, and the model takes 2",
        "images.npy": "images.npy: an array of images, and codes (N, 2) were expected",
        "digits": "digits: a data set, and codes were expected",
    }
    for name, error in said.items():
        done = run("decode", iris_model, name)
        assert (done.code, done.err) == (1, f"error: {error}\n{hint}")


def test_images_go_to_a_folder_to_one_file_or_to_an_array(run, digits_model):
    assert run("embed", digits_model, "digits", "-o", "codes.npy", "-q").code == 0
    done = run("decode", digits_model, "codes.npy", "-o", "decoded/")
    assert (done.code, done.out, done.err) == (0, "", "wrote decoded\n")
    assert run("reconstruct", digits_model, "digits", "-o", "rebuilt/").code == 0
    files = sorted(path.name for path in Path("rebuilt").iterdir())
    assert sorted(path.name for path in Path("decoded").iterdir()) == files
    assert all(Path("decoded", name).read_bytes() == Path("rebuilt", name).read_bytes() for name in files)
    many = run("decode", digits_model, "codes.npy", "-o", "one.png")
    assert (many.code, many.err) == (
        1,
        "error: one.png is one image, and codes.npy 360\nhint: name a folder: -o one/\n",
    )
    assert run("decode", digits_model, "--samples", "1", "-o", "one.png").code == 0
    with Image.open("one.png") as image:
        assert image.size == (8, 8)
    assert run("decode", digits_model, "codes.npy", "-o", "rows.npy").code == 0
    assert run("reconstruct", digits_model, "digits", "-o", "again.npy").code == 0
    assert np.load("rows.npy").shape == (360, 8, 8)
    assert np.array_equal(np.load("rows.npy"), np.load("again.npy"))


def test_decoded_images_have_the_paths_that_their_codes_have(run):
    rng = np.random.default_rng(0)
    for i in range(12):
        path = Path("shots", "ab"[i % 2], f"{i // 2}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (6, 5), np.uint8)).save(path)
    assert run("train", "shots", "--epochs", "1", "-q").code == 0
    assert run("embed", "shots.safetensors", "shots", "-o", "codes.csv", "-q").code == 0
    assert run("decode", "shots.safetensors", "codes.csv", "-o", "out/").code == 0
    assert run("reconstruct", "shots.safetensors", "shots", "-o", "rebuilt/").code == 0
    for path in Path("shots").rglob("*.png"):
        assert Path("out", path).read_bytes() == Path("rebuilt", path.relative_to("shots")).read_bytes()
    Path("codes.csv").write_text(Path("codes.csv").read_text().replace("shots/a/0.png", ""))
    done = run("decode", "shots.safetensors", "codes.csv", "-o", "again/")
    assert done.code == 1
    assert done.err == "error: image 1 has no path in the column 'path'\nhint: leave that column out\n"
    assert not Path("again").exists()


def test_a_table_is_no_folder_of_images(run, iris_model):
    done = run("decode", iris_model, "--samples", "3", "-o", "drawn/")
    assert (done.code, done.err) == (
        1,
        f"error: drawn: {iris_model} rebuilds tables, not images\nhint: name a file, such as rebuilt.csv\n",
    )


def test_draws_are_rows_like_the_datas_and_equal_seeds_draw_the_same(run, iris_model, iris_rows):
    done = run("decode", iris_model, "--samples", "2000", "--seed", "5")
    assert (done.code, done.err) == (0, "")
    x, names, _ = iris_rows
    assert table(done.out)[0] == names
    rows = numbers(done.out)
    assert rows.mean(axis=0) == pytest.approx(x.mean(axis=0), abs=0.4)
    assert (rows.std(axis=0) / x.std(axis=0)).min() > 0.5
    again = run("decode", iris_model, "--samples", "3", "--seed", "5")
    assert again.out.splitlines() == done.out.splitlines()[:4]
    assert run("decode", iris_model, "--samples", "3").out != again.out
    assert (
        run("decode", iris_model, "--samples", "3").out
        == run("decode", iris_model, "--samples", "3", "--seed", "0").out
    )


def test_the_classic_recipe_has_draws_too(run):
    assert (
        run(
            "train", "--recipe", "classic", "--latent-dim", "8", "--epochs", "1", "-q", "-o", "classic.safetensors"
        ).code
        == 0
    )
    assert run("decode", "classic.safetensors", "--samples", "4").out.count("\n") == 5


def test_a_model_of_an_earlier_version_has_to_be_trained_again_for_draws(run):
    done = run("decode", OLD, "--samples", "3")
    assert (done.code, done.err) == (
        1,
        f"error: {OLD} cannot draw rows: it was written by an earlier version of aecli\nhint: train it again\n",
    )
    assert "draws          none: no Gaussians were fitted to the training codes" in run("info", OLD).out
    assert json.loads(run("info", OLD, "--json").out)["mixture"] is None


def test_info_says_what_is_drawn_from(run, digits_model):
    count = json.loads(run("info", digits_model, "--json").out)["mixture"]
    assert (
        f"decode --samples draws from {count} Gaussians, fitted to the training codes" in run("info", digits_model).out
    )


def test_the_way_between_two_rows_begins_and_ends_with_them(run, iris_model, codes):
    rows = numbers(run("decode", iris_model, codes).out)
    way = numbers(run("decode", iris_model, codes, "--between", "3", "120", "--steps", "5").out)
    assert len(way) == 5
    assert way[[0, -1]] == pytest.approx(rows[[2, 119]], rel=1e-5)
    z = aecli.load(iris_model).embed("iris.csv")
    assert way[2] == pytest.approx(aecli.load(iris_model).decode((z[[2]] + z[[119]]) / 2)[0], rel=1e-4)
    assert len(numbers(run("decode", iris_model, codes, "--between", "9", "2").out)) == 10
    same = numbers(run("decode", iris_model, codes, "--between", "2", "2", "--steps", "3").out)
    assert same == pytest.approx(rows[[1, 1, 1]], rel=1e-5)


def test_rows_that_are_not_there_have_no_way_between_them(run, iris_model):
    Path("codes.csv").write_text("z0,z1\n1,2\n3,\n5,6\n")
    said = {
        ("1", "9"): (1, "codes.csv has 3 rows, and there is no row 9\nhint: rows count from 1 to 3"),
        ("2", "3"): (1, "codes.csv: row 2 is not a code: it cannot be read, or lacks a value"),
        ("0", "3"): (2, "--between 0 3: rows count from 1"),
    }
    for rows, (code, error) in said.items():
        done = run("decode", iris_model, "codes.csv", "--between", *rows)
        assert (done.code, done.err) == (code, f"error: {error}\n")
    assert run("decode", iris_model, "codes.csv", "--between", "1", "3", "-q").code == 0  # the second is not asked for
    assert run("decode", iris_model, "codes.csv", "--between", "1", "3", "--steps", "1").code == 2


USAGE = {
    "nothing": (
        [],
        "CODES is missing, so there is nothing to decode",
        "aecli decode m.safetensors CODES; or aecli decode --samples 10 m.safetensors",
    ),
    "between no rows": (
        ["--between", "1", "2"],
        "--between needs rows of CODES, and CODES is missing",
        "aecli decode --between 1 2 m.safetensors CODES",
    ),
    "samples of codes": (
        ["c.csv", "--samples", "2"],
        "--samples draws its own codes, and does not go with CODES",
        "leave one of them out",
    ),
    "samples between": (
        ["--samples", "2", "--between", "1", "2"],
        "--samples draws its own codes, and does not go with --between",
        "leave one of them out",
    ),
    "all": (
        ["c.csv", "--samples", "2", "--between", "1", "2"],
        "--samples draws its own codes, and does not go with CODES and --between",
        "choose one of them",
    ),
    "a seed": (["c.csv", "--seed", "2"], "--seed is for --samples", "leave it out"),
    "steps": (["c.csv", "--steps", "2"], "--steps is for --between", "leave it out"),
    "kept of draws": (
        ["--samples", "2", "--keep", "a"],
        "--keep is for CODES, and --samples takes none",
        "leave it out",
    ),
    "kept between": (
        ["c.csv", "--between", "1", "2", "--keep", "a"],
        "--keep is for all CODES, and --between takes two of their rows",
        "leave it out",
    ),
}


@pytest.mark.parametrize(("words", "error", "hint"), USAGE.values(), ids=USAGE)
def test_what_says_nothing_or_too_much_is_bad_usage(run, words, error, hint):
    done = run("decode", "m.safetensors", *words)
    assert (done.code, done.out, done.err) == (2, "", f"error: {error}\nhint: {hint}\n")


def test_codes_that_wait_in_a_pipe_are_offered_as_such(run):
    done = run("decode", "m.safetensors", stdin=b"z0,z1\n1,2\n")
    assert done.err.endswith("hint: aecli decode m.safetensors -; or aecli decode --samples 10 m.safetensors\n")


def test_codes_that_come_one_by_one_are_decoded_one_by_one(iris_model):
    command = [*PROGRAM, "decode", iris_model, "-", "--line-buffered", "--no-header", "--keep", "id"]
    program = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    expected = aecli.load(iris_model).decode([[i, -i] for i in range(4)])
    program.stdin.write(b"id,z0,z1\n")
    for i, row in enumerate(expected):
        program.stdin.write(f"r{i},{i},{-i}\n".encode())
        assert select.select([program.stdout], [], [], 60)[0], "no answer"
        name, *cells = program.stdout.readline().decode().split(",")
        assert name == f"r{i}"
        assert [float(cell) for cell in cells] == pytest.approx(row, abs=1e-4)
    program.stdin.close()
    assert program.wait(60) == 0
    program.stdout.close()


def test_a_long_stream_takes_no_more_memory_than_a_short_one(iris_model):
    code = (
        "import resource, sys; from aecli.cli import main\n"
        "try: main()\n"
        "finally: print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)"
    )

    def taken(rows):
        with Path("codes.csv").open("w") as file:
            file.write("z0,z1\n" + "0.123456,1.234567\n" * rows)
        done = subprocess.run(
            [sys.executable, "-c", code, "decode", iris_model, "codes.csv", "-o", "out.csv", "-q"],
            capture_output=True, check=True, text=True,
        )  # fmt: skip
        return int(done.stderr)

    assert taken(1_000_000) < taken(100_000) + 60_000  # kilobytes, where the rows take 16 MB and the output 40


def test_no_rows_give_the_outputs_header(run, iris_model, iris_rows):
    done = run("decode", iris_model, "-", stdin=b"z0,z1\n")
    assert (done.code, table(done.out)) == (0, [iris_rows[1]])


def test_parquet_and_npy_hold_what_is_decoded(run, iris_model, codes, iris_rows):
    assert run("decode", iris_model, codes, "--keep", "species", "-o", "rows.parquet").code == 0
    assert pq.read_table("rows.parquet").column_names == ["species", *iris_rows[1]]
    assert run("decode", iris_model, codes, "-o", "rows.npy").code == 0
    assert np.load("rows.npy").shape == (150, 4)


def test_python_gives_what_the_command_gives(run, iris_model, iris_csv, codes):
    model = aecli.load(iris_model)
    z = model.embed(iris_csv)
    assert np.array_equal(model.decode(z), model.reconstruct(iris_csv))
    assert np.array_equal(model.decode(str(codes)), model.decode(z))
    assert np.array_equal(model.decode(pd.read_csv(codes)[["z1", "species", "z0"]]), model.decode(z))
    assert run("decode", iris_model, "--samples", "1500", "--seed", "3", "-o", "drawn.npy").code == 0
    assert np.array_equal(np.load("drawn.npy"), model.sample(1500, seed=3))
    for wrong, said in (
        (np.zeros((2, 3)), r"latent rows of shape \(2, 3\), and \(N, 2\) expected"),
        ([[0, 1], [np.nan, 0]], "latent row 2 holds NaN, infinity or a value that is too large"),
        ([[1e300, 1]], "latent row 1 holds NaN, infinity or a value that is too large"),
    ):
        with pytest.raises(DataError, match=said):
            model.decode(wrong)
