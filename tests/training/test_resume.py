"""A run that is stopped anywhere, and goes on, ends at the bytes of the run that never was."""

import contextlib
import itertools
import json
import os
import re
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

import aecli
from aecli import cli, load
from aecli.data import gather
from aecli.data.opening import open_source
from aecli.data.places import Place
from aecli.data.source import ArraySource
from aecli.errors import AecliError, Stopped
from aecli.model import checkpoint
from aecli.training.fit import fit
from aecli.training.resume import ResumeFile

COMMAND = ["train", "rows.npy", "-o", "m.safetensors", "-q", "--hidden-dims", "32", "--latent-dim", "4"]


def names():
    return sorted(path.name for path in Path().iterdir())


def rows(count=400, seed=0):
    return np.random.default_rng(seed).normal(size=(count, 12)).astype(np.float32)


@contextlib.contextmanager
def at_step(step):
    """Stop at the so-manieth step."""
    steps = iter(range(1, 10**9))
    yield lambda: next(steps) == step


def trained(step=None, *, resume=False, finish=False, x=None, name="m.safetensors", **options):
    """Train on some rows, and give the checkpoint's bytes; None where it is stopped at a step."""
    options = {"epochs": 3, "batch_size": 50, "seed": 5, "device": "cpu"} | options
    source = ArraySource("rows", rows() if x is None else x, **options.pop("schema", {}))
    said = {"announce": options["announce"]} if "announce" in options else {}
    with ResumeFile(Path(name), resume=resume, finish=finish, force=False, **said) as kept:
        try:
            fitted = fit(source, resume=kept, stopping=at_step(step), **options)
        except Stopped:
            return None
        kept.remove()
    return checkpoint.dumps(fitted.checkpoint, fitted.tensors, fitted.scaler)


IMAGES = {"x": (np.abs(rows(300)).clip(0, 1) * 255).astype(np.uint8)[:, :9]}
IMAGES["schema"] = {"image_shape": (3, 3), "full_scale": 255.0}


SMALL = {"hidden_dims": (8,)}  # of so few weights that no other networks show what the rows are worth
KINDS_OF_RUN = {
    "muon": {},
    "noise": {"optimizer": "adam", "noise": 0.1},
    "patience": {"patience": 1},
    "shifts": IMAGES | SMALL | {"augment_shift": 1},
    "map": {"recipe": "map"},
    "variational": SMALL | {"bottleneck": "variational", "latent_dim": 3, "noise": 0.1, "patience": 2},
    "sparse": SMALL | {"bottleneck": "sparse", "active": 2, "noise": 0.1, "patience": 2},
    "a dictionary": {"bottleneck": "sparse", "active": 2, "latent_dim": 24, "holdout": 0},
}


@pytest.mark.parametrize("options", KINDS_OF_RUN.values(), ids=KINDS_OF_RUN)
def test_a_run_that_was_stopped_ends_at_the_bytes_of_one_that_was_not(options):
    undisturbed = trained(**options, name="other.safetensors")
    for step in (1, 6, 7, 14):
        assert trained(step, **options) is None
        assert Path("m.safetensors.resume").stat().st_size > 0
        assert trained(resume=True, **options) == undisturbed
        assert names() == []


def test_a_map_may_be_stopped_while_its_neighbours_are_looked_for(monkeypatch):
    monkeypatch.setattr("aecli.training.neighbours.TOGETHER", 100)  # of 360 rows: four groups
    undisturbed = trained(recipe="map", name="other.safetensors")
    for step, finish in itertools.product((1, 4), (False, True)):
        said = []
        assert trained(step, recipe="map") is None
        made = trained(resume=not finish, finish=finish, recipe="map", announce=said.append)
        assert (made == undisturbed) is not finish
        assert said == [
            f"{'finishing' if finish else 'resuming'} m.safetensors.resume{' before its first step' * finish}"
        ]
        assert names() == []


