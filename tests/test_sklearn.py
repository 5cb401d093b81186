"""The scikit-learn estimator is one: scikit-learn's own checks pass, and it goes where others go."""

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

import aecli
from aecli.errors import UsageError
from aecli.sklearn import Autoencoder

QUICK = {"epochs": 1, "hidden_dims": (8,), "device": "cpu"}
X = pd.DataFrame(np.random.default_rng(0).normal(size=(40, 4)), columns=list("abcd"))


@pytest.fixture(scope="module")
def fitted():
    return Autoencoder(2, random_state=3, **QUICK).fit(X)


def test_scikit_learns_checks_pass():
    results = check_estimator(Autoencoder(1, epochs=1, hidden_dims=(4,), device="cpu"), on_skip=None)
    assert {result["status"] for result in results} <= {"passed", "skipped"}
    assert len(results) > 40


def test_the_model_is_that_of_fit_and_knows_the_columns(fitted):
    model = aecli.fit(X, latent_dim=2, seed=3, holdout=0, **QUICK)
    assert fitted.model_.schema.features == ("a", "b", "c", "d")
    assert np.array_equal(fitted.transform(X), model.embed(X))
    assert np.array_equal(fitted.inverse_transform(fitted.transform(X)), model.reconstruct(X))
    assert np.array_equal(fitted.score_samples(X), -model.score(X))
    assert fitted.score(X) == -np.mean(model.errors(X))
    fitted.model_.save("model.safetensors")
    X.to_csv("rows.csv", index=False)
    assert np.array_equal(aecli.load("model.safetensors").embed("rows.csv"), fitted.transform(X))


def test_a_random_state_is_the_seed():
    codes = [Autoencoder(2, random_state=np.random.RandomState(1), **QUICK).fit_transform(X) for _ in range(2)]
    assert np.array_equal(*codes)
    assert not np.array_equal(codes[0], Autoencoder(2, **QUICK).fit_transform(X))


def test_it_goes_into_a_pipeline_and_a_grid_search_and_gives_frames():
    steps = make_pipeline(StandardScaler(), Autoencoder(**QUICK)).set_output(transform="pandas")
    search = GridSearchCV(steps, {"autoencoder__latent_dim": [1, 3]}, cv=2).fit(X)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    best = search.best_params_["autoencoder__latent_dim"]
    codes = search.best_estimator_.transform(X)
    assert list(codes.columns) == [f"autoencoder{i}" for i in range(best)]
    assert codes.index.equals(X.index)


def test_it_is_pickled_with_its_model(fitted):
    assert np.array_equal(pickle.loads(pickle.dumps(fitted)).transform(X), fitted.transform(X))


def test_holes_are_an_error_or_taken_as_the_mean():
    holed = X.copy()
    holed.iloc[3, 2] = np.nan
    with pytest.raises(ValueError, match="contains NaN"):
        Autoencoder(2, **QUICK).fit(holed)
    assert np.isfinite(Autoencoder(2, missing="mean", **QUICK).fit_transform(holed)).all()


def test_a_wrong_option_is_named():
    with pytest.raises(UsageError, match="optimizer is 'sgd', and must be one of muon, adam"):
        Autoencoder(optimizer="sgd").fit(X)
