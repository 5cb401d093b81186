"""Every hint is a way out: it names what the command has, and what it says is tried here, case by case.

Cases stand for all hints in the code that name an option or a command: see `hints`.
"""

import bz2
import contextlib
import functools
import gzip
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tifffile
import torch
import typer.main
from conftest import run_here, tiny_mnist_archives
from hints import collected, is_of
from PIL import Image

import aecli
from aecli import cli

QUICK = "--device cpu --hidden-dims 4 --epochs 1 -q"
RNG = np.random.default_rng(0)
NUMBERS = RNG.uniform(1, 9, (60, 3)).round(3)
GREY = RNG.integers(0, 256, (12, 8, 6), np.uint8)
EITHER = RNG.integers(0, 256, (12, 3, 8, 4), np.uint8)
OLD = Path(__file__).parent / "checkpoints" / "0.1"


def table(rows=NUMBERS, header="a,b,c", by=","):
    return "".join(f"{line}\n" for line in (header, *(by.join(map(str, row)) for row in rows)) if line)


def with_line(line, number=6, text=None):
    """Return a table in which one line, counted from 1, is another one."""
    lines = (text or table()).splitlines()
    return "\n".join([*lines[: number - 1], line, *lines[number:]]) + "\n"


def column_of(cells, name="d", by=","):
    """Return the table with one more column, of cells that are taken by turns."""
    return table([(*row, cells[i % len(cells)]) for i, row in enumerate(NUMBERS)], f"a,b,c,{name}".replace(",", by), by)


def objects(cells):
    """Return the table as JSON Lines, with one more column."""
    rows = [dict(zip("abcd", (*row, cells[i % len(cells)]), strict=True)) for i, row in enumerate(NUMBERS.tolist())]
    return "".join(f"{json.dumps(row)}\n" for row in rows)


def parquet(path, cells):
    """Write the table as Parquet, with one more column."""
    rows = [json.loads(line) for line in objects(cells).splitlines()]
    pq.write_table(pa.Table.from_pylist(rows), path)


def folder(name, images, ending="png"):
    Path(name).mkdir(parents=True)
    for i, image in enumerate(images):
        path = Path(name, f"{i:02}.{ending}")
        tifffile.imwrite(path, image) if ending == "tif" else Image.fromarray(image).save(path)


def stacks(name, *, cut):
    """A folder of a TIFF of several pages, the last of which may be cut off."""
    Path(name).mkdir()
    with tifffile.TiffWriter(Path(name, "x.tif")) as writer:
        for image in GREY:
            writer.write(image, photometric="minisblack", contiguous=False)
    with tifffile.TiffFile(Path(name, "x.tif")) as found:
        end = found.pages[len(GREY) - 1].offset + 9
    if cut:
        os.truncate(Path(name, "x.tif"), end)


def icons(name, colour):
    """A folder of images whose visible pixels are of one colour."""
    alpha = np.where(GREY > 127, 255, 0).astype(np.uint8)
    folder(name, np.stack([np.full_like(GREY, colour)] * 3 + [alpha], axis=-1))


def command_line(words):
    return ["aecli", *shlex.split(words.replace("QUICK", QUICK))]


def stopped_run(words):
    """Stop the run of a command at its fourth step, as Ctrl-C does."""
    steps = iter(range(10**6))
    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(SystemExit):
        patch.setattr(sys, "argv", command_line(words))
        patch.setattr("aecli.cli.console.Stopping.__enter__", lambda _: lambda: next(steps) == 3)
        patch.setattr("aecli.cli.console.Stopping.__exit__", lambda *_: None)
        cli.main()


RUN = "train t.csv QUICK -o s.safetensors --batch-size 10"


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    """A folder of data and of models of it, to be copied for each case."""
    place = tmp_path_factory.mktemp("workshop")
    with contextlib.chdir(place):
        Path("t.csv").write_text(table())
        Path("new.csv").write_text(table(NUMBERS[::-1]))
        Path("kinds.csv").write_text(column_of("xy", "kind"))
        np.save("flat.npy", RNG.normal(size=(40, 96)))
        folder("pictures", GREY)
        folder("deep", GREY.astype(np.uint16) * 257)
        for words in (
            "t.csv",
            "t.csv -o quantile.safetensors --scale quantile",
            "kinds.csv --categorical kind",
            "pictures",
            "pictures -o one.safetensors --latent-dim 1",
            "deep",
            "flat.npy",
        ):
            run_here(".", f"train {words} {QUICK}")
        stopped_run(RUN)
        assert Path("s.safetensors.resume").stat().st_size
    return place


@dataclass
class Case:
    """How a hint is brought about, and what is done about it.

    `words` are the command line, which finds the files `given`, after the commands `before`, with `stdin`; QUICK stands
    for what makes training quick. It prints the `hint`, and none of its ways may fail. They are read from the hint: a
    whole command, or options to add to this one, or to `trains` where the hint says to train with them. `values` are
    those of placeholders, and of options that the hint names without one. Where it says more than can be read from it,
    `then` has the commands that follow. Before these, the files of `mended` are written, where the hint says so.
    """

    words: str
    hint: str
    given: dict[str, object] = field(default_factory=dict)
    values: dict[str, str] = field(default_factory=dict)
    then: tuple[str, ...] = ()
    before: str = ""
    trains: str = ""
    stdin: str = ""
    mended: dict[str, str] = field(default_factory=dict)
    patch: Callable[[pytest.MonkeyPatch], None] = lambda _: None

    @property
    def printed(self):
        return self.hint.replace("QUICK", QUICK)

    def ways(self):
        """Return the ways that the hint tells, each as commands, one after the other."""
        hint = re.sub(r"^[a-z ]+: | (shows what it (holds|takes)|writes one)$", "", self.printed)
        for name in (name for name in self.values if not name.startswith("-")):
            hint = hint.replace(name, self.values[name])
        if self.then:
            return [[each] for each in self.then]
        if "aecli " in hint:
            return [[hint.removeprefix("aecli ")]]
        told = together(self.printed, self.values, options_of((self.trains or self.words).split()[0]))
        if self.trains:
            return [[f"{self.trains} {options}", self.words] for options in told]
        return [[f"{self.words} {options}"] for options in told]


OPTION = re.compile(r"--[a-z][a-z-]*|-o")


@functools.cache
def options_of(command):
    """Return the options of a command by name: whether they take a value."""
    taken = typer.main.get_command(cli.build()).commands[command].params
    options = [each for each in taken if each.param_type_name == "option"]
    return {name: not each.is_flag for each in options for name in (*each.opts, *each.secondary_opts)}


def together(hint, values, takes_value):
    """Return the options that a hint names, with their values; as one, those that stand beside one another."""
    found, words, beside = [], hint.split(" "), False
    while words:
        option = words.pop(0).rstrip(",;:")
        if not OPTION.fullmatch(option):
            beside = False
            continue
        told, ends = [option], False
        if option in values:
            told.append(values[option])
        elif takes_value[option]:
            value = words.pop(0)
            ends = len(value) > 1 and value[-1] in ",;"
            value = value[:-1] if ends else value
            told.append(values.get(value, value))
        found = [*found[:-1], [*found[-1], *told]] if beside else [*found, told]
        beside = not ends
    return [" ".join(words) for words in found]


def closed(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)


def at(**attributes):
    """Return what sets attributes of modules: `module__NAME` is NAME in a module of aecli."""

    def patch(monkeypatch):
        for name, value in attributes.items():
            monkeypatch.setattr(f"aecli.{name.replace('__', '.')}", value)

    return patch