@pytest.mark.parametrize("recipe", ["modern", "map"])
def test_a_run_on_rows_in_a_file_goes_on_too(monkeypatch, recipe):
    monkeypatch.setattr(gather, "MEMORY_BYTES", 1000)
    monkeypatch.setattr("aecli.data.part.BLOCK_BYTES", 1000)
    monkeypatch.setattr("aecli.training.rows.WINDOW_BYTES", 5000)
    np.save("rows.npy", rows())
    options = {"x": open_source("rows.npy").x, "recipe": recipe}
    undisturbed = trained(**options, name="other.safetensors")
    trained(9, **options)
    assert trained(resume=True, **options) == undisturbed


def test_another_run_is_set_aside_with_what_differs():
    said = []
    undisturbed = trained(lr=0.02, x=rows(seed=1), name="other.safetensors")
    trained(3)
    assert trained(resume=True, lr=0.02, x=rows(seed=1), announce=said.append) == undisturbed
    assert said == [
        "m.safetensors.resume holds a run of other data or options: lr was 0.01, and is 0.02; the training rows: "
        "it is now m.safetensors.resume.bak, and this run starts anew",
    ]
    assert names() == ["m.safetensors.resume.bak"]


def test_another_scale_is_another_run():
    said = []
    trained(3)
    trained(resume=True, scale="none", announce=said.append)
    assert "scale was standard, and is none" in said[0]


def test_an_option_that_is_left_out_is_another_run():
    said = []
    trained(3, loss="huber")
    trained(resume=True, announce=said.append)
    assert "holds a run of other data or options: loss was huber, and is not set: it is now" in said[0]


def test_a_damaged_resume_file_is_set_aside():
    undisturbed = trained(name="other.safetensors")
    trained(3)
    whole = Path("m.safetensors.resume").read_bytes()
    for i, damaged in enumerate(
        (whole[:-5], whole[:100], b"nonsense", whole.replace(rb"\"step\": 3", rb"\"step\": 4")), 1
    ):
        Path("m.safetensors.resume").write_bytes(damaged)
        said = []
        assert trained(resume=True, announce=said.append) == undisturbed
        backup = f"m.safetensors.resume.bak{i if i > 1 else ''}"
        assert said[-1].startswith("m.safetensors.resume is damaged (")
        assert said[-1].endswith(f"): it is now {backup}, and this run starts anew")
        assert Path(backup).read_bytes() == damaged


def test_a_state_that_cannot_be_kept_does_not_stop_the_run(monkeypatch):
    said = []
    with ResumeFile(Path("m.safetensors"), resume=False, force=False) as kept:
        monkeypatch.setattr(kept, "path", Path("nowhere/m.resume"))
        source = ArraySource("rows", rows())
        fit(source, resume=kept, epochs=1, device="cpu", announce=said.append)
    assert said[1:] == []
    assert said[0].startswith("the run continues, but its state cannot be saved: nowhere/m.resume: cannot be written (")


def test_a_run_without_end_is_set_aside_for_a_new_one(run):
    np.save("rows.npy", rows())
    trained(3)
    kept = Path("m.safetensors.resume").read_bytes()
    said = "m.safetensors.resume holds a run that was stopped before its end: it is now {}, and this run starts anew"
    command = [word for word in COMMAND if word != "-q"]
    for backup in ("m.safetensors.resume.bak", "m.safetensors.resume.bak2"):
        Path("m.safetensors.resume").write_bytes(kept)
        done = run(*command, "--epochs", "1")
        assert done.code == 0, done.err
        assert done.err.splitlines()[0] == f"{said.format(backup)}; --resume would have resumed it"
        assert Path(backup).read_bytes() == kept
    Path("m.safetensors.resume").write_bytes(kept)
    assert run(*COMMAND, "--force", "--epochs", "1").code == 0
    assert names() == ["m.safetensors", "m.safetensors.resume.bak", "m.safetensors.resume.bak2", "rows.npy"]


