"""The README keeps its word: its shell lines run, in their order, in a real shell."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import aecli

README = Path(__file__).parents[1] / "README.md"
TEXT = README.read_text()


@pytest.fixture(scope="module")
def toured(tmp_path_factory):
    """Run the tour's shell lines one by one, with `set -eu`, in a folder of their own: (folder, line -> output)."""
    folder = tmp_path_factory.mktemp("tour")
    program = folder / "bin" / "aecli"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m aecli "$@"\n')
    program.chmod(0o755)
    env = os.environ | {"PATH": f"{program.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}"}
    outputs = {}
    for block in re.findall(r"^```sh\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE):
        for line in block.splitlines():
            done = subprocess.run(
                ["bash", "-c", f"set -eu\n{line}"], cwd=folder, env=env, capture_output=True, check=False, text=True
            )
            assert done.returncode == 0, f"{line}\n{done.stderr}"
            outputs[line] = done.stdout
    return folder, outputs


def output_of(outputs, start):
    return next(output for line, output in outputs.items() if line.startswith(start))


def test_every_line_of_the_tour_runs(toured):
    folder, outputs = toured
    assert len(outputs) >= 10
    for name in (
        "digits.safetensors",
        "codes.csv",
        "digits-latent.png",
        "loss.svg",
        "rebuilt/000000.png",
        "codes.parquet",
    ):
        assert (folder / name).exists(), name


def test_the_tour_shows_what_it_says(toured):
    _, outputs = toured
    oddest = output_of(outputs, "aecli reconstruct wine").splitlines()
    errors = [float(line.split(",")[0]) for line in oddest]
    assert errors == sorted(errors, reverse=True)
    assert len(errors) == 5
    assert output_of(outputs, "aecli embed wine").splitlines()[0] == "target,z0,z1,z2"
    assert output_of(outputs, "aecli embed digits.safetensors digits --error").strip().endswith("rows are odd")
    assert '"seed": 7' in output_of(outputs, "aecli train wine.csv --label target --seed 7")


def test_the_python_lines_run(toured):
    folder, _ = toured
    code = re.search(r"^```python\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)[1]
    names = {"rows": np.zeros((3, 64))}
    exec(code.replace('"digits.safetensors"', repr(str(folder / "digits.safetensors"))), names)
    assert names["z"].shape == (3, 5)
    assert names["recon"].shape == (3, 64)


def test_every_command_and_format_is_named():
    from typer.main import get_command

    from aecli.cli import app
    from aecli.data.sinks import FORMATS
    from aecli.formats import NAMES

    for command in get_command(app).commands:
        assert f"aecli {command}" in TEXT
    for name in NAMES:
        assert f"`{name}`" in TEXT
    for form in FORMATS:
        assert f"`.{form}`" in TEXT


def test_the_pictures_are_there():
    pictures = re.findall(r"!\[[^]]*\]\(([^)]*)\)", TEXT)
    assert pictures
    for picture in pictures:
        assert (README.parent / picture).is_file(), picture


def test_the_version_is_that_of_the_package():
    assert re.fullmatch(r"\d+\.\d+\.\d+", aecli.__version__)
