import tracemalloc

import numpy as np
import pytest
from sklearn.decomposition import PCA

from aecli import metrics
from aecli.config import Schema
from aecli.data.part import Part
from aecli.model.scaler import Scaler


@pytest.mark.parametrize("kind", ["standard", "none"])
@pytest.mark.parametrize("components", [1, 3, 9])
@pytest.mark.parametrize("rows", [300, 9], ids=["many rows", "fewer rows than columns"])
def test_pca_is_the_pca_of_scikit_learn(kind, components, rows):
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(10, 10))
    x, x_test = rng.normal(size=(rows, 10)) @ mix + 5, rng.normal(size=(80, 10)) @ mix + 5
    scaler = Scaler.fit(kind, Part(x), Schema(10))
    scaled, scaled_test = scaler.transform(x), scaler.transform(x_test)
    pca = PCA(min(components, rows - 1)).fit(scaled)  # the mean takes one
    expected = np.square(pca.inverse_transform(pca.transform(scaled_test)) - scaled_test).mean()
    found = metrics.Pca(Part(x), scaler, components)
    assert found.basis.shape == (10, components)
    assert found.mse(Part(x_test)) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("rows", [60_000, 20], ids=["chunks of many rows", "fewer rows than columns"])
def test_a_mean_far_from_0_cancels_no_digits(rows):
    rng = np.random.default_rng(0)
    x = (1e5 + np.linspace(0, 1e3, rows)[:, None] + rng.normal(size=(rows, 30))).astype(np.float32)
    scaler = Scaler.fit("none", Part(x), Schema(30))
    centred = x.astype(np.float64) - x.mean(axis=0, dtype=np.float64)
    _, values, _ = np.linalg.svd(centred, full_matrices=False)
    expected = np.square(values[3:]).sum() / x.size
    assert metrics.Pca(Part(x), scaler, 3).mse(Part(x)) == pytest.approx(expected, rel=1e-3)


def test_pca_of_few_wide_rows_holds_them_once_and_counts_them():
    x = np.random.default_rng(0).integers(0, 256, (40, 100_000), dtype=np.uint8)
    scaler = Scaler.fit("none", Part(x), Schema(100_000))
    tracemalloc.start()
    metrics.Pca(Part(x), scaler, 2)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 4 * x.size < peak < 1.5 * metrics.bytes_taken(*x.shape)


def test_pca_is_left_out_where_rows_and_inputs_are_both_above_4096(monkeypatch):
    monkeypatch.setattr(metrics, "PCA_MAX", 5)
    for rows, inputs, left_out in ((6, 6, True), (5, 6, False), (6, 5, False)):
        part = Part(np.random.default_rng(0).normal(size=(rows, inputs)))
        scaler = Scaler.fit("none", part, Schema(inputs))
        assert (metrics.pca(part, scaler, 2) is None) == left_out


def test_moments_of_batches_are_those_of_all_rows():
    x = np.random.default_rng(0).normal(1e4, 1, (1000, 3))
    moments = metrics.Moments(3)
    for part in np.split(x, [1, 300, 301]):
        moments.add(part)
    assert moments.mean == pytest.approx(x.mean(axis=0), rel=1e-12)
    assert moments.variance == pytest.approx(x.var(axis=0), rel=1e-9)


def test_the_share_of_variance_rebuilt_is_of_each_feature_with_all_its_inputs():
    x = np.array([[0.0, 1, 0, 5], [2, 0, 1, 5]])
    moments = metrics.Moments(4)
    moments.add(x)
    rebuilt = metrics.variance_rebuilt(np.array([0.25, 0.0, 0.5, 0.0]), moments, (1, 2, 1))
    assert rebuilt[:2].tolist() == [0.75, 0.0]
    assert np.isnan(rebuilt[2])