def test_a_finished_run_is_not_trained_again(run):
    np.save("rows.npy", rows())
    command = [*(word for word in COMMAND if word != "-q"), "--resume", "--json"]
    first = run(*command, "--epochs", "2")
    made = Path("m.safetensors").stat().st_mtime_ns
    done = run(*command, "--epochs", "2")
    assert (done.code, done.err) == (0, "already finished: m.safetensors\n")
    facts, before = json.loads(done.out), json.loads(first.out)
    assert facts == before | {"seconds": facts["seconds"], "device": None}
    assert Path("m.safetensors").stat().st_mtime_ns == made
    for changed in (["--epochs", "3"], ["--epochs", "2", "--seed", "1"], ["--epochs", "2", "--scale", "minmax"]):
        assert "already finished" not in run(*command, *changed).err
    assert names() == ["m.safetensors", "rows.npy"]


def test_a_run_from_before_options_were_added_is_known_by_its_fingerprint():
    table = np.arange(240, dtype=np.float32).reshape(40, 6) % 7
    found = aecli.fit(table, recipe="classic", epochs=1, latent_dim=2, device="cpu").checkpoint.fingerprint
    assert (
        found == "eddcf8c7c43fd074649b98b47e17674fe9108a7ea2b5b7f323f3df194df9b772"
    )  # as without --bottleneck, --loss


def test_equal_data_and_options_have_one_fingerprint_and_others_another():
    def made(**options):
        fitted = fit(options.pop("x", rows()), **({"epochs": 1, "device": "cpu", "seed": 5} | options))
        return fitted.checkpoint.fingerprint

    first = made()
    assert re.fullmatch("[0-9a-f]{64}", first)
    assert first == made()
    assert len({first, made(seed=6), made(x=rows(seed=1)), made(lr=0.02), made(holdout=0.2)}) == 5


def test_a_second_run_is_told_of_the_first(run):
    np.save("rows.npy", rows())
    with ResumeFile(Path("m.safetensors"), resume=False, force=False) as first:
        for given in ([], ["--resume"], ["--force"]):
            done = run(*COMMAND, *given)
            assert (done.code, done.err) == (
                1,
                "error: m.safetensors.resume is held by another run, which writes the same checkpoint\n",
            )
        first.save({}, {"x": np.zeros(3)}, {})
        assert run(*COMMAND, "--resume").code == 1
    assert safetensors.numpy.load_file("m.safetensors.resume").keys() == {"x"}


def test_resume_without_a_run_to_go_on_with_starts_afresh_and_says_so(run):
    np.save("rows.npy", rows())
    command = [word for word in COMMAND if word != "-q"]
    done = run(*command, "--epochs", "1", "--resume")
    assert (done.code, done.err.splitlines()[0]) == (0, "no run to resume: starting a new one")


NOT_SAVED = {
    "standard input": (
        ["-", "-o", "m.safetensors", "--resume"],
        "resume: rows from standard input cannot be read again, so their run is not saved",
    ),
    "standard output": (
        ["rows.npy", "-o", "-", "--finish"],
        "finish: a run is saved beside its checkpoint, and with -o - the checkpoint is not a file",
    ),
    "a pipe": (
        ["rows.npy", "-o", "pipe", "--resume"],
        "resume: a run is saved beside its checkpoint, and pipe is not a file",
    ),
}


@pytest.mark.parametrize(("argv", "why"), NOT_SAVED.values(), ids=NOT_SAVED)
def test_a_run_that_cannot_be_saved_is_neither_gone_on_with_nor_finished(run, argv, why):
    np.save("rows.npy", rows())
    os.mkfifo("pipe")
    done = run("train", *argv, stdin=b"1,2,3\n" * 30)
    assert (done.code, done.out, done.err) == (2, "", f"error: there is no run to {why}\n")


