"""MNIST as a CSV of 60,000 rows of 784 values, to a CSV of 64 values a row; and what memory that takes.

AECLI_DATA_DIR=... python -m tests.bench.embed [--rounds 3]

Contenders in turn, each in a process of its own, which has imported and once used what it needs when its time begins:
pyarrow alone, which reads that file and writes that result; `aecli embed`; and the script that one writes with pandas
and scikit-learn's PCA, once fitted before and once not. Then the peak of the memory that the program takes for that
file, and for its first fiftieth.
"""

import argparse
import os
import pickle
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
RAW = Path(os.environ["AECLI_DATA_DIR"]) / "MNIST" / "raw"
AECLI = [sys.executable, "-m", "aecli"]
NAMES = [f"z{i}" for i in range(64)]


def pyarrow_alone():
    import pyarrow as pa
    import pyarrow.csv as pacsv

    schema = pa.schema([(name, pa.float32()) for name in NAMES])
    codes = {name: pacsv.read_csv(f"codes-{name}").cast(schema) for name in ("small.csv", "mnist.csv")}

    def work(name):
        pacsv.read_csv(name, pacsv.ReadOptions(autogenerate_column_names=True))
        pacsv.write_csv(codes[name], "arrow.csv")

    return work


def aecli_embed():
    from aecli import cli

    def work(name):
        sys.argv = ["aecli", "embed", "m.safetensors", name, "-o", "embedded.csv", "-q"]
        try:
            cli.main()
        except SystemExit as end:
            if end.code:
                raise

    return work


def pandas_and_pca():
    import numpy as np
    import pandas as pd

    fitted = pickle.loads(Path("pca.pickle").read_bytes())

    def work(name):
        rows = pd.read_csv(name, header=None)
        pd.DataFrame(fitted.transform(rows.to_numpy(np.float32)), columns=NAMES).to_csv("pca.csv", index=False)

    return work


def pandas_and_pca_fitting():
    import numpy as np
    import pandas as pd
    from sklearn.decomposition import PCA

    def work(name):
        rows = pd.read_csv(name, header=None)
        z = PCA(64).fit_transform(rows.to_numpy(np.float32))
        pd.DataFrame(z, columns=NAMES).to_csv("pca.csv", index=False)

    return work


CONTENDERS = {
    "pyarrow alone": pyarrow_alone,
    "aecli embed": aecli_embed,
    "pandas and PCA": pandas_and_pca,
    "pandas and PCA, fitting": pandas_and_pca_fitting,
}


def prepare():
    """Write the data, its codes, and the models."""
    import numpy as np
    from sklearn.decomposition import PCA

    import aecli
    from aecli.data.idx import read_idx

    aecli.fit("mnist", epochs=1, data_dir=RAW.parent.parent).save("m.safetensors")
    x = read_idx(RAW / "train-images-idx3-ubyte.gz").reshape(-1, 784)
    lines = [",".join(map(str, row)) + "\n" for row in x.tolist()]
    for name, count in {"mnist.csv": len(lines), "small.csv": len(lines) // 50}.items():
        Path(name).write_text("".join(lines[:count]))
        subprocess.run([*AECLI, "embed", "m.safetensors", name, "-o", f"codes-{name}", "-q"], check=True)
    Path("pca.pickle").write_bytes(pickle.dumps(PCA(64).fit(x.astype(np.float32))))


def measure(name):
    """Print the seconds that a contender takes; run in a process of its own."""
    work = CONTENDERS[name]()
    work("small.csv")
    started = time.perf_counter()
    work("mnist.csv")
    print(time.perf_counter() - started)


def call(code):
    """Run a function of this module in a process of its own, and give what it prints."""
    code = f"from tests.bench import embed; {code}"
    return subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True).stdout


def peak_megabytes(name):
    """Give the peak of the memory that the program takes to embed a file."""
    code = f"""
try:
    embed.aecli_embed()({name!r})
finally:
    print(open("/proc/self/status").read())
"""
    return int(re.search(r"VmHWM:\s+(\d+) kB", call(code))[1]) / 1024


def main():
    """Run the contenders in turn, several times, and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        os.environ["PYTHONPATH"] = f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"
        call("embed.prepare()")
        taken = {name: [] for name in CONTENDERS}
        for _ in range(rounds):
            for name, times in taken.items():
                times.append(float(call(f"embed.measure({name!r})")))
        floor = statistics.median(taken["pyarrow alone"])
        for name, times in taken.items():
            print(f"{name:24} {statistics.median(times):6.2f} s, {statistics.median(times) / floor:.2f} of pyarrow")
        for name in ("small.csv", "mnist.csv"):
            print(f"{name:12} {Path(name).stat().st_size / 1e6:6.1f} MB: {peak_megabytes(name):.0f} MB at its peak")


if __name__ == "__main__":
    main()
