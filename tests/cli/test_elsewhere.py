"""Commands on places elsewhere. Servers on this machine stand for them."""

import io
import os
import pickle
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import elsewhere
import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import run_here
from PIL import Image

import aecli
from aecli.data import http

QUICK = ("--epochs", "1", "--hidden-dims", "4", "--holdout", "0")
ROWS = "a,b,c\n" + "".join(f"{i % 7},{i * i % 11},{(3 * i) % 5}.5\n" for i in range(60))
SECRET = "s3cr3t"


@pytest.fixture(scope="session")
def small_model(tmp_path_factory):
    """A checkpoint of rows.csv, with a label in another file: its folder."""
    folder = tmp_path_factory.mktemp("small")
    (folder / "rows.csv").write_text(ROWS)
    run_here(folder, " ".join(["train rows.csv", *QUICK, "-q"]))
    return folder


def test_each_command_reads_and_writes_a_bucket_as_it_does_a_folder(run, bucket, small_model):
    bucket["m/rows.safetensors"] = (small_model / "rows.safetensors").read_bytes()
    bucket["in/part-1.csv"], bucket["in/part-2.csv"] = ROWS.encode(), ROWS.encode()
    Path("rows.csv").write_text(ROWS)
    here, there = str(small_model / "rows.safetensors"), bucket.url("m/rows.safetensors")
    for command in ("embed", "reconstruct", "score"):
        elsewhere_done = run(command, there, bucket.url("in/part-*.csv"), "-o", bucket.url(f"out/{command}.csv"))
        assert (elsewhere_done.code, elsewhere_done.out) == (0, ""), elsewhere_done.err
        assert elsewhere_done.err.endswith(f"wrote {bucket.url(f'out/{command}.csv')}\n")
        assert run(command, here, "rows.csv", "rows.csv", "-o", f"{command}.csv").code == 0
        assert bucket[f"out/{command}.csv"] == Path(f"{command}.csv").read_bytes()
    assert run("embed", there, bucket.url("in/part-1.csv")).out == run("embed", here, "rows.csv").out
    assert run("evaluate", there, bucket.url("in/part-1.csv")).out == run("evaluate", here, "rows.csv").out
    assert run("decode", there, bucket.url("out/embed.csv")).out == run("decode", here, "embed.csv").out
    for name in ("a.png", "a.html"):
        kind = ("--kind", "page") if name.endswith("html") else ()
        done = run("plot", there, bucket.url("in/part-1.csv"), *kind, "-o", bucket.url(name))
        assert (done.code, bucket[name][:4] in (b"\x89PNG", b"<!do", b"<!DO")) == (0, True), done.err
    facts = run("info", there).out
    assert re.search(rf"^checkpoint +{re.escape(there)}$", facts, re.MULTILINE)
    assert re.search(r"^written +\d{4}-\d\d-\d\d \d\d:\d\d$", facts, re.MULTILINE)


def test_a_model_is_trained_from_a_bucket_and_into_it(run, bucket):
    bucket["in/rows.csv"] = ROWS.encode()
    target = bucket.url("m/rows.safetensors")
    done = run("train", bucket.url("in/rows.csv"), *QUICK, "-o", target)
    assert done.code == 0, done.err
    assert done.err.startswith(f"{target} is remote: until it is written, the run is saved in /")
    assert f"wrote {target}\n" in done.err
    assert f"trained on     {bucket.url('in/rows.csv')}, 60 rows" in run("info", target).out.replace("  ", "  ")
    again = run(
        "train", "--init-from", target, bucket.url("in/rows.csv"), "--epochs", "1", "--holdout", "0", "-o", target
    )
    assert (again.code, again.err.splitlines()[-1]) == (
        1,
        "hint: name another -o FILE, or replace it with --force",
    )
    other = run("train", "digits", *QUICK, "-o", target)
    assert (other.code, "is a model of images" in other.err or "is a model of" in other.err) == (1, True)
    here = run("train", bucket.url("in/ro*.csv"), *QUICK, "-q")
    assert (here.code, [path.name for path in Path().glob("*.safetensors")]) == (0, ["ro.safetensors"])


