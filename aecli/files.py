"""Files that appear whole or not at all."""

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from aecli.errors import AecliError

if TYPE_CHECKING:
    from aecli.data.places import Where


def digest(path: "Where") -> str:
    """Return the SHA-256 of a file. Raises AecliError where it cannot be read."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]
    except OSError as error:
        raise AecliError(f"{path}: cannot be read ({error.strerror or error})") from error


@contextlib.contextmanager
def replacing(path: "Where") -> Iterator[BinaryIO]:
    """Open a file to write that takes the name `path` when the block ends well, and vanishes when it does not.

    The bytes are written beside `path`, flushed to disk, then renamed over it, so a reader sees the old file or the
    new one. What is no regular file, such as a named pipe, is written to directly.
    Raises AecliError where the system refuses, PlaceError where a place elsewhere does.
    """
    if not isinstance(path, Path):
        with path.replacing() as stream:
            yield stream
        return
    if path.exists() and not path.is_file():
        with _refusals(path), path.open("wb") as stream:
            yield stream
        return
    target = path.resolve()  # through a symbolic link, to the file itself
    with _refusals(path):
        descriptor, temporary = _temporary(target)
    try:
        with _refusals(path), os.fdopen(descriptor, "w+b") as stream:
            yield stream
            stream.flush()
            os.fchmod(descriptor, _mode(target))
            os.fsync(descriptor)
            if not temporary.exists():
                _give_name(descriptor, temporary)
            temporary.replace(target)
            _sync_folder(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _temporary(target: Path) -> tuple[int, Path]:
    """Open a file in the folder of `target`, to be written: (descriptor, name).

    Where the file system can, it has no name yet, so that nothing is left of it when the program is killed.
    """
    if hasattr(os, "O_TMPFILE") and Path("/proc/self/fd").is_dir():
        name = target.with_name(f".{target.name[:40]}.{os.urandom(4).hex()}.part")
        with contextlib.suppress(OSError):
            return os.open(target.parent, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600), name
    import tempfile

    descriptor, made = tempfile.mkstemp(prefix=f".{target.name[:40]}.", suffix=".part", dir=target.parent)
    return descriptor, Path(made)


def _give_name(descriptor: int, name: Path) -> None:
    """Return an open file without a name its name. Source: open(2), O_TMPFILE."""
    folder = os.open(name.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.link(f"/proc/self/fd/{descriptor}", name.name, dst_dir_fd=folder)  # with a dst_dir_fd it follows the link
    finally:
        os.close(folder)


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
    """Return the permissions of the file to be replaced, else what a new file gets."""
    if path.exists():
        return stat.S_IMODE(path.stat().st_mode)
    return 0o666 & ~umask()


def umask() -> int:
    """Return the permission bits that new files and folders go without."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
