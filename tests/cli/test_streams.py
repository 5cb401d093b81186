"""Rows that flow through the program as a pipe's do, and what breaks on the way."""

import contextlib
import os
import resource
import select
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from aecli.data.part import FileRows
from aecli.errors import DataError

PROGRAM = [sys.executable, "-m", "aecli"]


def piped(*argv):
    return subprocess.Popen([*PROGRAM, *map(str, argv)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)


def line_of(program):
    """Read a line of the output, which has to come within a minute though the input goes on."""
    assert select.select([program.stdout], [], [], 60)[0], "no answer"
    return program.stdout.readline().decode()


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_a_log_that_grows_is_answered_row_by_row(iris_model, iris_rows, run, iris_csv, form):
    x, names, _ = iris_rows
    expected = [line.split(",")[1:] for line in run("embed", iris_model, iris_csv).out.splitlines()[1:]]
    program = piped("embed", iris_model, "-", "--line-buffered", "--no-header", "--input-format", form)
    if form == "csv":
        program.stdin.write((",".join(names) + "\n").encode())
    for row, answer in zip(x[:5].tolist(), expected, strict=False):
        pairs = ",".join(f'"{name}":{value}' for name, value in zip(names, row, strict=True))
        line = f"{{{pairs}}}" if form == "jsonl" else ",".join(map(str, row))
        program.stdin.write(f"{line}\n".encode())
        assert [float(z) for z in line_of(program).split(",")] == pytest.approx([float(z) for z in answer], abs=1e-5)
    program.stdin.close()
    assert program.wait(60) == 0
    program.stdout.close()


def test_the_first_rows_come_out_before_the_last_go_in(iris_model):
    program = piped("embed", iris_model, "-", "-q")
    many = b"5.1,3.5,1.4,0.2\n" * 2_000_000  # 32 MB, in blocks of four

    def write():
        with contextlib.suppress(BrokenPipeError):
            program.stdin.write(many)

    writer = threading.Thread(target=write)
    writer.start()
    assert line_of(program) == "z0,z1\n"
    assert line_of(program).count(",") == 1
    program.kill()
    program.wait()
    writer.join()
    program.stdin.close()
    program.stdout.close()


def test_a_disk_that_fills_up_is_an_error_and_leaves_nothing(digits_model):
    np.save("many.npy", np.zeros((20_000, 64), np.uint8))
    done = subprocess.run(
        [*PROGRAM, "embed", digits_model, "many.npy", "-o", "codes.csv", "-q"],
        capture_output=True,
        check=False,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)),
    )
    assert (done.returncode, done.stderr) == (1, "error: codes.csv: cannot be written (File too large)\n")
    assert [path.name for path in Path().iterdir()] == ["many.npy"]


def test_a_file_that_becomes_shorter_while_it_is_read_is_an_error():
    np.save("rows.npy", np.zeros((100, 4)))
    with Path("rows.npy").open("r+b") as file:
        rows = FileRows("rows.npy", file, 128, np.dtype("f8"), (100, 4))
        assert rows[90:].shape == (10, 4)
        file.truncate(1000)
        with pytest.raises(DataError, match=r"^rows\.npy: became shorter while it was read$"):
            rows[:]


def test_a_closed_stderr_does_not_matter(digits_model):
    line = f"{sys.executable} -m aecli embed {digits_model} digits 2>&- | tail -n +2 | wc -l"
    assert subprocess.run(["bash", "-c", line], capture_output=True, check=True, text=True).stdout.strip() == "360"


def test_no_home_is_needed(digits_model):
    env = {name: value for name, value in os.environ.items() if name not in ("HOME", "AECLI_DATA_DIR", "USER")}
    done = subprocess.run([*PROGRAM, "embed", digits_model, "digits"], env=env, capture_output=True, check=False)
    assert (done.returncode, done.stdout.count(b"\n")) == (0, 361), done.stderr
