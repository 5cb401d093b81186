"""Several processes that train together: what each step comes to is what one process makes of all the rows."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("together.py")


@pytest.fixture(scope="module")
def of_two_processes(tmp_path_factory):
    """What the processes found: how far steps and weights are apart, and whether rows were dealt out whole."""
    folder = tmp_path_factory.mktemp("group")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", SCRIPT]
    done = subprocess.run(command, cwd=folder, capture_output=True, check=False, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_gradients_of_two_processes_add_up_to_those_of_one_and_twenty_steps_end_where_it_ends(of_two_processes):
    for name, (one_step, many) in of_two_processes[0].items():
        assert one_step <= 1e-6, name
        assert many <= 1e-4, name


def test_each_row_comes_to_one_process_from_memory_and_from_files_with_and_without_a_name(of_two_processes):
    assert of_two_processes[1] == [True, True, True]


def test_processes_with_different_rows_end_with_equal_weights_and_losses(of_two_processes):
    assert of_two_processes[2] == [0.0, 0.0]
