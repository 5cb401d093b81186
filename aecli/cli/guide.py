"""aecli guide."""

import difflib
import io
import os
import shlex
import shutil
import signal
import subprocess
import sys
from typing import Annotated

import typer

from aecli.cli import completion, console
from aecli.errors import UsageError

MAX_WIDTH = 100  # longer lines are hard to read

Topic = Annotated[
    str | None,
    typer.Argument(metavar="TOPIC", help="The topic to read.", show_default=False, autocompletion=completion.topics),
]


def guide(topic: Topic = None) -> None:
    """Show a topic of the documentation, as Markdown in a pipe. Without TOPIC, list the topics.

    $ aecli guide tables
    """
    topics = dict(completion.topics())
    if topic is None:
        width = max(map(len, topics))
        console.result("\n".join(f"aecli guide {name:<{width}}  {title}" for name, title in topics.items()))
        return
    if topic not in topics:
        near = difflib.get_close_matches(topic, topics, n=1)
        raise UsageError(
            f"there is no topic {topic!r}",
            hint=f"did you mean {near[0]}?" if near else f"the topics are {', '.join(topics)}",
        )
    text = (completion.GUIDE / f"{topic}.md").read_text(encoding="utf-8")
    if sys.stdout is not None and sys.stdout.isatty() and os.environ.get("TERM") != "dumb":
        _page(_rendered(text))
    else:
        console.result(text.rstrip("\n"))


def _rendered(markdown: str) -> str:
    """Return Markdown as a terminal shows it."""
    from rich.console import Console
    from rich.markdown import Markdown

    width = min(MAX_WIDTH, shutil.get_terminal_size().columns)
    shown = Console(file=io.StringIO(), force_terminal=True, width=width)
    with shown.capture() as captured:
        shown.print(Markdown(markdown))
    return captured.get()


def _page(text: str) -> None:
    """Show text in $PAGER, as git does. The default is less, which exits at once if the text fits on the screen.

    With an empty PAGER, print the text.
    """
    command = shlex.split(os.environ.get("PAGER", "less"))
    if not command or shutil.which(command[0]) is None:
        console.result(text.rstrip("\n"))
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the pager's
    try:
        subprocess.run(command, input=text.encode(), env={"LESS": "FRX", **os.environ}, check=False)  # noqa: S603
    finally:
        signal.signal(signal.SIGINT, before)
