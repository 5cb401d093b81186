"""aecli completion, and the answer to a TAB press: the words that may end a line. Nothing heavy is loaded for it.

The scripts in aecli/completions put the line, as typed up to the cursor, into `_AECLI_COMPLETE` and run the program.
Each line of its output is a word, a tab and the word's meaning. The folder completions/ of the sources holds copies of
the scripts.
"""

import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from aecli.cli import console
from aecli.cli.usage import ALONE
from aecli.data.formats import ARRAYS, IDX, IMAGES, NAMES, SPLITS, table_form
from aecli.data.places import is_remote

VARIABLE = "_AECLI_COMPLETE"
MAX_LINE_BYTES = 1 << 20
GUIDE = Path(__file__).parents[1] / "guide"
SCRIPTS = {"bash": "aecli.bash", "zsh": "_aecli", "fish": "aecli.fish", "powershell": "aecli.ps1"}
END = "\0"  # it marks where the last word ends, also inside quotes; no line contains it

Shell = Annotated[
    Literal["bash", "zsh", "fish", "powershell"],
    typer.Argument(metavar="SHELL", help="bash, zsh, fish or powershell.", show_default=False),
]


def completion(shell: Shell) -> None:
    """Print the script that makes TAB complete in a shell.

    $ aecli completion bash >> ~/.bashrc

    $ aecli completion zsh >> ~/.zshrc

    $ aecli completion fish > ~/.config/fish/completions/aecli.fish

    $ aecli completion powershell >> $PROFILE

    TAB then completes commands, options, choices, files, and the columns of the
    table on the line.
    """
    script = Path(__file__).parents[1] / "completions" / SCRIPTS[shell]
    console.result(script.read_text(encoding="utf-8").rstrip("\n"))


def answer(program: Any, line: str) -> None:
    """Print the words that may stand at the end of `line`, which begins with the program's name."""
    for word, meaning in answers(program, line):
        sys.stdout.buffer.write(os.fsencode(f"{word}\t{' '.join(meaning.split())}\n"))


def answers(program: Any, line: str) -> Iterator[tuple[str, str]]:
    """Yield the words that may stand at the end of `line`, each with its meaning."""
    *before, last = split(line)[1:] or [""]
    context = typer.Context(program, info_name="aecli", **program.context_settings)
    place = next((i for i, word in enumerate(before) if not word.startswith("-")), None)
    if place is None:
        names = [name for name in program.list_commands(context) if name.startswith(last)]
        yield from ((name, program.get_command(context, name).get_short_help_str(200)) for name in names)
        yield from _options(program.get_params(context), last, {}) if last.startswith("-") else ()
        return
    command = program.get_command(context, before[place])
    if command is None:
        return
    context = typer.Context(command, info_name=command.name, parent=context)
    parameters = command.get_params(context)
    given, waiting, options_end = _given(parameters, before[place + 1 :])
    context.params = given
    prefix = ""
    if waiting is None and last.startswith("-") and not options_end:
        name, equals, value = last.partition("=")
        waiting = _takes_value(parameters, name) if equals else None
        if waiting is None:
            yield from _options(parameters, last, given)
            return
        prefix, last = f"{name}=", value
    parameter = waiting or _next_argument(parameters, given)
    if parameter is not None:
        for item in parameter.shell_complete(context, last):
            yield prefix + item.value, item.help or ""
    elif not last:
        yield from _options(parameters, "--", given)


def split(line: str) -> list[str]:
    """Split a line into words as the shell does. The last word, which may be empty, is still being typed."""
    lexer = shlex.shlex(line + END, posix=True)
    lexer.whitespace_split, lexer.commenters = True, ""
    words: list[str] = []
    try:
        words.extend(lexer)
    except ValueError:  # a quote is open
        words.append(lexer.token)
    return [word.removesuffix(END) for word in words]


def _given(parameters: list[Any], words: list[str]) -> tuple[dict[str, list[str]], Any, bool]:
    """Read the complete words.

    Returns the values of each parameter, the option that waits for its value, and whether `--` was among the words.
    """
    given: dict[str, list[str]] = {}
    waiting = None
    for i, word in enumerate(words):
        if waiting is not None:
            given.setdefault(waiting.name, []).append(word)
            waiting = waiting if len(given[waiting.name]) % max(1, waiting.nargs) else None
        elif word == "--":
            for rest in words[i + 1 :]:
                _give(parameters, given, rest)
            return given, None, True
        elif word.startswith("-") and word != "-":
            name, equals, value = word.partition("=")
            if not word.startswith("--"):  # -qo: only the last short option in a word may take a value
                name = f"-{word[-1]}"
            option = _named(parameters, name)
            if option is not None and not option.is_flag and not equals and name not in ALONE:
                waiting = option
            elif option is not None:
                given.setdefault(option.name, []).append(value or name)
        else:
            _give(parameters, given, word)
    return given, waiting, False


def _give(parameters: list[Any], given: dict[str, list[str]], word: str) -> None:
    """Add a word to the values of the next argument, if there is one."""
    if (argument := _next_argument(parameters, given)) is not None:
        given.setdefault(argument.name, []).append(word)


def _named(parameters: list[Any], name: str) -> Any:
    return next((each for each in parameters if name in (*each.opts, *each.secondary_opts)), None)


def _takes_value(parameters: list[Any], name: str) -> Any:
    option = _named(parameters, name)
    return None if option is None or option.is_flag else option


