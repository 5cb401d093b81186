"""A model is never worse than PCA for want of asking: where PCA is better by cross-validation, the model is PCA."""

import contextlib
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

import aecli
from aecli import metrics
from aecli.errors import Stopped, TrainingError
from aecli.training import choose, folds
from aecli.training.fit import fit
from aecli.training.resume import ResumeFile

NOISE = np.random.default_rng(6).normal(size=(200, 12))


def curve(rows=300, seed=0):
    """Points on a curve in six columns, which one value tells: PCA needs more."""
    t = np.random.default_rng(seed).uniform(-2, 2, (rows, 1))
    return np.hstack([t, t**2, np.sin(2 * t), np.cos(2 * t), t**3 / 4, np.exp(t) / 4])


def test_noise_gives_pca_itself():
    said = []
    model = aecli.fit(NOISE, latent_dim=2, device="cpu", announce=said.append)
    made = model.checkpoint
    assert (made.model.hidden_dims, made.model.output_activation, made.train.init) == ((), "none", "pca")
    assert made.results.test_mse == pytest.approx(made.results.pca_mse, rel=1e-4)
    assert made.history.loss == ()
    assert any(
        sentence.startswith("the model is PCA's, a linear autoencoder: by cross-validation") for sentence in said
    )


@pytest.mark.usefixtures("few_steps")
def test_pca_is_a_model_like_any_other(tmp_path):
    model = aecli.fit(NOISE, latent_dim=2, device="cpu")
    model.save(tmp_path / "m.safetensors")
    again = aecli.load(tmp_path / "m.safetensors")
    z = again.embed(NOISE)
    assert z.shape == (200, 2)
    assert np.cov(z.T)[0, 1] == pytest.approx(0, abs=0.01)  # principal components are uncorrelated
    assert again.reconstruct(NOISE) == pytest.approx(again.decode(z), abs=1e-5)


def test_what_a_network_can_learn_a_network_learns():
    made = aecli.fit(curve(), latent_dim=1, device="cpu").checkpoint
    assert made.train.init == "fan-in"
    assert made.results.test_mse < 0.5 * made.results.pca_mse


@pytest.mark.usefixtures("few_steps")
@pytest.mark.parametrize(
    "asked",
    [{"hidden_dims": (8,)}, {"epochs": 3}, {"recipe": "classic", "epochs": 1}, {"noise": 0.1}, {"lr": 0.005}],
    ids=str,
)
def test_who_asks_for_a_network_or_for_its_training_gets_it(asked):
    assert aecli.fit(NOISE, latent_dim=2, device="cpu", **asked).checkpoint.train.init != "pca"


@pytest.mark.parametrize(("error", "init"), [(1e-9, "pca"), (1e9, "fan-in")], ids=["PCA is better", "PCA is worse"])
@pytest.mark.usefixtures("few_steps")
def test_many_rows_are_judged_by_their_own_error(monkeypatch, error, init):
    monkeypatch.setattr(folds, "BY_HEART", 0)
    monkeypatch.setattr(metrics.Pca, "mse", lambda *_: error)
    said = []
    made = aecli.fit(NOISE, latent_dim=2, device="cpu", announce=said.append).checkpoint
    assert made.train.init == init
    assert any("on the training rows a network's error is" in sentence for sentence in said) == (init == "pca")


@pytest.mark.usefixtures("few_steps")
@pytest.mark.parametrize("rows", [9, 20], ids=["too few for cross-validation", "that found for the network"])
def test_few_training_rows_tell_nothing_of_pca_which_may_have_no_error_on_them(rows, monkeypatch):
    monkeypatch.setattr(choose, "_errors", lambda *_: np.array([1.0, 2.0]))
    made = aecli.fit(np.random.default_rng(0).normal(size=(rows, 40)), latent_dim=20, holdout=0, device="cpu")
    assert made.checkpoint.train.init == "fan-in"


def test_rows_on_a_plane_are_rebuilt_without_error_by_pca_and_it_is_said_so():
    said = []
    plane = np.random.default_rng(0).normal(size=(300, 2)) @ np.random.default_rng(1).normal(size=(2, 12))
    made = aecli.fit(plane, latent_dim=2, device="cpu", announce=said.append).checkpoint
    assert (made.train.init, said[-1]) == (
        "pca",
        "the model is PCA's, a linear autoencoder: by cross-validation PCA rebuilds rows without error",
    )


def diverges(*_):
    raise TrainingError("the loss became nan at epoch 1, step 1")


def test_networks_are_compared_as_the_model_would_be_trained(monkeypatch):
    configs, made = [], choose.loop.Trainer.__init__

    def noted(self, model, config, *more, **named):
        configs.append(config)
        made(self, model, config, *more, **named)

    monkeypatch.setattr(choose.loop.Trainer, "__init__", noted)
    monkeypatch.setattr(choose.loop.Trainer, "run", diverges)  # what it is trained with is all that is asked
    images = np.random.default_rng(0).integers(0, 256, (30, 16, 16), dtype=np.uint8)
    whole = aecli.fit(images, latent_dim=2, device="cpu").checkpoint.train
    assert len(configs) == folds.FOLDS_OF_IMAGES
    assert {(each.precision, each.augment_shift) for each in configs} == {(whole.precision, whole.augment_shift)}


