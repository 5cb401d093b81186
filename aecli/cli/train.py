"""aecli train."""

import contextlib
import json
import os
import re
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import aecli
from aecli.cli import completion, console, flags, judged, options, progress, ranks, rows
from aecli.cli.log import Log
from aecli.data.places import Place, Where, is_remote, place, secret_in, shown
from aecli.errors import AecliError, CheckpointError, Finished, PeerError, Stopped, TrainingError, UsageError
from aecli.options import MODEL, RUN, TRAINING, Columns, FitOptions, Matching, Reading
from aecli.recipes import DEFAULT_RECIPE

if TYPE_CHECKING:
    from aecli.config import Schema
    from aecli.model.checkpoint import Checkpoint
    from aecli.training.group import Group
    from aecli.training.loop import Progress
    from aecli.training.resume import ResumeFile
    from aecli.training.run import Plan

REPLACE = "name another -o FILE, or replace it with --force"

Data = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="DATA",
        autocompletion=completion.data,
        help="A built-in set, with or without :train or :test; files of one kind; a folder of images; a URL (s3://, "
        "gs://, https://); or - for standard input.",
        show_default="digits",
    ),
]
Output = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        metavar="PATH",
        help="Write the checkpoint to this file or URL (s3://, gs://). - is stdout. By default it is named after the "
        "data, in the working directory: <data>.safetensors; <data>-<recipe>.safetensors for a recipe other than "
        "modern; <data>-model.safetensors for data in safetensors.",
        show_default=False,
        autocompletion=completion.files,
    ),
]
InitFrom = Annotated[
    Any,
    typer.Option(
        "--init-from",
        parser=options.parse_place,
        metavar="MODEL",
        help="Start from a trained model, on rows of the same columns or images of the same shape. Its layers, "
        "scaling and columns stay; the optimizer starts anew.",
        show_default="new weights",
        autocompletion=completion.models,
        rich_help_panel=MODEL,
    ),
]
HeldOutRows = Annotated[
    list[str] | None,
    typer.Option(
        "--test",
        metavar="FILE",
        help="Rows to hold out, instead of a share of DATA. They have the same columns as DATA, and may be anything "
        "that DATA may be. Repeatable.",
        show_default=False,
        autocompletion=completion.data,
        rich_help_panel=TRAINING,
    ),
]
LogFile = Annotated[
    str | None,
    typer.Option(
        "--log",
        metavar="FILE",
        help="Write one line per epoch to this .csv or .jsonl file: losses, learning rate, seconds. --resume appends "
        "to it.",
        show_default=False,
        autocompletion=completion.files,
        rich_help_panel=RUN,
    ),
]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume",
        help="Resume the stopped run with the same data and options. If there is none, start a new run. A finished run "
        "is not trained again.",
        rich_help_panel=RUN,
    ),
]
Finish = Annotated[
    bool,
    typer.Option(
        "--finish",
        help="Write the checkpoint of the stopped run with the same data and options, without further training. It "
        "has the last weights; with --patience, the best ones. --resume does not change this.",
        rich_help_panel=RUN,
    ),
]
Force = Annotated[
    bool,
    typer.Option(
        "--force",
        help="Replace a file that is not a checkpoint, or a checkpoint of other columns; discard a stopped run; read "
        "a file that may be a decompression bomb.",
        rich_help_panel=RUN,
    ),
]


