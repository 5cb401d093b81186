"""Files that appear complete or not at all."""

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
    """Return the SHA-256 of a file. Raises AecliError if it cannot be read."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]
    except OSError as error:
        raise AecliError(f"{path}: cannot be read ({error.strerror or error})") from error


@contextlib.contextmanager
def replacing(path: "Where") -> Iterator[BinaryIO]:
    """Open a file to write. It gets the name `path` when the block succeeds, and is removed when the block fails.

    The bytes are written beside `path`, flushed to disk, then renamed over it, so a reader sees the old file or the
    new one. If `path` is not a regular file, such as a named pipe, it is written to directly.
    Raises AecliError if the system refuses, PlaceError if a remote place does.
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
    """Open a temporary file in the folder of `target`: (descriptor, name).

    If the file system allows, it has no name yet, so that nothing is left of it when the program is killed.
    """
    if hasattr(os, "O_TMPFILE") and Path("/proc/self/fd").is_dir():
        name = target.with_name(f".{target.name[:40]}.{os.urandom(4).hex()}.part")
        with contextlib.suppress(OSError):
            return os.open(target.parent, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600), name
    import tempfile

    descriptor, made = tempfile.mkstemp(prefix=f".{target.name[:40]}.", suffix=".part", dir=target.parent)
    return descriptor, Path(made)


def _give_name(descriptor: int, name: Path) -> None:
    """Link an open file without a name to a name. Source: open(2), O_TMPFILE."""
    folder = os.open(name.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.link(f"/proc/self/fd/{descriptor}", name.name, dst_dir_fd=folder)  # with a dst_dir_fd it follows the link
    finally:
        os.close(folder)


@contextlib.contextmanager
def _refusals(path: Path) -> Iterator[None]:
    """Raise AecliError if the system refuses to write. A broken pipe is not a refusal."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise AecliError(f"{path}: cannot be written ({error.strerror or error})") from error


def _mode(path: Path) -> int:
    """Return the permissions of the file to be replaced, else those of a new file."""
    if path.exists():
        return stat.S_IMODE(path.stat().st_mode)
    return 0o666 & ~umask()


def umask() -> int:
    """Return the permission bits that new files and folders do not get."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
