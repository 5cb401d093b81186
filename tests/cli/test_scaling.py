"""Columns whose values lie far from zero, or one far from the others: what is rebuilt of them, and how exactly."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest

import aecli

CASES = Path(__file__).parents[1] / "cases" / "tables" / "scaling"


@pytest.mark.parametrize("name", ["seq_account", "epoch_s"])
def test_the_error_is_that_of_the_rebuilt_values_as_they_are_written(run, name):
    data = CASES / f"{name}.csv"
    asked = ["--features", "*", "--epochs", "3", "--hidden-dims", "16", "--latent-dim", "1"]
    assert run("train", data, *asked, "-o", "m.safetensors", "-q").code == 0
    done = run("reconstruct", "m.safetensors", data, "--error")
    found = np.array(list(csv.reader(io.StringIO(done.out)))[1:], np.float64)
    x = np.loadtxt(data, delimiter=",", skiprows=1)
    squares = np.square((found[:, :-1] - x) / aecli.load("m.safetensors").scaler.scale)
    assert found[:, -1] == pytest.approx(squares.mean(axis=1), rel=5e-3, abs=1e-4)


@pytest.mark.parametrize("scale", ["robust", "quantile"])
def test_one_spike_does_not_hide_the_other_rows(scale):
    data = CASES / "one_spike.csv"
    model = aecli.fit(str(data), scale=scale, epochs=30, hidden_dims=(16,), device="cpu")
    x = np.loadtxt(data, delimiter=",", skiprows=1)
    a = model.reconstruct(data)[:, 0]
    usual = x[:, 0] < 1e3
    assert np.abs(a - x[:, 0])[usual].mean() < x[usual, 0].std()
