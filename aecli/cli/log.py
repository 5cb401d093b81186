"""The log of a run: a CSV or JSON Lines file with one line per epoch, which `tail -f` can follow."""

import json
import math
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from aecli.cli import rows
from aecli.data.places import is_remote, shown
from aecli.errors import AecliError, UsageError

if TYPE_CHECKING:
    from io import FileIO

    from aecli.config import History
    from aecli.training.loop import Progress

COLUMNS = ("epoch", "step", "loss", "validation_loss", "test_loss", "lr", "seconds")
BEGINS = {".csv": f"{','.join(COLUMNS)}\n".encode(), ".jsonl": b'{"epoch": '}
DIGITS = 7  # significant digits of a number, about the precision of float32


class Log:
    """The log of a run, or no log without a name. Call `begin` first, then the log itself with each `Progress`.

    If a line cannot be written, the run continues, and the line is tried again at the next epoch. At the end `check`
    raises if lines are still missing.
    """

    def __init__(
        self, name: str | None, others: Sequence[str], output: object, *, force: bool, say: Callable[[str], None]
    ) -> None:
        """Check the name, before any work is done.

        `others` are the files that the command reads, `output` is the path of the checkpoint.
        Raises UsageError for a name that cannot be a log, AecliError if another file would be lost.
        """
        self._name, self._output, self._say = name, output, say
        self.path = Path(name or "")
        self._format = self.path.suffix.lower()
        self._file: FileIO | None = None
        self._replaced = False
        self._unwritten, self._why = b"", ""  # the lines still to be written, and the reason
        if name is not None:
            self._check_name(name, others, force=force)

    def _check_name(self, name: str, others: Sequence[str], *, force: bool) -> None:
        if name == "-" or is_remote(name):
            raise UsageError(f"--log {shown(name)}: a log is a file on this machine", hint="name one: --log run.csv")
        if self._format not in BEGINS:
            raise UsageError(f"--log {name}: unknown file extension", hint="a log ends in .csv or .jsonl")
        rows.check_output(self.path, *others, option="--log FILE")
        if isinstance(self._output, Path) and self.path.resolve() == self._output.resolve():
            raise UsageError(f"{name} is the checkpoint, and would be overwritten", hint="name another --log FILE")
        if self.path.is_file() and not force and not self._is_log():
            raise AecliError(
                f"{name} exists, and is not the log of a run",
                hint="name another --log FILE, or replace it with --force",
            )

    def begin(self, history: "History") -> None:
        """Open the file. It keeps only the epochs in `history`, those of the run that is resumed.

        Raises AecliError if the system refuses.
        """
        if self._name is None:
            return
        try:
            there = self.path.read_bytes() if self.path.is_file() else b""
            kept = self._kept(there, history)
            self._file = self.path.open("r+b" if kept else "wb", buffering=0)
            if kept:
                self._file.seek(kept)
                self._file.truncate()
        except OSError as error:
            raise AecliError(f"{self.path}: cannot be written ({error.strerror or error})") from error
        self._replaced = bool(there and not kept)
        if self._format == ".csv" and not kept:
            self._write(BEGINS[".csv"])

    def __call__(self, progress: "Progress") -> None:
        """Write the line of an epoch at its end."""
        if self._file is None or not progress.epoch_done:
            return
        values = {name: _short(getattr(progress, name)) for name in COLUMNS}
        cells = ["" if value is None else str(value) for value in values.values()]
        self._write(f"{json.dumps(values) if self._format == '.jsonl' else ','.join(cells)}\n".encode())

    def check(self) -> None:
        """Announce that the log is written. Raises AecliError if it lacks lines."""
        if self._unwritten:
            losses = shlex.join(["aecli", "info", str(self._output), "--json"])
            raise AecliError(
                f"{self.path}: cannot be written ({self._why}), and epochs are missing from it",
                hint=None if self._output is None else f"the checkpoint has all losses: {losses}",
            )
        if self._file is not None:
            self._say(f"{'replaced' if self._replaced else 'wrote'} {self.path}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, traceback: TracebackType | None) -> None:
        if self._file is not None:
            self._write(b"")
            self._file.close()

    def _write(self, line: bytes) -> None:
        """Write a line, after those that could not be written before. Announce the first failure."""
        assert self._file is not None  # noqa: S101, for the type checker
        self._unwritten += line
        try:
            while self._unwritten:
                self._unwritten = self._unwritten[self._file.write(self._unwritten) or 0 :]
        except OSError as error:
            if not self._why:
                self._say(f"the run continues, but {self.path} cannot be written ({error.strerror or error})")
            self._why = error.strerror or str(error)

    def _is_log(self) -> bool:
        """Return whether the file is empty, or begins like a log."""
        try:
            with self.path.open("r+b") as file:
                start = file.read(len(BEGINS[self._format]))
        except OSError as error:
            raise AecliError(f"{self.path}: cannot be written ({error.strerror or error})") from error
        return start in (b"", BEGINS[self._format])

    def _kept(self, there: bytes, history: "History") -> int:
        """Return how many bytes of the file to keep: the lines before the first that is not an epoch of the run."""
        lines = there.splitlines(keepends=True)
        header = lines[:1] if self._format == ".csv" else []
        kept = 0
        for epoch, (line, loss) in enumerate(zip(lines[len(header) :], history.loss, strict=False), 1):
            if not line.endswith(b"\n") or self._epoch(line) != [str(epoch), str(_short(loss))]:
                break
            kept += len(line)
        return kept and kept + sum(map(len, header))

    def _epoch(self, line: bytes) -> list[str]:
        """Return the epoch and the loss of a line, as text."""
        cells = line.decode(errors="replace").split(",")
        if self._format == ".jsonl":
            cells = [cell.partition(": ")[2] for cell in cells]
        return cells[:3:2]


def _short(number: float | None) -> float | None:
    """Return a number rounded to DIGITS digits, None if it is not finite."""
    if number is None or isinstance(number, int):
        return number
    return float(f"{number:.{DIGITS}g}") if math.isfinite(number) else None
