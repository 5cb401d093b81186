"""How the command line is explained: help, and what was wrong with the words that were typed."""

import contextlib
import difflib
import re
import sys
from typing import Any

from typer.core import TyperCommand

REWORDED = (  # what Typer says, and what is said here
    (r"^Value error, ", ""),
    (r"^Input should be ([^,]*).*", r"it must be \1"),
    (r"' is not one of '(.*)'$", lambda found: f"' is none of {found[1]}".replace("', '", ", ")),
    (r"^Got unexpected extra arguments?(?:\(s\))? \((.*)\)$", r"nothing more was expected, and there is: \1"),
)


class Explained:
    """A command whose help leaves out what says nothing: the types of flags and of arguments."""

    def get_params(self, ctx: Any) -> Any:
        parameters = super().get_params(ctx)  # type: ignore[misc]
        for each in parameters:
            if each.param_type_name == "argument":
                vars(each)["display_type_rich"] = lambda ctx: ""  # noqa: ARG005
            elif each.is_flag:
                each.metavar = ""
        return parameters

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        pieces: list[str] = super().collect_usage_pieces(ctx)  # type: ignore[misc]
        return [piece.strip("{}") for piece in pieces]


class Command(Explained, TyperCommand):
    """One command."""


def print_help(context: Any) -> None:
    """Print a command's help on stderr: nobody asked for it."""
    with contextlib.redirect_stdout(sys.stderr):
        context.get_help()


def explanation(error: Any) -> tuple[str, str | None]:
    """Give what was wrong with the words of the command line, and the way out: the word that was meant, or --help."""
    context, possibilities = getattr(error, "ctx", None), getattr(error, "possibilities", None)
    said = str(error.message).rstrip(".")
    said, _, near = said.partition(". Did you mean ")
    meant = near.rstrip("?").replace("'", "").partition(",")[0] or (possibilities[0] if possibilities else None)
    for pattern, reworded in REWORDED:
        said = re.sub(pattern, reworded, said)
    if found := re.search(r"'(.*)' is none of (.*)$", said):
        close = difflib.get_close_matches(found[1], found[2].split(", "), n=1)
        meant = close[0] if close else None
    error.message = said
    error.possibilities = None
    message = error.format_message().rstrip(".")
    help_of = f"{context.command_path} --help shows what it takes" if context else None
    return message[:1].lower() + message[1:], f"did you mean {meant}?" if meant else help_of
