"""Help, and the errors for bad usage."""

import contextlib
import difflib
import re
import sys
from typing import Any

from typer.core import TyperCommand

from aecli.cli.deferred import deferred

REWORDED = (  # Typer's message, and the one that replaces it
    (r"^Value error, ", ""),
    (r"^Input should be ([^,]*).*", r"it must be \1"),
    (r"^Got unexpected extra arguments?(?:\(s\))? \((.*)\)$", r"unexpected: \1"),
)


class Explained:
    """A command whose help leaves out the types of flags and arguments, which do not help the reader."""

    def get_params(self, ctx: Any) -> Any:
        parameters = super().get_params(ctx)  # type: ignore[misc]
        for each in parameters:
            if each.param_type_name == "argument":
                vars(each)["display_type_rich"] = lambda ctx: ""  # noqa: ARG005
            elif each.is_flag:
                each.metavar = ""
            if each.name == "help":
                each.default = False  # to check None, Typer would load pydantic
        return parameters

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        pieces: list[str] = super().collect_usage_pieces(ctx)  # type: ignore[misc]
        return [piece.strip("{}") for piece in pieces]

    def format_help(self, ctx: Any, formatter: Any) -> None:
        with deferred("rich.markdown", "rich.traceback"):  # imported by Typer, and not used by this help
            super().format_help(ctx, formatter)  # type: ignore[misc]


ALONE = {"--as-vector": "z"}  # options whose value may be left out, and its default


class Command(Explained, TyperCommand):
    """A command. The options in ALONE need no value: the next word is an argument, and a value follows a =."""

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        end = args.index("--") if "--" in args else len(args)
        given = [f"{word}={ALONE[word]}" if word in ALONE else word for word in args[:end]]
        return super().parse_args(ctx, given + args[end:])


def print_help(context: Any) -> None:
    """Print a command's help on stderr, because the user did not ask for it."""
    with contextlib.redirect_stdout(sys.stderr):
        context.get_help()


def explanation(error: Any) -> tuple[str, str | None]:
    """Return the message for bad usage, and its hint: the most similar word, or --help."""
    context = getattr(error, "ctx", None)
    said, _, near = str(error.message).rstrip(".?").partition(". Did you mean ")
    meant = near.replace("'", "").split(", ") if near else getattr(error, "possibilities", None)
    for pattern, reworded in REWORDED:
        said = re.sub(pattern, reworded, said)
    if choice := re.fullmatch(r"'(.*)' is not one of '(.*)'", said, re.DOTALL):
        choices = choice[2].split("', '")
        said = f"'{choice[1]}' is not one of {', '.join(choices)}"
        meant = difflib.get_close_matches(choice[1], choices, n=1)
    error.message, error.possibilities = said, None
    message, listed, choices = error.format_message().rstrip(".").partition(". Choose from:")
    message += f": {' '.join(choices.split())}" if listed else ""
    help_of = f"{context.command_path} --help shows what it takes" if context else None
    return message[:1].lower() + message[1:], f"did you mean {meant[0]}?" if meant else help_of
