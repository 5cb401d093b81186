"""Bad input: a clear error on stderr, nothing on stdout, no file, no traceback."""

import gzip
import json
import re
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

# Each row: the command line, the files it finds, its exit code, and all that it says.
CASES = {
    "a missing file": (
        ["train", "nowhere.csv"],
        {},
        1,
        "error: nowhere.csv: no such file\n",
    ),
    "an unknown name, near a known one": (
        ["train", "minst"],
        {},
        1,
        "error: minst: no such file, and no built-in data set of this name\nhint: did you mean mnist?\n",
    ),
    "an unknown name": (
        ["train", "xyzzy"],
        {},
        1,
        "error: xyzzy: no such file, and no built-in data set of this name\n"
        "hint: the built-in sets are digits, mnist, fashion-mnist, kmnist, qmnist, emnist\n",
    ),
    "an unknown split": (
        ["train", "digits:dev"],
        {},
        2,
        "error: digits:dev: the splits of digits are digits:train and digits:test\n",
    ),
    "a missing checkpoint": (
        ["embed", "model.safetensors", "digits"],
        {},
        1,
        "error: model.safetensors: no such file\nhint: aecli train writes one\n",
    ),
    "a checkpoint that is none": (
        ["embed", "model.safetensors", "digits"],
        {"model.safetensors": b"hello world, I am no checkpoint"},
        1,
        "error: model.safetensors: not a safetensors file\nhint: aecli train writes one\n",
    ),
    "an empty file": (
        ["train", "empty.csv"],
        {"empty.csv": b""},
        1,
        "error: empty.csv: no rows to read, it is empty\n",
    ),
    "a header alone": (
        ["train", "header.csv"],
        {"header.csv": b"a,b,c\n"},
        1,
        "error: header.csv: no rows to read, only a header\n",
    ),
    "a text cell": (
        ["train", "text.csv"],
        {"text.csv": b"a,b,c\n1,2,3\n4,five,6\n"},
        1,
        "error: text.csv: column 'b' holds 'five' in row 2, which is not a number: --categorical, --label or --exclude "
        "says what it is\nhint: aecli train text.csv --exclude b\n",
    ),
    "a NaN": (
        ["train", "nan.csv"],
        {"nan.csv": b"a,b,c\n1,2,3\n4,nan,6\n"},
        1,
        "error: nan.csv: column 'b' has 1 cell without a value, in row 2, 'nan': --missing says what to do with it\n"
        "hint: aecli train nan.csv --missing mean\n",
    ),
    "an empty cell": (
        ["train", "hole.csv"],
        {"hole.csv": b"a,b,c\n1,2,\n4,5,6\n"},
        1,
        "error: hole.csv: column 'c' has 1 cell without a value, in row 1: --missing says what to do with it\n"
        "hint: aecli train hole.csv --missing mean\n",
    ),
    "an infinity": (
        ["train", "inf.csv"],
        {"inf.csv": b"a,b,c\n1,2,3\n4,5,1e999\n"},
        1,
        "error: inf.csv: row 2, column 'c' is infinite, or too large, and every value must be a finite number\n"
        "hint: correct or drop such rows first\n",
    ),
    "a ragged row": (
        ["train", "ragged.csv"],
        {"ragged.csv": b"a,b,c\n1,2,3\n4,5\n"},
        1,
        "error: ragged.csv: row 2 (line 3) has 2 cells, and 3 were expected: '4,5'\n"
        "hint: remove the line: sed 3d ragged.csv | aecli train - -o MODEL.safetensors\n",
    ),
    "a decimal comma": (
        ["train", "comma.csv"],
        {"comma.csv": b"a,b,c\n1,2,3\n1,5,2,3\n"},
        1,
        "error: comma.csv: row 2 (line 3) has 4 cells, and 3 were expected: '1,5,2,3'\n"
        "hint: remove the line: sed 3d comma.csv | aecli train - -o MODEL.safetensors\n",
    ),
    "a hexadecimal number": (
        ["train", "hex.csv"],
        {"hex.csv": b"a,b,c\n1,2,3\n1,0x10,3\n"},
        1,
        "error: hex.csv: row 2, column 'b' holds '0x10', and the cells of this feature must be numbers\n"
        "hint: correct the cell, or leave it empty and train with --missing mean or --missing drop\n",
    ),
    "several columns at once": (
        ["train", "small.csv", "--exclude", "a,b"],
        {"small.csv": b"a,b,c\n1,2,3\n4,5,6\n"},
        1,
        "error: small.csv: --exclude 'a,b' names no column\nhint: name one at a time: --exclude 'a' --exclude 'b'\n",
    ),
    "a quote that never closes": (
        ["train", "quote.csv"],
        {"quote.csv": b'a,b,c\n1,2,3\n4,"5,6\n7,8,9\n'},
        1,
        "error: quote.csv: a quote is opened and never closed, after '4,\"5,6\\n7,8,9\\n'\n",
    ),
    "text that is not UTF-8": (
        ["train", "latin.csv", "--label", "name"],
        {"latin.csv": "a,b,name\n1,2,x\n3,4,café\n".encode("latin-1")},
        1,
        "error: latin.csv: row 2, column 'name' is not UTF-8: b'caf\\xe9'\n"
        "hint: --encoding cp1252 reads 'café' there\n",
    ),
    "a label that is no column": (
        ["train", "small.csv", "--label", "clas"],
        {"small.csv": b"a,b,class\n1,2,x\n4,5,y\n"},
        1,
        "error: small.csv: --label 'clas' names no column\nhint: did you mean 'class'?\n",
    ),
    "an exclusion that is no column": (
        ["train", "small.csv", "--exclude", "z*"],
        {"small.csv": b"a,b,c\n1,2,3\n4,5,6\n"},
        1,
        "error: small.csv: --exclude 'z*' names no column\nhint: its columns are 'a', 'b', 'c'\n",
    ),
    "a bottleneck as wide as the data": (
        ["train", "small.csv", "--latent-dim", "3"],
        {"small.csv": b"a,b,c\n1,2,3\n4,5,6\n7,8,1\n"},
        1,
        "error: the bottleneck holds 3 values, a row of this data has 3: nothing is compressed\n"
        "hint: choose a --latent-dim below 3\n",
    ),
    "the tutorial's 64 values for 64 pixels": (
        ["train", "digits", "--recipe", "classic"],
        {},
        1,
        "error: the bottleneck holds 64 values, a row of this data has 64: nothing is compressed\n"
        "hint: choose a --latent-dim below 64\n",
    ),
    "one row": (
        ["train", "one.csv"],
        {"one.csv": b"a,b,c\n1,2,3\n"},
        1,
        "error: one.csv: 1 row, and at least 2 are needed: one to train on and one to hold out\n"
        "hint: --holdout 0 trains on all rows\n",
    ),
    "a file of an unread format": (
        ["train", "notes.bin"],
        {"notes.bin": b"\1\2\3"},
        1,
        "error: notes.bin: not text, and no format that aecli reads: byte 1 is b'\\x01'\n"
        "hint: supported formats: CSV, JSON Lines, a JSON array, Parquet, Arrow, NPY, NPZ, safetensors, IDX and "
        "images, plain or compressed by gzip, zstd, xz, bzip2 or zip\n",
    ),
    "a folder": (
        ["train", "."],
        {},
        1,
        "error: .: a folder without images: none of its files has an ending that Pillow knows\n"
        "hint: if it holds tables, name the files, such as ./*.csv\n",
    ),
    "truncated gzip": (
        ["train", "cut.csv.gz"],
        {"cut.csv.gz": gzip.compress(b"a,b,c\n" + b"1,2,3\n4,5,6\n" * 5000, mtime=0)[:60]},
        1,
        "error: cut.csv.gz: the file is damaged or cut short (Truncated compressed stream)\n",
    ),
    "a checkpoint over another file": (
        ["train", "-o", "diary.txt"],
        {"diary.txt": b"dear diary"},
        1,
        "error: diary.txt exists, and is not an aecli checkpoint\n"
        "hint: name another -o FILE, or replace it with --force\n",
    ),
    "no such folder": (
        ["train", "-o", "no/such/model.safetensors"],
        {},
        1,
        "error: no/such/model.safetensors: there is no folder no/such\nhint: mkdir -p no/such\n",
    ),
    "no name for the checkpoint": (
        ["train", "-"],
        {},
        2,
        "error: rows from standard input have no name for the checkpoint\nhint: name it: -o FILE\n",
    ),
    "two results for one stdout": (
        ["train", "--json", "-o", "-"],
        {},
        2,
        "error: --json and -o - both want stdout\nhint: write the checkpoint to a file: -o model.safetensors\n",
    ),
    "no such device": (
        ["train", "--device", "cuda:99"],
        {},
        1,
        None,
    ),
    "values too large to scale": (
        ["train", "huge.csv"],
        {"huge.csv": b"a,b,c\n1e200,2,3\n-1e200,5,6\n3,4,5\n"},
        1,
        "error: column 'a' holds values too large to be scaled\nhint: check that they all have the same unit\n",
    ),
    "one column": (
        ["train", "narrow.csv"],
        {"narrow.csv": b"a\n1\n2\n3\n"},
        1,
        "error: a row of this data is one value, which cannot be compressed\nhint: train on two columns or more\n",
    ),
    "a label that is a glob": (
        ["train", "small.csv", "--label", "c*"],
        {"small.csv": b"a,b,c\n1,2,3\n4,5,6\n"},
        1,
        "error: small.csv: --label 'c*' names no column\nhint: did you mean 'c'?\n",
    ),
    "more parameters than any machine holds": (
        ["train", "--hidden-dims", "1000000000000"],
        {},
        2,
        "error: the network has 140,000,000,000,069 parameters, and must have at most 10,000,000,000\n"
        "hint: choose smaller --hidden-dims, --channels or --latent-dim\n",
    ),
    "a learning rate of nothing": (
        ["train", "--lr", "0"],
        {},
        2,
        "error: invalid value for '--lr': 0 is not a number above 0\nhint: aecli train --help shows what it takes\n",
    ),
    "a divergence that outweighs all": (
        ["train", "--bottleneck", "variational", "--beta", "inf"],
        {},
        2,
        "error: invalid value for '--beta': inf is not a number above 0\n"
        "hint: aecli train --help shows what it takes\n",
    ),
    "noise without end": (
        ["train", "--noise", "inf"],
        {},
        2,
        "error: noise is inf, and must be a finite number of at least 0\n",
    ),
    "a negative seed": (
        ["train", "--seed", "-1"],
        {},
        2,
        "error: invalid value for '--seed': it must be greater than or equal to 0\n"
        "hint: aecli train --help shows what it takes\n",
    ),
    "a device of no kind": (
        ["train", "--device", "gpu"],
        {},
        2,
        "error: invalid value for '--device' (env var: 'AECLI_DEVICE'): 'gpu' is not one of auto, cpu, cuda, cuda:N, "
        "mps\n"
        "hint: aecli train --help shows what it takes\n",
    ),
    "widths that are none": (
        ["train", "--hidden-dims", "256,many"],
        {},
        2,
        "error: invalid value for '--hidden-dims': '256,many' is not a list of widths such as 256,128\n"
        "hint: aecli train --help shows what it takes\n",
    ),
    "an unknown command": (
        ["trian"],
        {},
        2,
        "error: no such command 'trian'\nhint: did you mean train?\n",
    ),
    "an unknown option": (
        ["train", "--epohcs", "3"],
        {},
        2,
        "error: no such option: --epohcs\nhint: did you mean --epochs?\n",
    ),
}


