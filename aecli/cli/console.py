"""Messages to the user, all on stderr from one console; and standard output for results."""

import contextlib
import functools
import os
import re
import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, BinaryIO, NoReturn

from typer.exceptions import TyperException

from aecli.cli import ranks
from aecli.data.places import hidden, secret_in, shown
from aecli.errors import AecliError

if TYPE_CHECKING:
    from rich.console import Console

PACKAGES = {  # what a light install leaves out: module -> package
    "PIL": "pillow",
    "matplotlib": "matplotlib",
    "sklearn": "scikit-learn",
    "tifffile": "tifffile",
    "torch": "torch",
    "torchvision": "torchvision",
}
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")  # all but tab and newline


@functools.cache
def stderr() -> "Console":
    """Return the only console. Rich is loaded with the first message, so not for TAB or a quiet command."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def bars() -> bool:
    """Return whether stderr can show a bar: a terminal with a movable cursor. FORCE_COLOR is ignored."""
    return sys.stderr is not None and sys.stderr.isatty() and not stderr().is_dumb_terminal


def counted(number: int, what: str) -> str:
    """Return a number with its noun: 1 row, 1,797 rows."""
    return f"{number:,} {what}{'s' * (number != 1)}"


def printable(text: str) -> str:
    """Replace control characters by their codes, so that text from a file cannot drive the terminal; hide secrets.

    The secrets are those of URLs. A URL on the command line may contain blanks and quotes.
    """
    for word in sys.argv[1:]:
        if (url := secret_in(word)) is not None:
            for said in (url, shlex.quote(url), repr(url)[1:-1]):
                text = text.replace(said, shown(url))
    text = hidden(text) if "://" in text else text
    return CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", text)


def command(words: Sequence[str], *options: str) -> str:
    """Return a command to paste: `aecli`, its words, and more options, before the `--` that ends options."""
    place = 1 if "--" in words else len(words)
    return shlex.join(["aecli", *words[:place], *options, *words[place:]])


def say(message: str, *, style: str = "", quiet: bool = False) -> None:
    """Print one line, unless quiet. Only the terminal wraps it, and it is never read as markup."""
    if not quiet:
        from rich.text import Text

        stderr().print(Text(printable(message), style=style), soft_wrap=True)


def report(message: str, hint: str | None) -> None:
    """Print an error and the way out of it."""
    from rich.text import Text

    stderr().print(Text.assemble(("error: ", "bold red"), printable(message)), soft_wrap=True)
    if hint:
        stderr().print(Text.assemble(("hint: ", "bold"), printable(hint)), soft_wrap=True)


@contextlib.contextmanager
def results(*, or_file: bool = False) -> Iterator[BinaryIO]:
    """Return standard output, for the results of a command. `or_file` is True if -o may name a file instead.

    Raises AecliError if standard output is closed, or full.
    """
    if sys.stdout is None:
        hint = "name a file with -o" if or_file else None
        raise AecliError("standard output is closed, and the result goes there", hint=hint)
    try:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise AecliError(f"standard output cannot be written ({error.strerror or error})") from error


def result(text: str) -> None:
    """Print a result and a newline on standard output."""
    with results() as stream:
        stream.write(f"{text}\n".encode(errors="backslashreplace"))  # a name may not be UTF-8


@contextlib.contextmanager
def errors_reported() -> Iterator[None]:
    """Turn an error that was raised on purpose into a message on stderr and an exit code. All others propagate.

    A package that is not installed is not a bug either: a light install lacks the packages for training.
    """
    signal.signal(signal.SIGTERM, _terminate)
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    except AecliError as error:
        if not ranks.leave_word_to_another():
            report(error.message, _way_out(error, sys.argv[1:]))
        sys.exit(error.exit_code)
    except ModuleNotFoundError as error:
        if (package := PACKAGES.get(error.name or "")) is None:
            raise
        report(f"this needs {package}, which is not installed", f"pip install {package}")
        sys.exit(1)
    except TyperException as error:
        _report_usage(error)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        _die_of_sigpipe()


def _way_out(error: AecliError, words: Sequence[str]) -> str | None:
    """Return the hint of an error: the command that was typed plus the options that it lacks, if the error has any."""
    if error.piped is None:
        return command(words, *error.options) if error.options else error.hint
    end = words.index("--") if "--" in words else len(words)
    named = any(re.match(r"-o|--output($|=)", word) for word in words[:end])
    kept = [word for word in words if word not in ("--resume", "--finish")]  # a run from a pipe is not saved
    read = ["-" if str(Path(word)) == error.piped.name else word for word in kept]
    more = () if named else ("-o", "MODEL.safetensors")
    return error.piped.into(command(read, *more, *error.options))


def _report_usage(error: TyperException) -> NoReturn:
    """Report bad usage that Typer found."""
    from aecli.cli import usage

    if not ranks.leave_word_to_another():
        report(*usage.explanation(error))
    sys.exit(getattr(error, "exit_code", 2))


class Stopping:
    """The context of a run that can be saved: the first Ctrl-C or SIGTERM asks it to stop, the second ends it."""

    asked_by = 0  # the signal's number

    def __enter__(self) -> Callable[[], bool]:
        self._before = {number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)}
        return lambda: self.asked_by > 0

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, _frame: FrameType | None) -> None:
        self.asked_by = number
        self.__exit__()


def _terminate(_signal: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(128 + signal.SIGTERM)  # through the finally clauses, which remove half-written files


def _die_of_sigpipe() -> None:
    """End as `cat` does when its pipe is closed: silently, by the signal."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGPIPE)
