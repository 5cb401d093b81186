"""The errors that aecli raises on purpose.

    AecliError                 exit 1
    ├── DataError              rows that cannot be used, or cannot be had
    │   ├── WidthError         rows of another width than was expected
    │   └── EmptyRowError      a row without any value
    ├── PlaceError             a place elsewhere that gives no answer, or another one than before
    ├── CheckpointError        a file that is no checkpoint, or not one that can be used
    ├── TrainingError          a run that cannot go on
    ├── PeerError              another process of a run of several has ended
    └── UsageError             exit 2: what no data could make right

    Stopped                    exit 130 or 143: somebody wanted the run to stop
    Finished                   exit 0: the run to go on with came to its end before

Everything else that is raised is a bug and propagates.
"""

import shlex
from dataclasses import dataclass


@dataclass(frozen=True)
class Piped:
    """A way out through a pipe: what `writes` the text of the file called `name` as it can be trained on."""

    writes: str
    name: str
    says: str = ""

    def into(self, train: str) -> str:
        """Return the hint, given the command that reads the pipe."""
        return f"{self.says}{self.writes} | {train}"


class AecliError(Exception):
    """What went wrong, in a sentence that names the thing, what was expected and what was found."""

    exit_code = 1

    def __init__(
        self, message: str, *, hint: str | None = None, options: tuple[str, ...] = (), piped: Piped | None = None
    ) -> None:
        """Take the message, and the way out: a hint, or the `options` that the same command lacks.

        `piped` is what has to stand in the place of one of its files.
        """
        super().__init__(message)
        self.message = message
        self.options, self.piped = options, piped
        self.hint = hint or " ".join(options) or None
        if piped is not None:
            self.hint = piped.into(shlex.join(["aecli", "train", "-", "-o", "MODEL.safetensors", *options]))


class DataError(AecliError):
    """Rows that cannot be used, or cannot be had."""


class WidthError(DataError):
    """Rows of another width than was expected, or without some of the columns."""


class EmptyRowError(DataError):
    """A row without any value, where nothing says what becomes of holes."""


class PlaceError(AecliError):
    """A place elsewhere that gives no answer, or another one than before."""


class CheckpointError(AecliError):
    """A file that is no checkpoint, or not one that can be used."""


class TrainingError(AecliError):
    """A training run that cannot go on."""


class PeerError(AecliError):
    """Another process of a run of several has ended."""


class UsageError(AecliError):
    """A request that no data could make right."""

    exit_code = 2


class Stopped(Exception):  # noqa: N818, nothing went wrong
    """A training run was asked to stop, and did so after keeping its state."""


class Finished(Exception):  # noqa: N818, nothing went wrong
    """A training run was asked to go on, and its checkpoint is there already."""
