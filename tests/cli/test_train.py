import dataclasses
import json
import platform
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

import aecli
from aecli.cli.train import _output_path
from aecli.data.formats import source_name
from aecli.model import checkpoint


def test_the_digits_are_learned_in_seconds_without_a_network(digits_run):
    done, folder = digits_run
    assert done.code == 0, done.err
    assert done.out == ""
    assert [path.name for path in folder.iterdir()] == ["digits.safetensors"]
    made = checkpoint.read(folder / "digits.safetensors")
    assert made.model.latent_dim == 5
    assert made.results.test_rows == 360
    assert made.results.test_mse <= 0.8 * made.results.pca_mse


def test_off_a_terminal_each_epoch_is_a_line_and_the_end_is_told_beside_pca(run):
    done = run("train", "--epochs", "3", "--device", "cpu")
    assert (done.code, done.out) == (0, "")
    number = r"\d\.\d+(e-\d+)?"
    expected = (
        r"training 64-256-5 on 1,437 rows, 360 held out, on CPU, \d threads?\n"
        + "".join(rf"epoch {i}/3 loss {number} held-out {number} [\d,]+ rows/s\n" for i in (1, 2, 3))
        + r"calibrating scores\n"
        r"wrote digits\.safetensors\n"
        rf"training MSE {number} after 3 epochs, \d+\.\d s\n"
        rf"held-out MSE {number} on 360 rows, \d+\.\d\d times PCA's 0\.034474 \(5 components\)\n"
        r"scores: anomalies at p <= 0\.01: \d+ of 360 held-out rows \(\d\.\d%\)\n"
        r"PCA does better on these rows: more --epochs or --channels 16,32 may help\n"
    )
    assert re.fullmatch(expected, done.err), done.err


def test_quiet_says_nothing(run):
    done = run("train", "--epochs", "2", "--quiet")
    assert (done.code, done.out, done.err) == (0, "", "")
    assert Path("digits.safetensors").exists()


def test_json_is_one_object_with_the_documented_keys(run):
    done = run("train", "--epochs", "2", "--json", "--seed", "4", "-q")
    assert done.code == 0
    facts = json.loads(done.out)
    assert list(facts) == [
        "checkpoint", "data", "rows", "inputs", "latent_dim", "parameters", "epochs",
        "train_mse", "test_mse", "pca_mse", "loss", "train_loss", "test_loss",
        "kl", "active_dims", "explained_variance", "active_values", "dead_latents", "test_recall", "pca_recall",
        "prefix_mse",
        "seconds", "device", "seed", "learnt", "left_out", "label", "kept",
    ]  # fmt: skip
    assert facts | {"train_mse": 0, "test_mse": 0, "pca_mse": 0, "seconds": 0, "device": ""} == {
        "checkpoint": "digits.safetensors", "data": "digits", "rows": 1437, "inputs": 64, "latent_dim": 5,
        "parameters": 35_909, "epochs": 2, "train_mse": 0, "test_mse": 0, "pca_mse": 0, "loss": "mse",
        "train_loss": None, "test_loss": None, "kl": [], "active_dims": None, "explained_variance": None,
        "active_values": None, "dead_latents": None, "test_recall": None, "pca_recall": None, "prefix_mse": {},
        "seconds": 0, "device": "",
        "seed": 4, "learnt": [], "left_out": {}, "label": "label", "kept": [],
    }  # fmt: skip
    assert 0 < facts["test_mse"] < 1


def test_equal_runs_give_equal_bytes_and_another_seed_others(run):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        assert run("train", "--epochs", "2", "--seed", seed, "-o", f"{name}.safetensors").code == 0
    first, again, other = (Path(f"{name}.safetensors").read_bytes() for name in "abc")
    assert first == again
    assert first != other


def test_the_checkpoint_on_stdout_is_that_of_another_process_in_a_file(run):
    run("train", "--epochs", "2", "-q")
    with Path("piped.safetensors").open("wb") as out:
        command = [sys.executable, "-m", "aecli", "train", "--epochs", "2", "-q", "-o", "-"]
        subprocess.run(command, stdout=out, check=True)
    assert Path("piped.safetensors").read_bytes() == Path("digits.safetensors").read_bytes()


def test_a_checkpoint_is_replaced_and_that_is_said(run):
    assert "wrote digits.safetensors" in run("train", "--epochs", "1").err
    assert "replaced digits.safetensors" in run("train", "--epochs", "1").err


