"""1,000,000 rows in 16 Parquet files to their codes: by the program itself, and by the guide's code for engines.

python -m tests.engines [--rows 1000000] [--files 16]

Runs each block of Python in `aecli guide machines` as it stands, twice in one process: the first run starts the engine,
the second finds it running. Prints rows/s of both, and their ratio to `aecli embed` in the same turn. Checks that each
row has its code, and that it is the program's. An engine that is not installed is skipped: pip install pyspark
'ray[data]' duckdb; Spark needs Java.
"""

import argparse
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from aecli.cli.completion import GUIDE

ROOT = Path(__file__).parents[1]
AECLI = [sys.executable, "-m", "aecli"]
ENGINES = {"pyspark": "codes-spark", "ray": "codes-ray", "duckdb": "codes-duckdb.parquet"}
TWICE = """
import shutil, sys, time
from pathlib import Path
code, made = sys.argv[1:]
for turn in ("first", "again"):
    if Path(made).exists():
        shutil.rmtree(made) if Path(made).is_dir() else Path(made).unlink()
    started = time.perf_counter()
    exec(compile(code, "the guide", "exec"), {"__name__": "__main__"})
    print("took", time.perf_counter() - started)
"""


def blocks():
    """Give the guide's code for each engine, by the module that it imports."""
    found = re.findall(r"^```python\n(.*?)^```$", (GUIDE / "machines.md").read_text(), re.DOTALL | re.MULTILINE)
    return {next(name for name in ENGINES if name in block): block for block in found}


def prepare(rows, files):
    """Write the data and a model of it."""
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(3, 16))
    Path("in").mkdir()
    for i, ids in enumerate(np.array_split(np.arange(rows), files)):
        x = np.tanh(rng.normal(size=(len(ids), 3)) @ mix) + rng.normal(scale=0.05, size=(len(ids), 16))
        pq.write_table(pa.table({"id": ids} | {f"x{j}": x[:, j] for j in range(16)}), f"in/part-{i:02}.parquet")
    words = ["train", "in/part-00.parquet", "--latent-dim", "2", "--epochs", "1", "-o", "m.safetensors", "-q"]
    subprocess.run([*AECLI, *words], check=True)


def codes_in(made):
    """Give the ids (N,) in a file or a folder, in order, and their codes (N, K)."""
    table = ds.dataset(made, format="parquet", exclude_invalid_files=True).to_table().sort_by("id")
    return table["id"].to_numpy(), np.stack([table[name].to_numpy() for name in table.column_names[1:]], axis=1)


def aecli_itself():
    """Give the seconds that `aecli embed` takes, twice, each time as a process of its own."""
    taken = []
    for _ in range(2):
        shutil.rmtree("codes", ignore_errors=True)
        started = time.perf_counter()
        subprocess.run([*AECLI, "embed", "m.safetensors", "in", "-o", "codes/", "--keep", "id", "-q"], check=True)
        taken.append(time.perf_counter() - started)
    return taken


def main():
    """Run the program and the engines in turn, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--files", type=int, default=16)
    asked = parser.parse_args()
    os.environ["PYTHONPATH"] = f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"
    os.environ |= {"PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_IP": "127.0.0.1", "RAY_USAGE_STATS_ENABLED": "0"}
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # as the guide says
    codes = blocks()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        prepare(asked.rows, asked.files)
        own = aecli_itself()
        ids, z = codes_in("codes")
        assert np.array_equal(ids, np.arange(asked.rows))
        print(f"{'':8} {'first':>12} {'again':>12} rows/s")
        show("aecli", asked.rows, own, own)
        for engine, made in ENGINES.items():
            if importlib.util.find_spec(engine) is None:
                print(f"{engine:8} is not installed, and is skipped")
                continue
            command = [sys.executable, "-c", TWICE, codes[engine], made]
            ran = subprocess.run(command, capture_output=True, check=False, text=True)
            if ran.returncode:
                sys.exit(f"{engine} failed:\n{ran.stdout}\n{ran.stderr}")
            found = codes_in(made)
            assert np.array_equal(found[0], ids), f"{engine}: rows are lost"
            taken = [float(line.split()[1]) for line in ran.stdout.splitlines() if line.startswith("took ")]
            show(engine, asked.rows, taken, own)
            print(f"{'':8} codes differ by {np.abs(found[1] - z).max():.1g} at most, of {np.abs(z).max():.1g}")
            assert np.allclose(found[1], z, rtol=1e-4, atol=1e-5), f"{engine}: codes differ"


def show(name, rows, taken, own):
    """Print the rows/s of two runs, and their ratios to the program's."""
    shares = "" if taken is own else "".join(f"  {b / a:5.2f}" for a, b in zip(taken, own, strict=True)) + " of aecli's"
    print(f"{name:8} {rows / taken[0]:12,.0f} {rows / taken[1]:12,.0f}{shares}", flush=True)


if __name__ == "__main__":
    main()
