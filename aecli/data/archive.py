"""The contents of a zip archive: one file, the arrays of an NPZ, or something that aecli does not read."""

import shlex
import zipfile
import zlib
from typing import Any, BinaryIO, cast

from aecli.data.formats import form_of
from aecli.data.places import Where
from aecli.data.refused import refused
from aecli.data.stream import Stream
from aecli.errors import DataError

DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, ValueError, OSError, RuntimeError, LookupError)
MAX_DEPTH = 2  # a zip archive may contain an NPZ


def unpacked(stream: Stream, path: Where | None, *, force: bool | None, depth: int = 1) -> tuple[str | None, Stream]:
    """Return the contents of a zip archive: the format by their first bytes, and a stream.

    The stream is the one file in the archive, or the archive itself if it is an NPZ. `depth` counts archives inside
    archives.
    Raises DataError if the archive is damaged, or does not hold exactly one file.
    """
    file = stream.file()
    try:
        archive = zipfile.ZipFile(file)
    except DAMAGED as error:
        raise DataError(f"{stream.name}: the zip archive is damaged or cut short ({error})") from error
    names = archive.namelist()
    if "[Content_Types].xml" in names or "mimetype" in names:
        raise refused(stream.name, "xlsx", path=path)
    if any(name.endswith("data.pkl") for name in names):
        raise refused(stream.name, "pickle", path=path)
    if names and all(name.endswith(".npy") for name in names):
        file.seek(0)
        return "npz", Stream(stream.name, file, force=force)
    members = [
        one for one in archive.infolist() if not one.filename.endswith("/") and not one.filename.startswith("__MACOSX/")
    ]
    if len(members) != 1:
        raise _several(stream.name, path, [one.filename for one in members])
    member = Stream(
        stream.name, cast(BinaryIO, _Member(archive, members[0])), packed=members[0].compress_size, force=force
    )
    form = form_of(member.peek())
    if form == "zip" and depth < MAX_DEPTH:
        return unpacked(member, path, force=force, depth=depth + 1)
    return form, member


def _several(name: str, path: Where | None, members: list[str]) -> DataError:
    if not members:
        return DataError(f"{name}: an empty zip archive, and one file was expected")
    listed = ", ".join(repr(member) for member in members[:8]) + ", ..." * (len(members) > 8)
    unzip = shlex.join(["unzip", "-p", "FILE" if path is None else str(path), members[0]])
    return DataError(
        f"{name}: a zip archive of {len(members)} files, and one was expected: {listed}",
        hint=f"read one of them: {unzip} | aecli COMMAND ... -",
    )


class _Member:
    """A file in a zip archive. Every kind of damage raises OSError."""

    def __init__(self, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
        self._archive, self._member, self._file = archive, member, cast(Any, None)

    def read(self, size: int) -> bytes:
        try:
            if self._file is None:
                self._file = self._archive.open(self._member)
            data: bytes = self._file.read(size)
        except DAMAGED as error:
            raise OSError(str(error)) from error
        return data
