"""Compute on a stream of items with several threads, and keep their order."""

import contextlib
import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

S = TypeVar("S")
T = TypeVar("T")
JOIN_SECONDS = 1.0  # to wait for a thread to end; it may be blocked on a pipe, which does no harm


def spread(function: Callable[[S], T], items: Generator[S, None, None], workers: int) -> Iterator[T]:
    """Yield `function` of each item, in their order, computed by `workers` threads.

    If the items end with an error, it is raised after the results of the items before it, as with one thread.
    """
    with contextlib.closing(items), ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[T]] = deque()
        broken_off: Exception | None = None
        while broken_off is None:
            try:
                waiting.append(pool.submit(function, next(items)))
            except StopIteration:
                break
            except Exception as error:  # noqa: BLE001, it is raised below
                broken_off = error
            if len(waiting) == workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
        if broken_off is not None:
            raise broken_off


def ahead(items: Iterator[T], waiting: int) -> Generator[T, None, None]:
    """Yield the items. A thread prepares up to `waiting` of them while the caller is busy."""
    ready: queue.Queue[tuple[bool, Any]] = queue.Queue(waiting)
    stopped = threading.Event()

    def put(entry: tuple[bool, Any]) -> None:
        while not stopped.is_set():
            with contextlib.suppress(queue.Full):
                ready.put(entry, timeout=0.1)
                return

    def work() -> None:
        try:
            for item in items:
                put((True, item))
                if stopped.is_set():
                    return
            put((False, None))
        except BaseException as error:  # noqa: BLE001, it is raised in the caller's thread
            put((False, error))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while True:
            more, item = ready.get()
            if more:
                yield item
            elif item is None:
                return
            else:
                raise item
    finally:
        stopped.set()
        thread.join(JOIN_SECONDS)  # a thread that runs inside a library at exit could crash the program
