"""`torchrun ... -m aecli train`: the same training in several processes, and one voice."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

ROWS = 400
TRAIN = "train", "rows.npy", "--hidden-dims", "16", "--latent-dim", "2", "--device", "cpu"


@pytest.fixture(autouse=True)
def _rows():
    rng = np.random.default_rng(0)
    codes = rng.normal(size=(ROWS, 2))
    np.save("rows.npy", np.tanh(codes @ rng.normal(size=(2, 10))).astype(np.float32))


def torchrun(*words, processes=2, **options):
    """Start `aecli` in processes by torchrun, each with one thread."""
    return subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes), "-m", "aecli", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        **options,
    )


def finished(process):
    """Wait for processes: the exit code of torchrun, stdout, and of stderr what aecli wrote."""
    out, err = process.communicate(timeout=120)
    lines = [line for line in err.splitlines() if "torch/distributed/" not in line]
    return (
        process.returncode,
        out,
        lines[: lines.index("Traceback (most recent call last):")]
        if ("Traceback (most recent call last):" in lines)
        else lines,
    )


def processes_of(started):
    """The processes that a torchrun has started, in the order of their ranks."""
    children = Path(f"/proc/{started.pid}/task/{started.pid}/children").read_text().split()
    rank = {}
    for child in children:
        variables = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
        rank.update({int(v.removeprefix(b"RANK=")): int(child) for v in variables if v.startswith(b"RANK=")})
    return [rank[number] for number in sorted(rank)]


def wait_for_a_save(path, before=None):
    for _ in range(600):
        if path.exists() and path.stat().st_size and path.stat().st_ino != before:
            return
        time.sleep(0.05)
    raise AssertionError(f"{path} was not saved")


def test_one_process_under_torchrun_writes_what_train_writes(process):
    plain = process(*TRAIN, "--epochs", "2", "-o", "plain.safetensors", env={"OMP_NUM_THREADS": "1"})
    code, _, said = finished(torchrun(*TRAIN, "--epochs", "2", "-o", "one.safetensors", processes=1))
    assert (plain.code, code) == (0, 0), said
    assert Path("one.safetensors").read_bytes() == Path("plain.safetensors").read_bytes()


def test_two_processes_learn_as_much_as_one_and_when_they_are_stopped_and_killed_the_same(process):
    words = [*TRAIN, "--epochs", "60", "--resume", "--json", "-o"]
    alone = process(*words, "alone.safetensors")
    code, out, said = finished(torchrun(*words, "whole.safetensors"))
    assert code == 0, said
    assert json.loads(out)["test_mse"] < 2 * json.loads(alone.out)["test_mse"]  # as far apart as seeds are
    kept, done = Path("m.safetensors.resume"), Path("m.safetensors")
    stopped = torchrun(*words, str(done))
    wait_for_a_save(kept)
    stopped.send_signal(signal.SIGTERM)
    code, _, said = finished(stopped)
    assert code != 0
    assert said[-3:] == [
        f"stopped, and saved in {kept}",
        f"to resume: torchrun ... -m aecli {' '.join(TRAIN)} --epochs 60 --json -o {done} --resume",
        f"to finish here: torchrun ... -m aecli {' '.join(TRAIN)} --epochs 60 --json -o {done} --finish",
    ]
    assert f"to resume       {said[-2].removeprefix('to resume: ')}\n" in process("info", str(kept)).out
    for rank in (1, 0):
        killed = torchrun(*words, str(done))
        wait_for_a_save(kept, kept.stat().st_ino)
        os.kill(processes_of(killed)[rank], signal.SIGKILL)
        at = time.monotonic()
        code, _, said = finished(killed)
        assert code != 0
        assert time.monotonic() - at < 20  # about 4 on an idle machine
        assert [line for line in said if line.startswith("error: ")] == [
            "error: another process of this run has ended"
        ][:rank]
    code, _, said = finished(torchrun(*words, str(done)))
    assert code == 0, said
    assert done.read_bytes() == Path("whole.safetensors").read_bytes()
    assert not kept.exists()


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (
            ["--batch-size", "1"],
            ["error: 2 processes cannot share a batch of 1 row", "hint: raise --batch-size"],
        ),
        (
            ["--device", "cuda:1"],
            [
                "error: --device cuda:1 is one device, and torchrun starts several processes",
                "hint: --device cuda gives each process a GPU, --device cpu none",
            ],
        ),
    ],
    ids=["once they train", "before they read"],
)
def test_of_processes_that_all_fail_one_says_why(words, why):
    started = time.monotonic()
    code, out, said = finished(torchrun(*TRAIN, "--epochs", "2", *words, "-o", "m.safetensors"))
    assert (code, out) == (1, "")
    assert said[-2:] == why
    assert sum(line.startswith("error: ") for line in said) == 1
    assert time.monotonic() - started < 60
    assert [path.name for path in Path.cwd().iterdir()] == ["rows.npy"]


def test_a_command_that_does_not_train_says_what_is_wrong_in_every_process(process):
    variables = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2"}
    done = process("embed", "none.safetensors", "rows.npy", env=variables)
    assert (done.code, done.err.splitlines()[0]) == (1, "error: none.safetensors: no such file")
