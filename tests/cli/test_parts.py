"""A folder out: a Parquet part for each input file, known again by what it was made from."""

import gzip
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
from conftest import run_here

import aecli

HEADER = "a,b,c,id,kind\n"
RNG = np.random.default_rng(0)
ROWS = [f"{a:.3f},{b:.3f},{a - b:.3f},{i},{'xy'[i % 2]}\n" for i, (a, b) in enumerate(RNG.normal(size=(120, 2)))]


def write(path, rows=ROWS):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(HEADER + "".join(rows))


def contents(folder):
    """Return the bytes of all files in a folder that are no program's own, by their paths in it."""
    files = [file for file in Path(folder).rglob("*") if file.is_file() and not file.name.startswith(".")]
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parts")
    write(folder / "t.csv")
    words = "train t.csv --label kind --exclude id --latent-dim 2 --hidden-dims 4 --epochs 1 --holdout 0 -q"
    run_here(folder, f"{words} -o m.safetensors")
    other = aecli.load(folder / "m.safetensors")
    other.tensors["encoder.0.weight"] += 1
    other.save(folder / "other.safetensors")
    return folder / "m.safetensors"


@pytest.fixture
def model(model_file):
    return model_file


@pytest.fixture
def data():
    """A folder of three tables of 40 rows each."""
    for i, name in enumerate(("a/p.csv", "b/p.csv", "q.csv")):
        write(f"in/{name}", ROWS[40 * i : 40 * i + 40])
    return Path("in")


NAMES = ["a/p.parquet", "b/p.parquet", "q.parquet"]


def test_the_parts_hold_what_the_command_writes_of_their_files(run, model, data):
    for words in (["embed", "--keep", "id", "--error"], ["reconstruct", "--error"], ["score", "--top-features", "2"]):
        command, *options = words
        done = run(command, model, data, "-o", f"{command}/", *options)
        lines = [f"wrote {command}/{name} ({i} of 3)" for i, name in enumerate(NAMES, 1)]
        assert (done.code, done.out, done.err.splitlines()) == (0, "", [*lines, f"wrote 3 parts to {command}/"])
        assert sorted(contents(command)) == NAMES
        for name in NAMES:
            file = (data / name).with_suffix(".csv")
            assert run(command, model, file, "-o", "alone.parquet", *options, "-q").code == 0
            assert pq.read_table(Path(command, name)).equals(pq.read_table("alone.parquet"))


def test_the_folder_is_one_parquet_dataset(run, model, data):
    write("in/r.csv", [])
    assert run("embed", model, data, "-o", "out/", "--keep", "id", "-q").code == 0
    table = pa.dataset.dataset("out").to_table().sort_by([("id", "ascending")])
    assert table.column_names == ["id", "kind", "z0", "z1"]
    assert sorted(map(int, table["id"].to_pylist())) == list(range(120))
    assert set(table["kind"].to_pylist()) == {"x", "y"}
    assert run("decode", model, "out", "-o", "rebuilt.csv", "-q").code == 0
    assert len(Path("rebuilt.csv").read_text().splitlines()) == 121


def test_partitions_stay_folders_and_are_in_no_part(run, model):
    for year in (2023, 2024):
        Path(f"in/year={year}").mkdir(parents=True)
        values = {"a": [1.0, 2], "b": [0.5, 2], "c": [0.5, 0]}
        pq.write_table(pa.table(values), f"in/year={year}/part.parquet")
    done = run("embed", model, "in", "-o", "out/", "--keep", "year")
    assert (done.code, done.err.splitlines()[0]) == (0, "columns from folder names are not written to the files: year")
    assert pq.read_table("out").column("year").to_pylist() == [2023, 2023, 2024, 2024]


def test_arrays_make_parts_too(run, model):
    Path("arrays").mkdir()
    np.save("arrays/one.npy", RNG.normal(size=(60, 3)))
    np.savez("arrays/two.npz", RNG.normal(size=(50, 3)))
    Path("arrays/three.npy.gz").write_bytes(gzip.compress(Path("arrays/one.npy").read_bytes()))
    done = run("embed", model, "arrays", "-o", "out/", "-q")
    assert (done.code, done.err) == (0, "")
    assert {name: pq.read_metadata(f"out/{name}").num_rows for name in contents("out")} == {
        "one.parquet": 60,
        "three.parquet": 60,
        "two.parquet": 50,
    }


