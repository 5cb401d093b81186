"""What everyone who lives in a shell takes for granted."""

import os
import pty
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from aecli.model import checkpoint

COLOUR = re.compile(r"\x1b\[[\d;]*3\d[\d;]*m")
WRONG = {
    "a command": (["emebd"], "no such command 'emebd'", "did you mean embed?"),
    "no command at all like it": (["help"], "no such command 'help'", "aecli --help shows what it takes"),
    "an option": (["embed", "--fromat", "csv"], "no such option: --fromat", "did you mean --format?"),
    "the beginning of an option": (["train", "--epo", "3"], "no such option: --epo", "did you mean --epochs?"),
    "a recipe": (
        ["train", "--recipe", "clasic"],
        "invalid value for '--recipe': 'clasic' is not one of modern, map, vectors, classic, classic-2d",
        "did you mean classic?",
    ),
    "a format": (
        ["embed", "m.safetensors", "digits", "--format", "cvs"],
        "invalid value for '--format': 'cvs' is not one of csv, tsv, jsonl, parquet, arrow, npy",
        "did you mean csv?",
    ),
    "a kind": (["plot", "m.safetensors", "--kind=histroy"], None, "did you mean history?"),
    "a text for a number": (
        ["train", "--epochs", "many"],
        "invalid value for '--epochs': it must be a valid integer",
        "aecli train --help shows what it takes",
    ),
    "a negative number": (
        ["train", "--lr", "-1"],
        "invalid value for '--lr': -1 is not a number above 0",
        "aecli train --help shows what it takes",
    ),
    "an argument too many": (
        ["info", "m.safetensors", "digits"],
        "unexpected: digits",
        "aecli info --help shows what it takes",
    ),
    "no argument": (["embed"], "missing argument 'MODEL'", "aecli embed --help shows what it takes"),
}


@pytest.mark.parametrize(("argv", "error", "hint"), WRONG.values(), ids=WRONG)
def test_what_is_mistyped_is_answered_with_what_was_meant(run, argv, error, hint):
    done = run(*argv)
    assert (done.code, done.out) == (2, "")
    first, second = done.err.splitlines()
    assert second == f"hint: {hint}"
    assert first == f"error: {error}" or (error is None and first.startswith("error: "))


def test_a_mistyped_column_is_answered_with_the_one_that_was_meant(run, iris_csv):
    for option in ("--label", "--exclude", "--features", "--categorical"):
        done = run("train", iris_csv, option, "specis")
        assert (done.code, done.out) == (1, "")
        assert done.err == f"error: iris.csv: {option} 'specis' names no column\nhint: did you mean 'species'?\n"