def test_folders_in_a_bucket_are_tables_and_images(run, bucket):
    import pyarrow as pa

    made = io.BytesIO()
    rng = np.random.default_rng(0)
    pq.write_table(pa.table({name: rng.normal(size=30) for name in "ab"}), made)
    for year in (2024, 2025):
        bucket[f"table/year={year}/part.parquet"] = made.getvalue()
    done = run("train", bucket.url("table"), *QUICK, "-o", bucket.url("t.safetensors"))
    assert (done.code, "learning 2 columns: a, b; left out: year (partition)" in done.err) == (0, True), done.err
    for kind in ("cat", "dog"):
        for i in range(3):
            image = io.BytesIO()
            Image.fromarray(rng.integers(0, 256, (6, 5), np.uint8)).save(image, "png")
            bucket[f"images/{kind}/{i}.png"] = image.getvalue()
    model = bucket.url("i.safetensors")
    done = run("train", bucket.url("images"), *QUICK, "-o", model)
    assert (done.code, "labels: the folders' names: cat, dog (2)" in done.err) == (0, True), done.err
    done = run("reconstruct", model, bucket.url("images/"), "-o", bucket.url("rebuilt/"))
    assert (done.code, done.err) == (0, f"wrote {bucket.url('rebuilt')}\n")
    names = [f"{kind}/{i}.png" for kind in ("cat", "dog") for i in range(3)]
    assert [key for key in bucket if key.startswith("rebuilt/")] == [f"rebuilt/{name}" for name in names]
    assert Image.open(io.BytesIO(bucket["rebuilt/dog/2.png"])).size == (5, 6)
    again = run("reconstruct", model, bucket.url("images"), "-o", bucket.url("rebuilt/"))
    assert (again.code, "already holds files" in again.err) == (1, True)


def test_objects_of_any_name_are_read_and_their_parts_written(run, bucket, small_model):
    names = ["a b", "h#x", "p%20q", "q?", "q?x=1", "ü"]
    for name in names:
        bucket[f"in/{name}.csv"] = ROWS.encode()
    model = small_model / "rows.safetensors"
    assert run("embed", model, bucket.url("in/*.csv")).out.count("\n") == len(names) * 60 + 1
    for named in ("in/", "in/*.csv"):
        done = run("embed", model, bucket.url(named), "-o", bucket.url("out/"))
        assert done.code == 0, done.err
        assert [key for key in bucket if key.startswith("out/")] == [f"out/{name}.parquet" for name in names]
    assert done.err == f"wrote 0 parts to {bucket.url('out')}/, 6 already existed\n"
    bucket["in//b.csv"] = ROWS.encode()
    done = run("embed", model, bucket.url("in/"), "-o", bucket.url("out/"))
    assert (done.code, done.err.splitlines()[0]) == (
        2,
        f"error: {bucket.url('in//b.csv')}: a key with //, /./ or /../ cannot be accessed",
    )
    over = run("embed", model, bucket.url("in/a b.csv"), "-o", bucket.url("in/a b.csv").replace("s3", "S3", 1))
    assert (over.code, "is an input of this command" in over.err) == (2, True)


def test_an_array_in_a_file_elsewhere_is_read_by_its_key(run, bucket):
    import safetensors.numpy

    arrays = {"x": np.eye(3, dtype=np.float32), "y": np.zeros((4, 3), np.float32)}
    made = io.BytesIO()
    np.savez(made, **arrays)
    bucket["a.npz"], bucket["a.safetensors"] = made.getvalue(), safetensors.numpy.save(arrays)
    done = run("train", bucket.url("a.safetensors:x"), *QUICK, "-o", "m.safetensors")
    assert done.code == 0, done.err
    assert f"trained on     {bucket.url('a.safetensors:x')}, 3 rows" in run("info", "m.safetensors").out
    rows = [run("embed", "m.safetensors", bucket.url(name)).out for name in ("a.npz:x", "a.safetensors:x", "*.npz:x")]
    assert (rows[0].count("\n"), len(set(rows))) == (4, 1)
    assert run("embed", "m.safetensors", bucket.url("a.safetensors:x"), "--held-out").code == 0
    for _ in range(2):
        assert run("embed", "m.safetensors", bucket.url("a.npz:x"), "-o", bucket.url("out/")).code == 0
    other = run("embed", "m.safetensors", bucket.url("a.npz:y"), "-o", bucket.url("out/"))
    assert (other.code, other.err.splitlines()[0]) == (
        1,
        f"error: {bucket.url('out/a.parquet')} already exists, and it was made from a.npz:x, not from a.npz:y",
    )


def test_what_is_not_there_or_closed_is_an_error_within_seconds(process, small_model):
    Path("rows.csv").write_text(ROWS)
    model = small_model / "rows.safetensors"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{free.getsockname()[1]}"}
    with elsewhere.closed_s3() as closed:
        started = time.monotonic()
        for env, said in ((closed, "access is denied"), (elsewhere.KEYS | nobody, "no answer (")):
            read = process("embed", model, "s3://bucket/rows.csv", env=env)
            assert (read.code, read.out) == (1, "")
            assert read.err.startswith(f"error: s3://bucket/rows.csv: {said}")
            write = process("embed", model, "rows.csv", "-o", "s3://bucket/codes.csv", env=env)
            assert (write.code, write.out) == (1, "")
            assert write.err.startswith(f"error: s3://bucket/codes.csv: {said}")
            assert "Traceback" not in read.err + write.err
        assert time.monotonic() - started < 60


