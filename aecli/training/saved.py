"""The run in a resume file, read from the file's header alone. Nothing heavy is imported, for `aecli info`.

The header has one key, `aecli-resume`: JSON with the `format`, the `run` as `resume.described` returns it, its
`position` as `Trainer.state` returns it, its duration in `seconds`, the name of its data as `source`, the numbers of
`rows` by purpose, and as `command` the words that started it.
"""

import fcntl
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aecli import __version__
from aecli.config import History, ModelConfig, Schema, TrainConfig
from aecli.data.places import Where
from aecli.errors import CheckpointError, UsageError
from aecli.model import checkpoint

KEY = "aecli-resume"
FORMAT = 2


@dataclass(frozen=True)
class SavedRun:
    """A saved run: `step` of `steps`, in `epoch`, each counted from 1 as training reports them.

    `rows` is the number of training rows. `seconds` cover training only. `source` is the name of the data without its
    place, `command` the words that started the run; both are None if unknown. `version` is the version of aecli that
    started the run, `processes` the number of processes, and `running` is True if it has not stopped.
    """

    model: ModelConfig
    train: TrainConfig
    schema: Schema
    scaler: str
    rows: int
    validation_rows: int
    test_rows: int
    device: str
    epoch: int
    step: int
    steps: int
    seconds: float
    history: History
    source: str | None
    command: tuple[str, ...] | None
    version: str
    processes: int
    running: bool

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        return {name: value.to_json() if hasattr(value, "to_json") else value for name, value in vars(self).items()}


def is_saved_run(path: Where) -> bool:
    """Return whether a file is a resume file, by its metadata, or by its name if it is still empty."""
    try:
        with checkpoint.opened(path) as file:
            if not os.fstat(file.fileno()).st_size:
                return path.suffix == ".resume"
            metadata = checkpoint.read_header(path, file)[0].get("__metadata__")
            return isinstance(metadata, dict) and KEY in metadata
    except CheckpointError:
        return False


def read(path: Where) -> SavedRun:
    """Read the run in a resume file.

    Raises CheckpointError if the file is missing, not a resume file, damaged, or of another version.
    """
    with checkpoint.opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        if not size:
            raise CheckpointError(f"{path}: empty: its run has saved nothing yet")
        header, data_start = checkpoint.read_header(path, file)
        try:
            kept = json.loads(header.pop("__metadata__")[KEY])
            if kept.get("format", 1) != FORMAT:
                raise of_another_version(path, kept, None)
            end = max(int(entry["data_offsets"][1]) for entry in header.values())
            if size != data_start + end:
                raise ValueError(f"{data_start + end:,} bytes expected, {size:,} found")  # noqa: TRY301
            return _read(kept, running=not lock(file.fileno(), fcntl.LOCK_SH))
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError, UsageError) as error:
            why = f"it has no readable {error}" if isinstance(error, KeyError) else str(error)
            raise CheckpointError(f"{path}: a damaged resume file: {why}") from error


def _read(kept: Mapping[str, Any], *, running: bool) -> SavedRun:
    run, position = kept["run"], kept["position"]
    train, history = TrainConfig.from_json(run["train"]), History.from_json(position["history"])
    rows, validation_rows, test_rows = (int(kept["rows"][name]) for name in ("training", "validation", "held-out"))
    steps_per_epoch, in_epoch = rows // min(train.batch_size, rows), int(position["step"])
    source, command = kept.get("source"), kept.get("command")
    if not isinstance(source, str | None) or not isinstance(command, list | None):
        raise ValueError("source or command is of the wrong type")  # noqa: TRY004
    return SavedRun(
        ModelConfig.from_json(run["model"]),
        train,
        Schema.from_json(run["schema"]),
        str(run["scaling"]["scale"]),
        rows,
        validation_rows,
        test_rows,
        str(run["device"]),
        epoch=len(history.loss) + (in_epoch > 0),
        step=len(history.loss) * steps_per_epoch + in_epoch,
        steps=train.epochs * steps_per_epoch,
        seconds=float(position["seconds"]),
        history=history,
        source=source,
        command=None if command is None else tuple(map(str, command)),
        version=str(run["aecli"]),
        processes=int(run.get("processes", {}).get("processes", 1)),
        running=running,
    )


def of_another_version(path: Where, kept: Mapping[str, Any], flag: str | None) -> CheckpointError:
    """Return the error that names the version that can resume a run. `flag` is the flag that asked for it, if any."""
    version = str(dict(kept["run"])["aecli"])
    return CheckpointError(
        f"{path}: the run was started by aecli {version}, and this is {__version__}, which cannot resume it",
        hint=f"finish it with aecli {version}" + (f", or start anew: --force instead of {flag}" if flag else ""),
    )


def lock(descriptor: int, kind: int = fcntl.LOCK_EX) -> bool:
    """Lock an open file, and return whether it was free. On a file system without locks it always is."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True
