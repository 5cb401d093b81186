"""Buckets: s3:// and gs://, through pyarrow, which finds the credentials itself.

pyarrow can end an upload only by completing it, and it does so when its stream is closed or freed. An incomplete upload
is therefore left open. It is invisible, and a lifecycle rule of the bucket removes its parts.
"""

import contextlib
import ctypes
import dataclasses
import datetime as dt
import functools
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

from aecli.data.fetched import START_BYTES, Head, changed, instant
from aecli.errors import PlaceError

if TYPE_CHECKING:
    from aecli.data.places import Place

CONNECT_SECONDS, REQUEST_SECONDS = 5.0, 10.0
TRIES = 3
GCS_SECONDS = 15
UPLOADED_BYTES = 40 << 20  # some parts of an upload, sent at once; it can be stopped between them
MAX_WORDS = 200  # characters of pyarrow's message
DENIED = (
    "ACCESS_DENIED|HTTP status 40[13]|PERMISSION_DENIED|UNAUTHENTICATED|INVALID_ACCESS_KEY|SIGNATURE_DOES_NOT_MATCH|"
    "OAuth2 access token"
)
DENIED_WORDS = ": access is denied"
WAYS = {
    "s3": "credentials come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or from AWS_PROFILE",
    "gs": "credentials come from GOOGLE_APPLICATION_CREDENTIALS, or from: gcloud auth application-default login",
}


class Bucket:
    """One bucket."""

    def __init__(self, files: Any) -> None:
        self._files = files

    def head(self, place: "Place", *, start: bool) -> Head | None:
        from pyarrow import fs

        path = f"{place.root}/{place.key}".rstrip("/")
        with _answers(place):
            if place.key and not place.url.endswith("/"):
                with contextlib.suppress(FileNotFoundError):
                    return self._file(place, path, start=start)
            found = self._files.get_file_info(path).type
            if found == fs.FileType.File:  # an object with the folder's name exists, too
                found = fs.FileType.Directory if self._holds_files(path) else None
            if found == fs.FileType.Directory:
                return Head(is_folder=True)
        self.check_bucket(place)
        return None

    def _holds_files(self, path: str) -> bool:
        from pyarrow import fs

        return bool(self._files.get_file_info(fs.FileSelector(path, allow_not_found=True)))

    def _file(self, place: "Place", path: str, *, start: bool) -> Head:
        with self._files.open_input_file(path) as file:
            modified = instant(_said(file).get("last-modified"))
            head = Head(size=file.size(), version=_version(file), modified=modified)
            if not start:
                return head
            return dataclasses.replace(head, start=self._read(file, place, head, 0, min(head.size or 0, START_BYTES)))

    def part(self, place: "Place", head: Head, start: int, size: int) -> bytes:
        try:
            with _answers(place), self._files.open_input_file(f"{place.root}/{place.key}") as file:
                return self._read(file, place, head, start, size)
        except FileNotFoundError as error:
            raise changed(place) from error

    def _read(self, file: Any, place: "Place", head: Head, start: int, size: int) -> bytes:
        """Return a part, and check that the object is still the same: requests cannot ask for a version."""
        data: bytes = file.read_at(size, start) if size else b""
        with self._files.open_input_file(f"{place.root}/{place.key}") as now:
            if len(data) != size or {_version(file), _version(now)} != {head.version}:
                raise changed(place)
        return data

    def all(self, place: "Place", head: Head) -> Iterator[bytes]:
        yield self.part(place, head, 0, head.size or 0)

    def files(self, place: "Place", *, deep: bool) -> list[str]:
        from pyarrow import fs

        path = f"{place.root}/{place.key}".rstrip("/")
        try:
            with _answers(place):
                found = self._files.get_file_info(fs.FileSelector(path, recursive=deep))
        except FileNotFoundError:
            self.check_bucket(place)
            return []
        return [f"{place.scheme}://{each.path}" for each in found if each.type == fs.FileType.File]

    def check_bucket(self, place: "Place") -> None:
        from pyarrow import fs

        try:
            with _answers(place):
                if self._files.get_file_info(place.root).type != fs.FileType.NotFound:
                    return
        except FileNotFoundError:
            pass
        except PlaceError as error:
            if error.message.endswith(DENIED_WORDS):  # to the bucket itself, which its files do not need
                return
            raise
        raise PlaceError(f"{place}: there is no bucket {place.root}")

    @contextlib.contextmanager
    def uploading(self, place: "Place") -> Iterator[Callable[[BinaryIO], None]]:
        stream: Any = None

        def send(file: BinaryIO) -> None:
            with _answers(place):
                while block := file.read(UPLOADED_BYTES):
                    stream.write(block)
                    stream.flush()
                stream.close()

        try:
            with _answers(place):
                stream = self._files.open_output_stream(f"{place.root}/{place.key}")
        except FileNotFoundError as error:
            raise PlaceError(f"{place}: there is no bucket {place.root}") from error
        try:
            yield send
        finally:
            if not stream.closed:
                _keep_open(stream)


