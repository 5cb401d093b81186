import contextlib
import dataclasses
import fcntl
import gzip
import json
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

# As the program has them, before anything imports torch or NumPy.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
if "PYTEST_XDIST_WORKER" in os.environ:  # each core has its tests, and no thread waits for another
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import elsewhere
import numpy as np
import pandas as pd  # noqa: F401, before the program says that there is none
import pytest
import served

from aecli import cli, recipes

MNIST_FOLDER = Path(os.environ.get("AECLI_DATA_DIR", "")) / "MNIST" / "raw"


@dataclass
class Completed:
    """What a command left: its exit code, and all that it wrote to stdout and to stderr."""

    code: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("AECLI_DEVICE", raising=False)


@pytest.fixture
def run(capfd, monkeypatch):
    """Run a command line in this process, which has loaded already what it imports."""

    def run(*argv, stdin=b""):
        monkeypatch.setattr(sys, "argv", ["aecli", *map(str, argv)])
        (Path.cwd() / ".stdin").write_bytes(stdin)
        capfd.readouterr()
        with Path(".stdin").open() as given, monkeypatch.context() as patch:
            patch.setattr(sys, "stdin", given)
            with pytest.raises(SystemExit) as stopped:
                cli.main()
        out, err = capfd.readouterr()
        Path(".stdin").unlink()
        return Completed(stopped.value.code or 0, out, err)

    return run


def run_process(*argv, stdin=b"", env=None, **options):
    """Run a command line as a user does: as a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "aecli", *map(str, argv)],
        input=stdin,
        capture_output=True,
        check=False,
        env=os.environ | (env or {}),
        timeout=300,
        **options,
    )
    return Completed(done.returncode, done.stdout.decode(), done.stderr.decode())


@pytest.fixture
def one_network(monkeypatch):
    """Only the model is trained: no other networks show what its scores are worth, or whether PCA would do."""
    monkeypatch.setattr("aecli.training.folds.BY_HEART", 0)


@pytest.fixture
def few_steps(monkeypatch):
    """Two epochs where the rules would choose more: what is asked is not what they come to."""
    choose = recipes._choose_steps

    def few(choices, rows):
        asked = choices["epochs"]
        choose(choices, rows)
        choices["epochs"] = 2 if asked is None else asked

    monkeypatch.setattr(recipes, "_choose_steps", few)


@pytest.fixture
def process():
    return run_process


BLOCK = r"^```sh\n(.*?)^```$(?:\n\n```text\n(.*?)^```$)?"


def without_numbers(text):
    """Return lines with 0 in the place of each number, and single blanks, without empty lines and the device's name."""
    text = re.sub(r"^(training .*), on .*$", r"\1", text, flags=re.MULTILINE)
    plain = re.sub(r"-?\d[\d,]*(\.\d+)?(e-?\d+)?", "0", re.sub(r" +", " ", text))
    return re.sub(r"\n\n+", "\n", plain)


def _run_line(line, folder, env):
    words = ["bash", "-c", f"set -eu\n{line}"]
    done = subprocess.run(words, cwd=folder, env=env, capture_output=True, check=False, text=True, timeout=300)
    return Completed(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="session")
def shell(tmp_path_factory):
    """Run the shell lines of a text in a folder, one by one, as a reader would who copies them: line -> output.

    A line that is `given` was run already. Lines that the text shows below a block are among what the block prints, but
    for the digits of numbers; `...` is anything.
    """
    server = served.Server(tmp_path_factory.mktemp("shell"))

    def shell(text, folder, env=None, given=MappingProxyType({})):
        path = f"{server.folder}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        outputs = {}
        for block, shown in re.findall(BLOCK, text, re.DOTALL | re.MULTILINE):
            printed = ""
            for line in block.splitlines():
                done = given.get(line) or _run_line(line, folder, os.environ | {"PATH": path} | (env or {}))
                assert done.code == 0, f"{line}\n{done.err}"
                assert "error:" not in done.err, f"{line}\n{done.err}"  # of a command before a pipe
                outputs[line] = done.out
                printed += done.err + done.out
            if shown:
                form = re.escape(without_numbers(shown)).replace(r"\.\.\.", ".*")
                plain = without_numbers(printed.replace(tempfile.gettempdir(), "/tmp"))  # as the guide has it
                found = re.search(f"^{form}", plain, re.DOTALL | re.MULTILINE)
                assert found, f"{block}\n{printed}"
        return outputs

    yield shell
    server.close()


