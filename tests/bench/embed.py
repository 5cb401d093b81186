"""MNIST as a CSV of 60,000 rows of 784 values, to a CSV of 64 values a row; and what memory that takes.

AECLI_DATA_DIR=... python -m tests.bench.embed [--rounds 3]

Three contenders in turn, in one process, imports left out: pyarrow alone, which reads that file and writes that result;
`aecli embed`; and the script that one writes with pandas and scikit-learn's PCA. Then the peak of the memory that the
program takes for that file, and for its first fiftieth.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # as the program has it

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pacsv
from sklearn.decomposition import PCA
from threadpoolctl import threadpool_limits

from aecli.cli.embed import embed
from aecli.cli.train import train
from aecli.data.idx import read_idx

RAW = Path(os.environ["AECLI_DATA_DIR"]) / "MNIST" / "raw"
NAMES = [f"z{i}" for i in range(64)]


def seconds(work):
    """Time some work."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def peak_megabytes(code, *argv):
    """Give the peak of the memory that a Python process takes for some code."""
    code = f"try:\n {code}\nfinally:\n print(open('/proc/self/status').read())"
    done = subprocess.run([sys.executable, "-c", code, *map(str, argv)], check=True, capture_output=True, text=True)
    return int(re.search(r"VmHWM:\s+(\d+) kB", done.stdout)[1]) / 1024


def main():
    """Run the contenders in turn, several times, and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        train(["mnist"], "m.safetensors", epochs=1, data_dir=RAW.parent.parent, quiet=True)
        x = read_idx(RAW / "train-images-idx3-ubyte.gz").reshape(-1, 784)
        lines = [",".join(map(str, row)) + "\n" for row in x.tolist()]
        Path("mnist.csv").write_text("".join(lines))
        Path("small.csv").write_text("".join(lines[: len(lines) // 50]))
        embed(Path("m.safetensors"), ["mnist.csv"], "codes.csv", quiet=True)
        codes = pacsv.read_csv("codes.csv")
        fitted = PCA(64).fit(x.astype(np.float32))

        def pyarrow_alone():
            pacsv.read_csv("mnist.csv", pacsv.ReadOptions(autogenerate_column_names=True))
            pacsv.write_csv(codes, "arrow.csv")

        def ours():
            with threadpool_limits(1, "blas"):  # as the program has it
                embed(Path("m.safetensors"), ["mnist.csv"], "codes.csv", quiet=True)

        def script():
            rows = pd.read_csv("mnist.csv", header=None)
            pd.DataFrame(fitted.transform(rows.to_numpy(np.float32)), columns=NAMES).to_csv("pca.csv", index=False)

        contenders = {"pyarrow alone": pyarrow_alone, "aecli embed": ours, "pandas and PCA": script}
        codes = codes.cast(pa.schema([(name, pa.float32()) for name in NAMES]))
        taken = {name: [] for name in contenders}
        for _ in range(rounds):
            for name, work in contenders.items():
                taken[name].append(seconds(work))
        floor = statistics.median(taken["pyarrow alone"])
        for name, times in taken.items():
            print(f"{name:16} {statistics.median(times):6.2f} s, {statistics.median(times) / floor:.2f} of pyarrow")
        for name in ("small.csv", "mnist.csv"):
            peak = peak_megabytes(
                "from aecli import cli; cli.main()", "embed", "m.safetensors", name, "-o", "codes.csv", "-q"
            )
            size = Path(name).stat().st_size / 1e6
            print(f"{name:12} {size:6.1f} MB: {peak:.0f} MB at its peak")


if __name__ == "__main__":
    main()
