"""How training scales over processes of one machine: torchrun's beside one process with as many threads.

AECLI_DATA_DIR=... python -m tests.bench.ranks [--processes 2] [--rounds 5]

Each model is trained on MNIST in turns: by one process with as many threads as there are processes, and by torchrun
with one thread in each. Rows/s are what the run reports of its last epoch, without what comes before and after. The
table has medians, the ratio of both, the bytes that the processes sum in a step, and the share of a step's time that
this takes: measured apart, on that many bytes.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import aecli

MODELS = {
    "default": ["--epochs", "2"],
    "wide": ["--epochs", "1", "--hidden-dims", "1024,1024,512", "--latent-dim", "64"],
    "sparse": ["--epochs", "1", "--bottleneck", "sparse", "--latent-dim", "3136"],
    "map": ["--epochs", "1", "--recipe", "map"],
}
SUM = """
import statistics, sys, time, torch, torch.distributed as dist
dist.init_process_group("gloo")
x = torch.zeros(int(sys.argv[1]) // 4)
taken = []
for _ in range(30):
    dist.barrier()
    started = time.perf_counter()
    dist.all_reduce(x)
    taken.append(time.perf_counter() - started)
if dist.get_rank() == 0:
    print(statistics.median(taken))
dist.destroy_process_group()
"""


def torchrun(processes, *words):
    return [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes), *words]


def timed(folder, words, processes, *, together):
    """Train: rows/s of the last epoch, and what `--json` says."""
    command = ["-m", "aecli", "train", "mnist", "--device", "cpu", "--json", "-o", "m.safetensors", "--force", *words]
    start = torchrun(processes, *command) if together else [sys.executable, *command]
    env = os.environ | {"OMP_NUM_THREADS": str(1 if together else processes)}
    done = subprocess.run(start, cwd=folder, capture_output=True, text=True, check=False, env=env)
    if done.returncode:
        sys.exit(done.stderr)
    return int(re.findall(r"([\d,]+) rows/s", done.stderr)[-1].replace(",", "")), json.loads(done.stdout)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "sum.py")
        script.write_text(SUM)
        print("| model | one process, rows/s | torchrun, rows/s | ratio | bytes a step | their share of it | MSE |")
        print("| --- | --- | --- | --- | --- | --- | --- |")
        for name in asked.models:
            rounds = [
                [timed(folder, MODELS[name], asked.processes, together=together) for together in (False, True)]
                for _ in range(asked.rounds)
            ]
            alone, together = (statistics.median(each[i][0] for each in rounds) for i in range(2))
            ratio = statistics.median(several / one for (one, _), (several, _) in rounds)
            made, others = rounds[0][1][1], rounds[0][0][1]
            size = 4 * (1 + made["parameters"])
            done = subprocess.run(
                torchrun(asked.processes, str(script), str(size)), capture_output=True, text=True, check=True
            )
            step = aecli.load(Path(folder, "m.safetensors")).checkpoint.train.batch_size / together
            print(
                f"| {name} | {alone:,.0f} | {together:,.0f} | {ratio:.2f} | {size:,} | "
                f"{float(done.stdout) / step:.0%} | {others['test_mse']:.5f}, {made['test_mse']:.5f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