def test_a_part_that_is_there_is_left(run, model, data):
    assert run("embed", model, data, "-o", "out/", "-q").code == 0
    before = contents("out")
    Path("out/b/p.parquet").unlink()
    kept = Path("out/q.parquet").stat()
    done = run("embed", model, data, "-o", "out")
    assert (done.code, done.err) == (0, "wrote out/b/p.parquet (1 of 1)\nwrote 1 part to out/, 2 already existed\n")
    assert contents("out") == before
    assert Path("out/q.parquet").stat() == kept


def test_a_killed_run_is_finished_by_saying_it_again(process, model):
    for i in range(60):
        write(f"in/{i:03}.csv", ROWS[: 20 + i])
    words = ["embed", str(model), "in", "--keep", "id", "-q", "-o"]
    with subprocess.Popen([sys.executable, "-m", "aecli", *words, "killed/"]) as running:
        while not contents("killed"):
            time.sleep(0.002)
            assert running.poll() is None
        running.send_signal(signal.SIGKILL)
    done = len(contents("killed"))
    assert 0 < done < 60
    assert all(pq.read_metadata(f"killed/{name}").num_rows for name in contents("killed"))
    again, whole = process(*words[:-2], "-o", "killed/"), process(*words, "whole/")
    assert (again.code, whole.code) == (0, 0)
    assert again.err.splitlines()[-1] == f"wrote {60 - done} parts to killed/, {done} already existed"
    assert contents("killed") == contents("whole")


def other_time(_):
    os.utime("in/a/p.csv", ns=(1, 1))


def cut_short(_):
    part = Path("out/a/p.parquet")
    part.write_bytes(part.read_bytes()[:-9])


def renamed(_):
    Path("in/a/p.csv").rename("in/a/p.txt.csv")
    Path("in/a/p.txt.csv").rename("in/a/p.tsv")


CHANGES = {
    "the model": (
        lambda model: model.with_name("other.safetensors"),
        "--error",
        "it was written with another model (SHA-256 ",
    ),
    "an option more": (lambda _: None, "--error --keep id", "it was written without --keep id"),
    "an option less": (lambda _: None, "", "it was written with --error"),
    "the input's size": (
        lambda _: write("in/a/p.csv", ROWS[:39]),
        "--error",
        "a/p.csv has changed since: it had 983 bytes, and now has 959",
    ),
    "the input's time": (other_time, "--error", "a/p.csv has changed since: it was written at another time"),
    "the input's name": (renamed, "--error", "it was made from a/p.csv, not from a/p.tsv"),
    "a part that is cut short": (cut_short, "--error", "it is not a complete part that aecli wrote"),
}


@pytest.mark.parametrize(("change", "options", "difference"), CHANGES.values(), ids=CHANGES)
def test_a_part_that_would_be_another_is_an_error_before_any_work(run, model, data, change, options, difference):
    assert run("embed", model, data, "-o", "out/", "--error", "-q").code == 0
    Path("out/q.parquet").unlink()
    model = change(model) or model
    before = contents("out")
    done = run("embed", model, data, "-o", "out/", *options.split())
    error, hint = done.err.splitlines()
    assert (done.code, done.out) == (1, "")
    assert error.startswith(f"error: out/a/p.parquet already exists, and {difference}")
    assert hint.endswith("--force")
    assert contents("out") == before
    assert run("embed", model, data, "-o", "out/", *options.split(), "--force", "-q").code == 0
    assert run("embed", model, data, "-o", "new/", *options.split(), "-q").code == 0
    assert contents("out") == contents("new")


def test_another_command_or_another_file_in_a_parts_place_is_an_error(run, model, data):
    assert run("score", model, data, "-o", "out/", "-q").code == 0
    done = run("embed", model, data, "-o", "out/", "-q")
    assert (done.code, done.err.splitlines()[0]) == (
        1, "error: out/a/p.parquet already exists, and score wrote it, not embed",
    )  # fmt: skip
    Path("foreign").mkdir()
    Path("foreign/notes.txt").write_text("mine")
    pq.write_table(pa.table({"z0": [1.0]}), "foreign/q.parquet")
    done = run("embed", model, data, "-o", "foreign/", "-q")
    assert (done.code, done.err.splitlines()[0]) == (
        1, "error: foreign/q.parquet already exists, and it is not a complete part that aecli wrote",
    )  # fmt: skip
    Path("foreign/q.parquet").unlink()
    assert run("embed", model, data, "-o", "foreign/", "-q").code == 0
    assert Path("foreign/notes.txt").read_text() == "mine"


