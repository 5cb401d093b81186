"""Files that lie elsewhere: behind s3://, gs:// and https://. Nothing heavy is imported to know one.

`buckets` and `http` reach them, and are imported when the first one is asked for.
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
QUERY = r"\?(?=[\w.-]+=)"  # in a key; any other ? there is part of a pattern
IN_TEXT = re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s'\"]+", re.IGNORECASE)


def is_remote(word: object) -> bool:
    """Return whether a text begins as one of the places that are known here."""
    found = URL.match(word) if isinstance(word, str) else None
    return found is not None and found[1].lower() in SCHEMES


def shown(url: str) -> str:
    """Return a URL as others may see it: scheme, host or bucket, and key; never a user, a password or a query."""
    found = URL.match(url)
    if found is None:
        return url
    query = QUERY if found[1].lower() in WRITTEN else "[?#]"
    return f"{found[1]}://{re.split(query, USER.sub('', found[2]), maxsplit=1)[0]}"


def hidden(text: str) -> str:
    """Return a text in which each URL is as others may see it."""
    return IN_TEXT.sub(lambda found: shown(found[0]), text)


def secret_in(word: str) -> str | None:
    """Return the URL in a word of the command line that is not to be shown as it is, None where there is none."""
    found = re.search(r"\b[a-z][a-z0-9+.-]*://.*", word, re.IGNORECASE | re.DOTALL)
    return found[0] if found is not None and shown(found[0]) != found[0] else None


def place(word: "str | Where") -> "Where":
    """Return the place that a word names: here, or elsewhere.

    Raises UsageError for a URL that makes no sense.
    """
    if not isinstance(word, str):
        return word
    if is_remote(word):
        return Place(word)
    if URL.match(word) and not Path(word).exists():
        raise UsageError(f"{shown(word)}: no such place", hint="places elsewhere begin with s3://, gs:// or https://")
    return Path(word)


@dataclass(frozen=True)
class _Parts:
    """What a URL is made of. The key is the path behind the bucket or the host, without a slash at its ends."""

    scheme: str
    root: str
    key: str


class Place:
    """A file or a folder elsewhere, which answers as a `pathlib.Path` does.

    Its text may be shown: see `shown`. `url` is all of it, for requests alone. `listed` tells that its folder was asked
    for it, and `array` the one that is meant in a file of several. What was found there is remembered: a file that is
    another one when it is read on is an error.
    All that asks the other side raises PlaceError where that gives no answer.
    """

    def __init__(self, url: str, *, typed: bool = True, array: str | None = None) -> None:
        """Raise UsageError for a URL that makes no sense. A key that nobody `typed` may look as if it had a query."""
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
                    f"{name}: {self.scheme}:// takes a bucket and a key, and there is more",
                    hint="credentials come from the environment, or from the files of the tools of these places",
                )
            root, _, key = rest.partition("/")
            if root and key and not {"", ".", ".."}.isdisjoint(key.removesuffix("/").split("/")):
                raise UsageError(
                    f"{name}: a key with // or with a part that is . or .. cannot be reached",
                    hint="leave that out, or copy the object to another key",
                )
        else:
            root, _, key = name.partition("://")[2].partition("/")
        if not root:
            raise UsageError(f"{name}: it names no {'bucket' if self.scheme in WRITTEN else 'host'}")
        if self.scheme not in WRITTEN and not _is_host(root):
            raise UsageError(f"{name}: {root} is no host")
        self._parts = _Parts(self.scheme, root, key.strip("/"))
        self._said = name if self.scheme not in WRITTEN else f"{self.scheme}://{root}/{key.strip('/')}".rstrip("/")
        if self.scheme == "http" and not is_loopback(root):
            raise UsageError(
                f"{name}: http:// is not encrypted, and read from this machine alone", hint="use https:// instead"
            )

    def __reduce__(self) -> tuple[object, ...]:
        return functools.partial(Place, typed=False, array=self.array), (self.url,)  # what was found is asked for again

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
        """The bucket or host, and all parts behind it."""
        return (self.root, *self._pure.parts)

    @property
    def parent(self) -> "Place":
        """The folder that it lies in; a bucket lies in itself."""
        above = self.key.rpartition("/")[0]
        return Place(f"{self.scheme}://{self.root}/{above}".rstrip("/"), typed=False)

    def with_name(self, name: str) -> "Place":
        """Return the place beside it of this name."""
        return self.parent / name

    def with_suffix(self, ending: str) -> "Place":
        """Return the place beside it with another ending."""
        return self.with_name(self.stem + ending)

    def resolve(self) -> "Place":
        """Return itself: there are no links."""
        return self

    def relative_to(self, folder: "Place") -> PurePosixPath:
        """Return where it lies in a folder."""
        return self._pure.relative_to(folder.key)

    def exists(self) -> bool:
        """Return whether anything is there."""
        return self._found is not None

    def is_file(self) -> bool:
        """Return whether a file is there."""
        return self._found is not None and not self._found.is_folder

    def is_dir(self) -> bool:
        """Return whether other files lie in it."""
        return self._found is not None and self._found.is_folder

    @property
    def version(self) -> str | None:
        """What changes where the file does; None where there is none."""
        return None if self._found is None else self._found.version

    @property
    def size(self) -> int | None:
        """The file's length in bytes; None where it is not known, or there is none."""
        return None if self._found is None else self._found.size

    @property
    def modified(self) -> float | None:
        """When the file was written, in seconds since 1970; None where that is not known."""
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
        """Open the file to read. Raises FileNotFoundError where there is none, PlaceError as all do."""
        assert mode == "rb"  # noqa: S101, for the type checker's sake alone there is a mode
        from aecli.data.fetched import Fetched

        return cast(BinaryIO, Fetched(self._store, self, self._of_file()))

    def contents(self) -> io.BytesIO:
        """Read the whole file into memory. Raises as `open` does."""
        head = self._of_file()
        if not head.ranges or head.size is None:
            with self.open() as file:
                return io.BytesIO(file.read())
        is_all = len(head.start) == head.size
        data = head.start if is_all else self._store.part(self, head, 0, head.size)
        self._head = dataclasses.replace(head, start=b"")  # there may be more such files than fit into memory
        return io.BytesIO(data)

    def copy(self) -> BinaryIO:
        """Return an unnamed copy of the file on this machine, the same one each time. Raises as `open` does."""
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
        """Return what is known of the file, its first bytes too."""
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
        """Return the files that lie in it and, where it is `deep`, in its folders, sorted by their keys."""
        found = sorted(Place(url, typed=False, array=self.array) for url in self._store.files(self, deep=deep))
        for file in found:
            file.listed = True
        return found

    def expanded(self) -> list["Place"]:
        """Return the files that a pattern names, sorted as a shell does; itself, where it is no pattern.

        Where a file has the very name of a pattern, it is that one.
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
        """Refuse a place that cannot be written, before any work is done, as far as that is known then.

        Raises UsageError for a URL that is only read, PlaceError for a bucket that is not there.
        """
        if self.scheme not in WRITTEN:
            raise UsageError(f"{self}: https:// is read, not written", hint="write a file here, or to s3:// or gs://")
        if not folder and (not self.key or self.url.endswith("/")):
            raise UsageError(f"{self}: a folder, and a file was expected", hint="name a file in it")
        self._store.check_bucket(self)

    def check_allowed(self) -> None:
        """Refuse a file that may not be written there. Raises PlaceError.

        An upload is begun for that, and never ends: nobody sees it, as `buckets` tells.
        """
        with self._store.uploading(self):
            pass

    @contextlib.contextmanager
    def replacing(self) -> Iterator[BinaryIO]:
        """Open a file to write that is there, whole, when the block ends well; else nothing changes there.

        It is made in the folder for temporary files first. Raises PlaceError where that has no room for it.
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
    """Return whether a host, with its port or without, can be one."""
    try:
        found = urlsplit(f"https://{root}")
        return bool(found.hostname) and (found.port is None or found.port > 0) and re.search(r"\s", root) is None
    except ValueError:
        return False


def is_loopback(root: str) -> bool:
    """Return whether a host, with its port or without, is this machine."""
    host = root.rpartition(":")[0] if re.search(r":\d+$", root) else root
    return host.lower() in ("localhost", "[::1]") or re.fullmatch(r"127(\.\d{1,3}){3}", host) is not None


def _matches(key: str, pattern: str) -> bool:
    """Return whether a key is one that a shell's pattern names: no star reaches over a slash."""
    import fnmatch

    parts, wanted = key.split("/"), pattern.split("/")
    return len(parts) == len(wanted) and all(map(fnmatch.fnmatchcase, parts, wanted))


Where = Path | Place
