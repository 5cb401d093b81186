"""What a machine may do to a program: folders that may not be written, clocks that jump."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PROGRAM = [sys.executable, "-m", "aecli"]


@pytest.fixture
def bound_by_permissions():
    """What to put before a command so that permissions bind it, though these tests may run as root."""
    return ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []


def test_a_folder_that_may_not_be_written_is_refused_before_training(bound_by_permissions):
    Path("locked").mkdir(mode=0o500)
    command = [*bound_by_permissions, *PROGRAM, "train", "-o", "locked/model.safetensors"]
    done = subprocess.run(command, capture_output=True, check=False, text=True)
    assert done.stderr == "error: locked/model.safetensors: no permission to write to the folder locked\n"
    assert (done.returncode, done.stdout) == (1, "")


def test_a_cache_folder_that_may_not_be_written_hinders_only_what_is_put_there(bound_by_permissions, digits_model):
    cache = Path("cache").absolute()
    cache.mkdir(mode=0o500)
    env = {name: value for name, value in os.environ.items() if name != "AECLI_DATA_DIR"}
    for command, code in ((["embed", digits_model, "digits"], 0), (["train", "kmnist"], 1)):
        done = subprocess.run(
            [*bound_by_permissions, *PROGRAM, *command],
            env=env | {"XDG_CACHE_HOME": str(cache), "MPLCONFIGDIR": str(cache)},
            capture_output=True,
            check=False,
            text=True,
        )
        assert done.returncode == code, done.stderr
    assert done.stderr.splitlines()[1] == (
        f"error: kmnist is not in {cache}/aecli/KMNIST/raw, and could not be downloaded "
        f"([Errno 13] Permission denied: '{cache}/aecli')"
    )


def test_a_clock_that_jumps_does_not_matter(run, monkeypatch):
    jumps = iter([1e9, 0.0] * 10**6)
    monkeypatch.setattr(time, "time", lambda: next(jumps))
    done = run("train", "--epochs", "3")
    assert done.code == 0
    (said,) = (line for line in done.err.splitlines() if line.startswith("training MSE"))
    assert "-" not in said.rpartition(",")[2]  # the seconds


def test_a_ctrl_c_while_the_program_still_imports_ends_it_without_a_word():
    Path("typer.py").write_text("import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(60)\n")
    path = os.pathsep.join([str(Path.cwd()), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [*PROGRAM, "--help"],
        env=os.environ | {"PYTHONPATH": path},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # tests in the background ignore it
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, b"", b"")


def test_a_background_job_of_a_script_goes_on_after_ctrl_c():
    Path("typer.py").write_text(
        "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nprint('on')\nraise SystemExit\n"
    )
    path = os.pathsep.join([str(Path.cwd()), os.environ.get("PYTHONPATH", "")])
    command = ["bash", "-c", 'trap "" INT; exec "$@"', "bash", *PROGRAM, "--help"]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": path}, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"on\n", b"")
