"""Check and open MODEL and DATA, for all commands that apply a model."""

import os
import select
import shlex
import stat
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from aecli.cli import console
from aecli.data.places import Place, Where, is_remote, place, shown
from aecli.errors import AecliError, DataError, UsageError

if TYPE_CHECKING:
    from typing import Any

    import numpy as np

    import aecli
    from aecli.data.source import Source
    from aecli.model.checkpoint import Checkpoint
    from aecli.options import Matching, Reading

    Array = np.ndarray[Any, Any]


def open_rows(
    loaded: "aecli.Model",
    data: Sequence[str | Place] | None,
    *groups: "Reading | Matching",
    data_dir: Path | None,
    quiet: bool,
) -> "Source":
    """Open DATA for a model; without DATA, the test split of the built-in set that the model was trained on.

    Call `check_data` first.
    """
    if not data:
        data = [f"{loaded.checkpoint.data}:test"]
        console.say(f"reading {data[0]}", quiet=quiet)
    asked = {name: value for group in groups for name, value in vars(group).items()}

    def announce(message: str) -> None:
        console.say(message, quiet=quiet)

    return loaded.open(data[0] if len(data) == 1 else list(data), data_dir=data_dir, announce=announce, **asked)


def fixed(data: Sequence[str] | None) -> list[str | Place]:
    """Return DATA so that it can be read twice: a remote file that changes in between is an error."""
    return [each for word in data or () for each in (_fixed(word) if is_remote(word) else [word])]


def _fixed(word: str) -> Sequence[str | Place]:
    from aecli.data.opening import elsewhere

    return elsewhere(word).expanded() or [word]


def part_of(known: "Array", first: int, count: int, source: "Source") -> "Array":
    """Return the part of a mask that belongs to some rows, as 0 or 1. Raises DataError if there are too many rows."""
    if first + count > len(known):
        raise DataError(f"{source.name}: changed while it was read")
    return known[first : first + count].astype("int64")


def can_be_read_twice(data: Sequence[str] | None) -> bool:
    """Return whether DATA can be read twice: it is neither standard input nor a pipe."""
    return not any(word == "-" or (Path(word).exists() and not _lasts(Path(word))) for word in data or ())


def check_read_twice(data: Sequence[str] | None, flag: str) -> None:
    """Refuse DATA that can be read only once, if an option reads it twice."""
    if not can_be_read_twice(data):
        raise UsageError(
            f"{flag} reads DATA twice, and a pipe can be read only once", hint="write it to a file, and name the file"
        )


def not_the_training_data(loaded: "aecli.Model", data: Sequence[str] | None) -> DataError:
    """Return the error that DATA is not the data of the training, or that the model has no record of it."""
    named, made = " ".join(map(shown, data or ())), loaded.checkpoint
    if made.origin is None:
        return DataError(
            f"{loaded.name} was written by a version of aecli that did not store which rows it trained on",
            hint="train it again",
        )
    return DataError(
        f"{named}: not the data that {loaded.name} was trained on, so which rows were held out is unknown",
        hint=f"give it all rows of {made.source or 'the training data'}, in their order",
    )


def check_data(model: Where, data: Sequence[str] | None) -> None:
    """Refuse MODEL and DATA in the wrong order, and missing DATA if the model was not trained on a built-in set."""
    from aecli.model import checkpoint

    check_model_first(model, data)
    if not data and (made := checkpoint.read(model)).data is None:
        command = sys.argv[1] if len(sys.argv) > 1 else "embed"
        ends = ["--"] * str(model).startswith("-")
        named = "-" if bytes_wait() else training_data(made)
        raise data_is_missing(model, made, shlex.join(["aecli", command, *ends, str(model), named]))


def data_is_missing(model: Where, made: "Checkpoint", hint: str) -> UsageError:
    """Return the error for missing DATA if the model was not trained on a built-in set."""
    source = made.source or "data without a name"
    return UsageError(f"DATA is missing, and {model} was trained on {source}, which is not a built-in set", hint=hint)


def training_data(made: "Checkpoint") -> str:
    """Return the data that a model was trained on if it can be read here, else "DATA", for a hint."""
    source = made.source
    return source if source is not None and (is_remote(source) or Path(source).exists()) else "DATA"


