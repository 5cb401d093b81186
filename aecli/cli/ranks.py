"""The processes of a run that `torchrun` started: which one this is, and which one reports."""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from aecli.errors import AecliError, PeerError, UsageError

if TYPE_CHECKING:
    from aecli.training.group import Group

VARIABLES = "RANK", "LOCAL_RANK", "WORLD_SIZE"  # torchrun sets them
LAST_SECONDS = 8  # the time for a last step after a signal
SAYING_SECONDS = 3  # the time for another process to report: torchrun ends it as soon as this one has ended


def found() -> tuple[int, int, int] | None:
    """Return the rank, the rank on this machine, and the number of processes; None for a single process.

    Raises UsageError if torchrun's variables are not such numbers.
    """
    values = [os.environ.get(name, "") for name in VARIABLES]
    if not all(values):
        return None
    said = ", ".join(f"{name}={value}" for name, value in zip(VARIABLES, values, strict=True))
    if not all(value.isdecimal() for value in values) or not int(values[0]) < int(values[2]):
        raise UsageError(f"{said} are not what torchrun sets", hint=f"start with torchrun, or unset {VARIABLES[0]}")
    rank, local_rank, count = map(int, values)
    return (rank, local_rank, count) if count > 1 else None


def leave_word_to_another() -> bool:
    """Return whether another process of `train` reports why the run fails, after waiting for it to do so."""
    with contextlib.suppress(UsageError):
        if sys.argv[1:2] == ["train"] and (these := found()) is not None and these[0]:
            time.sleep(SAYING_SECONDS)
            return True
    return False


def started(command: str, processes: int) -> str:
    """Return the command that starts a run in this number of processes, given the command of one process."""
    if processes == 1:
        return command
    return f"torchrun ... -m {'-- ' * ('--log' in command)}{command}"  # else torchrun takes --log for its own


@contextlib.contextmanager
def joined(device: str) -> "Iterator[tuple[Group | None, str]]":
    """Join the processes that torchrun started. Yield their group, None without torchrun, and this process's device.

    If several processes fail, the first one reports why.
    """
    if (these := found()) is None:
        yield None, device
        return
    rank, local_rank, count = these
    if rank:
        _end_by_signal_in_a_while()  # before PyTorch and its threads, which would let a signal through
    from aecli.training import group as groups

    with _said_by(rank), groups.joined(rank, count, device) as group:
        try:
            yield group, groups.device_of(local_rank, device)
        except BaseException as error:
            of_another = isinstance(error, PeerError) and rank > 0  # rank 0 reports it
            if of_another or not group.is_first_to_fail():
                time.sleep(SAYING_SECONDS)
                sys.exit(getattr(error, "exit_code", 1))
            raise


@contextlib.contextmanager
def _said_by(rank: int) -> Iterator[None]:
    """Report the errors of a process other than rank 0, which otherwise reports none."""
    try:
        yield
    except AecliError as error:
        if not rank:
            raise
        from aecli.cli import console

        console.report(error.message, error.hint)
        sys.exit(error.exit_code)


def _end_by_signal_in_a_while() -> None:
    """Let Ctrl-C and SIGTERM end this process only after some seconds.

    All processes get the signal, and rank 0 needs the others to finish its current step before it saves. A thread waits
    for the signals, because the main thread may be inside PyTorch, where Python does not handle them.
    """
    signals = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)

    def wait() -> None:
        number = signal.sigwait(signals)
        time.sleep(LAST_SECONDS)
        os._exit(128 + number)

    threading.Thread(target=wait, daemon=True).start()
