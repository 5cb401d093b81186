"""train --log: a line per epoch, while the run goes on, and none twice where it is stopped and goes on."""

import json
import os
import sys
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import aecli
from aecli import cli

HEADER = "epoch,step,loss,validation_loss,test_loss,lr,seconds\n"
COMMAND = ["train", "rows.npy", "--hidden-dims", "4", "--epochs", "4", "--batch-size", "90", "--device", "cpu", "-q"]


@pytest.fixture(autouse=True)
def _rows():
    np.save("rows.npy", np.random.default_rng(0).normal(size=(200, 6)).astype(np.float32))


def stopped(command, step):
    """Stop the run of a command at a step, as Ctrl-C does."""
    steps = iter(range(1, 10**9))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["aecli", *command])
        patch.setattr("aecli.cli.console.Stopping.__enter__", lambda _: lambda: next(steps) == step)
        patch.setattr("aecli.cli.console.Stopping.__exit__", lambda *_: None)
        with pytest.raises(SystemExit):
            cli.main()


def without_seconds(path="run.csv"):
    return [line.rpartition(",")[0] for line in Path(path).read_text().splitlines()]


def test_a_log_has_the_losses_of_each_epoch_in_csv_and_in_json_lines_alike(run):
    for name in ("run.csv", "run.jsonl"):
        done = run(*COMMAND[:-1], "--patience", "9", "--log", name)
        assert (done.code, done.err.splitlines()[-1]) == (0, f"wrote {name}")
    csv, lines = pd.read_csv("run.csv"), pd.read_json("run.jsonl", lines=True)
    pd.testing.assert_frame_equal(csv.drop(columns="seconds"), lines.drop(columns="seconds"))
    history = aecli.load("rows.safetensors").checkpoint.history
    assert csv["epoch"].tolist() == [1, 2, 3, 4]
    assert csv["step"].tolist() == [1, 2, 3, 4]
    for name in ("loss", "validation_loss", "test_loss"):
        np.testing.assert_allclose(csv[name], getattr(history, name), rtol=1e-6)
    assert csv["lr"].tolist() == pytest.approx([0.01, 0.0075, 0.005, 0.0025])
    assert (csv["seconds"].diff()[1:] > 0).all()


def test_an_epoch_is_in_the_file_as_soon_as_it_is_done(run, monkeypatch):
    found = []
    monkeypatch.setattr("aecli.cli.progress.Report.__call__", lambda *_: found.append(Path("run.csv").read_text()))
    assert run(*COMMAND, "--holdout", "0", "--log", "run.csv").code == 0
    whole = Path("run.csv").read_text().splitlines(keepends=True)
    assert [text for text in dict.fromkeys(found) if text] == ["".join(whole[:end]) for end in range(1, 5)]
    assert all(line.split(",")[3:5] == ["", ""] for line in whole[1:])


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_a_run_that_was_killed_has_each_epoch_once_in_the_end(run, ending):
    command = [*COMMAND, "--log", f"run.{ending}"]
    assert run(*command, "-o", "whole.safetensors").code == 0
    path = Path(f"run.{ending}")
    whole = path.read_text().splitlines(keepends=True)
    stopped(command, 2)  # after its second epoch; what follows was written and not saved, when it was killed
    path.write_text(path.read_text() + "".join(whole[-2:]) + whole[-1][:9])
    assert run(*command, "--resume").code == 0
    assert without_seconds(path) == [line.rpartition(",")[0] for line in whole]


def test_the_epoch_that_finish_ends_is_in_the_log(run):
    command = [*COMMAND, "--batch-size", "45", "--log", "run.csv"]
    stopped(command, 7)
    assert without_seconds()[-1].startswith("1,4,")
    assert run(*command, "--finish").code == 0
    history = aecli.load("rows.safetensors").checkpoint.history
    log = pd.read_csv("run.csv")
    assert log["step"].tolist() == [4, 7]
    np.testing.assert_allclose(log["loss"], history.loss, rtol=1e-6)