def test_a_bucket_that_is_only_read_is_refused_before_a_row_is_computed(process, small_model):
    with elsewhere.closed_s3(read=True) as env:
        done = process(
            "embed", small_model / "rows.safetensors", "-", "-o", "s3://bucket/z.csv", env=env, stdin=b"a,b,c\nx"
        )
        trained = process("train", small_model / "rows.csv", *QUICK, "-o", "s3://bucket/m.safetensors", env=env)
    assert (done.code, done.err.splitlines()[0]) == (1, "error: s3://bucket/z.csv: access is denied")
    assert (trained.code, trained.err.splitlines()[0]) == (1, "error: s3://bucket/m.safetensors: access is denied")


@pytest.mark.parametrize("faults", [["503", "drop"], [None, "change"]], ids=["broken", "changed"])
def test_what_breaks_on_the_way_is_mended_or_leaves_nothing(run, web, small_model, faults):
    long = "a,b,c\n" + "1,2,3.5\n" * 40_000
    web.files["rows.csv"] = long.encode()
    Path("rows.csv").write_text(long)
    model = small_model / "rows.safetensors"
    web.faults[:] = [int(fault) if str(fault).isdigit() else fault for fault in faults]
    done = run("embed", model, web.url("rows.csv"), "-o", "z.csv")
    if "change" in faults:
        assert (done.code, done.err) == (
            1,
            f"error: {web.url('rows.csv')}: changed while it was read\n"
            "hint: run the command again when the file no longer changes\n",
        )
        assert not Path("z.csv").exists()
    else:
        assert done.code == 0, done.err
        assert run("embed", model, "rows.csv").out == Path("z.csv").read_text()


def test_data_elsewhere_that_is_read_twice_is_one_version(run, web, small_model):
    web.files["rows.csv"] = ROWS.encode()
    Path("rows.csv").write_text(ROWS)
    model = small_model / "rows.safetensors"
    done = run("embed", model, web.url("rows.csv"), "--held-out")
    assert done.out == run("embed", model, "rows.csv", "--held-out").out
    assert len(web.asked) == 1


def test_a_run_that_is_stopped_before_its_end_goes_on_where_it_was(process, bucket):
    bucket["rows.csv"] = ROWS.encode()
    target = bucket.url("m.safetensors")
    Path("tmp").mkdir()
    env = {**os.environ, "TMPDIR": str(Path("tmp").resolve())}
    words = [
        "train",
        bucket.url("rows.csv"),
        "--epochs",
        "200000",
        "--hidden-dims",
        "4",
        "--holdout",
        "0",
        "-o",
        target,
    ]
    with subprocess.Popen([sys.executable, "-m", "aecli", *words], stderr=subprocess.PIPE, env=env) as running:
        for line in running.stderr:
            if line.startswith(b"epoch"):
                running.send_signal(signal.SIGTERM)
                break
        rest = running.stderr.read().decode()
    assert running.returncode == 143
    saved = [path.name for path in Path("tmp").iterdir()]
    assert (len(saved), re.fullmatch(r"aecli-[0-9a-f]{12}-m\.safetensors\.resume", saved[0]) is not None) == (1, True)
    assert f"stopped, and saved in {Path('tmp').resolve() / saved[0]}\n" in rest
    assert list(bucket) == ["rows.csv"]
    done = process(*words, "--finish", env={"TMPDIR": env["TMPDIR"]})
    assert (done.code, f"wrote {target}\n" in done.err) == (0, True), done.err
    assert (sorted(bucket), list(Path("tmp").iterdir())) == (["m.safetensors", "rows.csv"], [])