def check_model_first(model: Where, data: Sequence[str] | None) -> None:
    """Refuse MODEL and DATA in the wrong order."""
    from aecli.model import checkpoint

    if data and data[0].endswith(".safetensors") and model.is_file() and not checkpoint.is_checkpoint(model):
        is_model = checkpoint.is_checkpoint(place(data[0]))
        asked = f"; is it {shown(data[0])}?" if is_model else ""
        raise AecliError(f"{model} is not a checkpoint", hint=f"the model comes first, then the data{asked}")


def say_notes(source: "Source", *, quiet: bool) -> None:
    """Announce which rows were left out, and which cells were filled, if any."""
    for sentence in source.notes():
        console.say(sentence, quiet=quiet)


def check_output(output: Where, *inputs: str, option: str = "--output") -> None:
    """Refuse, before any work is done, an output that cannot be written, or that the command reads.

    `option` is the option that named the output.
    """
    if isinstance(output, Place):
        output.check_writable()
        is_read = any(isinstance(given := place(word), Place) and _lies_in(output, given) for word in inputs)
    else:
        from aecli.data.opening import array_key

        _check_here(output)
        here = [Path(array_key(word)[0]) for word in inputs if not is_remote(word)]
        is_read = any(output.exists() and _is_read(output, given) for given in here)
    if is_read:
        raise UsageError(
            f"{output} is an input of this command, and would be overwritten", hint=f"name another {option}"
        )


def _check_here(output: Path) -> None:
    """Refuse a path that cannot be written."""
    if output.is_dir():
        raise AecliError(f"{output}: a folder, and a file was expected")
    if not output.parent.is_dir():
        raise AecliError(
            f"{output}: there is no folder {output.parent}", hint=shlex.join(["mkdir", "-p", str(output.parent)])
        )
    if (output.is_file() or not output.exists()) and not os.access(output.parent, os.W_OK):
        raise AecliError(f"{output}: no permission to write to the folder {output.parent}")


def _lies_in(output: Place, given: Place) -> bool:
    """Return whether a remote output is the input itself, or one of the files of an input folder or pattern."""
    if output in given.expanded():
        return True
    return output.key.startswith(f"{given.key}/") and output.root == given.root and output.exists() and given.is_dir()


def _is_read(file: Path, given: Path) -> bool:
    """Return whether a file is the given input, or is read as part of the given folder."""
    from aecli.data.formats import IMAGES

    if not given.is_dir():
        return given.exists() and file.samefile(given)
    if given.resolve() not in file.resolve().parents:
        return False
    endings = {each.suffix.lower() for each in given.rglob("*") if not each.name.startswith(".")}
    ending = file.suffix.lower()
    return (
        ending in IMAGES
        or (ending in (".npy", ".safetensors") and endings == {ending})
        or (ending == ".parquet" and not endings & {*IMAGES})
    )


def keep_checkpoint(output: Where) -> None:
    """Raise AecliError if the output would replace a checkpoint."""
    from aecli.model.checkpoint import is_checkpoint

    if output.is_file() and is_checkpoint(output):
        raise AecliError(f"{output} is a checkpoint, and would be lost", hint="name another --output")


def say_written(output: Where, *, replaced: bool, quiet: bool) -> None:
    """Announce that a file was written, and whether it replaced another one."""
    console.say(f"{'replaced' if replaced else 'wrote'} {output}", quiet=quiet)


def stdin_is_a_file() -> bool:
    """Return whether standard input is a regular file that is not empty and of which nothing is read yet."""
    try:
        descriptor = sys.stdin.fileno()
        found = os.fstat(descriptor)
        return stat.S_ISREG(found.st_mode) and found.st_size > 0 and os.lseek(descriptor, 0, os.SEEK_CUR) == 0
    except (OSError, ValueError, AttributeError):
        return False


def _lasts(path: Path) -> bool:
    return path.is_file() or path.is_dir()


def bytes_wait() -> bool:
    """Return whether standard input is a file or a pipe that is not empty."""
    try:
        found = os.fstat(sys.stdin.fileno())
        waits = stat.S_ISFIFO(found.st_mode) and bool(select.select([sys.stdin], [], [], 0)[0])
        return waits or (stat.S_ISREG(found.st_mode) and found.st_size > 0)
    except (OSError, ValueError, AttributeError):
        return False
