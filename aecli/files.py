"""Files that appear whole or not at all."""

import contextlib
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from aecli.errors import AecliError


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a file to write that takes the name `path` when the block ends well, and vanishes when it does not.

    The bytes are written beside `path`, flushed to disk, then renamed over it, so a reader sees the old file or the
    new one. What is no regular file, such as a named pipe, is written to directly.
    Raises AecliError where the system refuses.
    """
    if path.exists() and not path.is_file():
        with _refusals(path), path.open("wb") as stream:
            yield stream
        return
    target = path.resolve()  # through a symbolic link, to the file itself
    with _refusals(path):
        descriptor, name = tempfile.mkstemp(prefix=f".{target.name[:40]}.", suffix=".part", dir=target.parent)
    temporary = Path(name)
    try:
        with _refusals(path), os.fdopen(descriptor, "wb") as stream:
            yield stream
            stream.flush()
            os.fchmod(descriptor, _mode(target))
            os.fsync(descriptor)
        with _refusals(path):
            temporary.replace(target)
            _sync_folder(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _refusals(path: Path) -> Iterator[None]:
    """Raise AecliError where the system refuses to write; that nobody reads a pipe any more is no refusal."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise AecliError(f"{path}: cannot be written ({error.strerror or error})") from error


def _mode(path: Path) -> int:
    """Give the permissions of the file to be replaced, else what a new file gets."""
    if path.exists():
        return stat.S_IMODE(path.stat().st_mode)
    return 0o666 & ~umask()


def umask() -> int:
    """Give the permission bits that new files and folders go without."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
