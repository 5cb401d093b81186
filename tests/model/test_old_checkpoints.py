"""Checkpoints that earlier versions wrote: each gives the codes that it gave, with the preprocessing of its time."""

import csv
import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import aecli

FOLDER = Path(__file__).parents[1] / "checkpoints"
CASES = [
    pytest.param(version.name, model.stem, id=f"{version.name}-{model.stem}")
    for version in sorted(FOLDER.glob("[0-9]*"))
    for model in sorted(version.glob("*.safetensors"))
]
DATA = {"wine": "wine.csv", "icons": "icons", "photos": "photos"}


def agree(written, expected):
    """Compare two CSV tables: numbers within 1e-6 of their size, all else exactly."""
    rows, wanted = (list(csv.reader(text.splitlines())) for text in (written, expected))
    assert rows[0] == wanted[0]
    assert len(rows) >= len(wanted)
    for found, right in zip(zip(*rows[1 : len(wanted)], strict=True), zip(*wanted[1:], strict=True), strict=True):
        try:
            np.testing.assert_allclose(np.float64(found), np.float64(right), rtol=1e-6, atol=1e-6)
        except ValueError:
            assert [Path(cell).name for cell in found] == [Path(cell).name for cell in right]


@pytest.mark.parametrize(("version", "name"), CASES)
@pytest.mark.parametrize(("command", "suffix"), [("embed", ""), ("reconstruct", "-rebuilt")], ids=["codes", "rebuilt"])
def test_an_old_checkpoint_gives_what_it_gave(run, version, name, command, suffix):
    data = FOLDER / "inputs" / DATA[name] if name in DATA else "digits"
    done = run(command, FOLDER / version / f"{name}.safetensors", data, "-q")
    assert (done.code, done.err) == (0, "")
    agree(done.out, (FOLDER / version / f"{name}{suffix}.csv").read_text())


def test_a_run_that_an_older_version_began_is_refused_with_the_way_out(run):
    shutil.copy(FOLDER / "0.1" / "stopped.safetensors.resume", "digits.safetensors.resume")
    done = run("train", "--hidden-dims", "4", "--latent-dim", "2", "--epochs", "2000", "--resume", "-q")
    assert (done.code, done.out) == (1, "")
    assert done.err == (
        f"error: digits.safetensors.resume: the run was started by aecli 0.1.0, and this is {aecli.__version__}, which "
        "cannot resume it\nhint: finish it with aecli 0.1.0, or start anew: --force instead of --resume\n"
    )
    assert Path("digits.safetensors.resume").stat().st_size > 0


def test_info_and_a_new_copy_tell_the_formats(run):
    old = FOLDER / "0.1" / "wine.safetensors"
    assert json.loads(run("info", old, "--json").out)["format"] == 1
    model = aecli.load(old)
    model.save("wine.safetensors")
    again = aecli.load("wine.safetensors")
    assert again.checkpoint == dataclasses.replace(model.checkpoint, format=2)
    rows = FOLDER / "inputs" / "wine.csv"
    assert np.array_equal(again.embed(rows), model.embed(rows))