def test_force_replaces_what_is_no_checkpoint(run):
    Path("notes.txt").write_text("notes")
    assert run("train", "--epochs", "1", "-o", "notes.txt", "--force").code == 0
    assert checkpoint.is_checkpoint(Path("notes.txt"))


def test_a_checkpoint_of_other_data_is_replaced_by_force_alone(run, iris_csv):
    flags = ["-o", "m.safetensors", "--epochs", "1", "-q"]
    hint = "hint: name another -o FILE, or replace it with --force\n"
    assert run("train", iris_csv, "--exclude", "species", *flags).code == 0
    before = Path("m.safetensors").read_bytes()
    np.save("four.npy", np.random.default_rng(0).normal(size=(40, 4)))
    petals = "'petal length (cm)', 'petal width (cm)'"
    for words, says in (
        ([iris_csv, "--features", "sepal*"], f"of other columns: only it has {petals}"),
        (["digits"], "of 4 columns, and this is data of images of 8 × 8 pixels"),
        (["four.npy"], f"of other columns: only it has 'sepal length (cm)', 'sepal width (cm)', {petals}; "
         "only this data has 'x0', 'x1', 'x2', 'x3'"),
    ):  # fmt: skip
        done = run("train", *words, *flags)
        assert (done.code, done.err) == (1, f"error: m.safetensors is a model {says}\n{hint}")
    assert Path("m.safetensors").read_bytes() == before
    assert run("train", iris_csv, "--exclude", "species", "--seed", "1", *flags).code == 0
    assert run("train", "digits", "--force", *flags).code == 0
    assert checkpoint.read(Path("m.safetensors")).data == "digits"


def test_a_checkpoint_of_another_built_in_set_is_replaced_by_force_alone(run, tiny_archives):
    for folder in ("MNIST", "FashionMNIST"):
        (Path(folder) / "raw").mkdir(parents=True)
        for name, data in tiny_archives.items():
            (Path(folder) / "raw" / name).write_bytes(data)
    flags = ["-o", "m.safetensors", "--epochs", "1", "-q", "--data-dir", "."]
    assert run("train", "mnist", *flags).code == 0
    done = run("train", "fashion-mnist", *flags)
    assert (done.code, done.err.splitlines()[0]) == (
        1,
        "error: m.safetensors is a model of mnist, and this is fashion-mnist",
    )


def test_a_file_on_standard_input_is_not_left_unread_without_a_word(run, process):
    done = run("train", "--epochs", "1", stdin=b"1,2,3\n" * 30)
    assert (done.code, done.out, done.err) == (
        2,
        "",
        "error: standard input is a file, but without DATA train uses digits\n"
        "hint: to train on standard input: aecli train - -o FILE\n",
    )
    assert process("train", "--epochs", "1", "-q", stdin=b"1,2,3\n").code == 0  # a pipe, as scripts and cron leave


def test_help_says_where_the_checkpoint_goes(run):
    said = " ".join(run("train", "--help").out.replace("│", " ").split())
    assert "By default it is named after the data, in the working directory: <data>.safetensors; " in said


@pytest.mark.parametrize(
    ("data", "recipe", "name"),
    [
        ("digits:test", "modern", "digits.safetensors"),
        ("digits", "classic", "digits-classic.safetensors"),
        ("a/b.c.csv", "modern", "b.c.safetensors"),
        ("a/b.csv.gz", "classic-2d", "b-classic-2d.safetensors"),
        ("a/rows.npz:x", "modern", "rows.safetensors"),
        ("./photos/", "modern", "photos.safetensors"),
    ],
)
def test_the_checkpoint_is_named_after_the_data_and_the_recipe(data, recipe, name):
    assert _output_path(data, None, recipe) == Path(name)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ("/home/me/rows.csv", "rows.csv"),
        ("photos/", "photos"),
        ("-", "standard input"),
        (["a/x.csv", "a/y.csv"], "x.csv and 1 other"),
        ([Path("a/x.csv"), "b", "c", "d"], "x.csv and 3 others"),
        ("s3://bucket/some/key.parquet", "s3://bucket/some/key.parquet"),
        ("s3://ID:se/cret@bucket/key.csv", "s3://bucket/key.csv"),
        ("https://me:secret@host:8080/a/rows.csv?token=1#top", "https://host:8080/a/rows.csv"),
        ("https://me@host/rows.csv", "https://host/rows.csv"),
        ("s3://bucket/key@2024.csv", "s3://bucket/key@2024.csv"),
        ("file:///home/me/rows.csv", "rows.csv"),
        (np.zeros((2, 2)), None),
        ([[1.0, 2.0]], None),
    ],
    ids=str,
)
def test_a_source_is_named_without_its_place_and_without_secrets(data, name):
    assert source_name(data) == name