@pytest.mark.parametrize("step", [3, 6, 9])
@pytest.mark.parametrize("options", [{}, {"patience": 1}], ids=["to the end", "patience"])
def test_a_stopped_run_is_finished_with_the_weights_as_they_are(options, step):
    trained(step, **options)
    state = safetensors.numpy.load_file("m.safetensors.resume")
    weights = {name.removeprefix("model."): value for name, value in state.items() if name.startswith("model.")}
    said = []
    made = trained(finish=True, announce=said.append, **options)
    assert names() == []
    per_epoch = 7 if not options else 6
    assert said == [
        f"finishing m.safetensors.resume in epoch {-(-step // per_epoch)} of 3, after step {step} of {3 * per_epoch}",
    ]
    Path("m.safetensors").write_bytes(made)
    model = load("m.safetensors")
    found = model.checkpoint
    assert found.fingerprint is None
    assert len(found.history.loss) == len(found.history.test_loss) == -(-step // per_epoch)
    if not options:
        assert all((model.tensors[name] == value).all() for name, value in weights.items())
        assert found.history.test_loss[-1] == found.results.test_mse
    else:
        best = found.history.validation_loss.index(min(found.history.validation_loss))
        assert found.history.test_loss[best] == found.results.test_mse


def test_a_run_that_is_finished_after_its_last_step_is_the_whole_run():
    undisturbed = trained(name="other.safetensors")
    last = 3 * len(rows()) * 9 // 10 // 50
    assert trained(last) is None
    assert trained(finish=True) == undisturbed


def test_a_run_finished_early_is_not_taken_for_the_whole_run(run):
    np.save("rows.npy", rows())
    command = [*(word for word in COMMAND if word != "-q"), "--epochs", "3", "--batch-size", "50", "--device", "cpu"]
    command += ["--seed", "5"]
    stopped(command)
    done = run(*command, "--finish")
    assert done.code == 0, done.err
    assert re.fullmatch(
        r"finishing m\.safetensors\.resume in epoch 1 of 3, after step 4 of 21\n"
        r"calibrating scores\n"
        r"wrote m\.safetensors\n"
        r"training MSE \S+ after 1 of 3 epochs, \S+ s\n"
        r"held-out MSE \S+ on 40 rows, \S+ times PCA's \S+ \(4 components\)\n"
        r"scores: anomalies at p <= 0\.01: \d+ of 40 held-out rows \(\S+%\)\n"
        r"PCA does better on these rows: more --epochs or smaller --hidden-dims may help\n",
        done.err,
    ), done.err
    assert names() == ["m.safetensors", "rows.npy"]
    assert re.search(r"^epochs run +1 of 3$", run("info", "m.safetensors").out, re.MULTILINE)
    again = run(*command, "--finish")
    assert (again.code, again.err) == (
        1,
        f"error: there is no run to finish: m.safetensors.resume does not exist\nhint: aecli {' '.join(command)}\n",
    )
    gone_on = run(*command, "--resume")
    assert gone_on.err.startswith("no run to resume: starting a new one\n")
    assert "already finished" in run(*command, "--resume").err
    assert "already finished" not in run(*command, "--epochs", "4", "--resume").err


def test_what_cannot_be_finished_is_left_as_it_is(run):
    np.save("rows.npy", rows())
    command = [*COMMAND, "--epochs", "3", "--batch-size", "50", "--device", "cpu"]
    stopped(command)
    kept = Path("m.safetensors.resume").read_bytes()
    for changed, damaged, says, hint in (
        (
            ["--lr", "0.5"],
            kept,
            "holds a run of other data or options: lr was 0.01, and is 0.5",
            "aecli info m.safetensors.resume shows what it holds",
        ),
        (
            [],
            kept[:-5],
            "is damaged (Error while deserializing header: incomplete metadata, file not fully covered)",
            f"start a new run: aecli {' '.join(command)}",
        ),
    ):
        Path("m.safetensors.resume").write_bytes(damaged)
        done = run(*command, *changed, "--finish")
        assert (done.code, done.err) == (
            1,
            f"error: m.safetensors.resume {says}\nhint: {hint}\n",
        )
        assert Path("m.safetensors.resume").read_bytes() == damaged
        assert names() == ["m.safetensors.resume", "rows.npy"]


def stopped(command):
    """Stop the run of a command at its fourth step, as Ctrl-C does."""
    steps = iter(range(1, 10**9))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["aecli", *command])
        patch.setattr("aecli.cli.console.Stopping.__enter__", lambda _: lambda: next(steps) == 4)
        patch.setattr("aecli.cli.console.Stopping.__exit__", lambda *_: None)
        with pytest.raises(SystemExit):
            cli.main()


