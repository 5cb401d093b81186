"""Breaking things at length: runs killed at random moments, and files that are not what they say.

python -m tests.torture kills [--count 100] [--seed 0]
python -m tests.torture mutants [--count 3500] [--seed 0] [--formats csv npy ...]     (a count for each format)

A mutant is a real file with random damage. The program has to end with success or with a clear error, within 10 seconds
and 2 GB more memory, and to leave no file but its output. Mutants run in a process that is watched, because one that
breaks a library may take the process with it.
"""

import argparse
import bz2
import contextlib
import gzip
import io
import json
import lzma
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from pathlib import Path

import numpy as np

import aecli

SECONDS = 10
BYTES = 2 << 30
EXTREMES = [0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 62, (1 << 64) - 1]
TEXTS = [
    b"1e999",
    b"-1",
    b"99999999999999999999",
    b"NaN",
    b'"',
    b",",
    b"\n",
    b"\0",
    b"{",
    b"]",
    b"null",
    b"\xff",
    b"\r",
]
PROGRAM = [sys.executable, "-m", "aecli"]


def killed_and_resumed(command, kills, seed=0):
    """Kill a training run at random moments, and let it go on each time, to its end. Gives how often it was killed.

    Whatever bears the checkpoint's name on the way has to be a whole checkpoint.
    """
    from aecli import load

    moments, count = random.Random(seed), 0
    longest = 4.0
    while True:
        program = subprocess.Popen([*PROGRAM, *command, "--resume"], stderr=subprocess.PIPE)
        if count < kills:
            with contextlib.suppress(subprocess.TimeoutExpired):
                program.wait(moments.uniform(0.5, longest))
            program.kill()
        err = program.communicate()[1].decode()
        if Path("m.safetensors").exists():
            load("m.safetensors")
        if program.returncode == 0:
            return count
        assert program.returncode == -signal.SIGKILL, err
        count += 1


def kills(count, seed):
    """Kill runs so many times in all, each to be resumed, and compare every end with the undisturbed one's."""
    np.save("rows.npy", np.random.default_rng(0).normal(size=(4000, 12)).astype(np.float32))
    command = ["train", "rows.npy", "-o", "m.safetensors", "-q", "--epochs", "60", "--batch-size", "16"]
    command += ["--hidden-dims", "32", "--latent-dim", "4", "--noise", "0.1", "--patience", "50"]
    subprocess.run([*PROGRAM, *command], check=True)
    undisturbed = Path("m.safetensors").read_bytes()
    survived = ends = 0
    while survived < count:
        survived += killed_and_resumed(command, min(20, count - survived), seed + survived)
        ends += 1
        assert Path("m.safetensors").read_bytes() == undisturbed
        left = sorted(path.name for path in Path().iterdir())
        assert left == ["m.safetensors", "rows.npy"], left
        print(f"{survived} kills survived, {ends} runs ended at the bytes of the undisturbed one", flush=True)


