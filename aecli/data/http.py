"""Files at https://, through the standard library: read in parts, with retries, redirected only to https."""

import base64
import contextlib
import functools
import http.client
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from aecli.data.fetched import BLOCK_BYTES, START_BYTES, Head, changed, instant
from aecli.data.places import URL, USER, is_loopback, shown
from aecli.errors import PlaceError

if TYPE_CHECKING:
    from aecli.data.places import Place

T = TypeVar("T")
SECONDS = 10.0  # for each answer
WAITS = (0.2, 0.5, 1.0)  # seconds, before each further try
SAFE = "%/:=&?~+!$,;'@()*[]"  # characters of a path and a query that are not quoted


class Http:
    """Any host that speaks HTTP."""

    def head(self, place: "Place", *, start: bool) -> Head | None:  # noqa: ARG002, one request returns the start anyway
        def read() -> Head | None:
            try:
                with _opened(place, 0, START_BYTES) as answer:
                    size, version = _size(answer), _version(answer)
                    modified = instant(answer.headers.get("Last-Modified"))
                    if answer.status != 206 or size is None:
                        return Head(size=size, version=version, ranges=False, modified=modified)
                    start = _whole(answer, min(size, START_BYTES))
                    return Head(size=size, version=version, start=start, modified=modified)
            except urllib.error.HTTPError as error:
                if error.code == 416:  # the file is empty, so it has no first byte
                    return Head(size=0, version=_version(error))
                if error.code in (404, 410):
                    return None
                raise

        return _tried(place, read)

    def part(self, place: "Place", head: Head, start: int, size: int) -> bytes:
        def read() -> bytes:
            with _opened(place, start, size) as answer:
                if answer.status != 206 or _version(answer) != head.version:
                    raise changed(place)
                return _whole(answer, size)

        return _tried(place, read) if size else b""

    def all(self, place: "Place", head: Head) -> Iterator[bytes]:
        given, waits = 0, iter(WAITS)
        while True:
            try:
                with _opened(place) as answer:
                    if _version(answer) != head.version:
                        raise changed(place)
                    came = 0
                    while block := answer.read1(BLOCK_BYTES):
                        came += len(block)
                        if came > given:  # bytes yielded before the connection broke are skipped
                            yield block[len(block) - (came - given) :]
                            given = came
                    if head.size is not None and came < head.size:
                        raise http.client.IncompleteRead(b"", head.size - came)
                    return
            except BROKEN as error:
                _wait(place, error, waits)

    def files(self, place: "Place", *, deep: bool) -> list[str]:  # noqa: ARG002, the interface of all stores
        raise PlaceError(f"{place}: https:// has no folders", hint="name the files")

    def check_bucket(self, place: "Place") -> None:
        """Do nothing: there is no bucket."""

    def uploading(self, place: "Place") -> Any:
        place.check_writable()


BROKEN = (OSError, http.client.HTTPException)  # URLError, HTTPError, timeouts and dropped connections are among them


def _tried(place: "Place", read: Callable[[], T]) -> T:
    """Return what `read` returns, after at most four tries."""
    waits = iter(WAITS)
    while True:
        try:
            return read()
        except BROKEN as error:
            _wait(place, error, waits)


def _wait(place: "Place", error: Exception, waits: Iterator[float]) -> None:
    """Wait for the next try. Raises PlaceError if there is none left, or a retry cannot help."""
    reason = getattr(error, "reason", error)
    if isinstance(error, urllib.error.HTTPError):
        error.close()
        if error.code in (401, 403):
            raise PlaceError(f"{place}: access is denied (HTTP {error.code})") from error
        if error.code < 500 and error.code not in (408, 429):
            raise PlaceError(f"{place}: the server answers HTTP {error.code}") from error
        reason = f"HTTP {error.code}"
    elif isinstance(error, http.client.InvalidURL):
        raise PlaceError(f"{place}: not a valid URL for a request") from error
    elif isinstance(error, http.client.IncompleteRead | http.client.RemoteDisconnected | ConnectionError):
        reason = "the connection broke"
    elif isinstance(error, TimeoutError) or isinstance(reason, TimeoutError):
        reason = f"no data for {SECONDS:g} seconds"
    wait = next(waits, None)
    if wait is None:
        said = getattr(reason, "strerror", None) or reason
        raise PlaceError(f"{place}: no answer after {len(WAITS) + 1} tries ({said})") from error
    time.sleep(wait)


@contextlib.contextmanager
def _opened(place: "Place", start: int | None = None, size: int = 0) -> Iterator[Any]:
    """Request a file, or a part of it."""
    scheme, rest = URL.fullmatch(place.url).groups()  # type: ignore[union-attr]
    user = USER.match(rest)
    request = urllib.request.Request(  # noqa: S310, the scheme is one of two
        f"{scheme}://{urllib.parse.quote(USER.sub('', rest).partition('#')[0], safe=SAFE)}",
        headers={"Accept-Encoding": "identity", "User-Agent": "aecli"},
    )
    if user is not None:
        word = base64.b64encode(urllib.parse.unquote(user[0][:-1]).encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {word}")
    if start is not None:
        request.add_header("Range", f"bytes={start}-{start + size - 1}")
    with _opener().open(request, timeout=SECONDS) as answer:
        yield answer


class _ToHttps(urllib.request.HTTPRedirectHandler):
    """Redirects that stay encrypted: never from https to http. Credentials go only to the host that the user named."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        parts = urllib.parse.urlsplit(newurl)
        if parts.scheme != "https" and not (parts.scheme == req.type == "http" and is_loopback(parts.netloc)):
            raise PlaceError(f"{shown(req.full_url)}: redirected to {parts.scheme}://, and only https:// is followed")
        found = super().redirect_request(req, fp, code, msg, headers, newurl)
        if found is not None and (found.type, found.host) == (req.type, req.host):
            found.unredirected_hdrs.update(req.unredirected_hdrs)
        return found


@functools.cache
def _opener() -> Any:
    return urllib.request.build_opener(_ToHttps)


def _size(answer: Any) -> int | None:
    """Return the size of the file in bytes; None if the answer does not say."""
    if answer.status == 206:
        total = re.search(r"/(\d+)$", answer.headers.get("Content-Range", ""))
        return None if total is None else int(total[1])
    length = answer.headers.get("Content-Length", "")
    return int(length) if length.isdigit() else None


def _version(answer: Any) -> str:
    """Return a value that changes when the file does."""
    return f"{answer.headers.get('ETag', '')}|{answer.headers.get('Last-Modified', '')}|{_size(answer)}"


def _whole(answer: Any, size: int) -> bytes:
    data: bytes = answer.read(size)
    if len(data) != size:
        raise http.client.IncompleteRead(data, size - len(data))
    return data