def store(place: "Place") -> Bucket:
    """Return the bucket of a place. Raises PlaceError if its region cannot be found."""
    with _answers(place):
        try:
            return _s3(place.root) if place.scheme == "s3" else _gcs()
        except FileNotFoundError as error:
            raise PlaceError(f"{place}: there is no bucket {place.root}") from error


@functools.cache
def _s3(bucket: str) -> Bucket:
    """Return a bucket of S3, at AWS_ENDPOINT_URL, or else in the region of the bucket."""
    from pyarrow import fs

    found, _ = fs.FileSystem.from_uri(f"s3://{bucket}")
    _, (known,) = found.__reduce__()
    return Bucket(
        fs.S3FileSystem(
            region=known["region"] or None,
            endpoint_override=known["endpoint_override"] or None,
            connect_timeout=CONNECT_SECONDS,
            request_timeout=REQUEST_SECONDS,
            retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=TRIES),
        )
    )


@functools.cache
def _gcs() -> Bucket:
    from pyarrow import fs

    return Bucket(fs.GcsFileSystem(retry_time_limit=dt.timedelta(seconds=GCS_SECONDS)))


def _version(file: Any) -> str:
    """Return a value that changes when an object does: S3's entity tag, or Google's generation."""
    said = _said(file)
    return "|".join(said.get(name, "") for name in ("etag", "generation", "last-modified", "content-length"))


def _said(file: Any) -> dict[str, str]:
    """Return the server's metadata for a file, by lower-case names."""
    said = (file.metadata() or {}).items()
    return {str(name).lower(): value.decode() if isinstance(value, bytes) else str(value) for name, value in said}


def _keep_open(stream: Any) -> None:
    """Keep an upload open forever: closing it would publish the incomplete object."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(stream))


@contextlib.contextmanager
def _answers(place: "Place") -> Iterator[None]:
    """Turn pyarrow's errors for a bucket that does not answer into PlaceError, but pass FileNotFoundError on."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        said = str(error)
        if re.search(DENIED, said):
            raise PlaceError(f"{place}{DENIED_WORDS}", hint=WAYS[place.scheme]) from error
        if re.search("NO_SUCH_BUCKET|Bucket '.*' not found", said):
            raise PlaceError(f"{place}: there is no bucket {place.root}") from error
        hint = WAYS[place.scheme] if "HTTP status 400" in said else None  # for example, an expired token
        raise PlaceError(f"{place}: no answer ({_why(said)})", hint=hint) from error


def _why(said: str) -> str:
    """Return the part of pyarrow's message that a user can act on."""
    if status := re.search(r"HTTP status (\d+)", said):
        return f"HTTP {status[1]}"
    if curl := re.search(r"curlCode: \d+, ([^;]+)", said):
        return curl[1]
    return re.sub(r"^.*?AWS Error ", "", said.partition("\n")[0])[:MAX_WORDS]