def with_seconds(seconds):
    """Let the resume file say how long its run has taken; None takes that away, as an older file had it."""
    with safetensors.safe_open("m.safetensors.resume", "np") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it is no mapping
        kept = json.loads(file.metadata()["aecli-resume"])
    before = kept.pop("seconds")
    if seconds is not None:
        kept["seconds"] = kept["position"]["seconds"] = seconds
    safetensors.numpy.save_file(tensors, "m.safetensors.resume", {"aecli-resume": json.dumps(kept)})
    return before


@pytest.mark.parametrize("before", [5000.0, None])
def test_the_seconds_of_a_resumed_run_are_those_of_all_its_sessions(run, before):
    np.save("rows.npy", rows())
    command = ["train", "rows.npy", "-o", "m.safetensors", "--epochs", "2", "--batch-size", "50", "--device", "cpu"]
    stopped(command)
    assert 0 < with_seconds(before) < 100
    stopped([*command, "--resume"])
    if before is not None:
        assert before < json.loads(run("info", "m.safetensors.resume", "--json").out)["seconds"] < before + 100
        assert before < with_seconds(before) < before + 100
    done = run(*command, "--resume", "--json")
    assert done.code == 0
    assert (before or 0) < json.loads(done.out)["seconds"] < (before or 0) + 100
    [said] = re.findall(r"training MSE .* ([\d.]+) s$", done.err, re.MULTILINE)
    assert (before or 0) <= float(said) < (before or 0) + 100
    resumed = Path("m.safetensors").read_bytes()
    assert run(*command, "--force", "-q").code == 0
    assert Path("m.safetensors").read_bytes() == resumed


def test_a_saved_run_is_told_by_info(run):
    np.save("rows.npy", rows())
    command = ["train", "-o", "m.safetensors", "--epochs", "3", "--batch-size", "50", "--device", "cpu", "-q"]
    command += ["--hidden-dims", "32", "--latent-dim", "4", "--", "rows.npy"]
    stopped(command)
    done = run("info", "m.safetensors.resume")
    assert (done.code, done.err) == (0, "")
    begun = f"train {{}} {' '.join(command[1:])}"
    assert re.fullmatch(
        r"resume file     m\.safetensors\.resume\n"
        r"saved           \d{4}-\d\d-\d\d \d\d:\d\d\n"
        r"data            rows\.npy, 360 rows to train on, 40 held out\n"
        r"network         12-32-4, mirrored; 1,104 parameters\n"
        r"activations     gelu; latent none; output none\n"
        r"a row           12 values\n"
        r"scaling         standard\n"
        r"recipe          modern: muon, lr 0\.01, batches of 50, 3 epochs, seed 0\n"
        r"epoch           1 of 3\n"
        r"step            4 of 21\n"
        r"MSE             no epoch is done yet\n"
        r"time            \d+\.\d s of training, on cpu\n"
        rf"started by      aecli {re.escape(aecli.__version__)}\n"
        rf"to resume       aecli {re.escape(begun.format('--resume'))}\n"
        rf"to finish here  aecli {re.escape(begun.format('--finish'))}\n",
        done.out,
    ), done.out
    facts = json.loads(run("info", "m.safetensors.resume", "--json").out)
    assert list(facts) == [
        "resume_file", "saved", "model", "train", "schema", "scaler", "rows", "validation_rows", "test_rows", "device",
        "epoch", "step", "steps", "seconds", "history", "source", "command", "version", "processes", "running",
    ]  # fmt: skip
    assert (facts["epoch"], facts["step"], facts["steps"], facts["running"]) == (1, 4, 21, False)
    assert facts["command"] == command
    with ResumeFile(Path("m.safetensors"), resume=True, force=False):
        said = run("info", "m.safetensors.resume").out
    assert said.endswith("\nstate        still running: its process holds the file\n")
    for way in done.out.splitlines()[-2:]:
        shutil.copy("m.safetensors.resume", "kept")
        assert run(*shlex.split(way.partition("aecli ")[2])).code == 0
        shutil.move("kept", "m.safetensors.resume")


def test_a_command_that_holds_an_address_is_not_kept(run):
    np.save("rows.npy", rows())
    stopped([*COMMAND, "--comment", "https://me:secret@host/"])
    assert b"secret" not in Path("m.safetensors.resume").read_bytes()
    assert run("info", "m.safetensors.resume").out.endswith(
        "to resume       the command that started it, with --resume\n"
        "to finish here  the command that started it, with --finish\n"
    )