def test_the_checkpoint_knows_the_datas_name(run, iris_csv):
    Path("folder").mkdir()
    iris_csv.rename("folder/iris.csv")
    assert run("train", "folder/iris.csv", "--label", "species", "--epochs", "1", "-q").code == 0
    data = Path("iris.safetensors").read_bytes()
    assert checkpoint.read(Path("iris.safetensors")).source == "iris.csv"
    assert b"folder" not in data
    shown = run("info", "iris.safetensors").out
    assert re.search(r"^trained on +iris\.csv, 135 rows$", shown, re.MULTILINE), shown
    assert re.search(r"^written +\d{4}-\d\d-\d\d \d\d:\d\d$", shown, re.MULTILINE), shown


def test_a_csv_is_trained_on_from_a_file_and_from_stdin_alike(run, iris_csv):
    flags = ["--label", "species", "--epochs", "5", "-q"]
    assert run("train", iris_csv, *flags, "-o", "file.safetensors").code == 0
    assert run("train", "-", *flags, "-o", "pipe.safetensors", stdin=iris_csv.read_bytes()).code == 0
    file, pipe = (aecli.load(f"{name}.safetensors") for name in ("file", "pipe"))
    assert (file.checkpoint.source, pipe.checkpoint.source) == ("iris.csv", "standard input")
    pipe.checkpoint = dataclasses.replace(pipe.checkpoint, source="iris.csv")
    assert pipe.to_bytes() == file.to_bytes()
    made = checkpoint.read(Path("file.safetensors"))
    assert made.schema.features == ("sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)")
    assert made.schema.label == "species"
    assert (made.results.rows, made.results.test_rows) == (135, 15)


def test_columns_are_left_out_by_glob(run, iris_csv):
    assert (
        run("train", iris_csv, "--exclude", "species", "--exclude", "sepal*", "--epochs", "2", "--latent-dim", "1").code
        == 0
    )
    assert checkpoint.read(Path("iris.safetensors")).schema.features == ("petal length (cm)", "petal width (cm)")


def test_an_array_and_idx_images_are_trained_on(run, idx):
    rng = np.random.default_rng(0)
    np.save("table.npy", rng.normal(size=(50, 8)).astype(np.float32))
    Path("pictures-idx3-ubyte").write_bytes(idx(rng.integers(0, 256, (50, 6, 5), dtype=np.uint8)))
    assert run("train", "table.npy", "--epochs", "2").code == 0
    assert run("train", "pictures-idx3-ubyte", "--epochs", "2").code == 0
    assert checkpoint.read(Path("table.safetensors")).scaler == "standard"
    pictures = checkpoint.read(Path("pictures-idx3-ubyte.safetensors"))
    assert pictures.schema.image_shape == (6, 5)
    assert pictures.scaler == "full-scale"
    assert pictures.model.output_activation == "sigmoid"


def test_flags_shape_the_model(run):
    flags = ["--hidden-dims", "32,16", "--latent-dim", "3", "--activation", "relu", "--optimizer", "adam"]
    assert run("train", *flags, "--lr", "0.01", "--batch-size", "64", "--epochs", "2").code == 0
    made = checkpoint.read(Path("digits.safetensors"))
    assert made.model.hidden_dims == (32, 16)
    assert (made.model.latent_dim, made.model.activation) == (3, "relu")
    assert (made.train.optimizer, made.train.lr, made.train.batch_size, made.train.epochs) == ("adam", 0.01, 64, 2)
    assert safetensors.numpy.load_file("digits.safetensors")["encoder.4.weight"].shape == (3, 16)


def test_the_environment_stands_for_flags_and_a_flag_wins(run, monkeypatch):
    monkeypatch.setenv("AECLI_DEVICE", "cuda:99")
    assert run("train", "--epochs", "1").code == 1
    assert run("train", "--epochs", "1", "--device", "cpu").code == 0


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators are left as they are")
def test_what_a_step_frees_the_next_one_has_at_once():
    code = """
import resource, sys
from aecli import cli
sys.argv = ["aecli", "train", "-q", "--epochs", "1"]
try:
    cli.main()
except SystemExit:
    pass
def step():
    return [bytearray(5 << 20) for _ in range(10)]
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
step()
step()
before = faults()
for _ in range(20):
    step()
print(faults() - before)
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert int(done.stdout) < 1000  # 250,000 where each step gets its memory anew
