"""What a score is made of: distances, loneliness, surprise and p, beside what they are by definition."""

import numpy as np
import pytest
from scipy.special import log_ndtr
from sklearn.covariance import ledoit_wolf_shrinkage
from sklearn.datasets import load_breast_cancer

import aecli
from aecli import explaining, scoring


def rows(count, inputs, seed=0):
    """Codes (N, 3) and errors (N, E) that hang together, and inputs (N, E)."""
    rng = np.random.default_rng(seed)
    mixed = rng.normal(size=(inputs + 3, inputs + 3)) / 3
    both = (rng.normal(size=(count, inputs + 3)) @ mixed).astype(np.float32)
    return rng.normal(2, 3, (count, inputs)).astype(np.float32), both[:, :3], both[:, 3:]


@pytest.fixture
def made():
    x, z, errors = rows(400, 6)
    signs = np.random.default_rng(1).normal(size=(99, 3)) * [1, 1, 0]
    return scoring.fit(x, z, errors, None, 100, 0).calibrated(signs)


@pytest.mark.parametrize(("count", "width"), [(200, 4), (50, 30), (10, 40)])
def test_the_shrinkage_is_that_of_scikit_learn(count, width):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(count, width)) @ rng.normal(size=(width, width))
    off = x - x.mean(axis=0)
    assert scoring._shrinkage(off, off.T @ off / count) == pytest.approx(ledoit_wolf_shrinkage(x), abs=1e-9)


def test_surprise_is_the_logarithm_of_the_normal_tail():
    x = np.linspace(-12, 40, 5001)
    assert np.abs(scoring._surprise(x) + log_ndtr(-x)).max() < 0.012
    assert (np.diff(scoring._surprise(x)) >= 0).all()


def test_p_is_the_share_of_calibration_rows_that_are_as_strange_or_stranger(made):
    scores = np.concatenate([made.calibration[::10], made.calibration[::7] + 0.01, [-99, 99]]).astype(np.float32)
    wanted = [(1 + sum(made.calibration >= score)) / 100 for score in scores]
    assert made.p(scores).tolist() == wanted
    assert (made.least_p, made.alpha) == (0.01, 0.01)


def test_distances_are_those_of_mahalanobis_and_contributions_their_terms(made):
    _, z, errors = rows(50, 6, seed=1)
    off = np.concatenate([z / made.code_scale, errors / made.error_scale], axis=1) - made.centre
    precision = (made.axes.T * made.weights) @ made.axes
    terms = off * (off @ precision) / 9
    assert made.distances(z, errors) == pytest.approx(terms.sum(axis=1), rel=1e-4)
    assert made.contributions(z, errors) == pytest.approx(np.maximum(terms[:, 3:], 0), rel=1e-3, abs=1e-4)