def test_a_bad_file_leaves_the_parts_that_are_done(run, model, data):
    write("in/b/p.csv", [*ROWS[:5], "1,no,2,3,x\n"])
    done = run("embed", model, data, "-o", "out/")
    assert (done.code, done.out) == (1, "")
    assert done.err.splitlines()[:3] == [
        "wrote out/a/p.parquet (1 of 3)",
        "stopped at in/b/p.csv; wrote 1 part to out/",
        "error: in/b/p.csv: row 6, column 'b' holds 'no', and the cells of this feature must be numbers",
    ]
    assert [*contents("out")] == ["a/p.parquet"]
    write("in/b/p.csv", ROWS[40:80])
    assert run("embed", model, data, "-o", "out/", "-q").code == 0
    assert sorted(contents("out")) == NAMES


@pytest.mark.parametrize("command", ["embed", "reconstruct", "score"])
def test_the_shares_of_a_run_are_the_whole_of_it(run, monkeypatch, model, data, command):
    assert run(command, model, data, "-o", "whole/", "-q").code == 0
    assert run(command, model, data, "-o", "out/", "--shard", "0/2", "-q").code == 0
    assert sorted(contents("out")) == ["a/p.parquet", "q.parquet"]
    monkeypatch.setenv("AECLI_SHARD", "1/2")
    assert run(command, model, data, "-o", "out/", "-q").code == 0
    assert contents("out") == contents("whole")
    monkeypatch.setenv("AECLI_SHARD", "3/4")
    done = run(command, model, data, "-o", "none/")
    assert (done.code, done.err) == (0, "shard 3/4 has no input file: there are 3\n")


WRONG = {
    "two files of one part": (
        "in/a/p.csv in/b/p.csv -o out/",
        "error: in/a/p.csv and in/b/p.csv would both be written to out/p.parquet\n"
        "hint: rename one of them, or name the folder that holds both\n",
    ),
    "a file in the folder's place": ("in -o in/q.csv/", "error: in/q.csv: a file, and a folder was expected\n"),
    "a folder that is not there": ("in -o no/such/", "error: no/such: there is no folder no\nhint: mkdir -p no\n"),
    "a folder in what is read": (
        "in -o in/out/",
        "error: in/out is in in, which is read\nhint: name a folder elsewhere\n",
    ),
    "an input that is a part": (
        "in/q.parquet -o in/",
        "error: in/q.parquet is an input of this command, and would be overwritten\nhint: name another --output\n",
    ),
    "images": (
        "pictures -o out/",
        "error: pictures/1.png: an image is one row, and a folder of parts is for tables and arrays\n"
        "hint: name one file for all rows: -o rows.parquet\n",
    ),
    "a name that readers pass over": (
        "_q.csv -o out/",
        "error: _q.csv: readers of Parquet folders skip names that begin with _\nhint: rename it first\n",
    ),
    "a folder of no data": ("empty -o out/", "error: empty: a folder without tables or arrays\n"),
    "a built-in set": (
        "digits -o out/",
        "error: a folder gets one part per input file, and digits is a built-in set\n"
        "hint: name one file for all rows: -o rows.parquet\n",
    ),
    "held-out rows": (
        "in -o out/ --held-out",
        "error: --held-out concerns all rows at once, and out/ is a folder with one file per input file\n"
        "hint: leave it out, or name one file for all rows: -o rows.parquet\n",
    ),
    "CSV": (
        "in -o out/ --format csv",
        "error: out/: files in a folder are Parquet, with a record of their input, and --format is csv\n"
        "hint: leave it out, or name one file for all rows: -o rows.csv\n",
    ),
    "a share of no folder": (
        "in/q.csv -o out.csv --shard 0/2",
        "error: --shard (or AECLI_SHARD) needs a folder, and --output is not a folder\n"
        "hint: name a folder, which ends in /: -o parts/\n",
    ),
    "a share that is none": (
        "in -o out/ --shard 2/2",
        "error: invalid value for '--shard' (env var: 'AECLI_SHARD'): '2/2' is not a share such as 0/4, the first of "
        "four\n"
        "hint: aecli embed --help shows what it takes\n",
    ),
}