@flags.spread
def train(
    fitting: FitOptions,
    columns: Columns,
    reading: Reading,
    matching: Matching,
    data: Data = None,
    output: Output = None,
    init_from: InitFrom = None,
    test: HeldOutRows = None,
    log: LogFile = None,
    device: options.Device = "auto",
    data_dir: options.DataDir = None,
    resume: Resume = False,
    finish: Finish = False,
    force: Force = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Fit a model to rows or images, and save it as a checkpoint.

    $ aecli train mnist -o mnist.safetensors
    """
    with ranks.joined(device) as (group, own_device):
        if group is not None and group.rank:
            _follow(group, own_device, output)
            return

        def say(message: str) -> None:
            console.say(message, quiet=quiet)

        words, recipe = _words(data, output, init_from, as_json=as_json, say=say)
        named = " ".join(map(shown, words))
        path = _output_path(words[0], output, fitting.recipe or recipe)
        every, held_out = _with_test(words, test)
        if path is not None:
            _check_output(path, every, init_from, force=force)
        lines = Log(log, every, path, force=force, say=say)
        scratch = _scratch(path, say)

        def check(schema: "Schema") -> None:
            if path is not None and not force:
                _keep_other_model(path, words, schema)

        def start(plan: "Plan") -> None:
            keep_freed_memory()  # not earlier: while rows are gathered, freed memory makes room for other rows
            report.start(plan, training=not finish)
            lines.begin(plan.history)

        started, made, report = time.perf_counter(), None, progress.Report(quiet=quiet)
        count = 1 if group is None else group.count
        keeping = _keeping(path, every, count, resume=resume, finish=finish, force=force, say=say)
        with contextlib.suppress(Finished), keeping as (kept, stopping), lines:
            with report:
                model = aecli.fit(
                    _one_or_all(words),
                    test=held_out,
                    init_from=init_from,
                    device=own_device,
                    data_dir=data_dir,
                    force=force,
                    scratch=scratch,
                    resume=kept,
                    stopping=stopping,
                    on_open=check,
                    on_start=start,
                    on_phase=report.phase,
                    on_progress=_told_to(report, lines),
                    announce=say,
                    group=group,
                    **vars(fitting),
                    **vars(columns),
                    **vars(reading),
                    **vars(matching),
                )
            seconds = time.perf_counter() - started if kept is None else kept.seconds  # of all sessions
            _write(path, model, quiet=quiet)
            made = model.checkpoint
        for line in () if made is None else judged.summary(made, seconds):
            say(line)
        if made is None and path is not None:
            from aecli.model import checkpoint

            say(f"already finished: {path}")
            seconds, made = time.perf_counter() - started, checkpoint.read(path)
        if as_json and made is not None:
            facts = {"checkpoint": str(path), "data": named}
            console.result(json.dumps(facts | _facts(made, seconds, report.device or None)))
        lines.check()


def _follow(group: "Group", device: str, output: str | None) -> None:
    """Train this process's share. The first process alone reads the data, reports and writes the checkpoint."""
    from aecli.training import shares

    path = None if output == "-" else place(output or "model.safetensors")  # only its folder matters
    folder = _scratch(path, lambda _: None)
    keep_freed_memory()
    shares.follow(group, device, folder if folder is not None and folder.is_dir() else None)


def _words(
    data: list[str] | None, output: str | None, init_from: Where | None, *, as_json: bool, say: Callable[[str], None]
) -> tuple[list[str], str]:
    """Return the data to train on, and the default recipe. Refuse options that contradict each other."""
    if as_json and output == "-":
        raise UsageError(
            "--json and -o - both want stdout", hint="write the checkpoint to a file: -o model.safetensors"
        )
    usual, recipe = "digits", DEFAULT_RECIPE
    if init_from is not None:
        from aecli.model import checkpoint

        made = checkpoint.read(init_from)
        if not data and made.data is None:
            raise rows.data_is_missing(init_from, made, console.command(sys.argv[1:], "DATA"))
        usual, recipe = made.data or usual, made.train.recipe
    words = data or [usual]
    if not data and rows.stdin_is_a_file():
        raise UsageError(
            f"standard input is a file, but without DATA train uses {usual}",
            hint=f"to train on standard input: {shlex.join(['aecli', 'train', '-', '-o', output or 'FILE'])}",
        )
    if init_from is not None and not data:
        say(f"reading {usual}")
    if words[0] == "-" and output is None:
        raise UsageError("rows from standard input have no name for the checkpoint", hint="name it: -o FILE")
    return words, recipe


def _told_to(*each: "Callable[[Progress], None]") -> "Callable[[Progress], None]":
    """Return a function that passes the progress of a run to each of the given ones."""

    def tell(progress: "Progress") -> None:
        for one in each:
            one(progress)

    return tell


def _with_test(words: list[str], test: list[str] | None) -> tuple[list[str], str | list[str] | None]:
    """Return all inputs, and those of the held-out rows. Refuse to read standard input twice."""
    every = words + (test or [])
    if every.count("-") > 1:
        raise UsageError("standard input can be read only once", hint="name a file for DATA or for --test")
    return every, _one_or_all(test) if test else None


def _one_or_all(words: list[str]) -> str | list[str]:
    """Return the inputs as `aecli.fit` accepts them: a single one is not a list."""
    return words if len(words) > 1 else words[0]


def keep_freed_memory() -> None:
    """Make glibc keep freed memory for later allocations.

    By default it returns blocks as large as a step's matrices to the system. To get them back, page by page, takes a
    seventh of the optimizer's time.
    """
    if sys.platform == "linux":
        import ctypes

        mallopt = getattr(ctypes.CDLL(None), "mallopt", lambda *_: None)  # other C libraries have none
        trim_threshold, mmap_threshold = -1, -3
        mallopt(mmap_threshold, 32 << 20)
        mallopt(trim_threshold, 64 << 20)


def _scratch(path: Where | None, say: Callable[[str], None]) -> Path | None:
    """Return the folder for data that is too large for memory, None for stdout.

    It is the folder of the output. For a remote output it is a temporary folder, which also holds the resume file;
    this is announced.
    """
    import tempfile

    if isinstance(path, Place):
        folder = Path(tempfile.gettempdir())
        say(f"{path} is remote: until it is written, the run is saved in {folder}")
        return folder
    return None if path is None else path.resolve().parent


def _output_path(data: str, output: str | None, recipe: str) -> Where | None:
    """Return the path of the checkpoint, None for stdout."""
    from aecli.data.formats import uncompressed
    from aecli.data.opening import array_key, split_name

    named = split_name(data, "train")
    if output is not None:
        return None if output == "-" else place(output)
    name = uncompressed(place(array_key(data)[0]).name)
    if is_remote(data):
        name = re.sub(r"[*?\[\]]+", "", name).lstrip("-_.")  # the name may be a pattern
    stem = named[0] if named else Path(name).stem or "model"
    stem += "-model" * name.lower().endswith(".safetensors")  # so as not to replace the data
    return Path(f"{stem}-{recipe}.safetensors" if recipe != DEFAULT_RECIPE else f"{stem}.safetensors")


@contextlib.contextmanager
def _keeping(
    path: Where | None,
    data: list[str],
    processes: int,
    *,
    resume: bool,
    finish: bool,
    force: bool,
    say: Callable[[str], None],
) -> "Iterator[tuple[ResumeFile | None, console.Stopping | None]]":
    """Hold the resume file until the checkpoint is written.

    There is none if the rows can be read only once, or if the output is not a file.
    """
    from aecli.training.resume import ResumeFile

    if why := _why_not_kept(path, data):
        if resume or finish:
            raise UsageError(f"there is no run to {'finish' if finish else 'resume'}: {why}")
        yield None, None
        return
    assert path is not None  # noqa: S101, for the type checker: without a path nothing is kept
    before = _identity(path)
    words = _words_without(sys.argv[1:], "--resume", "--finish")
    named = None if any(map(secret_in, words)) else words  # no password is stored
    with ResumeFile(path, resume=resume, finish=finish, force=force, command=named, announce=say) as kept:
        stopping = console.Stopping()

        def say_ways(how: str) -> None:
            if not kept.is_saved:
                say("stopped: nothing was saved yet")
                return
            say(f"{how} in {kept.path}")
            say(f"to resume: {ranks.started(console.command(words, '--resume'), processes)}")
            say(f"to finish here: {ranks.started(console.command(words, '--finish'), processes)}")

        try:
            yield kept, None if finish else stopping
            kept.remove()
        except Stopped:
            say_ways("stopped, and saved")
            sys.exit(128 + stopping.asked_by)
        except (KeyboardInterrupt, SystemExit, PeerError):
            if _identity(path) != before:  # the checkpoint is written, and the run is done
                kept.remove()
            else:
                say_ways("stopped at once; last saved")
            raise
        except TrainingError:
            if not finish:
                kept.remove()
            raise


def _identity(path: Where) -> object:
    """Return a value that changes if the file is replaced, None if there is no file."""
    if isinstance(path, Place):
        return path.version
    found = path.stat() if path.exists() else None
    return None if found is None else (found.st_ino, found.st_mtime_ns)


def _why_not_kept(path: Where | None, data: list[str]) -> str | None:
    """Return why a run is not saved in a resume file, None if it is."""
    if "-" in data:
        return "rows from standard input cannot be read again, so their run is not saved"
    if path is None:
        return "a run is saved beside its checkpoint, and with -o - the checkpoint is not a file"
    no_file = path.exists() and not path.is_file()
    return f"a run is saved beside its checkpoint, and {path} is not a file" if no_file else None


def _words_without(words: list[str], *flags: str) -> list[str]:
    """Return a command's words without these flags."""
    end = words.index("--") if "--" in words else len(words)
    return [*(word for word in words[:end] if word not in flags), *words[end:]]


def _write(path: Where | None, model: "aecli.Model", *, quiet: bool) -> None:
    """Write the checkpoint to its file or to stdout. If the file cannot be written, save it elsewhere and raise."""
    if path is None:
        with console.results(or_file=True) as stream:
            stream.write(model.to_bytes())
        return
    replaced = path.exists()
    try:
        model.save(path)
    except AecliError as error:
        raise AecliError(error.message, hint=_rescued(path, model)) from error
    rows.say_written(path, replaced=replaced, quiet=quiet)


def _rescued(path: Where, model: "aecli.Model") -> str | None:
    """Save the checkpoint where there is room, and return a sentence that names the file."""
    import tempfile

    for folder in (Path(tempfile.gettempdir()), Path.home()):
        rescue = folder / f"{path.stem}-{os.getpid()}.safetensors"
        with contextlib.suppress(AecliError):
            model.save(rescue)
            return f"the trained model is in {rescue}"
    return None


def _check_output(path: Where, data: list[str], init_from: Where | None, *, force: bool) -> None:
    """Refuse, before any work is done, an output that cannot be written or would replace another file."""
    from aecli.model.checkpoint import is_checkpoint

    rows.check_output(path, *data)
    if init_from is not None and not force and path.exists() and _is_same(path, init_from):
        raise AecliError(f"{path} is the model that training starts from, and would be overwritten", hint=REPLACE)
    if path.is_file() and not force and not is_checkpoint(path):
        raise AecliError(f"{path} exists, and is not an aecli checkpoint", hint=REPLACE)
    if isinstance(path, Place):
        path.check_allowed()


def _is_same(path: Where, other: Where) -> bool:
    if isinstance(path, Place) or isinstance(other, Place):
        return path == other
    return path.samefile(other)


def _keep_other_model(path: Where, data: list[str], schema: "Schema") -> None:
    """Refuse to replace a model of other columns, or of another kind of data."""
    from aecli.data.opening import split_name
    from aecli.model import checkpoint

    if not path.is_file():
        return
    try:
        found = checkpoint.read(path)
    except CheckpointError as error:
        raise AecliError(error.message, hint=REPLACE) from error
    named = split_name(data[0], "train")
    builtin = named[0] if named and named[1] == "train" else None
    names, here = found.schema.names, schema.names
    differing = None
    if found.schema.image_shape != schema.image_shape:
        differing = f"of {_kind(found.schema)}, and this is data of {_kind(schema)}"
    elif found.data != builtin:
        differing = f"of {found.data or found.source or 'other data'}, and this is {builtin or shown(data[0])}"
    elif set(names) != set(here):
        from aecli.data.table import listed

        only = {"it": [name for name in names if name not in here], "this data": [n for n in here if n not in names]}
        differing = "of other columns: " + "; ".join(
            f"only {who} has {listed(them)}" for who, them in only.items() if them
        )
    if differing:
        raise AecliError(f"{path} is a model {differing}", hint=REPLACE)


def _kind(schema: "Schema") -> str:
    if schema.image_shape is None:
        return console.counted(schema.inputs, "column")
    from aecli.config import sized

    return f"images of {sized(schema.image_shape)}"


def _facts(made: "Checkpoint", seconds: float, device: str | None) -> dict[str, object]:
    from aecli.config import prefixes

    return {
        "rows": made.results.rows,
        "inputs": made.model.inputs,
        "latent_dim": made.model.latent_dim,
        "parameters": made.model.parameters,
        "epochs": len(made.history.loss),
        "train_mse": made.results.train_mse,
        "test_mse": made.results.test_mse,
        "pca_mse": made.results.pca_mse,
        "loss": made.train.loss,
        "train_loss": made.results.train_loss,
        "test_loss": made.results.test_loss,
        "kl": list(made.results.kl),
        "active_dims": made.results.active_dims,
        "explained_variance": made.results.explained_variance,
        "active_values": made.results.active_values,
        "dead_latents": made.results.dead_latents,
        "test_recall": made.results.test_recall,
        "pca_recall": made.results.pca_recall,
        "prefix_mse": dict(zip(map(str, prefixes(made.model.latent_dim)), made.results.prefix_mse, strict=False)),
        "seconds": round(seconds, 3),
        "device": device,
        "seed": made.train.seed,
        "learnt": list(made.schema.features or ()),
        "left_out": dict(made.schema.left_out),
        "label": made.schema.label,
        "kept": [name for name, why in made.schema.left_out if why == "partition"],
    }