def test_without_a_command_the_help_is_shown_as_wrong_usage(run):
    done, asked = run(), run("--help")
    assert (done.code, done.out) == (2, "")
    assert (asked.code, asked.err) == (0, "")
    assert done.err == asked.out.rstrip("\n") + "\n"
    assert "Usage: aecli [OPTIONS] COMMAND" in asked.out


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_help_is_short_or_long_and_fits_its_columns(run, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    for command in ("train", "reconstruct", "embed", "plot", "info"):
        done = run(command, "--help")
        assert (done.code, done.err) == (0, "")
        assert max(map(len, done.out.splitlines())) == columns
        assert f"Usage: aecli {command} [OPTIONS]" in done.out
        assert f"$ aecli {command} " in done.out
        assert "<bool>" not in done.out
        assert run(command, "-h").out == done.out


def on_a_terminal(*argv, **env):
    """Run a command whose stderr is a terminal of 80 columns, and give what it showed."""
    screen, terminal = pty.openpty()
    known = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    running = subprocess.Popen(
        [sys.executable, "-m", "aecli", *argv], stderr=terminal, stdout=subprocess.DEVNULL,
        env=known | {"TERM": "xterm-256color"} | env,
    )  # fmt: skip
    os.close(terminal)
    shown = b""
    while True:
        try:
            shown += os.read(screen, 65536)
        except OSError:  # the other side is closed
            break
    running.wait(timeout=60)
    os.close(screen)
    return shown.decode()


def test_colour_is_for_terminals_that_want_it():
    assert COLOUR.search(on_a_terminal("info", "no.safetensors"))
    assert not COLOUR.search(on_a_terminal("info", "no.safetensors", NO_COLOR="1"))
    assert "\x1b" not in on_a_terminal("info", "no.safetensors", TERM="dumb")


@pytest.fixture
def small_csv():
    Path("small.csv").write_text("a,b,c\n" + "1,2,3\n4,5,7\n" * 9)
    return "small.csv"


def test_a_dumb_terminal_gets_lines_and_no_bar(small_csv):
    shown = on_a_terminal("train", small_csv, "--epochs", "1", TERM="dumb")
    assert "\x1b" not in shown
    assert "epoch 1/1 loss " in shown


def test_a_pipe_gets_neither_colour_nor_a_bar_and_colour_alone_where_it_is_forced(process, small_csv):
    assert "\x1b" not in process("info", "no.safetensors").err
    assert "\x1b" not in process("train", "--help").out
    env = {"FORCE_COLOR": "1", "TERM": "xterm-256color"}
    assert COLOUR.search(process("info", "no.safetensors", env=env).err)
    forced = process("train", small_csv, "--epochs", "1", env=env).err
    assert "\r" not in forced
    assert "\x1b[?25l" not in forced  # the cursor is not hidden, as it is while a bar moves
    assert "epoch 1/1 loss " in forced


def test_options_stand_anywhere_and_two_dashes_end_them(run, iris_model, iris_csv):
    shutil.copy(iris_model, "-m.safetensors")
    wanted = run("embed", iris_model, iris_csv, "--no-label", "-q")
    assert wanted.code == 0
    assert wanted.out.startswith("z0,z1")
    for argv in (
        ["embed", "-q", "--no-label", "--", "-m.safetensors", iris_csv],
        ["embed", "./-m.safetensors", "--no-label", iris_csv, "-q"],
        ["embed", iris_model, "--no-label", "-qo", "-", iris_csv],
        ["embed", iris_model, "--no-label", "--output=-", "--quiet", "--", iris_csv],
    ):
        done = run(*argv)
        assert (done.code, done.out, done.err) == (0, wanted.out, "")


@pytest.mark.parametrize("name", ["my data.csv", "line\nbreak.csv", "-rows.csv", "a:b.csv", "né.csv", "it's $x;.csv"])
def test_files_may_have_any_name(run, iris_model, iris_csv, name):
    iris_csv.rename(name)
    output = Path(f"{name}.tsv")
    done = run("embed", "-o", output, iris_model, "--", name)
    assert (done.code, done.out, done.err) == (0, "", f"wrote {output}\n")
    assert len(output.read_text().splitlines()) == 151


def test_a_checkpoint_takes_its_name_from_any_file(run, iris_csv):
    iris_csv.rename("-my rows\n.csv")
    done = run("train", "--label", "species", "--epochs", "1", "-q", "--", "-my rows\n.csv")
    assert (done.code, done.out, done.err) == (0, "", "")
    assert checkpoint.read(Path("-my rows\n.safetensors")).schema.label == "species"


def test_a_delimiter_may_be_a_dash_and_numbers_negative(run, iris_csv):
    rows = [line.replace("-", "").replace(",", "-") for line in iris_csv.read_text().splitlines()]
    Path("dashes.csv").write_text("\n".join(rows) + "\n")
    assert run("train", "dashes.csv", "--delimiter", "-", "--label=species", "--epochs", "1", "-q").code == 0
    Path("cold.csv").write_text("a,b,c\n" + "-1,-2e-3,-.5\n-4,5,-6\n" * 9)
    assert run("train", "cold.csv", "--epochs", "1", "-q", "--latent-dim", "1").code == 0


def test_the_command_that_is_hinted_at_can_be_typed(run, iris_model):
    shutil.copy(iris_model, "-my model.safetensors")
    done = run("embed", "--", "-my model.safetensors", stdin=b"a,b\n1,2\n")
    assert done.code == 2
    assert done.err.endswith("\nhint: aecli embed -- '-my model.safetensors' -\n")
    done = run("train", "-o", "no such/folder/x.safetensors")
    assert done.err.endswith("\nhint: mkdir -p 'no such/folder'\n")