@pytest.mark.usefixtures("data")
@pytest.mark.parametrize(("words", "says"), WRONG.values(), ids=WRONG)
def test_what_makes_no_parts_is_an_error_before_any_work(run, model, words, says):
    for name in ("pictures", "empty"):
        Path(name).mkdir()
    Path("pictures/1.png").touch()
    write("_q.csv")
    pq.write_table(pa.table({"a": [1.0], "b": [2.0], "c": [3.0]}), "in/q.parquet")
    if words.startswith("in "):
        Path("in/q.parquet").unlink()
    done = run("embed", model, *words.split())
    assert done.code in (1, 2)
    assert done.err == says
    assert not Path("out").exists()


def test_what_a_folder_leaves_out_is_named(run, model, data):
    Path("in/README.md").write_text("# Mine")
    done = run("embed", model, data, "-o", "out/", "--shard", "2/3")
    assert done.err.splitlines()[0] == "in: left out, neither tables nor arrays by name: in/README.md"


def test_images_of_an_image_model_go_to_tables_with_a_format(run, digits_model):
    np.save("x.npy", RNG.integers(0, 17, (30, 64)).astype(np.uint8))
    assert run("reconstruct", digits_model, "x.npy", "-o", "images/", "-q").code == 0
    assert len(contents("images")) == 30
    assert run("reconstruct", digits_model, "x.npy", "-o", "tables/", "--format", "parquet", "-q").code == 0
    assert [*contents("tables")] == ["x.parquet"]


def objects(bucket, under):
    return {key.removeprefix(under): bucket[key] for key in bucket if key.startswith(under)}


def test_parts_of_a_bucket_are_written_to_a_bucket_and_a_killed_run_is_finished(process, model, bucket):
    bucket["m.safetensors"] = model.read_bytes()
    for i in range(20):
        bucket[f"in/{i % 2}/{i:03}.csv"] = (HEADER + "".join(ROWS[: 20 + i])).encode()
    words = ["embed", bucket.url("m.safetensors"), bucket.url("in"), "--keep", "id", "-q", "-o"]
    with subprocess.Popen([sys.executable, "-m", "aecli", *words, bucket.url("killed/")]) as running:
        while not objects(bucket, "killed/"):
            time.sleep(0.01)
            assert running.poll() is None
        running.send_signal(signal.SIGKILL)
    done = len(objects(bucket, "killed/"))
    assert 0 < done < 20
    again = process(*words[:-2], "-o", bucket.url("killed/"))
    whole = process(*words[:-2], "-o", bucket.url("whole/"))
    assert (again.code, whole.code) == (0, 0), again.err
    assert again.err.splitlines()[-1] == f"wrote {20 - done} parts to {bucket.url('killed')}/, {done} already existed"
    assert objects(bucket, "killed/") == objects(bucket, "whole/")
    assert sorted(objects(bucket, "whole/")) == sorted(f"{i % 2}/{i:03}.parquet" for i in range(20))


def test_a_pattern_in_a_bucket_names_the_inputs_and_one_that_changed_is_told(run, model, bucket):
    bucket["in/a.csv"], bucket["in/b.csv"] = (HEADER + "".join(ROWS[:9])).encode(), (HEADER + "".join(ROWS)).encode()
    words = ["embed", model, bucket.url("in/*.csv"), "-o"]
    assert run(*words, "out/").err.splitlines()[-1] == "wrote 2 parts to out/"
    write("b.csv")
    assert run("embed", model, "b.csv", "-o", "b.parquet").code == 0
    assert pq.read_table("out/b.parquet").equals(pq.read_table("b.parquet"))
    bucket["in/b.csv"] = (HEADER + "".join(reversed(ROWS))).encode()
    done = run(*words, "out/")
    assert (done.code, done.out) == (1, "")
    assert "out/b.parquet already exists, and b.csv has changed since: it is another version" in done.err
    assert run(*words, "out/", "--force").err.splitlines()[-1] == "wrote 1 part to out/, 1 already existed"
    nothing = run("embed", model, bucket.url("none/*.csv"), "-o", "out/")
    assert (nothing.code, nothing.err) == (1, f"error: {bucket.url('none/*.csv')}: no file matches this name\n")
