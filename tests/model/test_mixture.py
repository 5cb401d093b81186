"""The mixture that is drawn from: it fits the codes, draws like them, and is the same for the same seed."""

import time

import numpy as np
import pytest

import aecli
from aecli.errors import DataError, UsageError
from aecli.model import mixture


def drawn(found, count, seed=0):
    return np.concatenate(list(found.draws(count, seed)))


@pytest.mark.parametrize("clusters", [2, 3, 5])
def test_well_separated_clusters_are_recovered(clusters):
    rng = np.random.default_rng(clusters)
    centres = 20 * rng.permutation(25)[:clusters, None] // np.array([5, 1]) % 100  # on a grid
    of = rng.choice(clusters, 2000, p=np.arange(1, clusters + 1) / np.arange(1, clusters + 1).sum())
    z = centres[of] + rng.normal(size=(2000, 2))
    found = mixture.fit(z, 0)
    off = np.abs(found.means[:, None] - centres[None]).max(axis=2)  # (M, clusters)
    nearest = off.argmin(axis=1)
    assert (off.min(axis=1) < 3).all()  # none lies between two
    shares = np.bincount(nearest, weights=found.weights, minlength=clusters)
    assert shares == pytest.approx(np.bincount(of) / 2000, abs=0.01)
    draws = drawn(found, 5000)
    assert np.abs(draws[:, None] - centres[None]).max(axis=2).min(axis=1).max() < 6


@pytest.mark.parametrize("values", [1, 2, 16, 64])
def test_draws_have_the_codes_mean_and_covariance(values):
    rng = np.random.default_rng(0)
    z = (rng.exponential(size=(4000, values)) @ rng.normal(size=(values, values)) * 100 + 1000).astype(np.float32)
    draws = drawn(mixture.fit(z, 0), 100_000)
    spread = z.std(axis=0)
    assert (draws.mean(axis=0) - z.mean(axis=0)) / spread == pytest.approx(0, abs=0.02)
    scale = np.outer(spread, spread)
    assert np.cov(draws.T).reshape(scale.shape) / scale == pytest.approx(
        np.cov(z.T).reshape(scale.shape) / scale, abs=0.03
    )


def test_equal_seeds_give_equal_bytes_and_the_first_draws_are_the_same_however_many():
    z = np.random.default_rng(0).normal(size=(3000, 8)).astype(np.float32)
    first, again = (mixture.fit(z, 7).tensors() for _ in range(2))
    assert {name: value.tobytes() for name, value in first.items()} == {n: v.tobytes() for n, v in again.items()}
    found = mixture.Mixture.from_tensors(first)
    assert np.array_equal(drawn(found, 10, 3), drawn(found, 3000, 3)[:10])
    assert not np.array_equal(drawn(found, 10, 3), drawn(found, 10, 4))


@pytest.mark.parametrize("rows", [1, 2, 50])
def test_a_single_code_and_equal_codes_are_what_is_drawn(rows):
    z = np.full((rows, 3), [1.5, -2, 0], np.float32)
    found = mixture.fit(z, 0)
    assert len(found) == 1
    assert drawn(found, 20) == pytest.approx(np.tile(z[:1], (20, 1)))


def test_a_value_that_is_always_equal_stays_so():
    z = np.random.default_rng(0).normal(size=(500, 3))
    z[:, 1] = 4
    draws = drawn(mixture.fit(z, 0), 1000)
    assert (draws[:, 1] == 4).all()
    assert draws[:, 0].std() == pytest.approx(1, abs=0.1)


def test_fewer_codes_than_values_are_one_gaussian():
    z = np.random.default_rng(0).normal(size=(10, 64))
    found = mixture.fit(z, 0)
    assert len(found) == 1
    assert np.isfinite(drawn(found, 100)).all()


def test_64_values_take_a_moment():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(10, 64))[rng.integers(10, size=mixture.MAX_CODES)] * 2 + rng.normal(
        size=(mixture.MAX_CODES, 64)
    )
    took = []
    for _ in range(3):
        start = time.perf_counter()
        mixture.fit(z, 0)
        took.append(time.perf_counter() - start)
    assert min(took) < 1.5  # 0.2 seconds, on a machine that is not busy


def test_what_is_saved_is_what_is_drawn(digits_model):
    model = aecli.load(digits_model)
    model.save("again.safetensors")
    assert np.array_equal(aecli.load("again.safetensors").sample(50, seed=2), model.sample(50, seed=2))
    draws = np.concatenate(list(model.draws(20_000)))
    z = model.embed("digits:train")
    assert draws.mean(axis=0) == pytest.approx(z.mean(axis=0), abs=0.1 * float(z.std()))
    assert np.cov(draws.T) == pytest.approx(np.cov(z.T), abs=0.1 * float(z.var()))


def test_equal_runs_of_holes_and_of_few_rows_have_a_mixture():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 3))
    x[::5, 1] = np.nan
    x[7] = np.nan  # not a value at all
    first, again = (aecli.fit(x, missing="mean", epochs=2, latent_dim=2) for _ in range(2))
    assert first.checkpoint.mixture >= 1
    assert first.to_bytes() == again.to_bytes()
    assert np.isfinite(first.sample(10)).all()


def test_a_model_trained_further_has_a_mixture_of_its_own_codes(digits_model):
    further = aecli.fit("digits", init_from=digits_model, epochs=1)
    assert not np.array_equal(further.tensors["mixture.means"], aecli.load(digits_model).tensors["mixture.means"])


def test_codes_too_wide_have_none():
    model = aecli.fit(np.random.default_rng(0).normal(size=(20, 600)), latent_dim=513, hidden_dims=(8,), epochs=1)
    assert model.checkpoint.mixture is None
    with pytest.raises(DataError, match="the model has 513 latent values, and draws are possible up to 512"):
        model.sample(1)


def test_no_draws_are_a_usage_error(digits_model):
    with pytest.raises(UsageError, match="0 draws were asked for"):
        aecli.load(digits_model).sample(0)