@pytest.mark.parametrize(("argv", "given", "code", "says"), CASES.values(), ids=CASES.keys())
def test_bad_input_gets_a_clear_error_and_leaves_no_file(run, argv, given, code, says):
    for name, content in given.items():
        Path(name).write_bytes(content)
    done = run(*argv)
    assert done.code == code
    assert done.out == ""
    if says is None:
        assert done.err.startswith("error: ")
    else:
        assert re.sub(r"^learning .*\n", "", done.err) == says
    assert {path.name: path.read_bytes() for path in Path.cwd().iterdir()} == given


def test_a_closed_pipe_ends_the_program_as_it_ends_cat(digits_model, tmp_path):
    np.save(tmp_path / "many.npy", np.zeros((200_000, 64), np.uint8))
    line = f"{sys.executable} -m aecli embed {digits_model} many.npy -q | head -n 1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, check=True, text=True)
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["z0,z1,z2,z3,z4", "141"]


def test_rows_of_another_width_are_refused(run, digits_model):
    np.save("wide.npy", np.zeros((4, 65)))
    done = run("embed", digits_model, "wide.npy")
    assert (done.code, done.out) == (1, "")
    assert done.err == "error: wide.npy: 65 values per row, and the model takes 64\n"


def test_data_in_the_models_place_is_told(run, iris_model, iris_csv):
    done = run("embed", iris_csv, iris_model)
    assert (done.code, done.out) == (1, "")
    assert done.err == (
        f"error: iris.csv is not a checkpoint\nhint: the model comes first, then the data; is it {iris_model}?\n"
    )