def run_here(folder, words):
    """Run a command line that is to succeed in this process and in a folder, outside of any test."""
    with contextlib.chdir(folder), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["aecli", *words.split()])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
    assert not stopped.value.code, words


def made_once(tmp_path_factory, name, make):
    """Return a folder that `make` fills, given its path: the first test process that asks does, for all of them."""
    place = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # each worker has a folder of its own in the common one
        place = place.parent
    with (place / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (place / name).exists():
            unfinished = Path(tempfile.mkdtemp(dir=place))
            make(unfinished)
            unfinished.rename(place / name)
    return place / name


@pytest.fixture(scope="session")
def digits_run(tmp_path_factory):
    """The README's first command: the completed process, and the folder it ran in."""

    def make(folder):
        (folder / "here").mkdir()
        done = run_process("train", cwd=folder / "here")
        (folder / "done.json").write_text(json.dumps(dataclasses.asdict(done)))

    folder = made_once(tmp_path_factory, "digits", make)
    return Completed(**json.loads((folder / "done.json").read_text())), folder / "here"


@pytest.fixture
def digits_model(digits_run):
    """A checkpoint trained on the digits with the defaults."""
    return digits_run[1] / "digits.safetensors"


@pytest.fixture(scope="session")
def iris_rows():
    """The 150 irises: features (150, 4), their names, species (150,)."""
    from sklearn.datasets import load_iris

    data = load_iris()
    return data.data, data.feature_names, data.target_names[data.target]


def iris_text(x, names, species):
    lines = [",".join([*names, "species"])]
    lines += [",".join([*map(repr, row.tolist()), name]) for row, name in zip(x, species, strict=True)]
    return "\n".join(lines) + "\n"


@pytest.fixture
def iris_csv(iris_rows):
    """`iris.csv` in the current folder, with a column of species."""
    Path("iris.csv").write_text(iris_text(*iris_rows))
    return Path("iris.csv")


@pytest.fixture(scope="session")
def iris_model_file(tmp_path_factory, iris_rows):
    folder = tmp_path_factory.mktemp("iris")
    (folder / "iris.csv").write_text(iris_text(*iris_rows))
    run_here(folder, "train iris.csv --label species --epochs 20 -q")
    return folder / "iris.safetensors"


@pytest.fixture
def iris_model(iris_model_file):
    """A checkpoint trained on `iris.csv`."""
    return iris_model_file


@pytest.fixture
def mnist():
    """Skips where the MNIST files are not in the data folder."""
    if not MNIST_FOLDER.is_dir():
        pytest.skip("MNIST is not in $AECLI_DATA_DIR/MNIST/raw")
    return MNIST_FOLDER


def idx_bytes(array):
    """Write an array as an IDX file has it."""
    codes = {"uint8": 0x08, "int8": 0x09, "int16": 0x0B, "int32": 0x0C, "float32": 0x0D, "float64": 0x0E}
    shape = b"".join(size.to_bytes(4, "big") for size in array.shape)
    big_endian = array.astype(array.dtype.newbyteorder(">")).tobytes()
    return bytes([0, 0, codes[array.dtype.name], array.ndim]) + shape + big_endian


@pytest.fixture
def idx():
    return idx_bytes


def tiny_mnist_archives():
    """The four archives of a set like MNIST, with 20 training and 10 test images of 28 × 28: name -> bytes."""
    rng = np.random.default_rng(0)
    archives = {}
    for split, rows in (("train", 20), ("t10k", 10)):
        images = rng.integers(0, 256, (rows, 28, 28), dtype=np.uint8)
        labels = np.arange(rows, dtype=np.uint8) % 10
        archives[f"{split}-images-idx3-ubyte.gz"] = gzip.compress(idx_bytes(images), mtime=0)
        archives[f"{split}-labels-idx1-ubyte.gz"] = gzip.compress(idx_bytes(labels), mtime=0)
    return archives


@pytest.fixture
def tiny_archives():
    return tiny_mnist_archives()


@pytest.fixture
def web():
    """A web server on this machine: see `elsewhere.Web`."""
    server = elsewhere.Web()
    yield server
    server.close()


@pytest.fixture(scope="session")
def s3_variables():
    with elsewhere.s3() as variables:
        yield variables


@pytest.fixture
def bucket(s3_variables, monkeypatch, tmp_path):
    """An empty bucket of S3's API on this machine, which the program finds by its variables."""
    for name, value in s3_variables.items():
        monkeypatch.setenv(name, value)
    return elsewhere.Objects(s3_variables, f"bucket-{abs(hash(tmp_path)):x}")
