"""Output folders of embed, reconstruct and score: a Parquet file, called a part, for each input file."""

import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from aecli import files
from aecli.cli import console, progress, rows
from aecli.data.places import Place, Where, is_remote, place
from aecli.errors import AecliError, UsageError

if TYPE_CHECKING:
    import aecli
    from aecli.data.part_files import Made, PartFile
    from aecli.data.sinks import Sink
    from aecli.data.source import Source
    from aecli.options import Matching, Reading

    Shown = Callable[[Iterator[Any], Source], Iterator[Any]]
    Answer = Callable[[Source, Sink, Shown], None]  # writes the output for a source

ONE_OUTPUT = ("held_out", "line_buffered", "exit_code", "as_json")  # options that concern all rows at once
NOT_THE_ROWS = (
    "model",
    "data",
    "output",
    "form",
    "data_dir",
    "quiet",
    "force",
    "shard",
)  # these change no part


def are_wanted(ctx: typer.Context) -> bool:
    """Return whether --output is a folder: it ends in /, or is an existing folder.

    Raises UsageError for options that need a folder, or cannot be used with one.
    """
    given = {each.name: each.opts[0] for each in ctx.command.params if ctx.params.get(each.name)}
    output, form = ctx.params["output"], ctx.params["form"]
    if output in (None, "-") or not (output.endswith("/") or (not is_remote(output) and Path(output).is_dir())):
        for name in ("force", "shard"):
            if name in given:
                where = " (or AECLI_SHARD)" * (name == "shard")
                raise UsageError(
                    f"{given[name]}{where} needs a folder, and --output is not a folder",
                    hint="name a folder, which ends in /: -o parts/",
                )
        return False
    if form not in (None, "parquet"):
        raise UsageError(
            f"{output}: files in a folder are Parquet, with a record of their input, and --format is {form}",
            hint=f"leave it out, or name one file for all rows: -o rows.{form}",
        )
    for name in ONE_OUTPUT:
        if name in given:
            raise UsageError(
                f"{given[name]} concerns all rows at once, and {output} is a folder with one file per input file",
                hint="leave it out, or name one file for all rows: -o rows.parquet",
            )
    return True


def write(
    ctx: typer.Context,
    loaded: "aecli.Model",
    groups: "tuple[Reading | Matching, ...]",
    answer: "Answer",
    *,
    force: bool,
    shard: tuple[int, int] | None,
) -> None:
    """Write the parts of the command's DATA that do not exist yet.

    If one fails, the finished ones stay. Raises AecliError before any work if two input files would have the same part,
    or if another file has the name of a part.
    """
    from aecli.data import part_files

    given, quiet = ctx.params, ctx.params["quiet"]
    folder = place(given["output"])
    if not given["data"]:
        raise UsageError(
            f"a folder takes a part for each input file, and {loaded.checkpoint.data} is a built-in set",
            hint="name one file for all rows: -o rows.parquet",
        )
    _check_folder(folder)
    planned, notes = part_files.planned(given["data"], folder)
    for sentence in notes:
        console.say(sentence, quiet=quiet)
    if told := sorted({column for part in planned for column in part.apart}):
        console.say(f"columns from folder names are not written to the files: {', '.join(told)}", quiet=quiet)
    of, shards = shard or (0, 1)
    mine = planned[of::shards]
    if not mine:
        console.say(f"shard {of}/{shards} has no input file: there are {len(planned):,}", quiet=quiet)
        return
    made = part_files.Made(str(ctx.info_name), _options(ctx), files.digest(given["model"]), loaded.schema.label_file)
    missing = [part for part in mine if not part_files.is_there(part, made, force=force)]
    there, done = len(mine) - len(missing), 0
    with progress.Parts(len(missing), quiet=quiet) as bar:
        del planned, mine  # frees what is cached of a remote file along with its part
        while missing:
            part = missing.pop(0)
            try:
                _write(part, made, loaded, groups, answer, bar.shown, given)
            except AecliError:
                console.say(f"stopped at {part.file}; wrote {console.counted(done, 'part')} to {folder}/", quiet=quiet)
                raise
            done += 1
            bar.wrote(part.path)
    were = f", {there:,} already existed" if there else ""
    console.say(f"wrote {console.counted(done, 'part')} to {folder}/{were}", quiet=quiet)


def _write(
    part: "PartFile",
    made: "Made",
    loaded: "aecli.Model",
    groups: "tuple[Reading | Matching, ...]",
    answer: "Answer",
    shown: "Shown",
    given: dict[str, Any],
) -> None:
    from aecli.data import part_files

    with part_files.writing(part, made) as sink:
        source = rows.open_rows(loaded, [part.given], *groups, data_dir=given["data_dir"], quiet=given["quiet"])
        if source.resizes:
            raise part_files.no_part_of_images(source.name)
        answer(source, sink, shown)
    for sentence in source.notes():
        named = sentence if source.name in sentence else f"{source.name}: {sentence}"
        console.say(named, quiet=given["quiet"])


def _check_folder(folder: Where) -> None:
    """Refuse, before any work is done, an output that cannot be a folder."""
    if isinstance(folder, Place):
        folder.check_writable(folder=True)
        return
    if folder.exists() and not folder.is_dir():
        raise AecliError(f"{folder}: a file, and a folder was expected")
    if not folder.parent.is_dir():
        raise AecliError(
            f"{folder}: there is no folder {folder.parent}", hint=shlex.join(["mkdir", "-p", str(folder.parent)])
        )


def _options(ctx: typer.Context) -> tuple[str, ...]:
    """Return the options that determine the contents of a part, as words, if they are not the default."""
    found = []
    for each in ctx.command.params:
        value = ctx.params.get(each.name)
        if each.name in NOT_THE_ROWS or value in (None, [], ()) or value == each.get_default(ctx):
            continue
        flag = each.opts[0] if value is not False else each.secondary_opts[0]
        items = [] if isinstance(value, bool) else value if isinstance(value, list) else [value]
        found.append(" ".join(shlex.join([flag, _text(item)]) for item in items) or flag)
    return tuple(sorted(found))


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