def test_missing_columns_are_listed(run, iris_model):
    Path("other.csv").write_text("sepal length (cm),sepal width (cm),colour\n5,3,red\n")
    done = run("embed", iris_model, "other.csv")
    assert (done.code, done.out) == (1, "")
    assert done.err == (
        "error: other.csv: 2 of the model's 4 columns are missing: 'petal length (cm)', 'petal width (cm)'\n"
        "hint: its columns are 'sepal length (cm)', 'sepal width (cm)', 'colour'\n"
    )


def test_a_model_of_a_file_wants_to_be_told_what_to_read(run, iris_model):
    done = run("embed", iris_model)
    assert (done.code, done.out) == (2, "")
    assert done.err == (
        f"error: DATA is missing, and {iris_model} was trained on iris.csv, which is not a built-in set\n"
        f"hint: aecli embed {iris_model} DATA\n"
    )
    Path("iris.csv").touch()
    assert run("embed", iris_model).err.endswith(f"hint: aecli embed {iris_model} iris.csv\n")


def test_a_value_out_of_all_proportion_is_an_error_in_training(run):
    Path("far.csv").write_text("a,b\n1,2\n2,1\n3,1e160\n4,2\n")
    done = run("train", "far.csv", "--scale", "none", "--epochs", "1", "-q")
    assert (done.code, done.out) == (1, "")
    assert done.err == (
        "error: 1e+160, in column 'b', is far too large compared to the other rows\n"
        "hint: correct or drop such rows first\n"
    )


