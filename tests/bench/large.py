"""Training on rows that are not held in memory: what shuffling by blocks costs, and what memory it takes.

AECLI_DATA_DIR=... python -m tests.bench.large [--gigabytes 8] [--epochs 6]

MNIST is trained on in memory, with one shuffle of all its rows; then from a file, in windows of 256 random blocks as
rows too many for memory are, with blocks so small that they make twelve windows: as it is, and sorted by its labels.
Then a process of its own trains for some seconds on a file of random pixels of so many gigabytes.
"""

import argparse
import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # as the program has it

import numpy as np

from aecli.data import gather, part
from aecli.data.idx import read_idx
from aecli.data.opening import open_source
from aecli.data.source import ArraySource
from aecli.training import rows as shuffling_rows
from aecli.training.fit import fit

RAW = Path(os.environ["AECLI_DATA_DIR"]) / "MNIST" / "raw"
BLOCK_BYTES = 1 << 14
BLOCKS_TOGETHER = shuffling_rows.WINDOW_BYTES // part.BLOCK_BYTES
SECONDS = 60  # of training on the large file, which has to suffice for memory to reach its peak


def images(split):
    return read_idx(RAW / f"{split}-images-idx3-ubyte.gz")


def error(source, epochs):
    """Give the error on MNIST's test images."""
    held_out = ArraySource("test", images("t10k"), image_shape=(28, 28), full_scale=255.0)
    return fit(source, test=held_out, epochs=epochs, device="cpu").checkpoint.results.test_mse


def shuffling(epochs):
    """Print the error of each way to shuffle, and its ratio to that of a full shuffle."""
    np.save("plain.npy", images("train"))
    np.save("sorted.npy", images("train")[np.argsort(read_idx(RAW / "train-labels-idx1-ubyte.gz"), kind="stable")])
    full = error(open_source("plain.npy"), epochs)
    print(f"all rows shuffled in memory   test MSE {full:.6f}", flush=True)
    gather.MEMORY_BYTES, part.BLOCK_BYTES, shuffling_rows.BLOCK_BYTES = 1 << 20, BLOCK_BYTES, BLOCK_BYTES
    shuffling_rows.WINDOW_BYTES = BLOCKS_TOGETHER * BLOCK_BYTES
    for name in ("plain", "sorted"):
        found = error(open_source(f"{name}.npy"), epochs)
        print(f"windows of blocks, {name:10} test MSE {found:.6f}, {found / full:.3f} of it", flush=True)


def memory(gigabytes):
    """Print the most anonymous memory that training on a large file takes."""
    rows = int(gigabytes * 1e9) // 784
    with Path("large.npy").open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": (rows, 28, 28)}
        np.lib.format.write_array_header_1_0(file, header)
        chunk = np.random.default_rng(0).integers(0, 256, (1 << 16, 784), dtype=np.uint8)
        file.writelines(chunk[: rows - start].data for start in range(0, rows, len(chunk)))
    command = [sys.executable, "-m", "aecli", "train", "large.npy", "-o", "m.safetensors", "--epochs", "1"]
    with Path("said").open("w") as err, subprocess.Popen(command, stderr=err) as program:
        peak, begun, status = 0, None, Path(f"/proc/{program.pid}/status")
        while program.poll() is None:
            with contextlib.suppress(OSError, TypeError):
                peak = max(peak, int(re.search(r"RssAnon:\s+(\d+)", status.read_text())[1]))
            if begun is None and "training" in Path("said").read_text():
                begun = time.monotonic()
            if begun is not None and time.monotonic() - begun > SECONDS:
                program.send_signal(signal.SIGTERM)  # a shell that put this to the background may have SIGINT ignored
                begun = float("inf")
            time.sleep(0.05)
    print(f"{Path('large.npy').stat().st_size / 1e9:.1f} GB of rows: {peak / 1024:.0f} MB of anonymous memory at most")


def main():
    """Run both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=8)
    parser.add_argument("--epochs", type=int, default=6)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        memory(asked.gigabytes)
        shuffling(asked.epochs)


if __name__ == "__main__":
    main()