def test_a_resume_file_that_says_nothing_of_a_run_is_an_error_of_info(run):
    trained(3)
    kept = Path("m.safetensors.resume").read_bytes()
    damaged = "error: m.safetensors.resume: a damaged resume file: "
    for content, says in (
        (b"", "error: m.safetensors.resume: empty: its run has saved nothing yet\n"),
        (kept[:-5], f"{damaged}{len(kept):,} bytes expected, {len(kept) - 5:,} found\n"),
        (kept.replace(rb"\"epochs\": 3", rb"\"epochs\": 0"), f"{damaged}epochs is 0, and must be at least 1\n"),
        (kept.replace(rb"\"position\"", rb"\"pozition\""), f"{damaged}it has no readable 'position'\n"),
        (kept.replace(rb"\"rows\"", rb"\"roes\""), f"{damaged}it has no readable 'rows'\n"),
        (kept.replace(rb"\"step\": 3", rb"\"step\": x"), None),
        (b"nonsense", "error: m.safetensors.resume: not a safetensors file\nhint: aecli train writes one\n"),
    ):
        Path("m.safetensors.resume").write_bytes(content)
        done = run("info", "m.safetensors.resume")
        assert (done.code, done.out) == (1, "")
        assert done.err == says or (says is None and done.err.startswith(damaged)), done.err
    Path("m.safetensors.resume").write_bytes(kept)
    done = run("embed", "m.safetensors.resume", "digits")
    assert (done.code, done.err) == (
        1,
        "error: m.safetensors.resume: a saved run, not yet a checkpoint\nhint: aecli info m.safetensors.resume\n",
    )


def test_a_checkpoint_that_cannot_be_written_is_saved_elsewhere(run, monkeypatch, tmp_path):
    np.save("rows.npy", rows())
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "gone").mkdir()
    fitting = fit

    def then_no_folder(*args, **options):
        fitted = fitting(*args, **options)
        (tmp_path / "gone" / "m.safetensors.resume").unlink()
        (tmp_path / "gone").rmdir()
        return fitted

    monkeypatch.setattr("aecli.training.fit.fit", then_no_folder)
    done = run("train", "rows.npy", "-o", "gone/m.safetensors", "-q", "--epochs", "1")
    rescue = tmp_path / f"m-{os.getpid()}.safetensors"
    assert (done.code, done.err) == (
        1,
        "error: gone/m.safetensors: cannot be written (No such file or directory)\n"
        f"hint: the trained model is in {rescue}\n",
    )
    assert load(rescue).embed(rows(3)).shape == (3, 2)


def begun(*argv):
    """Begin a run as a process of its own, and wait until it has kept a state."""
    program = subprocess.Popen([sys.executable, "-m", "aecli", *argv], stderr=subprocess.PIPE)
    resume = Path("m.safetensors.resume")
    while not (resume.exists() and resume.stat().st_size) and program.poll() is None:
        time.sleep(0.01)
    return program


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_the_run_after_its_step_and_says_how_to_go_on(run, number, code):
    np.save("rows.npy", rows(4000))
    command = [*(word for word in COMMAND if word != "-q"), "--epochs", "1000", "--batch-size", "16"]
    program = begun(*command)
    program.send_signal(number)
    err = program.communicate()[1].decode()
    assert program.returncode == code, err
    typed = f"aecli {' '.join(command)}"
    assert err.endswith(
        f"stopped, and saved in m.safetensors.resume\nto resume: {typed} --resume\nto finish here: {typed} --finish\n"
    )
    assert not Path("m.safetensors").exists()
    done = run(*command, "--finish")
    assert done.code == 0, done.err
    assert re.match(r"finishing m\.safetensors\.resume in epoch \d+ of 1000, after step \S+ of 225,000\n", done.err)
    assert names() == ["m.safetensors", "rows.npy"]