def originals():
    """Write one real file of each format, and the models that read them: format -> (model, file)."""
    import pyarrow as pa
    import pyarrow.csv as pacsv
    import pyarrow.parquet
    import tifffile
    from PIL import Image

    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 4)).round(4)
    names = [f"c{i}" for i in range(4)]
    table = pa.table([*x.T, ["red", "green", "blue"] * 20, ["2024-01-05", "2024-02-06"] * 30], [*names, "kind", "day"])
    pacsv.write_csv(table, "original.csv")
    pa.parquet.write_table(table, "original.parquet")
    with pa.ipc.new_file("original.arrow", table.schema) as writer:
        writer.write_table(table)
    rows = table.to_pylist()
    Path("original.jsonl").write_text("".join(f"{row}\n".replace("'", '"') for row in rows))
    Path("original.json").write_text(json.dumps(rows, indent=1))
    with pa.ipc.new_stream("original.arrows", table.schema) as writer:
        writer.write_table(table)
    csv = Path("original.csv").read_bytes()
    Path("original.dialect").write_bytes(csv)
    Path("original.csv.gz").write_bytes(gzip.compress(csv))
    Path("original.csv.xz").write_bytes(lzma.compress(csv))
    Path("original.csv.bz2").write_bytes(bz2.compress(csv))
    with zipfile.ZipFile("original.csv.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("original.csv", csv)
    pixels = rng.integers(0, 256, (60, 8, 8), dtype=np.uint8)
    np.save("original.npy", pixels)
    np.savez_compressed("original.npz", pixels)
    Path("original.idx").write_bytes(bytes([0, 0, 8, 3, 0, 0, 0, 60, 0, 0, 0, 8, 0, 0, 0, 8]) + pixels.tobytes())
    Image.fromarray(pixels[0]).save("original.png")
    Image.fromarray(pixels[0]).save("original.jpg")
    Image.fromarray(pixels[0]).save("original.tif", compression="tiff_lzw")
    Image.fromarray(pixels[:4].reshape(8, 8, 4)).save("original.rgba.png")
    tifffile.imwrite("original.pages.tif", pixels[:5], photometric="minisblack")
    deep = pixels[:3].reshape(8, 8, 3).astype(np.uint16) * 257
    tifffile.imwrite("original.deep.tif", deep, photometric="rgb", compression="zlib")
    aecli.fit("original.csv", categorical="kind", missing="mean", epochs=1).save("table.safetensors")
    aecli.fit("original.npy", epochs=1).save("images.safetensors")
    shutil.copy("table.safetensors", "original.safetensors")
    images = dict.fromkeys(IMAGES, "images.safetensors")
    return dict.fromkeys(TABLES, "table.safetensors") | images | {"safetensors": None}


TABLES = ("csv", "dialect", "csv.gz", "csv.xz", "csv.bz2", "csv.zip", "jsonl", "json", "parquet", "arrow", "arrows")
IMAGES = ("npy", "npz", "idx", "png", "jpg", "tif", "rgba.png", "pages.tif", "deep.tif")
FORMATS = (*TABLES, *IMAGES, "safetensors")


def rewritten(data, rng):
    """Write a CSV as others write theirs: other marks, quotes, spellings of nothing, lines above, between and below."""
    rows = [line.split(",") for line in data.decode().replace('"', "").splitlines()]
    delimiter = rng.choice([",", ";", "\t", "|", "  ", ", "])
    decimal = rng.choice([".", ".", ",", "1."])
    nothing = rng.choice(["", "NA", "-", "?", "None", "\\N", "#DIV/0!", " ", "-999", "<0.1"])
    made = []
    for i, row in enumerate(rows):
        cells = [cell if rng.random() > 0.02 or not i else nothing for cell in row]
        cells = [cell.replace(".", decimal) if i else cell for cell in cells]
        if rng.random() < 0.3:
            cells = [f'"{cell}"' for cell in cells]
        made.append(delimiter.join(cells) + delimiter.strip(" ") * rng.choice([0, 0, 0, 1]))
    extra = [
        "# a comment",
        "",
        "a title",
        "sep=;",
        '"quoted, and more"',
        "(60 rows)",
        "m,kg,EUR,x,y,z",
        "1,2,3",
        "\ufeff",
    ]
    for _ in range(rng.choice([0, 0, 1, 2, 4])):
        made.insert(rng.choice([0, 1, 2, len(made), rng.randrange(len(made) + 1)]), rng.choice(extra))
    if rng.random() < 0.2:
        made[0] = delimiter.join(rng.choice([["1990", "1991", "1992", "1993", "1994", "1995"], ["a"] * 6, [""] * 6]))
    text = rng.choice(["\n", "\n", "\r\n", "\r"]).join(made) + rng.choice(["\n", ""])
    return text.encode(rng.choice(["utf-8", "utf-8", "utf-8-sig", "utf-16", "cp1252"]), "replace")


def mutated(data, rng, form):
    """Damage some bytes in one to four ways."""
    if form == "dialect":
        data = rewritten(data, rng)
        if rng.random() < 0.5:
            return data
    out = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        place, other = (rng.randrange(max(1, len(out))) for _ in range(2))
        size = rng.choice([1, 2, 4, 8])
        extreme = rng.choice(EXTREMES) & ((1 << 8 * size) - 1)
        length, new = rng.choice(
            [
                (1, bytes([rng.randrange(256)])),
                (1, bytes(byte ^ (1 << rng.randrange(8)) for byte in out[place : place + 1])),
                (rng.choice([1, 2, 8, 100]), b""),
                (len(out), b""),
                (0, bytes(out[place : place + rng.choice([1, 8, 100])])),
                (16, bytes(out[other : other + 16])),
                (size, extreme.to_bytes(size, rng.choice(["little", "big"]))),
                (rng.choice([0, size]), rng.choice(TEXTS)),
            ]
        )
        out[place : place + length] = new
    return bytes(_sealed(out) if form.endswith("png") and rng.random() < 0.7 else out)


def _sealed(png):
    """Mend a PNG's checksums, so that the damage lies deeper."""
    place = 8
    while place + 12 <= len(png):
        length = int.from_bytes(png[place : place + 4], "big")
        end = place + 8 + length
        if end + 4 > len(png):
            break
        png[end : end + 4] = zlib.crc32(png[place + 4 : end]).to_bytes(4, "big")
        place = end + 4
    return png


def attempt(form, model, data):
    """Run the program on one mutant. Gives its exit code; raises AssertionError where it does not end as it should."""
    from aecli import cli
    from aecli.data.opening import open_source
    from aecli.errors import AecliError
    from aecli.options import Columns

    mutant = Path(f"mutant.{form}")
    mutant.write_bytes(data)
    before = set(Path().iterdir())
    command = ["embed", model or mutant, "original.csv" if model is None else mutant, "-o", "out.csv", "-q"]
    sys.argv = ["aecli", *map(str, command)]
    err = io.TextIOWrapper(io.BytesIO(), "utf-8")
    code = None
    cli.console.stderr.cache_clear()
    with contextlib.redirect_stderr(err):
        try:
            cli.main()
        except SystemExit as stopped:
            code = stopped.code or 0
    err.flush()
    said = err.buffer.getvalue().decode()
    assert code in (0, 1), f"exit {code}: {said}"
    assert (code == 0) == (said == ""), said
    assert code == 0 or said.startswith("error: "), said
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", said), repr(said)
    if code == 0:
        Path("out.csv").unlink()
    if model is not None:  # read as training reads it, too
        with contextlib.suppress(AecliError):
            open_source([str(mutant)], split="train", data_dir=Path(), columns=Columns(missing="mean")).read()
    mutant.unlink()
    left = set(Path().iterdir()) - before
    assert not left, left
    return code


def worker(form, model, seed, start, count):
    """Try mutants start, start + 1, ... and print each one's number before, and its exit code after."""
    import aecli.inference  # noqa: F401, loaded before memory is counted

    original = Path(f"original.{form}").read_bytes()
    attempt(form, model, original)
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (taken + BYTES, taken + BYTES))
    for number in range(start, count):
        print(number, flush=True)
        signal.alarm(SECONDS)
        code = attempt(form, model, mutated(original, random.Random(f"{seed} {form} {number}"), form))
        signal.alarm(0)
        print("ended", code, flush=True)