@pytest.mark.parametrize("fault", ["", "the server is closed", "the file is gone"])
def test_no_command_shows_a_user_a_password_or_a_query(run, web, small_model, fault, monkeypatch):
    monkeypatch.setattr(http, "WAITS", (0.0, 0.0, 0.0))
    web.user = f"me:{SECRET}"
    web.files = {"m.safetensors": (small_model / "rows.safetensors").read_bytes(), "rows.csv": ROWS.encode()}
    web.files["codes.csv"] = b"z0,z1\n0,1\n1,0\n"
    web.files["labels.csv"] = ("kind\n" + "x\ny\n" * 30).encode()

    def url(name):
        return f"http://me:{SECRET}@{web.host}/{name}?sig={SECRET}"

    if fault == "the server is closed":
        web.close()
    elif fault == "the file is gone":
        web.files = {}
    model, data, beside = url("m.safetensors"), url("rows.csv"), f"{url('labels.csv')}:kind"
    said = []
    for words in (
        ("train", data, *QUICK, "-o", "new.safetensors", "--json"),
        ("train", data, *QUICK, "--label", beside, "-o", "labelled.safetensors"),
        ("train", "--init-from", model, data, "--epochs", "1", "-o", "further.safetensors"),
        ("embed", model, data, "-o", "codes.parquet"),
        ("embed", model, data, "--held-out", "-o", "codes.jsonl"),
        ("reconstruct", model, data, "--fill-holes", "-o", "rebuilt.csv"),
        ("decode", model, url("codes.csv")),
        ("score", model, data, "--json"),
        ("evaluate", model, data, "--json", "--label", beside),
        ("plot", model, data, "-o", "a.svg"),
        ("plot", model, data, "--kind", "page", "--colour", beside, "-o", "a.html"),
        ("info", model),
        ("info", model, "--json"),
        ("embed", model),
        ("embed", data, model),
        ("embed", model, data, "-o", url("codes.csv")),
        ("embed", model, url("none.csv")),
        ("embed", model, f"s3://me:{SECRET}@bucket/rows.csv"),
        ("embed", model, f"ftp://me:{SECRET}@host/rows.csv"),
        ("embed", model, data, "--colour", beside),
        ("train", data, "--label", url("labels.csv")),
        ("train", data, "--features", "none", "--resume"),
        ("guide", data),
    ):
        done = run(*words)
        said.append((words, done))
        assert SECRET not in done.out + done.err, words
        assert "Traceback" not in done.err
    for path in Path().rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path
    fine = sum(done.code == 0 for _, done in said)
    assert fine == (13 if not fault else 0), [(words[0], done.code, done.err) for words, done in said]


def test_an_array_of_a_signed_url_is_named_before_the_query(run, web):
    made = io.BytesIO()
    np.savez(made, x=np.eye(3), y=np.zeros((4, 3)))
    web.files["a.npz"] = made.getvalue()
    done = run("train", web.url(f"a.npz:x?sig={SECRET}:1/2"), *QUICK, "-o", "m.safetensors")
    assert done.code == 0, done.err
    assert web.asked[0][0] == f"a.npz?sig={SECRET}:1/2"
    assert f"trained on     {web.url('a.npz:x')}, 3 rows" in run("info", "m.safetensors").out
    none = run("embed", "m.safetensors", web.url(f"a.npz:z?sig={SECRET}"))
    assert none.err.splitlines() == [
        f"error: {web.url('a.npz')}: no array 'z' in it",
        f"hint: name one: {web.url('a.npz:x')}, {web.url('a.npz:y')}",
    ]


def test_a_model_elsewhere_may_be_pickled(bucket, small_model):
    bucket["m.safetensors"] = (small_model / "rows.safetensors").read_bytes()
    model = aecli.load(bucket.url("m.safetensors"))
    rows = np.ones((2, 3), np.float32)
    assert np.array_equal(pickle.loads(pickle.dumps(model)).embed(rows), model.embed(rows))


def test_a_run_of_a_url_with_a_password_is_saved_without_it(web, process):
    web.user, web.files = f"me:{SECRET}", {"rows.csv": ROWS.encode()}
    data = f"http://me:{SECRET}@{web.host}/rows.csv"
    words = ["train", data, "--epochs", "200000", "--hidden-dims", "4", "-o", "m.safetensors"]
    with subprocess.Popen([sys.executable, "-m", "aecli", *words], stderr=subprocess.PIPE) as running:
        for line in running.stderr:
            if line.startswith(b"epoch"):
                running.send_signal(signal.SIGTERM)
                break
        rest = running.stderr.read().decode()
    assert (running.returncode, SECRET in rest) == (143, False)
    assert SECRET.encode() not in Path("m.safetensors.resume").read_bytes()
    assert process("info", "m.safetensors.resume").code == 0


def test_a_model_is_written_to_s3_and_gs_alone(run):
    Path("rows.csv").write_text(ROWS)
    done = run("train", "rows.csv", *QUICK, "-o", "https://host/m.safetensors")
    assert (done.code, done.out, done.err) == (
        2,
        "",
        "error: https://host/m.safetensors: https:// is read-only\nhint: write a file here, or to s3:// or gs://\n",
    )