def test_wide_rows_have_few_axes_and_one_variance_in_all_other_directions():
    x, z, errors = rows(300, 500)
    made = scoring.fit(x, z, errors, None, 0, 0)
    assert made.axes.shape == (300 * 9 // 10 // 20, 503)
    off = np.concatenate([z / made.code_scale, errors / made.error_scale], axis=1) - made.centre
    precision = (made.axes.T * (made.weights - made.rest)) @ made.axes + made.rest * np.eye(503)
    terms = off * (off @ precision) / 503
    assert made.distances(z, errors) == pytest.approx(terms.sum(axis=1), rel=1e-3)
    assert made.contributions(z, errors) == pytest.approx(np.maximum(terms[:, 3:], 0), rel=1e-2, abs=1e-4)


def test_holes_count_neither_in_the_fit_nor_in_a_distance():
    x, z, errors = rows(400, 6)
    there = np.random.default_rng(2).uniform(size=errors.shape) > 0.2
    spoilt = [np.where(there, values, 1e6).astype(np.float32) for values in (x, errors)]
    first = scoring.fit(x, z, np.where(there, errors, 0), there, 50, 0)
    second = scoring.fit(spoilt[0], z, spoilt[1], there, 50, 0)
    for name, value in vars(first).items():
        assert np.allclose(value, getattr(second, name), atol=1e-4), name
    assert np.array_equal(first.distances(z, errors * there, there), first.distances(z, spoilt[1], there))


def test_a_code_among_stored_ones_is_less_lonely_than_one_far_off(made):
    assert (
        made.loneliness(np.full((1, 3), 1e3, np.float32)) > 10 * made.loneliness(np.zeros((1, 3), np.float32))
    ).all()


def test_of_a_column_without_any_value_in_training_nothing_lies_beyond():
    x, z, errors = rows(200, 6)
    there = np.ones(x.shape, bool)
    there[:, 2] = False
    made = scoring.fit(x, z, errors, there, 50, 0)
    new = x[:1].repeat(2, axis=0)
    new[1, 2], new[1, 4] = 50, made.high[4]
    assert made.beyond(new).tolist() == [0, 0]
    new[1, 4] += 10 * made.spread[4]
    assert made.beyond(new)[1] > 20


def test_p_holds_for_a_model_that_went_on_from_one_that_knew_the_rows():
    x, fresh = (np.random.default_rng(n).normal(size=(n, 12)).astype(np.float32) for n in (100, 400))
    options = {"hidden_dims": (128, 64), "latent_dim": 4, "device": "cpu"}
    first = aecli.fit(x, epochs=60, **options)
    further = aecli.fit(x, init_from=first, epochs=5, device="cpu")
    for model in (first, further):
        assert (model.scoring.p(model.score(fresh)) <= 0.05).mean() < 0.2


def test_what_is_out_of_all_proportion_has_a_finite_score_above_all_others(made):
    x, z, errors = rows(20, 6, seed=3)
    errors[3, 2], errors[4, 1], z[5, 0], errors[6, 0] = 1e9, 1e30, np.inf, np.nan
    scores = made.scores(made.signs(x, z, errors))
    assert np.isfinite(scores).all()
    assert set(np.argsort(-scores)[:4].tolist()) == {3, 4, 5, 6}


def test_the_tensors_hold_the_whole_score(made):
    again = scoring.Score.from_tensors(made.tensors())
    for name, value in vars(made).items():
        assert np.array_equal(np.float32(value), np.float32(getattr(again, name))), name
    assert scoring.Score.from_tensors({}) is None


@pytest.mark.parametrize("holes", [False, True])
def test_a_row_has_the_same_score_in_whatever_pieces_it_comes(holes):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(700, 5)) @ rng.normal(size=(5, 5))
    model = aecli.fit(x, epochs=2, hidden_dims=(8,), latent_dim=2, device="cpu")
    if holes:
        x[::3, 1] = np.nan
    np.save("x.npy", x)
    at_once = model.score(x)
    assert np.array_equal(np.concatenate([out.score for out in model.scored(model.open("x.npy"))]), at_once)
    pieces = np.concatenate([model.score(part) for part in np.split(x, [1, 40, 333])])
    assert pieces == pytest.approx(at_once, abs=1e-4)
    assert at_once.dtype == pieces.dtype == np.float32


def test_a_wrong_cell_is_traced_to_its_column_more_often_than_by_its_error():
    x = load_breast_cancer().data
    x = x[np.random.default_rng(0).permutation(len(x))]
    model = aecli.fit(x[:300], epochs=20, hidden_dims=(), latent_dim=4, device="cpu")
    rows, places = x[300:], np.random.default_rng(1).integers(0, x.shape[1], len(x) - 300)
    rows[np.arange(len(rows)), places] += 2 * x[:300].std(axis=0)[places]
    shares, expected = explaining.explain(model, rows)
    assert shares.shape == expected.shape == rows.shape
    assert shares.sum(axis=1) == pytest.approx(np.ones(len(rows)), abs=1e-5)
    errors = np.abs(model.reconstruct(rows) - rows) / model.scaler.scale
    hits, by_error = ((found.argmax(axis=1) == places).mean() for found in (shares, errors))
    assert hits > max(0.85, by_error + 0.1)