def tried(form, model, count, seed):
    """Try so many mutants of a format in watched processes: how many ended well, how many in an error; and failures."""
    codes, failures, start = [0, 0], [], 0
    while start < count:
        command = [sys.executable, __file__, "worker", form, model or "-", str(seed), str(start), str(count)]
        with tempfile.TemporaryFile("w+") as err:
            number = start
            with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=err, text=True) as program:
                for line in program.stdout:
                    if line.startswith("ended"):
                        codes[int(line.split()[1])] += 1
                    else:
                        number = int(line)
            if program.returncode == 0:
                break
            err.seek(0)
            failures.append((number, program.returncode, err.read()[-2000:]))
            start = number + 1
    return codes, failures


def mutants(formats, count, seed):
    """Try mutants of each format, and tell how they ended. Gives whether all ended as they should."""
    models, broken = originals(), 0
    for form in formats:
        started = time.monotonic()
        codes, failures = tried(form, models[form], count, seed)
        for number, code, said in failures:
            print(f"--- {form}, mutant {number}, seed {seed}: exit {code}\n{said}")
        broken += len(failures)
        seconds = time.monotonic() - started
        print(
            f"{form:12} {sum(codes):6} mutants: {codes[0]} read, {codes[1]} refused, {len(failures)} failures, "
            f"{seconds:.0f} s",
            flush=True,
        )
    return broken == 0


def main():
    """Run what the command line names, in a folder of its own."""
    if sys.argv[1:2] == ["worker"]:
        form, model, *numbers = sys.argv[2:]
        worker(form, None if model == "-" else model, *map(int, numbers))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["kills", "mutants"])
    parser.add_argument("--count", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=FORMATS)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        if asked.what == "kills":
            kills(asked.count or 100, asked.seed)
        elif not mutants(asked.formats, asked.count or 2000, asked.seed):
            sys.exit(1)


if __name__ == "__main__":
    main()
