"""The bar, on a real terminal of 80 columns."""

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios

import pytest


def on_a_terminal(*argv, columns=80, then=()):
    """Run a command whose stderr alone is a terminal: the screen's bytes, stdout and the exit code.

    At each of its first answers the terminal takes the next width of `then`.
    """
    screen, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    env = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR")}
    running = subprocess.Popen(
        [sys.executable, "-m", "aecli", *argv],
        stderr=terminal,
        stdout=subprocess.PIPE,
        env=env | {"TERM": "xterm-256color"},
    )
    os.close(terminal)
    shown, widths = b"", iter(then)
    while True:
        try:
            shown += os.read(screen, 65536)
            if b"rows/s" in shown and (width := next(widths, None)):
                fcntl.ioctl(screen, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
                running.send_signal(signal.SIGWINCH)
        except OSError:  # the other side is closed
            break
    out, _ = running.communicate(timeout=60)
    os.close(screen)
    return shown.decode(), out, running.returncode


def lines_of(screen):
    """Every line that was ever drawn, without colours and cursor movements."""
    return [line for line in re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", screen)) if line.strip()]


def test_the_bar_shows_losses_speed_and_the_time_left_within_80_columns():
    screen, out, code = on_a_terminal("train", "--epochs", "30", "--device", "cpu")
    assert (code, out) == (0, b"")
    lines = lines_of(screen)
    assert re.fullmatch(r"training 64-256-128-5 on 1,437 rows, 360 held out, on CPU, \d threads?", lines[0].strip())
    bars = [line for line in lines if "rows/s" in line]
    last = bars[-1].strip()
    assert re.match(r"epoch 30/30 [━╸╺ ]+ \d+/\d+ loss 0\.\d+ held-out 0\.\d+ \S+ rows/s \d+:\d\d$", last), last
    assert all(len(line) <= 80 for line in bars)
    assert len(set(bars)) > 3


def test_a_quiet_run_leaves_the_terminal_alone():
    assert on_a_terminal("train", "--epochs", "2", "-q") == ("", b"", 0)


@pytest.mark.parametrize("columns", [40, 200])
def test_terminals_of_other_widths_do_not_break_the_bar(columns):
    screen, _, code = on_a_terminal("train", "--epochs", "2", columns=columns)
    assert code == 0
    assert "wrote digits.safetensors" in screen
    assert all(len(line) <= columns for line in lines_of(screen) if "rows/s" in line)


def test_a_terminal_that_is_resized_while_the_bar_runs_breaks_nothing():
    screen, _, code = on_a_terminal("train", "--epochs", "30", then=[40, 200, 20, 1, 80] * 3)
    assert code == 0
    assert "Traceback" not in screen
    assert re.sub(r"\s", "", screen).endswith("wrotedigits.safetensors") or "wrote digits.safetensors" in screen