def test_a_run_that_is_stopped_at_once_names_what_was_saved_before(run, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    np.save("rows.npy", rows())
    command = [word for word in COMMAND if word != "-q"]
    with monkeypatch.context() as patch:
        patch.setattr("aecli.training.loop.evaluate", interrupted)  # as the second Ctrl-C does, at the epoch's end
        done = run(*command)
    assert done.code == 130
    typed = f"aecli {' '.join(command)}"
    assert done.err.endswith(
        "stopped at once; last saved in m.safetensors.resume\n"
        f"to resume: {typed} --resume\nto finish here: {typed} --finish\n"
    ), done.err
    assert run(*command, "--finish").code == 0
    with monkeypatch.context() as patch:
        patch.setattr("aecli.training.fit.gather", interrupted)
        done = run(*command)
    assert (done.code, done.err) == (130, "stopped: nothing was saved yet\n")
    assert names() == ["m.safetensors", "rows.npy"]


def test_a_run_that_is_killed_ends_at_the_same_bytes(run):
    np.save("rows.npy", rows(4000))
    command = [*(word for word in COMMAND if word != "-q"), "--epochs", "3", "--batch-size", "16"]
    assert run(*command).code == 0
    undisturbed = Path("m.safetensors").read_bytes()
    Path("m.safetensors").unlink()
    program = begun(*command)
    time.sleep(0.1)
    program.kill()
    program.communicate()
    assert program.returncode == -signal.SIGKILL
    done = run(*command, "--resume")
    assert (done.code, done.err.splitlines()[0]) == (0, "resuming m.safetensors.resume")
    assert Path("m.safetensors").read_bytes() == undisturbed
    assert names() == ["m.safetensors", "rows.npy"]


def interrupted(*_, **__):
    raise KeyboardInterrupt


@pytest.mark.parametrize("place", ["aecli.cli.rows.say_written", "aecli.training.resume.ResumeFile._hold"])
def test_ctrl_c_once_the_checkpoint_is_written_finds_the_run_done(run, monkeypatch, place):
    np.save("rows.npy", rows())
    command = [*COMMAND, "--epochs", "3", "--device", "cpu"]
    whole, hold = ResumeFile._hold, iter([interrupted])

    def once_at_the_end(self, descriptor):
        if descriptor < 0:
            next(hold, lambda: None)()
        whole(self, descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(place, once_at_the_end if place.endswith("_hold") else interrupted)
        done = run(*command)
    assert (done.code, done.err) == (130, "")
    assert names() == ["m.safetensors", "rows.npy"]
    assert run(*(word for word in command if word != "-q"), "--resume").err == "already finished: m.safetensors\n"


def test_a_resume_file_that_is_let_go_of_twice_leaves_anothers_in_its_place():
    first = ResumeFile(Path("m.safetensors"), resume=False, force=False)
    first.remove()
    with ResumeFile(Path("m.safetensors"), resume=False, force=False):
        first.remove()
        first.close()
        assert names() == ["m.safetensors.resume"]
    assert names() == []


def test_ctrl_c_before_anything_is_saved_says_so(run, monkeypatch):
    np.save("rows.npy", rows())
    monkeypatch.setattr("aecli.training.choose.by_cross_validation", interrupted)
    done = run("train", "rows.npy", "--latent-dim", "2", "--device", "cpu")
    assert (done.code, done.err) == (130, "stopped: nothing was saved yet\n")
    assert names() == ["rows.npy"]


def test_a_run_in_the_folder_for_temporary_files_is_nobody_else_s(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    target = Place("s3://bucket/m.safetensors")
    with ResumeFile(target, resume=False, force=False) as kept:
        kept.save({}, {"x": np.zeros(2)}, {})
        path = kept.path
    assert (path.parent, stat.S_IMODE(path.stat().st_mode)) == (tmp_path, 0o600)
    mine = path.rename(tmp_path / "of-mine")
    path.symlink_to(mine)
    with pytest.raises(AecliError, match="cannot be written"):
        ResumeFile(target, resume=False, force=True)
    path.unlink()
    mine.rename(path)
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    with pytest.raises(AecliError, match="belongs to another user"):
        ResumeFile(target, resume=True, force=False)
    assert path.stat().st_size > 0
