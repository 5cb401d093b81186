"""Progress on stderr: a bar on a terminal, else lines, at most 100 per run."""

import sys
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

from aecli.cli import console
from aecli.config import PCA
from aecli.data.places import Where

if TYPE_CHECKING:
    import rich.progress
    import rich.table

    from aecli.data.source import Source
    from aecli.inference import Encoded
    from aecli.training.loop import Progress
    from aecli.training.run import Plan

Out = TypeVar("Out", bound="Encoded")
LINES = 100  # the most lines of progress per run, if there is no bar
ECHO = 4  # columns: a terminal shows ^C at the cursor, twice if it is pressed twice


class Report:
    """Shows the progress of a run. Call `start` with its plan, then the report itself with each `Progress`.

    Call `phase` if something other than a step takes time.
    """

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self.device, self._training = "", True
        self._first, self._said = True, ""
        self._unsaid = ""  # the line of the last epoch, if it was left out
        self._losses = ""  # as the bar shows them
        self._bar: rich.progress.Progress | None = None
        if not quiet and console.bars():
            from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
            from rich.table import Column

            self._bar = _bar(
                TextColumn("epoch {task.fields[epoch]}"),
                BarColumn(bar_width=None, table_column=Column(ratio=1)),
                TextColumn("{task.fields[step]}"),
                TextColumn("{task.fields[losses]}"),
                TextColumn("{task.fields[speed]}", style="progress.data.speed"),
                TimeRemainingColumn(compact=True),
            )
            self._task = self._bar.add_task("train", total=None, epoch="", step="", losses="", speed="")

    def start(self, plan: "Plan", *, training: bool = True) -> None:
        """Announce what is trained, and on which device; nothing if there is no further training."""
        self.device, self._training = plan.device, training
        if not training:
            return
        held_out = f", {plan.validation_rows:,} for early stopping" if plan.validation_rows else ""
        held_out += f", {plan.test_rows:,} held out" if plan.test_rows else ""
        what = "fitting PCA" if plan.train.init == PCA else "training"
        console.say(
            f"{what} {plan.model.layers} on {console.counted(plan.rows, 'row')}{held_out}, on {plan.device}",
            quiet=self._quiet,
        )
        if self._bar is not None:
            self._bar.update(self._task, epoch=f"0/{plan.train.epochs}")
            self._bar.start()

    def phase(self, what: str, share: float) -> None:
        """Announce what the run is doing, once, or on a bar with the share that is done."""
        if self._bar is not None:
            self._bar.update(self._task, losses=f"{what} {share:.0%}")
        elif what != self._said:
            self._say_unsaid()
            console.say(what, quiet=self._quiet)
            self._said = what

    def __call__(self, progress: "Progress") -> None:
        if not self._training:
            return
        epoch = f"{progress.epoch:>{len(str(progress.epochs))}}/{progress.epochs}"
        held_out = "" if progress.test_loss is None else f" held-out {progress.test_loss:.5f}"
        losses = f"loss {progress.loss:.5f}{held_out}"
        if self._bar is not None:
            speed = f"{_short(progress.rows_per_second)} rows/s"
            step = f"{progress.step}/{progress.steps}"
            self._bar.update(self._task, completed=progress.step, total=progress.steps)
            self._bar.update(self._task, epoch=epoch, step=step, losses=losses, speed=speed)
            self._losses = losses
        elif progress.epoch_done:
            line = f"epoch {epoch} {losses} {progress.rows_per_second:,.0f} rows/s"
            if self._first or _has_a_line(progress.epoch, progress.epochs):
                console.say(line, quiet=self._quiet)
                line = ""
            self._first, self._unsaid = False, line

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, traceback: TracebackType | None) -> None:
        if self._bar is not None:
            if self._losses:
                self._bar.update(self._task, losses=self._losses)
            self._bar.stop()
        self._say_unsaid()

    def _say_unsaid(self) -> None:
        """Print the line of the last epoch, if it was left out."""
        if self._unsaid:
            console.say(self._unsaid, quiet=self._quiet)
        self._unsaid = ""


def _has_a_line(epoch: int, epochs: int) -> bool:
    """Return whether an epoch is reported: all are, or LINES of them, including the first and the last."""
    place, before = ((each - 1) * (LINES - 1) // max(1, epochs - 1) for each in (epoch, epoch - 1))
    return epochs <= LINES or place > before


def _bar(*columns: "rich.progress.ProgressColumn") -> "rich.progress.Progress":
    """Return a bar as wide as the terminal, less the room for ^C.

    Without that room, ^C would go to the next line, and the bar would be drawn there a second time.
    """
    from rich.progress import Progress

    class Bar(Progress):
        def make_tasks_table(self, tasks: "Iterable[rich.progress.Task]") -> "rich.table.Table":
            table = super().make_tasks_table(tasks)
            table.width = max(1, console.stderr().width - ECHO)
            return table

    return Bar(*columns, console=console.stderr(), expand=True)


def shown(outputs: Iterator[Out], source: "Source", output: str | None, *, quiet: bool) -> Iterator[Out]:
    """Yield the outputs for a source, with a bar that shows how much of the source was read.

    There is no bar if stderr cannot show one, or if the results go to the same terminal.
    """
    to_terminal = output in (None, "-") and sys.stdout is not None and sys.stdout.isatty()
    if quiet or to_terminal or not console.bars():
        yield from outputs
        return
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.fields[rows]} rows"), BarColumn(bar_width=None), TextColumn("{task.fields[share]}"))
    with _bar(*columns, TimeRemainingColumn(compact=True)) as bar:
        task = bar.add_task("rows", total=None, rows="0", share="")
        rows = 0
        for out in outputs:
            rows += len(out.z)
            share = source.share_read()
            if share is not None:
                bar.update(task, total=1.0, completed=share, share=f"{share:.0%}")
            bar.update(task, rows=f"{rows:,}")
            yield out


class Parts:
    """Shows how many parts of a folder are written: with a bar, else a line per part, at most 100 per run."""

    def __init__(self, total: int, *, quiet: bool) -> None:
        self._total, self._quiet, self._done = total, quiet, 0
        self._bar: rich.progress.Progress | None = None
        if total and not quiet and console.bars():
            from rich.progress import BarColumn, TextColumn, TimeRemainingColumn

            parts = TextColumn("{task.fields[parts]} parts")
            self._bar = _bar(parts, BarColumn(bar_width=None), TimeRemainingColumn(compact=True))
            self._task = self._bar.add_task("parts", total=total, parts=f"0/{total:,}")

    def shown(self, outputs: Iterator[Out], source: "Source") -> Iterator[Out]:
        """Yield the outputs for the source of a part."""
        for out in outputs:
            if self._bar is not None:
                self._bar.update(self._task, completed=self._done + (source.share_read() or 0))
            yield out

    def wrote(self, path: Where) -> None:
        """Report that a part is written."""
        self._done += 1
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done, parts=f"{self._done:,}/{self._total:,}")
        elif _has_a_line(self._done, self._total):
            console.say(f"wrote {path} ({self._done:,} of {self._total:,})", quiet=self._quiet)

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, traceback: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()


def _short(number: float) -> str:
    return f"{number / 1e6:.1f}M" if number >= 1e6 else f"{number / 1e3:.0f}k" if number >= 1e4 else f"{number:.0f}"
