"""The built-in sets: read where they lie, downloaded where they do not."""

import gc
import gzip
import hashlib
import http.server
import importlib.util
import threading
from pathlib import Path

import numpy as np
import pytest

from aecli.data.builtin import TORCHVISION
from aecli.data.formats import NAMES
from aecli.data.opening import open_source


class Archives(http.server.BaseHTTPRequestHandler):
    """Serves the archives of its server, or one status for every request."""

    def do_GET(self):
        self.server.requests.append(self.path)
        body = self.server.archives.get(self.path.strip("/"), b"")
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(tiny_archives):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Archives)
    server.archives, server.status, server.requests = tiny_archives, 200, []
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def train_mnist(run, monkeypatch, tmp_path, server, tiny_archives):
    """Run `aecli train mnist` where torchvision downloads from the server, into `data/`."""
    from torchvision.datasets import MNIST

    sums = [(name, hashlib.md5(tiny_archives[name]).hexdigest()) for name, _ in MNIST.resources]
    monkeypatch.setattr(MNIST, "mirrors", [f"http://127.0.0.1:{server.server_port}/"])
    monkeypatch.setattr(MNIST, "resources", sums)
    monkeypatch.setenv("AECLI_DATA_DIR", str(tmp_path / "data"))
    yield lambda *argv: run("train", "mnist", "--epochs", "1", "--hidden-dims", "8", *argv)
    gc.collect()  # of sockets that urllib leaves open


@pytest.mark.filterwarnings("ignore:unclosed")
def test_a_set_is_downloaded_once_and_read_from_then_on(train_mnist, server, tmp_path):
    first = train_mnist("--json")
    assert first.code == 0, first.err
    assert first.out.startswith("{")
    assert first.out.count("\n") == 1
    assert first.err.startswith(f"downloading mnist into {tmp_path / 'data' / 'MNIST' / 'raw'}\n")
    assert len(server.requests) >= 4
    bytes_then = Path("mnist.safetensors").read_bytes()
    server.requests.clear()
    second = train_mnist()
    assert second.code == 0, second.err
    assert server.requests == []
    assert "downloading" not in second.err
    assert Path("mnist.safetensors").read_bytes() == bytes_then


@pytest.mark.filterwarnings("ignore:unclosed")
@pytest.mark.parametrize("trouble", ["a wrong checksum", "503", "no server"])
def test_a_failed_download_is_a_clear_error_and_leaves_nothing(train_mnist, server, tmp_path, trouble):
    if trouble == "a wrong checksum":
        server.archives = {name: gzip.compress(b"something else") for name in server.archives}
    elif trouble == "503":
        server.status = 503
    else:
        server.shutdown()
        server.server_close()
    done = train_mnist()
    folder = tmp_path / "data" / "MNIST" / "raw"
    assert (done.code, done.out) == (1, "")
    first, second, third = done.err.splitlines()
    assert first == f"downloading mnist into {folder}"
    assert second.startswith(f"error: mnist is not in {folder}, and could not be downloaded (")
    assert third.startswith("hint: connect to the network, name another folder with --data-dir, or put ")
    assert [path for path in (tmp_path / "data").rglob("*") if path.is_file()] == []
    assert not Path("mnist.safetensors").exists()


@pytest.mark.parametrize("packed", [True, False], ids=["gz", "plain"])
def test_files_in_the_data_folder_are_read_without_torchvision_or_a_trace(packed, tiny_archives, tmp_path, monkeypatch):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, archive in tiny_archives.items():
        (raw / (name if packed else name.removesuffix(".gz"))).write_bytes(
            archive if packed else gzip.decompress(archive)
        )
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setitem(__import__("sys").modules, "torchvision", None)  # its import would fail
    source = open_source(["mnist"], split="train", data_dir=tmp_path)
    batch = source.read()
    assert batch.x.shape == (20, 784)
    assert batch.x.dtype == np.uint8
    assert batch.labels.tolist() == [i % 10 for i in range(20)]
    assert source.schema.image_shape == (28, 28)
    assert source.schema.full_scale == 255
    assert sorted(tmp_path.rglob("*")) == before


def test_emnist_stands_upright_and_qmnist_takes_the_class_from_its_labels(tmp_path, idx):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (6, 28, 28), dtype=np.uint8)
    for name, labels in (("emnist", np.arange(6, dtype=np.uint8)), ("qmnist", np.arange(48, dtype=np.int32))):
        known = TORCHVISION[name]
        raw = tmp_path / known.cls / "raw"
        raw.mkdir(parents=True)
        (raw / known.files["test"][0]).write_bytes(idx(images))
        (raw / known.files["test"][1]).write_bytes(idx(labels if name == "emnist" else labels.reshape(6, 8)))
    emnist = open_source(["emnist"], split="test", data_dir=tmp_path).read()
    assert np.array_equal(emnist.x.reshape(6, 28, 28), images.transpose(0, 2, 1))
    qmnist = open_source(["qmnist"], split="test", data_dir=tmp_path).read()
    assert np.array_equal(qmnist.x.reshape(6, 28, 28), images)
    assert qmnist.labels.tolist() == [0, 8, 16, 24, 32, 40]


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "kmnist", "qmnist"])
def test_the_files_looked_for_are_those_that_torchvision_unpacks(name):
    from torchvision import datasets

    known = TORCHVISION[name]
    resources = getattr(datasets, known.cls).resources
    groups = resources.values() if isinstance(resources, dict) else [resources]
    offered = {Path(url).name.removesuffix(".gz") for group in groups for url, _ in group}
    assert set(known.files["train"]) | set(known.files["test"]) <= offered


def test_the_digits_split_is_by_writers(tmp_path):
    train = open_source(["digits:train"], split="test", data_dir=tmp_path).read()
    test = open_source(["digits"], split="test", data_dir=tmp_path).read()
    assert (train.x.shape, test.x.shape) == ((1437, 64), (360, 64))
    assert train.x.max() == 16
    assert ("digits", *TORCHVISION) == NAMES


@pytest.mark.parametrize("spec", [importlib.util.find_spec, lambda _: None], ids=["from the file", "by scikit-learn"])
def test_the_digits_are_those_that_scikit_learn_loads(tmp_path, monkeypatch, spec):
    from sklearn.datasets import load_digits

    images, targets = load_digits(return_X_y=True)
    monkeypatch.setattr("aecli.data.builtin.importlib.util.find_spec", spec)
    parts = [open_source([f"digits:{split}"], split="test", data_dir=tmp_path).read() for split in ("train", "test")]
    assert np.array_equal(np.concatenate([part.x for part in parts]), images)
    assert np.array_equal(np.concatenate([part.labels for part in parts]), targets)
    assert {part.x.dtype for part in parts} == {np.dtype(np.uint8)}
    assert {part.labels.dtype for part in parts} == {targets.dtype}


def test_real_mnist_is_read(mnist):
    source = open_source(["mnist:test"], split="train", data_dir=mnist.parent.parent)
    batch = source.read()
    assert batch.x.shape == (10_000, 784)
    assert batch.labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert np.bincount(batch.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
