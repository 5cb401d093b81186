"""200,000 x 768 float32 vectors from Parquet to Parquet: `aecli embed` beside the bare work, and what memory it takes.

python -m tests.bench.vectors [--rounds 3] [--rows 200000] [--width 768]

The bare work reads the file with pyarrow, some rows at a time, multiplies them with the encoder's matrices, and writes
the result with pyarrow: as one writes it, where NumPy multiplies in as many threads as there are cores; and `tuned`, in
pieces and with buffers that stay in the cache, and in one thread. All are processes of their own, in turn, which have
imported what they need when their time begins.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]


def prepare(rows, width):
    """Write the vectors, and a model that is trained on some of them."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    import aecli

    rng = np.random.default_rng(0)
    directions = rng.normal(size=(48, width)).astype(np.float32)
    kind = pa.list_(pa.float32(), width)
    with pq.ParquetWriter("vectors.parquet", pa.schema([("embedding", kind)])) as writer:
        for start in range(0, rows, 10_000):
            count = min(10_000, rows - start)
            x = rng.normal(size=(count, 48)).astype(np.float32) @ directions
            x += rng.normal(size=x.shape).astype(np.float32)
            x /= np.linalg.norm(x, axis=1, keepdims=True)
            column = pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), width)
            writer.write_table(pa.table({"embedding": column}))
            if not start:
                pq.write_table(pa.table({"embedding": column}), "some.parquet")
    aecli.fit("some.parquet", epochs=1, device="cpu", holdout=0, store_rows=0).save("m.safetensors")


def tuned():
    """Do the bare work in small pieces."""
    return bare(1024, pre_buffer=False, buffer_size=1 << 20)


def bare(rows=8192, **options):
    """Read, multiply and write."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq
    from safetensors.numpy import load_file

    tensors = load_file("m.safetensors")
    names = sorted(name for name in tensors if re.fullmatch(r"encoder\.\d+\.weight", name))
    weights = [np.ascontiguousarray(tensors[name].T) for name in names]
    spent = {"read": 0.0, "products": 0.0, "write": 0.0}
    last, parts = time.perf_counter(), []
    for batch in pq.ParquetFile("vectors.parquet", **options).iter_batches(rows):
        h = batch.column(0).flatten().to_numpy().reshape(-1, len(weights[0]))
        spent["read"], last = spent["read"] + time.perf_counter() - last, time.perf_counter()
        for weight in weights:
            h = h @ weight
        parts.append(h)
        spent["products"], last = spent["products"] + time.perf_counter() - last, time.perf_counter()
    z = np.concatenate(parts)
    pq.write_table(pa.table({"z": pa.FixedSizeListArray.from_arrays(pa.array(z.ravel()), z.shape[1])}), "bare.parquet")
    spent["write"] = time.perf_counter() - last
    return spent


def embed():
    """Run the program."""
    from aecli import cli, inference  # noqa: F401, the time is without what takes long to import
    from aecli.data import arrow, sinks  # noqa: F401

    started = time.perf_counter()
    sys.argv = ["aecli", "embed", "m.safetensors", "vectors.parquet", "--as-vector", "-o", "embedded.parquet", "-q"]
    try:
        cli.main()
    except SystemExit as end:
        if end.code:
            raise
    return {"embed": time.perf_counter() - started}


def measured(name):
    """Run a function of this module in a process of its own: the seconds of its parts, and its peak in MB."""
    code = (
        f"import json; from tests.bench import vectors; found = vectors.{name}(); "
        'print(json.dumps([found, open("/proc/self/status").read()]))'
    )
    threads = {"OPENBLAS_NUM_THREADS": str(os.cpu_count()), "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"}
    threads |= {} if name == "bare" else {"OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True, env=os.environ | threads
    )
    seconds, status = json.loads(done.stdout)
    return seconds, int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024


def main():
    """Print a table, and the ratio of the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--width", type=int, default=768)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        prepare(asked.rows, asked.width)
        print(f"{Path('vectors.parquet').stat().st_size / 1e6:,.0f} MB")
        totals = {"bare": [], "tuned": [], "embed": []}
        for _ in range(asked.rounds):
            for name, times in totals.items():
                seconds, peak = measured(name)
                times.append(sum(seconds.values()))
                parts = ", ".join(f"{part} {spent:.2f}" for part, spent in seconds.items())
                print(f"{name:6} {times[-1]:6.2f} s ({parts}), {peak:,.0f} MB at its peak", flush=True)
        alone, tuned_alone, embedded = map(statistics.median, totals.values())
        print(f"embed takes {embedded / alone:.2f} of the bare work, {embedded / tuned_alone:.2f} of the tuned")


if __name__ == "__main__":
    main()
