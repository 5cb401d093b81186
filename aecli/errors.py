"""The errors that aecli raises on purpose.

    AecliError                 exit 1
    ├── DataError              rows that cannot be used, or cannot be read
    │   ├── WidthError         rows of an unexpected width
    │   └── EmptyRowError      a row without any value
    ├── PlaceError             a remote place that does not answer, or has changed
    ├── CheckpointError        a file that is not a checkpoint, or not a usable one
    ├── TrainingError          a run that cannot continue
    ├── PeerError              another process of the same run has ended
    └── UsageError             exit 2: a request that is wrong for any data

    Stopped                    exit 130 or 143: the run was asked to stop
    Finished                   exit 0: the run to resume is already finished

All other exceptions are bugs and propagate.
"""

import shlex
from dataclasses import dataclass


@dataclass(frozen=True)
class Piped:
    """A way out through a pipe: a command that `writes` the file called `name` as text that train can read."""

    writes: str
    name: str
    says: str = ""

    def into(self, train: str) -> str:
        """Return the hint, given the command that reads the pipe."""
        return f"{self.says}{self.writes} | {train}"


class AecliError(Exception):
    """An error, whose message names the thing, what was expected and what was found."""

    exit_code = 1

    def __init__(
        self, message: str, *, hint: str | None = None, options: tuple[str, ...] = (), piped: Piped | None = None
    ) -> None:
        """Store the message, and the way out: a hint, or the `options` that the same command lacks.

        `piped` is a pipe that replaces one of the command's files.
        """
        super().__init__(message)
        self.message = message
        self.options, self.piped = options, piped
        self.hint = hint or " ".join(options) or None
        if piped is not None:
            self.hint = piped.into(shlex.join(["aecli", "train", "-", "-o", "MODEL.safetensors", *options]))


class DataError(AecliError):
    """Rows that cannot be used, or cannot be read."""


class WidthError(DataError):
    """Rows of an unexpected width, or without some of the columns."""


class EmptyRowError(DataError):
    """A row without any value, and no rule for empty cells."""


class PlaceError(AecliError):
    """A remote place that does not answer, or has changed."""


class CheckpointError(AecliError):
    """A file that is not a checkpoint, or not a usable one."""


class TrainingError(AecliError):
    """A training run that cannot continue."""


class PeerError(AecliError):
    """Another process of the same run has ended."""


class UsageError(AecliError):
    """A request that is wrong for any data."""

    exit_code = 2


class Stopped(Exception):  # noqa: N818, nothing went wrong
    """A training run was asked to stop, and did so after saving its state."""


class Finished(Exception):  # noqa: N818, nothing went wrong
    """A training run was to be resumed, and its checkpoint already exists."""
