"""What training minimises may be another loss: it falls, it is reported, and the mean squared errors stay."""

import json

import numpy as np
import pytest

import aecli
from aecli.errors import DataError
from aecli.training.run import LATER, _without_later

OPTIONS = {"latent_dim": 2, "hidden_dims": (8,), "epochs": 30, "batch_size": 32, "device": "cpu"}
QUICK = OPTIONS | {"epochs": 3}


def curve(rows=300, seed=0):
    t = np.random.default_rng(seed).uniform(-2, 2, (rows, 1))
    return np.hstack([t, t**2, np.sin(2 * t), np.cos(2 * t), t**3 / 4, np.exp(t) / 4])


@pytest.mark.parametrize(("loss", "scale"), [("bce", "minmax"), ("huber", "standard"), ("huber", "robust")])
def test_the_loss_falls_and_stands_beside_the_mean_squared_errors(loss, scale):
    made = aecli.fit(curve(), loss=loss, scale=scale, patience=100, **OPTIONS).checkpoint
    results, history = made.results, made.history
    assert history.loss[-1] < history.loss[0]
    assert history.validation_loss[-1] < history.validation_loss[0]
    assert results.test_loss == min(history.test_loss[i] for i in [int(np.argmin(history.validation_loss))])
    assert results.train_loss != results.train_mse
    assert results.test_mse < 1
    assert results.pca_mse is not None


def test_far_off_values_pull_less_at_huber():
    x = curve()
    x[::10] += np.random.default_rng(1).standard_cauchy((30, 6)) * 30
    plain = np.delete(x, np.s_[::10], axis=0)
    errors = {
        loss: np.median(aecli.fit(x, loss=loss, scale="robust", holdout=0, **OPTIONS).errors(plain))
        for loss in ("mse", "huber")
    }
    assert errors["huber"] < errors["mse"]


def test_cross_entropy_is_refused_for_values_outside_of_0_to_1_with_the_way_out():
    with pytest.raises(
        DataError, match="--loss bce is for values from 0 to 1, and this scaling has no bounds"
    ) as refused:
        aecli.fit(curve(), loss="bce", **OPTIONS)
    assert refused.value.hint == "--loss mse or huber takes any values; --scale minmax brings them to that range"


def test_cross_entropy_is_refused_for_further_rows_outside_of_the_models_range():
    model = aecli.fit(curve(), loss="bce", scale="minmax", **QUICK)
    further = aecli.fit(curve()[:200], init_from=model, epochs=1, device="cpu")
    assert further.checkpoint.train.loss == "bce"
    with pytest.raises(DataError, match=r"and with the model's scaling these are -?\d.* to 9.\d+"):
        aecli.fit(curve() * 9, init_from=model, epochs=1, device="cpu")


def test_held_out_rows_outside_of_the_range_count_as_its_ends():
    results = aecli.fit(curve(), test=curve(seed=1) * 3, loss="bce", scale="minmax", **QUICK).checkpoint.results
    assert 0 < results.test_loss < 100


@pytest.mark.parametrize("loss", ["bce", "huber"])
def test_holes_count_in_no_loss(loss):
    x = curve()
    x[::3, 2] = np.nan
    results = aecli.fit(x, loss=loss, scale="minmax", missing="mean", **QUICK).checkpoint.results
    assert np.isfinite([results.train_loss, results.test_loss]).all()


def test_the_shell_and_the_checkpoint_tell_the_loss(run):
    np.save("curve.npy", curve())
    words = ["--loss", "bce", "--scale", "minmax", "--epochs", "3", "--latent-dim", "2"]
    done = run("train", "curve.npy", "--json", *words)
    facts = json.loads(done.out)
    assert facts["loss"] == "bce"
    assert facts["train_loss"] > 0 < facts["test_loss"]
    losses = f"training {facts['train_loss']:.5g}, held-out {facts['test_loss']:.5g}"
    assert f"loss (bce): {losses}" in done.err.splitlines()
    told = run("info", "curve.safetensors").out
    assert f"loss, bce      {losses}\n" in told
    assert run("plot", "curve.safetensors", "--kind", "history", "-q").code == 0
    assert run("train", "curve.npy", *words, "--resume").err == "already finished: curve.safetensors\n"


def test_the_mean_squared_error_is_the_usual_loss_and_said_once():
    plain, said = (aecli.fit(curve(), **QUICK, **loss) for loss in ({}, {"loss": "mse"}))
    assert plain.to_bytes() == said.to_bytes()
    assert plain.checkpoint.results.train_loss is None


def test_what_is_not_asked_for_leaves_no_trace_in_a_checkpoint_or_in_what_a_run_is_known_by():
    made = aecli.fit(curve(), **QUICK).checkpoint
    written = made.to_json(compact=True)
    assert not {"loss", "beta"} & written["train"].keys()
    assert not {"bottleneck", "active"} & written["model"].keys()
    assert not {"train_loss", "test_loss", "kl", "active_dims"} & written["results"].keys()
    configs = {"train": made.train, "model": made.model}
    known_by = {
        name: value for kind, each in configs.items() for name, value in _without_later(each, LATER[kind]).items()
    }
    assert not {"loss", "beta", "bottleneck", "active"} & known_by.keys()
    assert known_by.items() <= (made.train.to_json() | made.model.to_json()).items()
