"""Remote files: s3://, gs:// and https://. Imports nothing heavy to recognise one.

`buckets` and `http` access them, and are imported when the first one is used.
"""

import contextlib
import dataclasses
import functools
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO, cast
from urllib.parse import unquote, urlsplit

from aecli.errors import PlaceError, UsageError

if TYPE_CHECKING:
    from aecli.data.fetched import Head, Store

WRITTEN = ("s3", "gs")
SCHEMES = (*WRITTEN, "https", "http")
URL = re.compile(r"([a-z][a-z0-9+.-]*)://(.*)", re.IGNORECASE | re.DOTALL)
USER = re.compile(r"\A(?:[^/]*@|[^/@]*:(?!\d+(?:/|$))[^@]*@)")  # a password may hold a slash, or a ?
GLOB = re.compile(r"[*?\[]")
QUERY = r"\?(?=[\w.-]+=)"  # in a key; any other ? is part of a pattern
IN_TEXT = re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s'\"]+", re.IGNORECASE)


def is_remote(word: object) -> bool:
    """Return whether a text begins with a known remote scheme."""
    found = URL.match(word) if isinstance(word, str) else None
    return found is not None and found[1].lower() in SCHEMES


def shown(url: str) -> str:
    """Return a URL without secrets: scheme, host or bucket, and key; never a user, a password or a query."""
    found = URL.match(url)
    if found is None:
        return url
    query = QUERY if found[1].lower() in WRITTEN else "[?#]"
    return f"{found[1]}://{re.split(query, USER.sub('', found[2]), maxsplit=1)[0]}"


def hidden(text: str) -> str:
    """Return a text whose URLs are without secrets."""
    return IN_TEXT.sub(lambda found: shown(found[0]), text)


def secret_in(word: str) -> str | None:
    """Return the URL with a secret in a command-line argument; None if there is none."""
    found = re.search(r"\b[a-z][a-z0-9+.-]*://.*", word, re.IGNORECASE | re.DOTALL)
    return found[0] if found is not None and shown(found[0]) != found[0] else None


def place(word: "str | Where") -> "Where":
    """Return the place that a word names: a local path, or a remote place.

    Raises UsageError for a malformed URL.
    """
    if not isinstance(word, str):
        return word
    if is_remote(word):
        return Place(word)
    if URL.match(word) and not Path(word).exists():
        raise UsageError(f"{shown(word)}: unknown scheme", hint="remote files begin with s3://, gs:// or https://")
    return Path(word)


@dataclass(frozen=True)
class _Parts:
    """The parts of a URL. The key is the path after the bucket or the host, without slashes at its ends."""

    scheme: str
    root: str
    key: str