def _next_argument(parameters: list[Any], given: dict[str, list[str]]) -> Any:
    """Return the argument that the next word is for, None if there is none left."""
    arguments = (each for each in parameters if each.param_type_name == "argument")
    return next((each for each in arguments if each.nargs == -1 or each.name not in given), None)


def _options(parameters: list[Any], start: str, given: dict[str, list[str]]) -> Iterator[tuple[str, str]]:
    """Yield the options that begin with `start` and may still be given."""
    for each in parameters:
        if each.param_type_name == "option" and not each.hidden and (each.multiple or each.name not in given):
            names = (*each.opts, *each.secondary_opts)
            yield from ((name, each.help or "") for name in names if name.startswith(start))


def _paths(start: str, wanted: Callable[[str], bool]) -> list[str]:
    """Return the folders, and the files with a `wanted` name, whose paths begin with `start`.

    Hidden files are included only if the name begins with a dot.
    """
    if "://" in start:
        return []
    folder, slash, name = start.rpartition("/")
    try:
        entries = list(os.scandir(Path(folder + slash).expanduser()))
    except (OSError, RuntimeError):  # no such folder, no such user
        return []
    found = []
    for entry in entries:
        hidden = entry.name.startswith(".") and not name
        if entry.name.startswith(name) and not hidden and entry.name.isprintable():
            try:
                is_folder = entry.is_dir()
            except OSError:  # a link to itself
                is_folder = False
            if is_folder or wanted(entry.name):
                here = "./" if not start and entry.name.startswith("-") else ""  # so that it is not taken for an option
                found.append(f"{here}{folder}{slash}{entry.name}{'/' * is_folder}")
    return sorted(found)


def models(incomplete: str) -> list[str]:
    """Return checkpoints."""
    return _paths(incomplete, lambda name: name.endswith(".safetensors"))


def models_and_runs(incomplete: str) -> list[str]:
    """Return checkpoints, and the resume files of runs."""
    return _paths(incomplete, lambda name: name.endswith((".safetensors", ".safetensors.resume")))


def topics() -> list[tuple[str, str]]:
    """Return the guide's topics with their titles."""
    found = []
    for path in sorted(GUIDE.glob("*.md")):
        with path.open(encoding="utf-8") as file:
            found.append((path.stem, file.readline().lstrip("# ").rstrip()))
    return found


def data(ctx: typer.Context, incomplete: str) -> list[tuple[str, str] | str]:
    """Return built-in sets, the splits of a set that is typed in full, and files and folders that can be read."""
    before = ctx.params.get("data", [])
    if any(word.partition(":")[0] in NAMES for word in before):
        return []
    known = [name for name in NAMES if not before]
    known += [f"{name}:{split}" for name in known if incomplete.startswith(name) for split in SPLITS]
    return [*((name, "a built-in set") for name in known), *_paths(incomplete, _is_read)]


def data_files(incomplete: str) -> list[str]:
    """Return files and folders that can be read."""
    return _paths(incomplete, _is_read)


def _is_read(name: str) -> bool:
    return table_form(name) is not None or name.lower().endswith((*ARRAYS, *IMAGES)) or re.search(IDX, name) is not None


def files(incomplete: str) -> list[str]:
    """Return any file."""
    return _paths(incomplete, lambda _: True)


def folders(incomplete: str) -> list[str]:
    """Return folders."""
    return _paths(incomplete, lambda _: False)


def devices() -> list[tuple[str, str]]:
    """Return the kinds of devices. Which of them exist only PyTorch knows, and it takes too long to load."""
    return [("auto", "CUDA if there is one"), ("cpu", ""), ("cuda", "the first one"), ("mps", "Apple's")]


def columns(ctx: typer.Context) -> list[str]:
    """Return the columns of the first text table on the line. Only the table's first line is read."""
    import gzip
    import json
    import zlib

    for word in ctx.params.get("data", ctx.params.get("codes", [])):
        if is_remote(word):
            continue
        try:
            path = Path(word).expanduser()
            form = table_form(path.name)
            if (
                form not in ("csv", "tsv", "jsonl")
                or path.suffix in (".zst", ".xz", ".bz2", ".zip")
                or not path.is_file()
            ):
                continue
            with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
                line = stream.readline(MAX_LINE_BYTES).decode("utf-8-sig")
            names = dict(json.loads(line)) if form == "jsonl" else _header(line, ctx.params, form)
        except (
            OSError,
            EOFError,
            ValueError,
            TypeError,
            RuntimeError,
            zlib.error,
        ):  # also JSON that is nested too deeply
            continue
        return [name for name in names if name.isprintable()] if isinstance(names, dict | list) else []
    return []


def _header(line: str, given: dict[str, list[str]], form: str) -> list[str]:
    """Return a CSV's columns from its first line. If the line holds a number, the columns are x0, x1, ...

    Raises ValueError if it is not a line of a CSV.
    """
    import csv

    delimiter = given.get("delimiter", ["\t" if form == "tsv" else ","])[-1].replace("\\t", "\t")
    try:
        cells = next(csv.reader([line], delimiter=delimiter), [])
    except (csv.Error, TypeError) as error:
        raise ValueError from error
    said = given.get("input_header", [""])[-1]
    is_row = said == "--no-input-header" if said else any(_is_number(cell) for cell in cells)
    return [f"x{i}" for i in range(len(cells))] if is_row else cells


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