def test_a_checkpoint_is_not_replaced_by_anything_else(run, digits_model):
    before = digits_model.read_bytes()
    Path("good.safetensors").write_bytes(before)
    done = run("embed", digits_model, "digits", "--format", "csv", "-o", "good.safetensors")
    assert (done.code, done.out) == (1, "")
    assert done.err == "error: good.safetensors is a checkpoint, and would be lost\nhint: name another --output\n"
    assert Path("good.safetensors").read_bytes() == before


def test_a_full_stdout_is_an_error(digits_model):
    for argv in ("embed {} digits -q", "info {}", "plot {} digits -q -o -"):
        line = f"{sys.executable} -m aecli {argv.format(digits_model)} > /dev/full"
        done = subprocess.run(["bash", "-c", line], capture_output=True, check=False, text=True)
        assert done.returncode == 1
        assert done.stderr == "error: standard output cannot be written (No space left on device)\n"


def test_a_closed_stdout_or_stdin_is_an_error(digits_model):
    for argv, says in (
        ("info {} >&-", "standard output is closed, and the result goes there"),
        ("embed {} - <&-", "standard input is closed"),
    ):
        line = f"{sys.executable} -m aecli {argv.format(digits_model)}"
        done = subprocess.run(["bash", "-c", line], capture_output=True, check=False, text=True)
        assert done.returncode == 1
        assert done.stderr.startswith(f"error: {says}\n")


def test_bytes_that_wait_on_stdin_are_pointed_to(run, iris_model):
    done = run("embed", iris_model, stdin=b"a,b\n1,2\n")
    assert done.code == 2
    assert done.err.endswith(f"hint: aecli embed {iris_model} -\n")


def test_an_object_array_is_never_unpickled(run):
    np.save("objects.npy", np.array([{}, {}], dtype=object), allow_pickle=True)
    done = run("train", "objects.npy")
    assert done.code == 1
    assert done.err.startswith("error: objects.npy: an NPY file of Python objects, which is not read")


def test_control_characters_from_a_file_do_not_reach_the_terminal(run):
    Path("evil.csv").write_bytes(b"a\x1b[31m,b,c\nred,2,3\n1,2,3\n")
    done = run("train", "evil.csv")
    assert done.code == 1
    assert "\x1b" not in done.err
    assert "\\x1b[31m" in done.err


def test_a_newer_format_is_refused_by_name(run, digits_model):
    data = digits_model.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    metadata = json.loads(header["__metadata__"]["aecli"])
    header["__metadata__"]["aecli"] = json.dumps(metadata | {"format": 99})
    changed = json.dumps(header).encode()
    Path("new.safetensors").write_bytes(struct.pack("<Q", len(changed)) + changed + data[8 + length :])
    done = run("info", "new.safetensors")
    assert (done.code, done.out) == (1, "")
    assert done.err == (
        "error: new.safetensors: written in checkpoint format 99, and this version of aecli reads up to format 2\n"
        "hint: upgrade aecli: pip install --upgrade aecli\n"
    )


def test_many_columns_with_empty_cells_are_listed_in_one_sentence(run):
    names = [f"gene {i}" for i in range(1, 11)]
    Path("t.csv").write_text(
        ",".join(names) + "\n" + ",".join("1" * 10) + "\n" + ",".join(["", *"234567890"]) + "\n" + "," * 9 + "8\n"
    )
    done = run("train", "t.csv", "-o", "m.safetensors")
    assert (done.code, done.err) == (
        1,
        "error: t.csv: 9 columns have 10 cells without a value: 'gene 1', 'gene 2', 'gene 3', 'gene 4', 'gene 5', "
        "'gene 6', 'gene 7', 'gene 8' and 1 more; the first is in column 'gene 1', row 2: --missing says what to do "
        "with them\n"
        "hint: aecli train t.csv -o m.safetensors --missing mean\n",
    )