def no_room_here(monkeypatch):
    monkeypatch.setattr("aecli.data.gather.MEMORY_BYTES", 100)
    free = shutil.disk_usage
    here = Path.cwd()
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=0) if Path(path) == here else free(path))


def no_network(monkeypatch):
    def fail(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr("torchvision.datasets.MNIST", fail)
    archives = Path("full/MNIST/raw")
    archives.mkdir(parents=True)
    for name, content in tiny_mnist_archives().items():
        (archives / name).write_bytes(content)


def little_memory(monkeypatch):
    from aecli.training.loop import Trainer

    run = Trainer.run

    def running(trainer, *arguments):
        if trainer.batch_size > 8:
            raise torch.OutOfMemoryError
        return run(trainer, *arguments)

    monkeypatch.setattr(Trainer, "run", running)


def zipped(name, **members):
    with zipfile.ZipFile(name, "w") as archive:
        for member, text in members.items():
            archive.writestr(f"{member}.csv", text)


def tarred(path):
    with tarfile.open(path, "w") as archive:
        archive.add("t.csv")


CODES = "z0,z1\n1,2\n3,4\n"
RAGGED = with_line("1,2")
BLANK = with_line(",,")
HEX = with_line("1,0x10,3")
MENDED = with_line("1,,3")
LONG, LONGER = (f"--title '{'word ' * count}'" for count in (150, 300))
COMMAS = table(header="a;b;c", by=";").replace(".", ",")
TALL = table(RNG.uniform(1, 9, (5000, 3)).round(3))
BOMB = bz2.compress((table() + "1,2,3\n" * 200_000).encode())
NOTES = [f"note {i}" for i in range(60)]
JSONL = "".join(f'{{"a": {a}, "b": {b}, "c": {c}}}\n' for a, b, c in NUMBERS)
EURO = table([(f"{i % 7 + 1}.{i:03}", f"{b},5") for i, b in enumerate(range(40))], "a;b", ";")
ENGLISH = table([(f'"{i % 7 + 1},{i:03}"', b) for i, b in enumerate(range(40, 0, -1))], "a,b")
CASES = {
    # the command line
    "stdout is closed": Case("embed t.safetensors t.csv", "name a file with -o", values={"-o": "z.csv"}, patch=closed),
    "stdout is closed to a picture": Case(
        "plot t.safetensors t.csv -o -", "name a file with -o", values={"-o": "z.png"}, patch=closed
    ),
    "a plane of one value": Case("plot one.safetensors pictures --kind manifold", "--kind traversal"),
    "a plane of a table": Case("plot t.safetensors t.csv --kind manifold", "--kind traversal"),
    "two results": Case("plot t.safetensors t.csv --json -o -", "write the picture to a file: -o picture.png"),
    "two results, one in the terminal": Case(
        "plot t.safetensors t.csv --json --show",
        "write the picture to a file: -o picture.png, without --show",
        then=("plot t.safetensors t.csv --json -o picture.png",),
    ),
    "an ONNX file of another name": Case("export t.safetensors -o t.pt", "-o t.onnx"),
    "weights too large for an ONNX file": Case(
        "export t.safetensors",
        "export a half at a time: --part encoder; --part decoder",
        patch=at(model__onnx_graph__MOST_BYTES=300),
    ),
    "counts and rows": Case("score t.safetensors t.csv --json -o -", "write the rows to a file: -o scores.csv"),
    "the strangest rows of a stream": Case(
        "score t.safetensors t.csv --top 3 --line-buffered",
        "leave one of them out; --only-anomalies works with both",
        then=(
            "score t.safetensors t.csv --top 3 --only-anomalies",
            "score t.safetensors t.csv --line-buffered --only-anomalies",
        ),
    ),
    "an exit code for rows without a score": Case(
        "score t.safetensors none.csv --exit-code",
        "check that the data is still being written; without --exit-code this is not an error",
        given={"none.csv": b"a,b,c\n"},
        then=("score t.safetensors none.csv",),
    ),
    "an alpha that no p is as small as": Case(
        "score t.safetensors t.csv --alpha 0.001",
        "--alpha 0.0182 is the smallest; a model trained on more rows allows a smaller one",
    ),
    "a model from before scores": Case(
        "score digits.safetensors digits",
        "train it again: aecli train digits",
        given={"digits.safetensors": (OLD / "digits.safetensors").read_bytes()},
    ),
    "a model from before scores, of rows without a name": Case(
        "score wine.safetensors t.csv",
        "train it again: aecli train DATA",
        given={"wine.safetensors": (OLD / "wine.safetensors").read_bytes()},
        values={"DATA": "t.csv"},
    ),
    "a page in the terminal": Case(
        "plot t.safetensors t.csv --kind map --show", "leave --show out", then=("plot t.safetensors t.csv --kind map",)
    ),
    "a page that is no page": Case("plot t.safetensors t.csv --kind page -o page.png", "-o page.html"),
    "the history of PCA": Case(
        "plot pca.safetensors --kind history",
        "--kind errors draws how strange the rows are",
        given={"noise.npy": np.random.default_rng(6).normal(size=(100, 12))},
        before="train noise.npy --device cpu -q -o pca.safetensors",
        then=("plot pca.safetensors noise.npy --kind errors",),
    ),
    "a map with another bottleneck": Case(
        "train t.csv --epochs 1 --latent-dim 2 --recipe map --bottleneck sparse",
        "leave --bottleneck out, or choose another --recipe",
        then=(
            "train t.csv --epochs 1 --latent-dim 2 --recipe map -o map.safetensors",
            "train t.csv --epochs 1 --latent-dim 2 --bottleneck sparse --active 1 -o sparse.safetensors",
        ),
    ),
    "a picture that is a page": Case("plot t.safetensors t.csv -o codes.html", "--kind page"),
    "a picture of no room": Case(f"plot t.safetensors t.csv --size 2x1 {LONG}", "give it more room: --size 4.8x3.5"),
    "a picture of little room": Case(f"plot t.safetensors t.csv {LONGER}", "give it more room: --size 7.2x7.2"),
    "a window of no room": Case(
        f"plot t.safetensors t.csv --show {LONG}",
        "make the window larger, or draw to a file instead of --show: -o picture.png",
        then=(f"plot t.safetensors t.csv {LONG} -o picture.png",),
        patch=lambda monkeypatch: monkeypatch.setenv("LINES", "14"),
    ),
    "a page of quantiles": Case(
        "plot quantile.safetensors t.csv --kind map",
        "--kind latent -o codes.png draws the codes alone; or train with --scale robust",
        then=(
            "plot quantile.safetensors t.csv --kind map --kind latent -o codes.png",
            "train t.csv QUICK -o quantile.safetensors --scale robust",
            "plot quantile.safetensors t.csv --kind map",
        ),
    ),
    "a page of too many weights": Case(
        "plot t.safetensors t.csv --kind map -o map.html",
        "--kind latent -o codes.png draws the codes alone",
        patch=at(figures__map__MAX_WEIGHTS=1),
    ),
    "several images in one file": Case(
        "reconstruct pictures.safetensors pictures -o all.png", "name a folder: -o all/"
    ),
    "a folder without its slash": Case(
        "reconstruct pictures.safetensors pictures -o all",
        "images go to a folder, -o all/; tables to a file, -o all.csv",
        then=(
            "reconstruct pictures.safetensors pictures -o all/",
            "reconstruct pictures.safetensors pictures -o all.csv",
        ),
    ),
    "a file for fewer bits": Case("reconstruct deep.safetensors deep/00.png -o one.jpg", "-o one.tif"),
    "what comes from no error": Case("reconstruct t.safetensors t.csv --top-features 1", "add --error"),
    "an output that is read": Case(
        "embed t.safetensors t.csv -o t.csv", "name another --output", values={"--output": "z.csv"}
    ),
    "an output that is a checkpoint": Case(
        "reconstruct t.safetensors t.csv --format csv -o one.safetensors",
        "name another --output",
        values={"--output": "z.csv"},
    ),
    "training over its data": Case(
        "train t.csv QUICK -o t.csv", "name another --output", values={"--output": "z.safetensors"}
    ),
    "a picture over its data": Case(
        "plot pictures.safetensors pictures/00.png pictures/01.png -o pictures/00.png",
        "name another --output",
        values={"--output": "z.png"},
    ),
    "no rows": Case("embed t.safetensors", "aecli embed t.safetensors t.csv"),
    "a part that is another": Case(
        "embed t.safetensors t.csv -o out/ --error",
        "aecli embed t.safetensors t.csv -o out/ --error --force",
        before="embed t.safetensors t.csv -o out/",
    ),
    "a part of standard input": Case(
        "embed t.safetensors - -o out/",
        "name one file for all rows: -o rows.parquet",
        stdin=table(),
    ),
    "an option for all rows, with parts": Case(
        "score t.safetensors t.csv -o out/ --exit-code --alpha 0.02",
        "leave it out, or name one file for all rows: -o rows.parquet",
        then=(
            "score t.safetensors t.csv -o out/ --alpha 0.02",
            "score t.safetensors t.csv -o rows.parquet --alpha 0.02",
        ),
    ),
    "parts in another format": Case(
        "embed t.safetensors t.csv -o out/ --format jsonl",
        "leave it out, or name one file for all rows: -o rows.jsonl",
        then=("embed t.safetensors t.csv -o out/", "embed t.safetensors t.csv -o rows.jsonl --format jsonl"),
    ),
    "a share of one file": Case("embed t.safetensors t.csv --shard 0/2", "name a folder, which ends in /: -o parts/"),
    "no rows for a picture": Case(
        "plot away.safetensors",
        "aecli plot away.safetensors DATA",
        values={"DATA": "rows.npy"},
        given={
            "away.safetensors": lambda path: aecli.fit(NUMBERS, hidden_dims=(4,), epochs=1).save(path),
            "rows.npy": lambda path: np.save(path, NUMBERS),
        },
    ),
    "no rows but those that wait": Case("embed t.safetensors", "aecli embed t.safetensors -", stdin=table()),
    "a picture of rows that wait": Case("plot t.safetensors", "aecli plot t.safetensors -", stdin=table()),
    "no rows to train further on": Case(
        "train --init-from t.safetensors QUICK",
        "aecli train --init-from t.safetensors QUICK DATA",
        values={"DATA": "new.csv"},
    ),
    "an array to stdout": Case("embed t.safetensors t.csv --format npy", "name one: -o rows.npy"),
    "half precision in text": Case(
        "embed t.safetensors t.csv --dtype float16", "name a file of another format: -o codes.parquet"
    ),
    "structs in text": Case(
        "embed sparse.safetensors t.csv --as-vector",
        "leave --as-vector out, or name a file of another format: -o codes.parquet",
        before="train t.csv QUICK --bottleneck sparse --active 2 -o sparse.safetensors",
        then=("embed sparse.safetensors t.csv", "embed sparse.safetensors t.csv --as-vector -o codes.parquet"),
    ),
    "a code beyond half precision": Case(
        "embed t.safetensors x.csv --dtype float16 -o z.npy",
        "leave --dtype out",
        given={"x.csv": with_line("1e12,1e12,1e12")},
        then=("embed t.safetensors x.csv -o z.npy",),
    ),
    "a label of a code's name": Case(
        "embed z.safetensors z.csv",
        "leave it out with --no-label, or rename it first",
        given={"z.csv": column_of("xy", "z0")},
        before="train z.csv --label z0 QUICK",
    ),
    "two results of training": Case(
        "train t.csv QUICK --json -o -", "write the checkpoint to a file: -o model.safetensors"
    ),
    "rows that wait, and no DATA": Case(
        "train QUICK",
        "to train on standard input: aecli train - -o FILE",
        values={"FILE": "m.safetensors"},
        stdin=table(),
    ),
    "rows that wait, and an output": Case(
        "train QUICK -o m.safetensors", "to train on standard input: aecli train - -o m.safetensors", stdin=table()
    ),
    "a checkpoint without a name": Case(
        "train - QUICK", "name it: -o FILE", values={"FILE": "m.safetensors"}, stdin=table()
    ),
    "a checkpoint over another file": Case(
        "train t.csv QUICK -o new.csv",
        "name another -o FILE, or replace it with --force",
        values={"FILE": "m.safetensors"},
    ),
    "a checkpoint over another model": Case(
        "train t.csv QUICK -o one.safetensors",
        "name another -o FILE, or replace it with --force",
        values={"FILE": "m.safetensors"},
    ),
    "a checkpoint over the one to start from": Case(
        "train new.csv --init-from t.safetensors QUICK -o t.safetensors",
        "name another -o FILE, or replace it with --force",
        values={"FILE": "m.safetensors"},
    ),
    "a value that is none": Case("train --seed -1", "aecli train --help shows what it takes", then=("train --help",)),
    "an ending of no format": Case(
        "embed t.safetensors t.csv -o z.txt",
        "the endings are .csv, .tsv, .jsonl, .parquet, .arrow, .feather, .npy; --format sets it for any other name; "
        "a folder ends in /",
        values={"--format": "csv"},
    ),
    "no checkpoint": Case("embed no.safetensors t.csv", "aecli train writes one"),
    "a stopped run for a model": Case("embed s.safetensors.resume t.csv", "aecli info s.safetensors.resume"),
    "no such GPU": Case(
        "train t.csv QUICK --device cuda:99",
        "--device auto uses a GPU if there is one; nvidia-smi says whether the driver runs",
    ),
    "no GPU to apply a model on": Case(
        "embed t.safetensors t.csv --device mps",
        "--device auto uses a GPU if there is one",
        patch=lambda monkeypatch: monkeypatch.setattr("torch.backends.mps.is_available", lambda: False),
    ),
    "nothing to decode": Case(
        "decode t.safetensors",
        "aecli decode t.safetensors CODES; or aecli decode --samples 10 t.safetensors",
        given={"codes.csv": CODES},
        then=("decode t.safetensors codes.csv", "decode --samples 10 t.safetensors"),
    ),
    "codes that wait": Case(
        "decode t.safetensors",
        "aecli decode t.safetensors -; or aecli decode --samples 10 t.safetensors",
        then=("decode t.safetensors -", "decode --samples 10 t.safetensors"),
        stdin=CODES,
    ),
    "nothing to go between": Case(
        "decode t.safetensors --between 1 2",
        "aecli decode --between 1 2 t.safetensors CODES",
        given={"codes.csv": CODES},
        values={"CODES": "codes.csv"},
    ),
    "rows that are no codes": Case(
        "decode t.safetensors t.csv",
        "codes are what aecli embed writes: z0 to z1; aecli reconstruct takes the rows themselves",
        then=(
            "embed t.safetensors t.csv -o codes.csv",
            "decode t.safetensors codes.csv",
            "reconstruct t.safetensors t.csv",
        ),
        given={"codes.csv": CODES},
    ),
    "codes and a label without names": Case(
        "decode z.safetensors plain.csv",
        "aecli embed --no-header --no-label writes codes alone",
        then=("embed z.safetensors z.csv --no-header --no-label -o codes.csv", "decode z.safetensors alone.csv"),
        given={"z.csv": column_of("xy", "label"), "plain.csv": "x,0.5,0.25\ny,0.5,1.25\n", "alone.csv": "1,2\n3,4\n"},
        before="train z.csv QUICK",
    ),
    "one row and none to hold out": Case(
        "train single.csv QUICK",
        "--holdout 0 trains on all rows",
        given={"single.csv": "a,b,c\n1,2,3\n"},
    ),
    "one row and none to stop by": Case(
        "train single.csv QUICK --holdout 0 --patience 2",
        "--patience 0 needs no validation rows",
        given={"single.csv": "a,b,c\n1,2,3\n"},
    ),
    "one row and none to hold out last": Case(
        "train single.csv QUICK --holdout-last 0.2",
        "--holdout 0 in place of --holdout-last trains on all rows",
        given={"single.csv": "a,b,c\n1,2,3\n"},
        then=("train single.csv QUICK --holdout 0",),
    ),
    "no share of the last rows": Case(
        "train t.csv QUICK --holdout-last 0",
        "leave it out, or choose a share: --holdout-last 0.2",
        then=("train t.csv QUICK", "train t.csv QUICK --holdout-last 0.2"),
    ),
    "the last rows of a built-in set": Case(
        "train digits QUICK --holdout-last 0.2", "leave --holdout-last out", then=("train digits QUICK",)
    ),
    "held-out rows and a share of the others": Case(
        "train t.csv QUICK --test new.csv --holdout 0.2",
        "leave --test or --holdout out",
        then=("train t.csv QUICK --test new.csv", "train t.csv QUICK --holdout 0.2"),
    ),
    "held-out rows and the last of the others": Case(
        "train t.csv QUICK --test new.csv --holdout-last 0.2",
        "leave --test or --holdout-last out",
        then=("train t.csv QUICK --test new.csv", "train t.csv QUICK --holdout-last 0.2"),
    ),
    "training rows as held-out ones": Case(
        "train t.csv QUICK --test t.csv",
        "leave --test out to hold out a tenth of the training rows",
        then=("train t.csv QUICK",),
    ),
    "held-out rows of the same pipe": Case(
        "train - QUICK --test - -o m.safetensors",
        "name a file for DATA or for --test",
        stdin=table(),
        then=("train - QUICK --test new.csv -o m.safetensors", "train new.csv QUICK --test - -o m.safetensors"),
    ),
    "a log that is no file": Case("train t.csv QUICK --log -", "name one: --log run.csv"),
    "a log over its data": Case("train t.csv QUICK --log t.csv", "name another --log FILE", values={"FILE": "run.csv"}),
    "a log over the checkpoint": Case(
        "train t.csv QUICK -o m.csv --log m.csv", "name another --log FILE", values={"FILE": "run.csv"}
    ),
    "a log over another file": Case(
        "train t.csv QUICK --log new.csv",
        "name another --log FILE, or replace it with --force",
        values={"FILE": "run.csv"},
    ),
    "a log on a full disk": Case(
        "train t.csv QUICK --log full.csv",
        "the checkpoint has all losses: aecli info t.safetensors --json",
        given={"full.csv": lambda path: path.symlink_to("/dev/full")},
        then=("info t.safetensors --json",),
    ),
    "more convolutions than halves": Case(
        "train digits QUICK --channels 2,2,2,2",
        "--channels 2,2,2",
    ),
    "convolutions of lines": Case(
        "train lines.npy QUICK --channels 2",
        "leave --channels out",
        then=("train lines.npy QUICK",),
        given={"lines.npy": lambda path: np.save(path, np.zeros((20, 1, 30, 1), np.uint8))},
    ),
    "more weights than any machine holds": Case(
        "train t.csv QUICK --hidden-dims 1000000000000",
        "choose smaller --hidden-dims, --channels or --latent-dim",
        then=("train t.csv QUICK --hidden-dims 8",),
    ),
    "a code with a hole": Case(
        "decode t.safetensors codes.csv",
        "--bad-rows skip leaves such rows out, --bad-rows blank writes empty ones",
        given={"codes.csv": f"{CODES}5,\n"},
    ),
    "draws of a table as a picture": Case(
        "plot t.safetensors --kind samples", "aecli decode t.safetensors --samples 10"
    ),
    "draws of codes that are too wide": Case(
        "decode wide.safetensors --samples 2",
        "train with --latent-dim 512 or fewer",
        given={"wide.npy": RNG.normal(size=(20, 600))},
        before="train wide.npy QUICK --latent-dim 513",
        trains="train wide.npy QUICK -o wide.safetensors",
    ),
    # runs
    "a run of other options to finish": Case(
        f"{RUN} --seed 1 --finish", "aecli info s.safetensors.resume shows what it holds"
    ),
    "no run to finish": Case("train t.csv QUICK --finish", "aecli train t.csv QUICK"),
    "no run to finish, of words that are not kept": Case(
        "train t.csv QUICK --comment https://u:p@x/ --finish",
        "train without --finish",
        then=("train t.csv QUICK --comment https://u:p@x/",),
    ),
    "a damaged run to finish": Case(
        f"{RUN} --finish", f"start a new run: aecli {RUN}", given={"s.safetensors.resume": b"damaged"}
    ),
    "a damaged run to finish, of words that are not kept": Case(
        f"{RUN} --comment https://u:p@x/ --finish",
        "start a new run: train without --finish",
        given={"s.safetensors.resume": b"damaged"},
        then=(f"{RUN} --comment https://u:p@x/",),
    ),
    "a run of an older version": Case(
        f"{RUN} --resume",
        "finish it with aecli 0.1.0, or start anew: --force instead of --resume",
        given={"s.safetensors.resume": (OLD / "stopped.safetensors.resume").read_bytes()},
        then=(f"{RUN} --force",),
    ),
    "a run of an older version to finish": Case(
        f"{RUN} --finish",
        "finish it with aecli 0.1.0, or start anew: --force instead of --finish",
        given={"s.safetensors.resume": (OLD / "stopped.safetensors.resume").read_bytes()},
        then=(f"{RUN} --force",),
    ),
    "a loss without end": Case(
        "train t.csv QUICK --lr 1e15 --optimizer adam --epochs 99",
        "lower --lr, or check the data for extreme values",
        values={"--lr": "0.001"},
    ),
    "a device of little memory": Case(
        "train t.csv QUICK --batch-size 16",
        "lower --batch-size, or train with --device cpu",
        then=("train t.csv QUICK --batch-size 8",),
        patch=little_memory,
    ),
    "a bottleneck as wide as the rows": Case(
        "train t.csv QUICK --latent-dim 3", "choose a --latent-dim below 3", values={"--latent-dim": "2"}
    ),
    "a sparse bottleneck as wide as the rows": Case(
        "train t.csv QUICK --bottleneck sparse --active 3",
        "choose an --active below 3",
        values={"--active": "2"},
    ),
    "more active values than there are": Case(
        "train t.csv QUICK --bottleneck sparse --active 2 --latent-dim 1",
        "choose an --active of at most 1, or a larger --latent-dim",
        values={"--active": "1", "--latent-dim": "6"},
    ),
    "active values of no sparse bottleneck": Case(
        "train t.csv QUICK --active 2",
        "add --bottleneck sparse, or leave --active out",
        then=("train t.csv QUICK --active 2 --bottleneck sparse", "train t.csv QUICK"),
    ),
    "nested codes of a sparse bottleneck": Case(
        "train t.csv QUICK --nested --bottleneck sparse --active 2",
        "leave --nested out",
        then=("train t.csv QUICK --bottleneck sparse --active 2",),
    ),
    "vectors of several units": Case(
        "train x.csv QUICK --recipe vectors --categorical d",
        "leave the column out with --exclude, or choose another --recipe",
        given={"x.csv": column_of("xyz")},
        then=("train x.csv QUICK --recipe vectors --exclude d", "train x.csv QUICK --categorical d"),
    ),
    "batches of two vectors": Case(
        "train t.csv QUICK --recipe vectors --batch-size 2",
        "choose a --batch-size of at least 3",
        values={"--batch-size": "3"},
    ),
    "nested codes of one value": Case(
        "train t.csv QUICK --nested --latent-dim 1",
        "choose a --latent-dim of at least 2, or leave --nested out",
        then=("train t.csv QUICK --nested --latent-dim 2", "train t.csv QUICK --latent-dim 1"),
    ),
    "a weight of no divergence": Case(
        "train t.csv QUICK --beta 2",
        "add --bottleneck variational, or leave --beta out",
        then=("train t.csv QUICK --beta 2 --bottleneck variational", "train t.csv QUICK"),
    ),
    "cross-entropy of any values": Case(
        "train t.csv QUICK --loss bce",
        "--loss mse or huber takes any values; --scale minmax brings them to that range",
        then=("train t.csv QUICK --loss huber", "train t.csv QUICK --loss bce --scale minmax"),
    ),
    "cross-entropy of a model's values": Case(
        "train t.csv --init-from t.safetensors --epochs 1 --loss bce -o u.safetensors",
        "--loss mse or huber takes any values",
        then=("train t.csv --init-from t.safetensors --epochs 1 --loss huber -o u.safetensors",),
    ),
    "no room for many rows": Case(
        "train t.csv QUICK --holdout 0",
        "free some space, or name an output on another disk: -o FILE",
        given={"disk": Path.mkdir},
        values={"FILE": "disk/m.safetensors"},
        patch=no_room_here,
    ),
    "many rows, and many categories": Case(
        "train many.csv QUICK --holdout 0 --categorical d --max-categories 20",
        "raise --max-categories, or leave the column out with --exclude",
        given={"many.csv": column_of([f"k{i}" for i in range(30)])},
        values={"--max-categories": "40", "--exclude": "d"},
        patch=at(data__gather__MEMORY_BYTES=100),
    ),
    "no network": Case(
        "train mnist QUICK --data-dir empty",
        "connect to the network, name another folder with --data-dir, or put train-images-idx3-ubyte.gz and "
        "train-labels-idx1-ubyte.gz there yourself",
        values={"--data-dir": "full"},
        patch=no_network,
    ),
    # tables
    "text": Case("train x.csv QUICK", "aecli train x.csv QUICK --exclude d", given={"x.csv": column_of(NOTES)}),
    "text of few values": Case(
        "train x.csv QUICK", "aecli train x.csv QUICK --categorical d", given={"x.csv": column_of("xyz")}
    ),
    "two dates": Case(
        "train x.csv QUICK",
        "aecli train x.csv QUICK --date-format FORMAT",
        given={"x.csv": column_of(["01/02/2024", "05/02/2024", "03/04/2024"])},
        values={"FORMAT": "%d/%m/%Y"},
    ),
    "a date": Case(
        "train x.jsonl QUICK",
        "aecli train x.jsonl QUICK --date-format %d.%m.%Y",
        given={"x.jsonl": objects(["21.02.2024", "05.02.2024", "03.04.2024"])},
    ),
    "an empty cell": Case("train x.csv QUICK", "aecli train x.csv QUICK --missing mean", given={"x.csv": MENDED}),
    "an empty column": Case(
        "train x.csv QUICK", "aecli train x.csv QUICK --exclude d", given={"x.csv": column_of([""])}
    ),
    "an empty column to be filled": Case(
        "train x.csv QUICK --missing mean", "leave it out: --exclude 'd'", given={"x.csv": column_of([""])}
    ),
    "text, and an empty cell": Case(
        "train x.csv QUICK",
        "aecli train x.csv QUICK --exclude d --missing mean",
        given={"x.csv": with_line("1,,3,note", text=column_of(NOTES))},
    ),
    "a limit": Case(
        "train x.csv QUICK --missing mean",
        "aecli train x.csv QUICK --missing mean --na '<0.01'",
        given={"x.csv": column_of([*"23456789", "2.5", "<0.01"])},
    ),
    "thousands": Case("train x.csv QUICK", "aecli train x.csv QUICK --thousands ,", given={"x.csv": ENGLISH}),
    "decimal commas": Case(
        "train x.csv QUICK",
        "aecli train x.csv QUICK --decimal ,",
        given={"x.csv": table([(f"{i},5", f"{i % 7},25") for i in range(40)], "a;b", ";")},
    ),
    "decimal commas in a table of no text": Case(
        "train x.parquet QUICK",
        "aecli train x.parquet QUICK --decimal ,",
        given={"x.parquet": lambda path: parquet(path, ["1,5", "2,25"])},
    ),
    "money in a table of no text": Case(
        "train x.parquet QUICK",
        "aecli train x.parquet QUICK --exclude d",
        given={"x.parquet": lambda path: parquet(path, ["$1.50", "$2.25"])},
    ),
    "two meanings of a point": Case(
        "train x.csv QUICK --thousands . --decimal .",
        "set the decimal mark: --decimal ,",
        given={"x.csv": EURO},
    ),
    "two meanings of a comma": Case(
        "train x.csv QUICK --thousands , --decimal ,",
        "set the decimal mark: --decimal .",
        given={"x.csv": ENGLISH},
    ),
    "money": Case(
        "train x.csv QUICK --holdout 0.2",
        "sed 's/[$€£¥₹₽]//g' x.csv | aecli train - QUICK --holdout 0.2 -o MODEL.safetensors",
        given={"x.csv": column_of(["$1.50", "$2.25"])},
    ),
    "a share": Case(
        "train - QUICK -o m.safetensors",
        "sed 's/%//g' | aecli train - QUICK -o m.safetensors",
        stdin=column_of(["15%", "25%"]),
    ),
    "a ragged line": Case(
        "train x.csv QUICK",
        "remove the line: sed 6d x.csv | aecli train - QUICK -o MODEL.safetensors",
        given={"x.csv": RAGGED},
    ),
    "a ragged line of a run that is to be kept": Case(
        "train x.csv --resume QUICK",
        "remove the line: sed 6d x.csv | aecli train - QUICK -o MODEL.safetensors",
        given={"x.csv": RAGGED},
    ),
    "a ragged first line": Case(
        "train x.csv QUICK",
        "remove the line: sed 2d x.csv | aecli train - QUICK -o MODEL.safetensors",
        given={"x.csv": with_line("1,2", 2)},
    ),
    "a ragged line of several files": Case(
        "train t.csv x.csv QUICK -o m.safetensors",
        "remove the line: sed 6d x.csv | aecli train t.csv - QUICK -o m.safetensors",
        given={"x.csv": RAGGED},
    ),
    "a ragged line that waits": Case(
        "train - QUICK -o m.safetensors",
        "remove the line first: sed 6d | aecli train - QUICK -o m.safetensors",
        stdin=RAGGED,
    ),
    "a ragged line of a compressed file": Case(
        "train x.csv.gz QUICK",
        "remove the line: gzip -dc x.csv.gz | sed 6d | aecli train - QUICK -o MODEL.safetensors",
        given={"x.csv.gz": gzip.compress(RAGGED.encode())},
    ),
    "a line of units": Case(
        "train x.csv QUICK",
        "remove the line: sed 2d x.csv | aecli train - QUICK -o MODEL.safetensors",
        given={"x.csv": with_line("m,kg,EUR", 2)},
    ),
    "a table further down": Case(
        "train x.csv QUICK",
        "if the table begins further down, add --skip-rows 1",
        given={"x.csv": "a report, of, the, year\n" + table(header="")},
    ),
    "a ragged line for a model": Case(
        "embed t.safetensors x.csv",
        "remove the line, or use --bad-rows blank or --bad-rows skip",
        given={"x.csv": RAGGED},
    ),
    "a ragged line of a picture": Case(
        "plot t.safetensors x.csv",
        "remove the line, or use --bad-rows blank or --bad-rows skip",
        given={"x.csv": RAGGED},
    ),
    "a ragged line to train further on": Case(
        "train x.csv --init-from t.safetensors QUICK",
        "remove the line, or use --bad-rows skip",
        given={"x.csv": RAGGED},
    ),
    "a cell of another kind": Case(
        "train x.csv QUICK",
        "correct the cell, or leave it empty and train with --missing mean or --missing drop",
        given={"x.csv": with_line("1,five,3", 4900, TALL)},
        mended={"x.csv": with_line("1,,3", 4900, TALL)},
        patch=at(data__records__BLOCK_BYTES=1000),
    ),
    "a cell of another kind of words": Case(
        "train x.jsonl QUICK",
        "correct the cell, or leave it empty and train with --missing mean or --missing drop",
        given={"x.jsonl": JSONL + '{"a": [1], "b": 2, "c": 3}\n'},
        mended={"x.jsonl": JSONL + '{"a": null, "b": 2, "c": 3}\n'},
        patch=at(data__jsonl__BLOCK_BYTES=1000),
    ),
    "a cell of another kind for a model": Case(
        "embed t.safetensors x.csv",
        "correct the cell, or use --bad-rows blank or --bad-rows skip",
        given={"x.csv": HEX},
    ),
    "a later file with decimal commas": Case(
        "train t.csv x.csv QUICK",
        "it is a number with other marks: --decimal , reads it if all files of the run are written so; otherwise "
        "convert x.csv first",
        given={"x.csv": COMMAS},
        mended={"x.csv": table()},
        then=("train t.csv x.csv QUICK -o z.safetensors",),
    ),
    "decimal commas for a model": Case(
        "embed t.safetensors x.csv",
        "it is a number with other marks: --decimal , reads it",
        given={"x.csv": COMMAS},
    ),
    "decimal commas and thousands to train further on": Case(
        "train x.csv --init-from t.safetensors QUICK",
        "it is a number with other marks: --thousands . --decimal , reads it if all files of the run are written so; "
        "otherwise convert x.csv first",
        given={"x.csv": table([(f"{i % 9 + 1}.{i + 100},5", f"{i},5", i) for i in range(40)], "a;b;c", ";")},
        then=("train x.csv --init-from t.safetensors QUICK --thousands . --decimal ,",),
    ),
    "an unknown category in rows to test on": Case(
        "train k.csv QUICK --categorical d --test x.csv",
        "--unknown ignore reads such a cell as none of them",
        given={"k.csv": column_of(["x", "y"]), "x.csv": column_of(["x", "y", "z"])},
    ),
    "a cell of another kind in rows to test on": Case(
        "train t.csv QUICK -o z.safetensors --test x.csv",
        "correct the cell, or use --bad-rows skip",
        given={"x.csv": HEX},
    ),
    "a value of another kind for a model": Case(
        "embed t.safetensors x.jsonl",
        "correct the cell, or use --bad-rows blank or --bad-rows skip",
        given={"x.jsonl": JSONL + '{"a": [1], "b": 2, "c": 3}\n'},
    ),
    "a word of another kind for a model": Case(
        "embed words.safetensors x.csv",
        "correct the cell, or use --bad-rows blank or --bad-rows skip",
        given={"words.csv": column_of(["yes", "no"]), "x.csv": column_of(["yes", "perhaps"])},
        before="train words.csv QUICK",
    ),
    "a cell of another kind to train further on": Case(
        "train x.csv --init-from t.safetensors QUICK", "correct the cell, or use --bad-rows skip", given={"x.csv": HEX}
    ),
    "an infinite value": Case(
        "embed flat.safetensors x.npy",
        "--bad-rows skip leaves such rows out, --bad-rows blank writes empty ones",
        given={"x.npy": np.where(np.arange(96) == 4, np.inf, np.ones((3, 96)))},
    ),
    "bad rows to train a new model on": Case(
        "train t.csv QUICK --bad-rows skip",
        "leave it out; --missing drop leaves out rows with empty cells, and --init-from MODEL trains a model further",
        then=(
            "train t.csv QUICK --missing drop -o z.safetensors",
            "train new.csv --init-from t.safetensors QUICK --bad-rows skip -o z.safetensors",
        ),
    ),
    "images to train a table's model further on": Case(
        "train pictures --init-from t.safetensors QUICK", "to train a model of images: aecli train pictures"
    ),
    "images for a table's model": Case(
        "embed t.safetensors pictures/00.png pictures/01.png",
        "to train a model of images: aecli train DATA",
        values={"DATA": "pictures"},
    ),
    "blank rows to train further on": Case(
        "train new.csv --init-from t.safetensors QUICK --bad-rows blank", "--bad-rows skip leaves them out"
    ),
    "a late hole": Case(
        "train x.csv QUICK",
        "train with --missing mean to fill holes with their column's mean, --missing drop to leave such rows out, or "
        "--exclude 'b' to leave the column out",
        given={"x.csv": with_line("1,,3", 4900, TALL)},
        patch=at(data__records__BLOCK_BYTES=1000),
    ),
    "a hole in an array": Case(
        "train x.npy QUICK",
        "train with --missing mean to fill holes with their column's mean, or --missing drop to leave such rows out",
        given={"x.npy": np.where(NUMBERS > 8.9, np.nan, NUMBERS)},
    ),
    "a hole to train further on": Case(
        "train x.csv --init-from t.safetensors QUICK",
        "train with --missing mean to fill holes with their column's mean, or --missing drop to leave such rows out",
        given={"x.csv": MENDED},
    ),
    "a hole for a model that knows none": Case(
        "embed x.safetensors holes.npy",
        "train with --missing mean to fill holes with their column's mean, or --missing drop to leave such rows out",
        given={"x.npy": GREY, "holes.npy": np.where(GREY > 250, np.nan, GREY)},
        before="train x.npy QUICK",
        trains="train x.npy QUICK",
    ),
    "holes of pixels to train further on": Case(
        "train new.npy --init-from x.safetensors QUICK --missing mean",
        "--missing drop leaves such rows out",
        given={"x.npy": GREY, "new.npy": GREY},
        before="train x.npy QUICK",
    ),
    "options of another model": Case(
        "train new.csv --init-from t.safetensors QUICK --exclude a --scale robust",
        "leave out --scale and --exclude",
        then=("train new.csv --init-from t.safetensors QUICK",),
    ),
    "another encoding": Case(
        "train x.csv QUICK --label d",
        "--encoding cp1252 reads 'café' there",
        given={"x.csv": column_of(["café", "bar"]).encode("cp1252")},
    ),
    "another encoding for a model": Case(
        "embed kinds.safetensors x.csv --unknown ignore",
        "--encoding cp1252 reads 'café' there",
        given={"x.csv": column_of(["café", "x"], "kind").encode("cp1252")},
    ),
    "another encoding than was said": Case(
        "train x.csv QUICK --label d --encoding ascii",
        "--encoding names its encoding",
        given={"x.csv": column_of(["café", "bar"]).encode("cp1252")},
        values={"--encoding": "cp1252"},
    ),
    "a category too many": Case(
        "embed kinds.safetensors x.csv",
        "--unknown ignore reads such a cell as none of them",
        given={"x.csv": column_of("xyz", "kind")},
    ),
    "a category too many to train further on": Case(
        "train x.csv --init-from kinds.safetensors QUICK",
        "--unknown ignore reads such a cell as none of them",
        given={"x.csv": column_of("xyz", "kind")},
    ),
    "categories that are an id": Case(
        "train x.csv QUICK --categorical d --max-categories 10",
        "leave it out: --exclude 'd'",
        given={"x.csv": column_of([f"k{i}" for i in range(60)])},
    ),
    "categories without end": Case(
        "train x.csv QUICK --categorical d",
        "leave it out: --exclude 'd'",
        given={"x.csv": column_of([f"k{i}" for i in range(60)])},
        patch=at(data__table__MAX_DISTINCT=10),
    ),
    "a column that one file lacks": Case(
        "train x.csv t.csv QUICK",
        "leave them out: --exclude 'd'",
        given={"x.csv": column_of("12345")},
    ),
    "columns in one word": Case(
        "train t.csv QUICK --exclude a,b",
        "name one at a time: --exclude 'a' --exclude 'b'",
        given={"t.csv": column_of("12345")},
        then=("train t.csv QUICK --exclude a --exclude b -o m.safetensors",),
    ),
    "labels in one word": Case(
        "train t.csv QUICK -o m.safetensors --label a,b",
        "name one: --label 'a' or --label 'b'",
    ),
    "a bomb": Case(
        "train x.csv.bz2 QUICK",
        "unpack it first, if you trust it; --force reads it anyway",
        given={"x.csv.bz2": BOMB},
        patch=at(data__stream__BOMB_BYTES=10**5, data__stream__BOMB_RATIO=100),
    ),
    "objects on several lines": Case(
        "embed t.safetensors x.json",
        "jq -c . FILE | aecli COMMAND ... -",
        given={"x.json": JSONL.replace("{", "{\n")},
        values={"FILE": "x.json", "COMMAND ...": "embed t.safetensors"},
    ),
    "a zip archive of several files": Case(
        "embed t.safetensors x.zip",
        "read one of them: unzip -p x.zip a.csv | aecli COMMAND ... -",
        given={"x.zip": lambda path: zipped(path, a=table(), b=table())},
        values={"COMMAND ...": "embed t.safetensors"},
    ),
    "a tar archive": Case(
        "embed t.safetensors x.tar",
        "tar xOf x.tar NAME | aecli COMMAND ... -",
        given={"x.tar": tarred},
        values={"NAME": "t.csv", "COMMAND ...": "embed t.safetensors"},
    ),
    # images
    "channels first or last": Case(
        "train x.npy QUICK",
        "say which: --image-shape 8x3x4 for last, 3x4x8 for first",
        given={"x.npy": EITHER},
        then=("train x.npy QUICK --image-shape 8x3x4", "train x.npy QUICK --image-shape 3x4x8"),
    ),
    "files of bytes that may be images or rows": Case(
        "train a.npy b.npy QUICK",
        "--image-shape 6x8 reads one image per file; or join their rows in one file",
        given={"a.npy": GREY[0], "b.npy": GREY[1]},
    ),
    "channels first or last for a model of rows": Case(
        "embed flat.safetensors x.npy",
        "reshape them to the rows (N, D) that the model takes",
        given={"x.npy": EITHER},
        mended={"x.npy": EITHER.reshape(12, -1)},
        then=("embed flat.safetensors x.npy",),
    ),
    "images of another size": Case(
        "train x QUICK",
        "train with --image-size 6x8 to resize all to one size",
        given={"x": lambda path: folder(path, [GREY[0], GREY[1][:, 1:], *GREY[2:]])},
    ),
    "images of another size for a model": Case(
        "embed pictures.safetensors x",
        "resize it first; a model does so itself if it was trained with --image-size 6x8",
        given={"x": lambda path: folder(path, GREY[:, 1:])},
        trains="train pictures QUICK",
    ),
    "images of another size to train further on": Case(
        "train x --init-from pictures.safetensors QUICK",
        "resize it first; a model does so itself if it was trained with --image-size 6x8",
        given={"x": lambda path: folder(path, GREY[:, 1:])},
        trains="train pictures QUICK",
    ),
    "images of more bits": Case(
        "embed pictures.safetensors deep", "say which values are black and white: --input-range 0,65535"
    ),
    "images of more bits to train further on": Case(
        "train deep --init-from pictures.safetensors QUICK -o m.safetensors",
        "say which values are black and white: --input-range 0,65535",
    ),
    "images of real numbers": Case(
        "embed pictures.safetensors x",
        "say which values are black and white: --input-range 0,1",
        given={"x": lambda path: folder(path, (GREY / 255).astype(np.float32), "tif")},
    ),
    "pixels from minus one": Case(
        "embed pictures.safetensors x.npy",
        "say which values are black and white: --input-range -1,1",
        given={"x.npy": (GREY / 127.5 - 1).astype(np.float32)},
    ),
    "pixels of fewer bits": Case(
        "embed deep.safetensors x.npy",
        "say which values are black and white: --input-range 0,255",
        given={"x.npy": GREY},
    ),
    "pixels of any numbers": Case(
        "embed pictures.safetensors x.npy",
        "say which values are black and white: --input-range -255,510",
        given={"x.npy": (GREY * 3.0 - 255).astype(np.float32)},
    ),
    "a broken image": Case(
        "train x QUICK",
        "--skip-broken skips it",
        given={"x": lambda path: folder(path, GREY), "x/05.png": b"broken"},
    ),
    "a broken image for a model": Case(
        "embed pictures.safetensors x",
        "--skip-broken skips it",
        given={"x": lambda path: folder(path, GREY), "x/05.png": b"broken"},
    ),
    "a stack that is cut short": Case(
        "train x QUICK",
        "--skip-broken skips the damaged part",
        given={"x": lambda path: stacks(path, cut=True)},
    ),
    "an image of very many pixels": Case(
        "train x QUICK --image-size 6x8",
        "--force reads it; or --skip-broken skips it",
        given={"x": lambda path: folder(path, [*GREY, np.repeat(GREY[0], 99, axis=0)])},
        patch=lambda patch: patch.setattr(Image, "MAX_IMAGE_PIXELS", 100),
    ),
    "an image of very many pixels for a model": Case(
        "embed pictures.safetensors x",
        "make it smaller first; or --skip-broken skips it",
        given={"x": lambda path: folder(path, [*GREY, np.repeat(GREY[0], 99, axis=0)])},
        patch=lambda patch: patch.setattr(Image, "MAX_IMAGE_PIXELS", 100),
    ),
    "a file of labels without a column": Case(
        "train x QUICK --label x.csv",
        "name one: --label x.csv:path or --label x.csv:kind",
        given={
            "x": lambda path: folder(path, GREY),
            "x.csv": "path,kind\n" + "".join(f"{i:02}.png,{i % 2}\n" for i in range(12)),
        },
    ),
    "a column beside the pixels": Case(
        "train x.csv QUICK --image-shape 6x8",
        "one of them may be the label: --label x0",
        given={"x.csv": table([(i % 3, *row) for i, row in enumerate(GREY.reshape(12, -1))], "")},
    ),
    "a text beside the pixels": Case(
        "train x.csv QUICK --image-shape 6x8",
        "aecli train x.csv QUICK --image-shape 6x8 --label kind",
        given={
            "x.csv": table(
                [("ab"[i % 2], *row) for i, row in enumerate(GREY.reshape(12, -1))],
                "kind," + ",".join(f"p{i}" for i in range(48)),
            )
        },
    ),
    "a fit to no size": Case("train pictures QUICK --fit pad --holdout 0 -o m.safetensors", "add --image-size 64"),
    "a range of a table": Case(
        "train x.csv QUICK --input-range 0,9",
        "if they are, add --image-shape",
        given={"x.csv": column_of("12345")},
        values={"--image-shape": "2x2"},
    ),
    "white on white": Case(
        "train x QUICK",
        "use another background for transparent pixels: --background black; or learn them: --alpha",
        given={"x": lambda path: icons(path, 255)},
    ),
    "black on black": Case(
        "train x QUICK --background black",
        "use another background for transparent pixels: --background white; or learn them: --alpha",
        given={"x": lambda path: icons(path, 0)},
    ),
    "white on a model's white": Case(
        "train x --init-from pictures.safetensors QUICK -o m.safetensors",
        "train without --init-from: --background black changes the background, --alpha learns transparency",
        given={"x": lambda path: icons(path, 255)},
        then=("train x QUICK --background black", "train x QUICK --alpha"),
    ),
    "black on a model's black": Case(
        "train x --init-from night.safetensors QUICK -o m.safetensors",
        "train without --init-from: --background white changes the background, --alpha learns transparency",
        given={"x": lambda path: icons(path, 0)},
        before="train pictures QUICK --background black -o night.safetensors",
        then=("train x QUICK --background white", "train x QUICK --alpha"),
    ),
}
NOT_HERE = {  # patterns of hints that no case prints, each with the reason
    "name a folder with more room: TMPDIR=FOLDER aecli ...": "no disk is full here",
    "name a folder of your own: TMPDIR=FOLDER aecli ...": "there is one user here",
    "pip install 'aecli[onnx]'": "nothing is installed here",
    "upgrade aecli: pip install --upgrade aecli": "there is no newer version",
    "raise --batch-size": "there is one process here: test_torchrun starts several",
    "lower --batch-size, or start fewer processes": "there is one process here",
    "--device cuda gives each process a GPU, --device cpu none": "there is one process here",
    "--device cpu trains on CPUs alone": "there is one process here",
    "torchrun --nproc-per-node …, or --device cpu": "there is no GPU here",
    "finish it with aecli …": "info has no option that goes on: only an older version does",
    "read one of them: unzip -p FILE … | aecli COMMAND ... -": "the same, of an archive that has no name",
}


@pytest.mark.filterwarnings("ignore:unclosed file")  # rows too many for memory lie in one
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_what_a_hint_says_can_be_done(run, workshop, monkeypatch, case):
    def done(words, stdin=case.stdin):
        return run(*command_line(words)[1:], stdin=stdin.encode())

    shutil.copytree(workshop, ".", dirs_exist_ok=True)
    put(case.given)
    case.patch(monkeypatch)
    if case.before:
        assert done(case.before).code == 0
    failed = done(case.words)
    assert failed.code in (1, 2), failed.err
    assert failed.err.splitlines()[-1] == f"hint: {case.printed}"
    put(case.mended)
    ways, before = case.ways(), set(Path().iterdir())
    assert ways
    for way in ways:
        for each in way:
            writes, piped, words = each.rpartition("| aecli ")
            stdin = piped_through(writes, case.stdin) if piped else case.stdin
            quick = " QUICK" if words.startswith("train") and "--epochs" not in words and "QUICK" not in words else ""
            followed = done(f"{words}{quick}", stdin)
            assert followed.code == 0, f"{each}: {followed.err}"
        for made in set(Path().iterdir()) - before:
            shutil.rmtree(made) if made.is_dir() else made.unlink()


SAYS_NO_OPTION = {
    "a closed stdout of what has no -o": Case(
        "info t.safetensors", "error: standard output is closed, and the result goes there", patch=closed
    ),
    "a bomb for a model": Case(
        "embed t.safetensors x.csv.bz2",
        "hint: unpack it first, if you trust it",
        given={"x.csv.bz2": BOMB},
        patch=at(data__stream__BOMB_BYTES=10**5, data__stream__BOMB_RATIO=100),
    ),
    "a column of an array": Case(
        "train x.npy QUICK --missing mean",
        "error: column 'x1' is empty: it has no mean",
        given={"x.npy": np.where(np.arange(3) == 1, np.nan, NUMBERS)},
    ),
    "a run of an older version that is shown": Case(
        "info s.safetensors.resume",
        "hint: finish it with aecli 0.1.0",
        given={"s.safetensors.resume": (OLD / "stopped.safetensors.resume").read_bytes()},
    ),
    "a ragged line of labels": Case(
        "train t.csv QUICK --label x.csv:a",
        "hint: correct x.csv first: reading options apply only to the data",
        given={"x.csv": RAGGED},
    ),
    "labels in another encoding": Case(
        "plot t.safetensors t.csv --colour x.csv:d",
        "hint: correct x.csv first: reading options apply only to the data",
        given={"x.csv": column_of(["café", "bar"]).encode("cp1252")},
    ),
}


@pytest.mark.parametrize("case", SAYS_NO_OPTION.values(), ids=SAYS_NO_OPTION)
def test_no_option_is_named_that_would_not_help(run, workshop, monkeypatch, case):
    shutil.copytree(workshop, ".", dirs_exist_ok=True)
    put(case.given)
    case.patch(monkeypatch)
    failed = run(*command_line(case.words)[1:])
    assert (failed.code, failed.err.splitlines()[-1]) == (1, case.hint)


def put(files):
    """Write files: what their names map to, or what that makes of the name."""
    for name, content in files.items():
        if callable(content):
            content(Path(name))
        elif isinstance(content, np.ndarray):
            np.save(name, content)
        else:
            Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())


def piped_through(command, text):
    if shutil.which(tool := command.split()[0]) is None:
        pytest.skip(f"there is no {tool}")
    return subprocess.run(["bash", "-c", command], input=text, capture_output=True, check=True, text=True).stdout


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_every_hint_names_options_that_its_command_has(case):
    command = case.words.split()[0]
    other = re.search(r"\btrain(ed)? (with|without)\b|aecli train", case.hint)
    if named := re.match(r"aecli (\w+) ", case.hint):
        command = named[1]
    for option in OPTION.findall(re.sub(r"^.*\| aecli", "aecli", case.hint)):
        if option != "--help":
            assert option in options_of(command) or (other and option in options_of("train")), option


def test_every_hint_in_the_code_has_a_case():
    found, printed = collected(), [case.printed for case in CASES.values()]
    untried = {
        pattern: place
        for pattern, place in found.items()
        if pattern not in NOT_HERE and not any(is_of(pattern, hint) for hint in printed)
    }
    assert untried == {}
    assert NOT_HERE.keys() <= found.keys()
