"""The README keeps its word: its shell lines run, in their order, in a real shell."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import aecli

README = Path(__file__).parents[1] / "README.md"
TEXT = README.read_text()


@pytest.fixture(scope="module")
def toured(tmp_path_factory, digits_run):
    """Run the shell lines one by one, with `set -eu`, in a folder of their own: (folder, line -> output).

    The first line was run already: it is what `digits_run` ran. Where there is no jq, its line has no output.
    """
    folder = tmp_path_factory.mktemp("tour")
    program = folder / "bin" / "aecli"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m aecli "$@"\n')
    program.chmod(0o755)
    env = os.environ | {"PATH": f"{program.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}"}
    blocks = re.findall(r"^```sh\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
    first, *lines = [line for block in blocks for line in block.splitlines()]
    assert first.startswith("aecli train  ")
    done, its_folder = digits_run
    assert done.code == 0, done.err
    shutil.copy(its_folder / "digits.safetensors", folder)
    outputs = {first: done.out}
    for line in lines:
        if line.startswith("jq") and shutil.which("jq") is None:
            continue
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
    assert len(outputs) >= 20
    for name in (
        "digits.safetensors",
        "digits-latent.png",
        "digits-reconstruction.png",
        "loss.svg",
        "rebuilt/000000.png",
        "wine-7.safetensors",
    ):
        assert (folder / name).exists(), name


def test_the_tour_shows_what_it_says(toured):
    _, outputs = toured
    oddest = output_of(outputs, "aecli reconstruct wine").splitlines()
    errors = [float(line.split(",")[0]) for line in oddest]
    assert errors == sorted(errors, reverse=True)
    assert len(errors) == 5
    assert output_of(outputs, "aecli embed wine").splitlines()[0] == "target,z0,z1,z2"


def test_the_scripts_do_what_they_say(toured):
    folder, outputs = toured
    rows = (folder / "joined.csv").read_text().splitlines()
    assert rows[0].startswith("id,alcohol,")
    assert rows[0].endswith(",target,z0,z1,z2,mse")
    assert [row.split(",")[0] for row in rows[1:]] == [f"w{i:03}" for i in range(1, 179)]
    odd = [line.split() for line in output_of(outputs, "awk -F, 'NR > 1 { print $NF").splitlines()]
    mse = {row.split(",")[0]: float(row.split(",")[-1]) for row in rows[1:]}
    assert [name for _, name in odd] == sorted(mse, key=mse.get, reverse=True)[:5]
    codes = (folder / "codes.csv").read_text().splitlines()  # of the parts, in order, under one header
    assert codes[0] == "target,z0,z1,z2"
    in_parts = [[float(z) for z in code.split(",")[1:]] for code in codes[1:]]
    at_once = [[float(z) for z in row.split(",")[-4:-1]] for row in rows[1:]]
    np.testing.assert_allclose(in_parts, at_once, atol=1e-5, rtol=0)  # in a part, a row has another place
    assert json.loads((folder / "run.json").read_text())["seed"] == 7


def test_jq_reads_what_json_prints(toured):
    if shutil.which("jq") is None:
        pytest.skip("there is no jq")
    assert output_of(toured[1], "jq").startswith("wine-7.safetensors: 0.")


def test_the_keys_of_each_json_object_are_those_in_the_table(toured, run):
    table = TEXT[TEXT.index("| the keys of its object |") :].partition("\n\n")[0]
    keys = {
        name: [key for key in re.findall(r"`(\w+)`", listed) if key != "null"]
        for name, listed in re.findall(r"^\| (?:its )?`(\w+)(?: --json)?` \| (.*) \|$", table, re.MULTILINE)
    }
    folder, _ = toured
    made = json.loads((folder / "run.json").read_text())
    info = json.loads(run("info", folder / "wine-7.safetensors", "--json").out)
    assert keys["train"] == list(made)
    assert keys["info"] == list(info)
    for part in ("model", "results", "history"):
        assert keys[part] == list(info[part])
    assert (info["train"]["epochs"], len(info["history"]["loss"])) == (made["epochs"], 5)
    assert {name: made[name] for name in ("train_mse", "test_mse", "pca_mse", "rows")}.items() <= info[
        "results"
    ].items()
    qualities = re.findall(r"`(\w+)`", re.search(r"of `evaluate` have (.*?)\n\n", TEXT, re.DOTALL)[1])
    found = json.loads(run("evaluate", folder / "wine-7.safetensors", folder / "wine.csv", "-q", "--json").out)
    assert keys["evaluate"] == list(found)
    for part in ("model", "pca", "original"):
        assert qualities == list(found[part])
    scored = run("score", folder / "wine-7.safetensors", folder / "wine.csv", "-q", "--json")
    assert keys["score"] == [*json.loads(scored.out), "p", "columns"]
    drawn = run("plot", folder / "wine-7.safetensors", "--kind", "history", "-q", "--json")
    assert keys["plot"] == list(json.loads(drawn.out))


def test_the_python_lines_run(toured, monkeypatch):
    folder, _ = toured
    code = re.search(r"^```python\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)[1]
    names = {"rows": np.zeros((3, 64))}
    monkeypatch.chdir(folder)
    exec(code, names)
    assert names["z"].shape == (3, 5)
    assert names["recon"].shape == (3, 64)


def test_every_command_and_format_is_named():
    from typer.main import get_command

    from aecli.cli import build
    from aecli.data.formats import NAMES
    from aecli.data.sinks import FORMATS

    for command in get_command(build()).commands:
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
