"""What a command costs from the shell: seconds and peak memory of whole processes, imports included.

AECLI_DATA_DIR=... python -m tests.bench.start [--rounds 5]

Every command in turn, several times over: medians of the wall-clock and of the processor's time, which other programs
disturb less. "torch" names the same command with the model's layers in torch on the CPU. Without MNIST in the data
folder its rows are left out.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
RAW = Path(os.environ.get("AECLI_DATA_DIR", "")) / "MNIST" / "raw"
PYTHON = [sys.executable]
AECLI = [str(Path(sys.executable).with_name("aecli"))]  # what the shell finds
IN_TORCH = """
import torch
from aecli import cli, inference
from aecli.model.module import OnDevice
inference.Model._network = lambda self, _, tensors: OnDevice(self.checkpoint.model, tensors, torch.device("cpu"))
cli.main()
"""
TORCH = [*PYTHON, "-c", IN_TORCH]


def measured(command, env):
    """Run a command: its wall-clock seconds, its processor's seconds, its peak in MB."""
    started = time.perf_counter()
    process = subprocess.Popen(command, env=os.environ | env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, command
    return time.perf_counter() - started, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def write_csv(path, rows, header=()):
    lines = [",".join(map(str, row)) + "\n" for row in (*([header] if header else []), *rows)]
    Path(path).write_text("".join(lines))


def prepare():
    """Write the data, and train the models."""
    from sklearn.datasets import load_digits

    from aecli.data.idx import read_idx

    digits = load_digits(as_frame=True).frame.astype(int)
    write_csv("digits.csv", digits.to_numpy().tolist(), [*digits.columns[:-1], "label"])
    subprocess.run([*AECLI, "train", "digits.csv", "-q"], check=True)
    if RAW.is_dir():
        write_csv("mnist.csv", read_idx(RAW / "train-images-idx3-ubyte.gz").reshape(-1, 784).tolist())
        subprocess.run([*AECLI, "train", "mnist", "--epochs", "1", "-q"], check=True)


def commands():
    """Give what is to be measured: name -> (command, environment)."""
    asked = {
        "python -c pass": ([*PYTHON, "-c", "pass"], {}),
        "import typer, rich": ([*PYTHON, "-c", "import typer, rich"], {}),
        "import what draws help": ([*PYTHON, "-c", "import typer.rich_utils"], {}),
        "import torch": ([*PYTHON, "-c", "import torch"], {}),
        "--help": ([*AECLI, "--help"], {}),
        "--version": ([*AECLI, "--version"], {}),
        "TAB, train": (AECLI, {"_AECLI_COMPLETE": "aecli train --la"}),
        "TAB, embed": (AECLI, {"_AECLI_COMPLETE": "aecli embed digits."}),
        "info": ([*AECLI, "info", "digits.safetensors"], {}),
    }
    digits_words = ["digits.safetensors", "digits.csv", "-o", "out.csv", "-q"]
    for command in ("embed", "reconstruct"):
        asked[f"{command}, digits"] = ([*AECLI, command, *digits_words], {})
        asked[f"{command}, digits, torch"] = ([*TORCH, command, *digits_words], {})
    asked["plot, digits"] = ([*AECLI, "plot", "digits.safetensors", "digits.csv", "-o", "p.png", "-q"], {})
    if RAW.is_dir():
        words = ["embed", "mnist.safetensors", "mnist.csv", "-o", "out.csv", "-q"]
        asked["embed, MNIST"] = ([*AECLI, *words], {})
        asked["embed, MNIST, torch"] = ([*TORCH, *words], {})
    return asked


def main():
    """Measure every command in turn, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        os.environ["PYTHONPATH"] = f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = f"{folder}/bytecode"  # which an installed program has
        # In a process of its own: one that is started counts the memory of the one that starts it as its own.
        subprocess.run([*PYTHON, "-c", "from tests.bench import start; start.prepare()"], check=True)
        asked = commands()
        found = {name: [] for name in asked}
        for i in range(rounds + 1):
            for name, (command, env) in asked.items():
                run = measured(command, env)
                found[name] += [run] if i else []  # the first round compiles the bytecode
    print(f"{'':28} wall s   CPU s    MB")
    for name, runs in found.items():
        wall, cpu, peak = (statistics.median(column) for column in zip(*runs, strict=True))
        print(f"{name:28} {wall:6.3f}  {cpu:6.3f} {peak:5.0f}")


if __name__ == "__main__":
    main()