@pytest.mark.usefixtures("few_steps")
def test_where_a_sample_speaks_for_pca_all_rows_are_asked(monkeypatch):
    monkeypatch.setattr(choose, "SAMPLE", 100)
    asked = []

    def of_parts(_, folds, fold):
        asked.append((len(folds.rest(fold)), len(folds.left_out(fold))))
        return np.array([2.0, 1.0] if len(folds) == 100 else [1.0, 2.0])

    monkeypatch.setattr(choose, "_errors", of_parts)
    assert aecli.fit(curve(), latent_dim=1, device="cpu").checkpoint.train.init == "fan-in"
    assert asked == [(80, 20)] * 5 + [(216, 54)]


@pytest.mark.usefixtures("few_steps")
def test_equal_runs_choose_alike_and_give_equal_bytes():
    models = [aecli.fit(NOISE, latent_dim=2, seed=3, device="cpu") for _ in range(2)]
    assert models[0].to_bytes() == models[1].to_bytes()


@pytest.mark.usefixtures("few_steps")
def test_the_shell_says_so_and_a_second_run_finds_it_finished(run):
    np.save("noise.npy", NOISE)
    done = run("train", "noise.npy", "--latent-dim", "2")
    assert done.code == 0
    lines = done.err.splitlines()
    assert lines[0] == "comparing a network with PCA first, by cross-validation"
    assert lines[1].startswith("the model is PCA's, a linear autoencoder: by cross-validation a network's error is ")
    assert lines[2].startswith("fitting PCA 12-2 on 180 rows, 20 held out, on CPU")
    assert lines[3:5] == ["calibrating scores", "wrote noise.safetensors"]
    assert lines[5].startswith("training MSE ")
    assert " of PCA, " in lines[5]
    assert ", 1.00 times PCA's " in lines[6]
    assert run("train", "noise.npy", "--latent-dim", "2", "--resume").err == "already finished: noise.safetensors\n"
    assert "PCA" in run("info", "noise.safetensors").out
    done = run("plot", "noise.safetensors", "--kind", "history")
    assert (done.code, done.err.partition("\n")[0]) == (1, "error: noise.safetensors is PCA, and nothing was trained")


def test_a_network_that_was_asked_for_and_is_worse_than_pca_gets_advice(run):
    np.save("noise.npy", NOISE)
    done = run("train", "noise.npy", "--latent-dim", "2", "--hidden-dims", "128,64", "--epochs", "3")
    assert done.err.splitlines()[-1] == (
        "PCA does better on these rows: more --epochs or smaller --hidden-dims may help"
    )


@contextlib.contextmanager
def stopping_at(step, steps):
    """Stop at a step, counted from 1, and count the `steps`."""
    yield lambda: steps.append(None) or len(steps) == step


def trained(step=None, steps=None, **asked):
    """Train on the noise; stop at a step."""
    with ResumeFile(Path("m.safetensors"), **{"resume": False, "force": False, "announce": str} | asked) as file:
        fitted = fit(NOISE, resume=file, stopping=stopping_at(step, [] if steps is None else steps), device="cpu")
        file.remove()
    return fitted


@pytest.mark.usefixtures("few_steps")
def test_a_run_that_goes_on_gives_way_to_pca_as_the_whole_run_does(monkeypatch):
    monkeypatch.setattr(folds, "BY_HEART", 0)  # all is judged by the training rows
    monkeypatch.setattr(metrics.Pca, "mse", lambda *_: 1e-9)
    whole = trained()
    with pytest.raises(Stopped):
        trained(5)
    on = trained(resume=True)
    assert whole.checkpoint.train.init == on.checkpoint.train.init == "pca"
    assert all((whole.tensors[name] == on.tensors[name]).all() for name in whole.tensors)


@pytest.mark.usefixtures("few_steps")
def test_a_run_that_was_stopped_at_its_last_step_and_is_finished_gives_way_to_pca_too(monkeypatch):
    monkeypatch.setattr(folds, "BY_HEART", 0)
    monkeypatch.setattr(metrics.Pca, "mse", lambda *_: 1e-9)
    steps = []
    whole = trained(steps=steps)
    with pytest.raises(Stopped):
        trained(len(steps))
    finished = trained(finish=True)
    assert finished.to_bytes() == whole.to_bytes()
    with pytest.raises(Stopped):
        trained(len(steps) - 1)
    assert trained(finish=True).checkpoint.fingerprint is None


@pytest.mark.usefixtures("few_steps")
def test_a_state_that_does_not_fit_is_set_aside_and_the_run_starts_with_its_cross_validation(monkeypatch):
    whole = trained()
    with monkeypatch.context() as patch:
        patch.setattr(choose, "by_cross_validation", lambda *_: None)
        with pytest.raises(Stopped):
            trained(5)
    path = Path("m.safetensors.resume")
    with safetensors.safe_open(path, "np") as file:
        tensors, metadata = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
    del tensors["optimizer.0"]
    path.write_bytes(safetensors.numpy.save(tensors, metadata))
    said = []
    afresh = trained(resume=True, announce=said.append)
    assert afresh.to_bytes() == whole.to_bytes()
    assert whole.checkpoint.train.init == "pca"
    assert said[-1].startswith(f"{path} is damaged (its tensors are not those of this run: optimizer.0): it is now ")


def test_a_network_that_diverges_gives_way_to_pca(monkeypatch):
    monkeypatch.setattr(choose.loop.Trainer, "run", diverges)
    said = []
    made = aecli.fit(NOISE, device="cpu", announce=said.append).checkpoint
    assert made.train.init == "pca"
    assert said[-1].endswith("by cross-validation a network's error is more than 100 times PCA's")
