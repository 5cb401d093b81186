"""Training that goes on from a trained model."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import test_resume

import aecli
from aecli.errors import DataError, UsageError
from aecli.model.checkpoint import weights
from aecli.training.resume import ResumeFile

QUICK = ["--epochs", "2", "--device", "cpu"]


def table(rows=60, seed=0, kinds=("a", "b"), columns=("x", "y", "z", "kind")):
    """A CSV of correlated numbers and a category."""
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(2, rows))
    cells = {"x": x, "y": y, "z": x + y, "kind": [kinds[i % len(kinds)] for i in range(rows)], "more": x}
    lines = [",".join(str(cells[name][i]) for name in columns) for i in range(rows)]
    return "\n".join([",".join(columns), *lines]) + "\n"


@pytest.fixture
def model(run):
    """A model of a table, `m.safetensors`, trained on old.csv."""
    Path("old.csv").write_text(table())
    done = run("train", "old.csv", "--categorical", "kind", "-o", "m.safetensors", "-q", *QUICK)
    assert done.code == 0, done.err
    return aecli.load("m.safetensors")


def scaling(model):
    return model.scaler.shift.tobytes(), model.scaler.scale.tobytes(), model.scaler.fill.tobytes()


def test_training_goes_on_from_the_weights_on_rows_that_are_matched_by_name(run, model):
    Path("new.csv").write_text(table(seed=1, columns=("more", "kind", "z", "y", "x")))
    done = run("train", "new.csv", "--init-from", "m.safetensors", *QUICK)
    assert done.code == 0, done.err
    lines = done.err.splitlines()
    assert lines[0] == "starting from the weights of m.safetensors"
    assert lines[1] == "learning 4 columns: x, y, z, kind"
    assert re.fullmatch(r"training 5-64-64-2 on 54 rows, 6 held out, on CPU, \d threads?", lines[2])
    assert "wrote new.safetensors" in lines
    new = aecli.load("new.safetensors")
    assert (new.schema, scaling(new), new.checkpoint.model) == (model.schema, scaling(model), model.checkpoint.model)
    assert (new.checkpoint.source, new.checkpoint.train.init) == ("new.csv", "model")
    shown = run("info", "new.safetensors").out
    assert re.search(r"^recipe .* seed 0, from the weights of another model$", shown, re.MULTILINE)


def test_the_first_step_starts_at_the_weights_of_the_model(model):
    options = {"optimizer": "adam", "lr": 1e-12, "epochs": 1, "device": "cpu"}
    new = aecli.fit("old.csv", init_from=model, **options)
    for name, tensor in weights(model.tensors).items():
        np.testing.assert_allclose(new.tensors[name], tensor, atol=1e-7)
    assert new.to_bytes() == aecli.fit("old.csv", init_from="m.safetensors", **options).to_bytes()
    other = aecli.fit("old.csv", categorical="kind", **options)
    assert other.checkpoint.fingerprint != new.checkpoint.fingerprint


def test_more_training_makes_the_model_better(run):
    before = aecli.fit("digits", epochs=10, hidden_dims=(16,), device="cpu")
    before.save("digits.safetensors")
    flags = ["--epochs", "5", "--lr", "0.003", "--json", "-q"]
    done = run("train", "--init-from", "digits.safetensors", *flags, "-o", "more.safetensors")
    assert done.code == 0, done.err
    assert json.loads(done.out)["train_mse"] < before.checkpoint.results.train_mse


REFUSED = {
    "a width": (["--latent-dim", "3"], "--latent-dim is 3, and the model has 2", "--latent-dim"),
    "two at once": (
        ["--hidden-dims", "32,16", "--scale", "minmax"],
        "--scale is minmax, and the model has standard; --hidden-dims is 32,16, and the model has 64,64",
        "--scale and --hidden-dims",
    ),
    "convolutions": (["--channels", "4,8"], "--channels is 4,8, and the model has none", "--channels"),
    "no dense layers": (["--hidden-dims", ""], "--hidden-dims is none, and the model has 64,64", "--hidden-dims"),
    "a recipe": (["--recipe", "classic"], "--recipe is classic, and the model has modern", "--recipe"),
    "a label": (["--label", "x"], "--label is x, and the model has none", "--label"),
    "features": (
        ["--features", "x", "--features", "y"],
        "--features chooses 'x', 'y', and the model learnt 'x', 'y', 'z', 'kind'",
        "--features",
    ),
    "an exclusion": (["--exclude", "[yz]"], "--exclude leaves out 'y', 'z', which the model learnt", "--exclude"),
    "categories": (
        ["--categorical", "x"],
        "--categorical is 'x', and the model's categories are 'kind'",
        "--categorical",
    ),
}


@pytest.mark.parametrize(("options", "says", "leave_out"), REFUSED.values(), ids=REFUSED)
@pytest.mark.usefixtures("model")
def test_an_option_that_says_otherwise_than_the_model_is_refused(run, options, says, leave_out):
    done = run("train", "old.csv", "--init-from", "m.safetensors", *options)
    assert (done.code, done.err) == (
        2,
        f"error: m.safetensors cannot change in further training: {says}\nhint: leave out {leave_out}\n",
    )


@pytest.mark.usefixtures("model")
def test_an_option_that_says_what_the_model_is_is_taken(run):
    Path("new.csv").write_text(table(seed=1, columns=("more", "x", "y", "z", "kind")))
    options = ["--latent-dim", "2", "--hidden-dims", "64,64", "--recipe", "modern", "--scale", "standard"]
    options += ["--features", "[xyz]", "--categorical", "k*", "--exclude", "more", "--activation", "gelu"]
    done = run("train", "new.csv", "--init-from", "m.safetensors", *options, *QUICK, "-q")
    assert (done.code, done.err) == (0, "")


@pytest.mark.usefixtures("model")
def test_rows_that_the_model_cannot_take_are_treated_as_when_it_is_applied(run):
    command = ["train", "new.csv", "--init-from", "m.safetensors", *QUICK]
    Path("new.csv").write_text(table(kinds=("a", "c")))
    done = run(*command)
    assert (done.code, done.err.splitlines()[-2:]) == (
        1,
        ["error: new.csv: row 2, column 'kind' holds 'c', and the model knows 'a', 'b'",
         "hint: --unknown ignore reads such a cell as none of them"],
    )  # fmt: skip
    assert run(*command, "--unknown", "ignore").code == 0
    done = run(*command, "--bad-rows", "skip")
    assert done.code == 0, done.err
    assert "left out 30 rows that cannot be read: new.csv: row 2, column 'kind' holds 'c'" in done.err
    done = run(*command, "--bad-rows", "blank")
    assert (done.code, done.err) == (
        2,
        "error: --bad-rows blank writes empty rows, and training writes none\n"
        "hint: --bad-rows skip leaves them out\n",
    )  # fmt: skip
    Path("new.csv").write_text(table(columns=("x", "z", "kind")))
    done = run(*command)
    assert (done.code, done.err.splitlines()[-2:]) == (
        1,
        ["error: new.csv: 1 of the model's 4 columns are missing: 'y'", "hint: its columns are 'x', 'z', 'kind'"],
    )


@pytest.mark.usefixtures("model")
def test_holes_are_an_error_until_it_is_said_what_becomes_of_them(run):
    lines = table().splitlines()
    lines[3] = ",".join(["", *lines[3].split(",")[1:]])
    Path("new.csv").write_text("\n".join(lines) + "\n")
    command = ["train", "new.csv", "--init-from", "m.safetensors", *QUICK]
    done = run(*command)
    assert done.code == 1
    assert "error: new.csv: row 3, column 'x' is empty or NaN, and every value must be a finite number\n" in done.err
    for missing, rows in (("mean", 54), ("drop", 53)):
        done = run(*command, "--missing", missing, "--json", "-q")
        assert json.loads(done.out)["rows"] == rows
        made = aecli.load("new.safetensors")
        assert made.schema.missing == missing
        assert run("train", "new.csv", "--init-from", "new.safetensors", "-o", "third.safetensors", *QUICK).code == 0


def test_options_about_rows_for_a_model_need_a_model(run):
    done = run("train", "--unknown", "ignore")
    assert (done.code, done.err) == (
        2,
        "error: --unknown ignore is for rows of a trained model, and training starts without one\nhint: leave it out\n",
    )


def test_the_model_itself_is_replaced_by_force_alone(run, model):
    before = Path("m.safetensors").read_bytes()
    refused = (
        1,
        "error: m.safetensors is the model that training starts from, and would be overwritten\n"
        "hint: name another -o FILE, or replace it with --force\n",
    )
    Path("m.csv").write_text(table(seed=1))
    for command in (["m.csv"], ["old.csv", "-o", "./m.safetensors"]):
        done = run("train", *command, "--init-from", "m.safetensors", *QUICK)
        assert (done.code, done.err) == refused
    assert Path("m.safetensors").read_bytes() == before
    done = run("train", "m.csv", "--init-from", "m.safetensors", "--force", "-q", *QUICK)
    assert (done.code, done.err) == (0, "")
    assert scaling(aecli.load("m.safetensors")) == scaling(model)
    assert Path("m.safetensors").read_bytes() != before


@pytest.mark.usefixtures("model")
def test_a_run_that_starts_from_a_model_is_stopped_resumed_and_finished(run):
    shutil.copy("m.safetensors", "first.safetensors")
    command = ["train", "old.csv", "--init-from", "first.safetensors", "-o", "m.safetensors", "--epochs", "4", "-q"]
    assert run(*command).code == 0
    undisturbed = Path("m.safetensors").read_bytes()
    Path("m.safetensors").unlink()
    test_resume.stopped(command)
    shutil.copy("m.safetensors.resume", "kept")
    assert run(*command, "--resume").code == 0
    assert Path("m.safetensors").read_bytes() == undisturbed
    assert run(*[word for word in command if word != "-q"], "--resume").err == (
        "starting from the weights of first.safetensors\n"
        "learning 4 columns: x, y, z, kind\n"
        "already finished: m.safetensors\n"
    )
    shutil.copy("kept", "m.safetensors.resume")
    assert run(*command, "--finish").code == 0
    shutil.copy("kept", "m.safetensors.resume")
    shutil.copy("m.safetensors", "first.safetensors")
    done = run(*command, "--finish")
    assert done.code == 1
    says = r"holds a run of other data or options: initial model was [0-9a-f]{64}, and is [0-9a-f]{64}"
    assert re.match(rf"error: m\.safetensors\.resume {says}\n", done.err), done.err


@pytest.mark.usefixtures("model")
def test_a_run_that_began_without_a_model_is_another_one():
    said = []
    options = {"epochs": 2, "device": "cpu", "announce": said.append}
    with ResumeFile(Path("new.safetensors"), resume=False, force=False) as kept, pytest.raises(aecli.errors.Stopped):
        aecli.fit("old.csv", categorical="kind", resume=kept, stopping=test_resume.at_step(2), **options)
    with ResumeFile(Path("new.safetensors"), resume=True, force=False, announce=said.append) as kept:
        aecli.fit("old.csv", init_from="m.safetensors", resume=kept, **options)
        kept.remove()
    assert "init was fan-in, and is model" in said[-1]


def test_images_of_another_shape_are_refused_and_the_recipe_is_the_models(run):
    images = np.random.default_rng(0).integers(0, 256, (40, 6, 8), dtype=np.uint8)
    np.save("images.npy", images)
    np.save("turned.npy", images.transpose(0, 2, 1).copy())
    flags = ["--recipe", "classic", "--latent-dim", "4", "--epochs", "1", "-q"]
    assert run("train", "images.npy", *flags).code == 0
    with pytest.raises(DataError, match=r"turned\.npy: a row is of shape \(8, 6\), and the model takes images of"):
        aecli.fit("turned.npy", init_from="images-classic.safetensors")
    for option, says in (
        ("--image-size=4", "--image-size is 4,4, and the model has 8,6"),
        ("--alpha", "--alpha is True, and"),
    ):
        done = run("train", "turned.npy", "--init-from", "images-classic.safetensors", option)
        assert done.code == 2
        assert says in done.err
    np.save("new.npy", (images[:30] / 255).astype(np.float32))
    done = run("train", "new.npy", "--init-from", "images-classic.safetensors")
    assert done.code == 1
    assert "pixels of float32 from 0 to 1, and the model takes uint8 from 0 to 255" in done.err
    options = {"init_from": "images-classic.safetensors", "epochs": 1, "device": "cpu"}
    converted, own = aecli.fit("new.npy", input_range=(0, 1), **options), aecli.fit(images[:30], **options)
    assert converted.checkpoint.results.train_mse == pytest.approx(own.checkpoint.results.train_mse, rel=1e-4)
    np.save("new.npy", images[:30])
    assert run("train", "new.npy", "--init-from", "images-classic.safetensors", "--epochs", "1", "-q").code == 0
    made = aecli.load("new-classic.safetensors").checkpoint
    assert (made.train.recipe, made.train.optimizer, made.model.activation) == ("classic", "adam", "sigmoid")


@pytest.mark.usefixtures("model")
def test_without_data_the_built_in_set_of_the_model_is_taken(run):
    done = run("train", "--init-from", "m.safetensors")
    assert (done.code, done.err) == (
        2,
        "error: DATA is missing, and m.safetensors was trained on old.csv, which is not a built-in set\n"
        "hint: aecli train --init-from m.safetensors DATA\n",
    )
    assert run("train", "digits", "--epochs", "1", "--hidden-dims", "16", "-o", "d.safetensors").code == 0
    done = run("train", "--init-from", "d.safetensors", "--epochs", "1")
    assert done.err.startswith("reading digits\nstarting from the weights of d.safetensors\ntraining 64-16-5 ")


def test_what_is_no_model_is_told_before_any_work(run):
    done = run("train", "--init-from", "nowhere.safetensors")
    assert (done.code, done.err) == (
        1,
        "error: nowhere.safetensors: no such file\nhint: aecli train writes one\n",
    )


def test_a_model_of_convolutions_is_not_trained_further_without_them():
    images = np.random.default_rng(0).integers(0, 256, (30, 16, 16), dtype=np.uint8)
    model = aecli.fit(images, channels=(2,), epochs=1, device="cpu")
    with pytest.raises(UsageError, match="--channels is none, and the model has 2"):
        aecli.fit(images, init_from=model, channels=(), device="cpu")


@pytest.mark.usefixtures("few_steps")
def test_from_a_model_of_pca_no_weight_decay_is_taken_that_nothing_was_trained_with():
    noise = np.random.default_rng(6).normal(size=(200, 12))
    model = aecli.fit(noise, latent_dim=2, device="cpu")
    assert model.checkpoint.train.init == "pca"
    more = np.concatenate([noise] * 50)
    decays = [
        aecli.fit(more, epochs=2, device="cpu", **options).checkpoint.train.weight_decay
        for options in ({"init_from": model}, {"latent_dim": 2})
    ]
    assert decays[0] == decays[1] != model.checkpoint.train.weight_decay
