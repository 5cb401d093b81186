"""The picture of a terminal in the README. `python -m tests.terminal` runs its commands and draws it anew."""

import fcntl
import html
import io
import os
import pty
import re
import struct
import subprocess
import sys
import tempfile
import termios
from pathlib import Path

from rich.console import Console
from rich.text import Text

PICTURE = Path(__file__).parents[1] / ".github" / "terminal.svg"
COMMANDS = (
    "aecli train",
    "aecli plot digits.safetensors --kind reconstruction --show",
    "aecli score digits.safetensors --top 3 --top-features 1 -q",
)
WIDTH, HEIGHT = 100, 24
FONT = re.compile(
    r"@font-face \{.*?\n    \}\n", re.DOTALL
)  # fetched from elsewhere, which a picture in a page cannot be


def shown(command, folder):
    """Return what a terminal shows of a command in the end, line by line, with its colours."""
    screen, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", HEIGHT, WIDTH, 0, 0))
    env = os.environ | {"TERM": "xterm-256color", "COLORTERM": "truecolor", "COLUMNS": str(WIDTH)}
    words = [sys.executable, "-m", *command.split()]
    with subprocess.Popen(words, cwd=folder, env=env, stdin=terminal, stdout=terminal, stderr=terminal) as program:
        os.close(terminal)
        written = b""
        try:
            while part := os.read(screen, 65536):
                written += part
        except OSError:  # Linux's word for the end
            pass
    os.close(screen)
    assert program.returncode == 0, written.decode()
    return lines_of(written.decode())


def lines_of(written):
    """Return the lines that are left when the cursor has moved up and lines were erased, as a bar does."""
    lines, row = [""], 0
    for part in re.split(r"(\x1b\[\d*A|\x1b\[2K|\x1b\[\?25[lh]|\r|\n)", written):
        if part == "\n":
            row += 1
            lines += [""] * (row == len(lines))
        elif part.endswith("A") and part.startswith("\x1b["):
            row -= int(part[2:-1] or 1)
        elif part == "\x1b[2K":
            lines[row] = ""
        elif part != "\r" and not part.startswith("\x1b[?"):
            lines[row] += part
    return [line for line in lines if line]


def text_shown(command, folder):
    """Return what a terminal shows of a command, without colours."""
    return [Text.from_ansi(line).plain.rstrip() for line in shown(command, folder)]


def draw(folder):
    """Run the commands in a folder and return the picture."""
    console = Console(record=True, width=WIDTH, file=io.StringIO())
    for place, command in enumerate(COMMANDS):
        console.print(Text.assemble("\n" * (place > 0), ("$ ", "bold green"), (command, "bold")))
        for line in shown(command, folder):
            console.print(Text.from_ansi(line), soft_wrap=True)
    return FONT.sub("", console.export_svg(title="aecli", unique_id="aecli"))


def text_of(picture):
    """Return the lines of text in a picture."""
    rows = {}
    for y, text in re.findall(r'<text class="[^"]*" x="[^"]*" y="([^"]*)"[^>]*>([^<]*)</text>', picture):
        rows.setdefault(float(y), []).append(html.unescape(text).replace("\xa0", " "))
    return ["".join(rows[y]).rstrip() for y in sorted(rows)]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        PICTURE.write_text(draw(folder))