class Place:
    """A remote file or folder, with the interface of a `pathlib.Path`.

    Its text contains no secrets: see `shown`. `url` is the full URL, only for requests. `listed` is True if the place
    was found in a listing of its folder. `array` is the key of one array in a file with several. The state of the file
    is remembered: if the file changes while it is read, that is an error.
    All methods that make requests raise PlaceError if the server does not answer.
    """

    def __init__(self, url: str, *, typed: bool = True, array: str | None = None) -> None:
        """Raise UsageError for a malformed URL. A key that was not `typed` by the user may look like a query."""
        self.url, self.listed, self.array = url, False, array
        self._head: Head | None = None
        self._asked = False
        self._copy: BinaryIO | None = None
        scheme, rest = cast("re.Match[str]", URL.match(url)).groups()
        self.scheme = scheme.lower()
        name = shown(url)
        if self.scheme in WRITTEN:
            if USER.match(rest) or (typed and re.search(QUERY, rest)):
                raise UsageError(
                    f"{name}: {self.scheme}:// takes a bucket and a key, and there is a user or a query",
                    hint="credentials come from the environment, or from the configuration of the AWS and Google tools",
                )
            root, _, key = rest.partition("/")
            if root and key and not {"", ".", ".."}.isdisjoint(key.removesuffix("/").split("/")):
                raise UsageError(
                    f"{name}: a key with //, /./ or /../ cannot be accessed",
                    hint="remove it, or copy the object to another key",
                )
        else:
            root, _, key = name.partition("://")[2].partition("/")
        if not root:
            raise UsageError(f"{name}: no {'bucket' if self.scheme in WRITTEN else 'host'}")
        if self.scheme not in WRITTEN and not _is_host(root):
            raise UsageError(f"{name}: {root} is not a host name")
        self._parts = _Parts(self.scheme, root, key.strip("/"))
        self._said = name if self.scheme not in WRITTEN else f"{self.scheme}://{root}/{key.strip('/')}".rstrip("/")
        if self.scheme == "http" and not is_loopback(root):
            raise UsageError(
                f"{name}: http:// is not encrypted, and allowed only for this machine", hint="use https:// instead"
            )

    def __reduce__(self) -> tuple[object, ...]:
        return functools.partial(Place, typed=False, array=self.array), (self.url,)  # the copy asks the server again

    def __str__(self) -> str:
        return self._said

    def __repr__(self) -> str:
        return f"Place({self._said!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Place) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)

    @property
    def _identity(self) -> str:
        return self._said if self.scheme in WRITTEN else self.url.rstrip("/")

    def __lt__(self, other: "Place") -> bool:
        return self._parts.key < other._parts.key

    def __truediv__(self, name: object) -> "Place":
        return Place(f"{self.url.rstrip('/')}/{name}", typed=False)

    @property
    def root(self) -> str:
        """The bucket, or the host with its port."""
        return self._parts.root

    @property
    def key(self) -> str:
        """The path in the bucket, or at the host."""
        return self._parts.key

    @property
    def _pure(self) -> PurePosixPath:
        return PurePosixPath(self.key if self.scheme in WRITTEN else unquote(self.key))

    @property
    def name(self) -> str:
        """The last part, as of `Path`."""
        return self._pure.name

    @property
    def stem(self) -> str:
        """The name without its ending."""
        return self._pure.stem

    @property
    def suffix(self) -> str:
        """The name's ending."""
        return self._pure.suffix

    @property
    def parts(self) -> tuple[str, ...]:
        """The bucket or host, and all parts after it."""
        return (self.root, *self._pure.parts)

    @property
    def parent(self) -> "Place":
        """The folder that contains it; a bucket is its own parent."""
        above = self.key.rpartition("/")[0]
        return Place(f"{self.scheme}://{self.root}/{above}".rstrip("/"), typed=False)

    def with_name(self, name: str) -> "Place":
        """Return the place with this name in the same folder."""
        return self.parent / name

    def with_suffix(self, ending: str) -> "Place":
        """Return the place with the same stem and another ending."""
        return self.with_name(self.stem + ending)

    def resolve(self) -> "Place":
        """Return itself: there are no links."""
        return self

    def relative_to(self, folder: "Place") -> PurePosixPath:
        """Return its path relative to a folder."""
        return self._pure.relative_to(folder.key)

    def exists(self) -> bool:
        """Return whether anything is there."""
        return self._found is not None

    def is_file(self) -> bool:
        """Return whether a file is there."""
        return self._found is not None and not self._found.is_folder

    def is_dir(self) -> bool:
        """Return whether it is a folder that contains files."""
        return self._found is not None and self._found.is_folder

    @property
    def version(self) -> str | None:
        """A value that changes when the file does; None if there is no file."""
        return None if self._found is None else self._found.version

    @property
    def size(self) -> int | None:
        """The file's length in bytes; None if it is unknown, or there is no file."""
        return None if self._found is None else self._found.size

    @property
    def modified(self) -> float | None:
        """When the file was written, in seconds since 1970; None if that is unknown."""
        return None if self._found is None else self._found.modified

    @property
    def _found(self) -> "Head | None":
        if not self._asked:
            self._head, self._asked = self._store.head(self, start=False), True
        return self._head

    @property
    def _store(self) -> "Store":
        if self.scheme in WRITTEN:
            from aecli.data.buckets import store

            return store(self)
        from aecli.data.http import Http

        return Http()

    def open(self, mode: str = "rb") -> BinaryIO:
        """Open the file for reading. Raises FileNotFoundError if there is none, and PlaceError."""
        assert mode == "rb"  # noqa: S101, the parameter exists only for the type checker
        from aecli.data.fetched import Fetched

        return cast(BinaryIO, Fetched(self._store, self, self._of_file()))

    def contents(self) -> io.BytesIO:
        """Return the whole file in memory. Raises as `open` does."""
        head = self._of_file()
        if not head.ranges or head.size is None:
            with self.open() as file:
                return io.BytesIO(file.read())
        is_all = len(head.start) == head.size
        data = head.start if is_all else self._store.part(self, head, 0, head.size)
        self._head = dataclasses.replace(head, start=b"")  # drops the first bytes: many files may not fit into memory
        return io.BytesIO(data)

    def copy(self) -> BinaryIO:
        """Return an unnamed local copy of the file, the same one each time. Raises as `open` does."""
        if self._copy is None:
            import os
            import shutil
            import tempfile

            from aecli.data.stream import OwnFile

            with tempfile.TemporaryFile() as made, self.open() as file:
                shutil.copyfileobj(file, made, 1 << 20)
                made.flush()
                self._copy = cast(BinaryIO, OwnFile(os.dup(made.fileno()), "r+b"))
        self._copy.seek(0)
        return self._copy

    def _of_file(self) -> "Head":
        """Return what is known about the file, with its first bytes."""
        from aecli.data.fetched import START_BYTES

        if not self._asked:
            self._head, self._asked = self._store.head(self, start=True), True
        head = self._head
        if head is None or head.is_folder:
            raise FileNotFoundError(f"{self}: no such file")
        if head.ranges and head.size and not head.start:
            head = dataclasses.replace(head, start=self._store.part(self, head, 0, min(head.size, START_BYTES)))
            self._head = head
        return head

    def files(self, *, deep: bool = True) -> list["Place"]:
        """Return the files in it and, if `deep`, in its subfolders, sorted by key."""
        found = sorted(Place(url, typed=False, array=self.array) for url in self._store.files(self, deep=deep))
        for file in found:
            file.listed = True
        return found

    def expanded(self) -> list["Place"]:
        """Return the files that match a pattern, sorted as a shell does; the place itself if it is not a pattern.

        If a file has exactly the pattern as its name, only that file is returned.
        """
        if self.scheme not in WRITTEN or not GLOB.search(self.key):
            return [self]
        start = GLOB.split(self.key, maxsplit=1)[0].rpartition("/")[0]
        folder = Place(f"{self.scheme}://{self.root}/{start}".rstrip("/"), array=self.array)
        found = folder.files(deep="/" in self.key.removeprefix(start).strip("/"))
        return [file for file in found if file.key == self.key] or [
            file for file in found if _matches(file.key, self.key)
        ]

    def check_writable(self, *, folder: bool = False) -> None:
        """Raise an error if a place cannot be written, as far as that is known before any work is done.

        Raises UsageError for a URL that is read-only, PlaceError for a bucket that does not exist.
        """
        if self.scheme not in WRITTEN:
            raise UsageError(f"{self}: https:// is read-only", hint="write a file here, or to s3:// or gs://")
        if not folder and (not self.key or self.url.endswith("/")):
            raise UsageError(f"{self}: a folder, and a file was expected", hint="name a file in it")
        self._store.check_bucket(self)

    def check_allowed(self) -> None:
        """Raise PlaceError if the program may not write the file.

        It begins an upload to find out, and never finishes it; nobody sees that, as `buckets` explains.
        """
        with self._store.uploading(self):
            pass

    @contextlib.contextmanager
    def replacing(self) -> Iterator[BinaryIO]:
        """Open a file for writing. It appears whole, when the block ends without an error; otherwise nothing changes.

        It is first written to the folder for temporary files. Raises PlaceError if there is not enough room.
        """
        import tempfile

        self.check_writable()
        with self._store.uploading(self) as send:
            try:
                with tempfile.TemporaryFile() as made:
                    yield cast(BinaryIO, made)
                    made.flush()
                    made.seek(0)
                    send(cast(BinaryIO, made))
            except BrokenPipeError:
                raise
            except OSError as error:
                raise PlaceError(
                    f"{self}: no room for it in {tempfile.gettempdir()} ({error.strerror or error})",
                    hint="name a folder with more room: TMPDIR=FOLDER aecli ...",
                ) from error
        self._asked, self._copy = False, None


def _is_host(root: str) -> bool:
    """Return whether a text can be a host, with or without a port."""
    try:
        found = urlsplit(f"https://{root}")
        return bool(found.hostname) and (found.port is None or found.port > 0) and re.search(r"\s", root) is None
    except ValueError:
        return False


def is_loopback(root: str) -> bool:
    """Return whether a host, with or without a port, is this machine."""
    host = root.rpartition(":")[0] if re.search(r":\d+$", root) else root
    return host.lower() in ("localhost", "[::1]") or re.fullmatch(r"127(\.\d{1,3}){3}", host) is not None


def _matches(key: str, pattern: str) -> bool:
    """Return whether a key matches a shell pattern; a star does not match a slash."""
    import fnmatch

    parts, wanted = key.split("/"), pattern.split("/")
    return len(parts) == len(wanted) and all(map(fnmatch.fnmatchcase, parts, wanted))


Where = Path | Place