def test_a_log_of_another_run_is_replaced_and_another_file_by_force_alone(run):
    assert run(*COMMAND, "--log", "run.csv").code == 0
    again = run(*COMMAND[:-1], "--epochs", "1", "--log", "run.csv")
    assert (again.err.splitlines()[-1], len(without_seconds())) == ("replaced run.csv", 2)
    Path("run.csv").write_text("a,b\n1,2\n")
    refused = run(*COMMAND, "--log", "run.csv")
    assert (refused.code, refused.err) == (
        1,
        "error: run.csv exists, and is not the log of a run\n"
        "hint: name another --log FILE, or replace it with --force\n",
    )
    assert Path("run.csv").read_text() == "a,b\n1,2\n"
    assert run(*COMMAND, "--log", "run.csv", "--epochs", "1", "--force").code == 0
    assert Path("run.csv").read_text().startswith(HEADER)


def test_a_full_disk_costs_lines_of_the_log_and_not_the_run(run):
    Path("run.csv").symlink_to("/dev/full")
    done = run(*COMMAND[:-1], "--log", "run.csv")
    assert done.code == 1
    said = done.err.splitlines()
    assert said.count("the run continues, but run.csv cannot be written (No space left on device)") == 1
    assert said[-2:] == [
        "error: run.csv: cannot be written (No space left on device), and epochs are missing from it",
        "hint: the checkpoint has all losses: aecli info rows.safetensors --json",
    ]
    assert len(json.loads(run("info", "rows.safetensors", "--json").out)["history"]["loss"]) == 4
    assert not Path("rows.safetensors.resume").exists()


def test_lines_that_found_no_room_are_written_once_there_is_some(run, monkeypatch):
    calls = iter(range(99))

    class Full:
        def __init__(self, file):
            self._file = file
            self.seek, self.truncate, self.close = file.seek, file.truncate, file.close

        def write(self, data):
            match next(calls):
                case 1:
                    return self._file.write(data[:5])
                case 2 | 3:
                    raise OSError(28, "No space left on device")
            return self._file.write(data)

    opened = Path.open

    def opening(path, *given, **options):
        file = opened(path, *given, **options)
        return Full(file) if path.name == "run.csv" and given == ("wb",) else file

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", opening)
        assert run(*COMMAND, "--log", "run.csv").code == 0
    assert [line.split(",")[0] for line in without_seconds()] == ["epoch", "1", "2", "3", "4"]


def test_a_pipe_takes_the_lines_as_they_come(run):
    os.mkfifo("run.csv")
    read = []
    reader = threading.Thread(target=lambda: read.append(Path("run.csv").read_text()))
    reader.start()
    assert run(*COMMAND, "--log", "run.csv").code == 0
    reader.join(10)
    assert (read[0].startswith(HEADER), read[0].count("\n")) == (True, 5)


@pytest.mark.parametrize(
    ("name", "code", "error"),
    {
        "stdout": ("-", 2, "--log -: a log is a file on this machine\nhint: name one: --log run.csv"),
        "elsewhere": (
            "s3://bucket/run.csv",
            2,
            "--log s3://bucket/run.csv: a log is a file on this machine\nhint: name one: --log run.csv",
        ),
        "another format": (
            "run.txt",
            2,
            "--log run.txt: unknown file extension\nhint: a log ends in .csv or .jsonl",
        ),
        "no folder": ("no/run.csv", 1, "no/run.csv: there is no folder no\nhint: mkdir -p no"),
    }.values(),
)
def test_what_cannot_be_a_log_is_refused_before_any_work(run, name, code, error):
    done = run(*COMMAND, "--log", name)
    assert (done.code, done.err) == (code, f"error: {error}\n")


def test_a_log_takes_the_place_of_neither_the_data_nor_the_checkpoint(run):
    Path("rows.csv").write_text("a,b,c\n1,2,3\n4,5,6\n")
    done = run("train", "rows.csv", "--log", "rows.csv")
    assert (done.code, done.err) == (
        2,
        "error: rows.csv is an input of this command, and would be overwritten\nhint: name another --log FILE\n",
    )
    done = run(*COMMAND, "-o", "model.csv", "--log", "model.csv")
    assert (done.code, done.err) == (
        2,
        "error: model.csv is the checkpoint, and would be overwritten\nhint: name another --log FILE\n",
    )
