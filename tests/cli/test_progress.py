"""The bar, on a real terminal of 80 columns; and the lines in a pipe."""

import fcntl
import itertools
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios

import numpy as np
import pytest

import aecli

SMALL = ("--hidden-dims", "16", "--device", "cpu")


def on_a_terminal(*argv, columns=80, then=(), typed=()):
    """Run a command whose stderr alone is a terminal: the screen's bytes, stdout and the exit code.

    At each of its first answers the terminal takes the next width of `then`, and the next of the keys `typed` is typed.
    """
    screen, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    env = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR")}
    running = subprocess.Popen(
        [sys.executable, "-m", "aecli", *argv],
        stderr=terminal,
        stdout=subprocess.PIPE,
        env=env | {"TERM": "xterm-256color"},
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(2, termios.TIOCSCTTY, 0),  # noqa: PLW1509, so that ^C reaches it
    )
    os.close(terminal)
    shown, widths, keys = b"", iter(then), iter(typed)
    while True:
        try:
            shown += os.read(screen, 65536)
            if b"rows/s" in shown and (width := next(widths, None)):
                fcntl.ioctl(screen, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
                running.send_signal(signal.SIGWINCH)
            if b"held-out" in shown and (key := next(keys, None)):
                os.write(screen, key)
        except OSError:  # the other side is closed
            break
    out, _ = running.communicate(timeout=60)
    os.close(screen)
    return shown.decode(), out, running.returncode


def lines_of(screen):
    """Every line that was ever drawn, without colours and cursor movements."""
    return [line for line in re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", screen)) if line.strip()]


def screen_of(written, columns=80):
    """What a terminal shows in the end of all that was written to it: its lines, without the empty ones."""
    lines, row, column = [[]], 0, 0
    for command, final, character in re.findall(r"\x1b\[([0-9;?]*)([a-zA-Z])|([^\x1b])", written):
        if final == "K":
            lines[row] = []
        elif final == "A":
            row -= int(command or 1)
        elif character == "\r":
            column = 0
        elif character == "\n":
            row += 1
        elif character:
            if column == columns:  # the line is full: only the next character begins another
                row, column = row + 1, 0
            lines += [[] for _ in range(row + 1 - len(lines))]
            lines[row] += " " * (column + 1 - len(lines[row]))
            lines[row][column] = character
            column += 1
        lines += [[] for _ in range(row + 1 - len(lines))]
    return [line for each in lines if (line := "".join(each).rstrip())]


@pytest.mark.parametrize("columns", [80, 100])
def test_ctrl_c_leaves_one_bar_and_below_it_what_can_be_done_now(columns):
    command = ["train", "--epochs", "3000", "--device", "cpu"]
    written, _, code = on_a_terminal(*command, columns=columns, typed=[b"\x03"])
    assert code == 130
    assert "^C" in written
    _, bar, *rest = screen_of(written, columns)
    assert re.match(r"epoch +\d+/3000 ", bar), bar
    assert rest == [
        "stopped, and saved in digits.safetensors.resume",
        f"to resume: aecli {' '.join(command)} --resume",
        f"to finish here: aecli {' '.join(command)} --finish",
    ]


def test_an_error_in_the_middle_leaves_one_bar_and_the_error():
    np.save("rows.npy", np.random.default_rng(0).normal(size=(4000, 12)))
    written, _, code = on_a_terminal("train", "rows.npy", "--epochs", "500", "--lr", "1e15", "--optimizer", "adam")
    assert code == 1
    said = screen_of(written)
    assert [re.split(r" +\d| became ", line)[0] for line in said] == [
        "training", "epoch", "error: the loss", "hint: lower --lr, or check the data for extreme values",
    ]  # fmt: skip


def test_a_pipe_gets_at_most_100_lines_the_first_and_the_last_epoch_among_them(run):
    np.save("rows.npy", np.random.default_rng(0).normal(size=(9, 6)))
    command = ["train", "rows.npy", "--hidden-dims", "4", "--device", "cpu", "--epochs"]

    def epochs(*options):
        done = run(*command, *options)
        assert done.code == 0, done.err
        return [int(each) for each in re.findall(r"^epoch +(\d+)/", done.err, re.MULTILINE)]

    assert epochs("100") == list(range(1, 101))
    said = epochs("250")
    assert (len(said), said[0], said[-1]) == (100, 1, 250)
    assert {later - each for each, later in itertools.pairwise(said)} == {2, 3}
    stopped_early = epochs("100000", "--patience", "10")
    assert stopped_early[-1] == len(aecli.load("rows.safetensors").checkpoint.history.loss)
    assert len(stopped_early) <= 100


def test_the_bar_shows_losses_speed_and_the_time_left_within_80_columns():
    screen, out, code = on_a_terminal("train", "--epochs", "12", *SMALL)
    assert (code, out) == (0, b"")
    lines = lines_of(screen)
    assert re.fullmatch(r"training 64-16-5 on 1,437 rows, 360 held out, on CPU, \d threads?", lines[0].strip())
    bars = [line for line in lines if "rows/s" in line]
    last = bars[-1].strip()
    assert re.match(r"epoch 12/12 [━╸╺ ]+ \d+/\d+ loss 0\.\d+ held-out 0\.\d+ \S+ rows/s \d+:\d\d$", last), last
    assert all(len(line) <= 80 for line in bars)
    assert len(set(bars)) > 3


def test_a_map_of_many_rows_shows_how_many_have_their_neighbours(run, monkeypatch):
    np.save("rows.npy", np.random.default_rng(0).normal(size=(33_000, 3)))
    command = ["train", "rows.npy", "--recipe", "map", "--hidden-dims", "4", "--epochs", "1", "--holdout", "0"]
    screen, out, code = on_a_terminal(*command)
    assert (code, out) == (0, b"")
    shares = [int(share) for share in re.findall(r"finding neighbours +(\d+)%", screen)]
    assert shares == sorted(shares)
    assert {0, 33, 67} <= set(shares)
    assert all(len(line) <= 80 for line in lines_of(screen) if "finding" in line)
    np.save("rows.npy", np.load("rows.npy")[:300])
    monkeypatch.setattr("aecli.training.neighbours.TOGETHER", 100)
    said = run(*command, "--force")
    assert said.out == ""
    assert said.err.count("finding neighbours\n") == 1


def test_a_quiet_run_leaves_the_terminal_alone():
    assert on_a_terminal("train", "--epochs", "2", "-q", *SMALL) == ("", b"", 0)


@pytest.mark.parametrize("columns", [40, 200])
def test_terminals_of_other_widths_do_not_break_the_bar(columns):
    screen, _, code = on_a_terminal("train", "--epochs", "2", *SMALL, columns=columns)
    assert code == 0
    assert "wrote digits.safetensors" in screen
    assert all(len(line) <= columns for line in lines_of(screen) if "rows/s" in line)


def test_a_terminal_that_is_resized_while_the_bar_runs_breaks_nothing():
    screen, _, code = on_a_terminal("train", "--epochs", "30", *SMALL, then=[40, 200, 20, 1, 80] * 3)
    assert code == 0
    assert "Traceback" not in screen
    assert re.sub(r"\s", "", screen).endswith("wrotedigits.safetensors") or "wrote digits.safetensors" in screen
