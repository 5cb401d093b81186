import tracemalloc

import numpy as np
import pytest
from scipy.spatial.distance import pdist, squareform
from scipy.stats import rankdata, spearmanr
from sklearn.decomposition import PCA
from sklearn.manifold import trustworthiness
from sklearn.metrics import silhouette_score
from sklearn.model_selection import LeaveOneOut, cross_val_score
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

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


@pytest.fixture
def rows_and_codes():
    """Rows (80, 6), codes (80, 2) and labels (80,) of four kinds, none of them at equal distances."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 80)
    x = rng.normal(size=(80, 6)) + 1e3
    x[:, 0] += 2 * labels
    return x, x[:, :2] + rng.normal(0, 0.3, (80, 2)), labels


def test_neighbourhoods_labels_and_distances_are_judged_as_scikit_learn_and_scipy_judge_them(rows_and_codes):
    x, z, labels = rows_and_codes
    found, own = metrics.compare(metrics.Points(x), [metrics.Points(z)], 5, labels)
    assert found.trustworthiness == pytest.approx(trustworthiness(x, z, n_neighbors=5), rel=1e-9)
    assert found.continuity == pytest.approx(trustworthiness(z, x, n_neighbors=5), rel=1e-9)
    near_rows, near_codes = (
        NearestNeighbors(n_neighbors=5).fit(each).kneighbors(return_distance=False) for each in (x, z)
    )
    shared = [len(set(ours) & set(theirs)) / 5 for ours, theirs in zip(near_rows, near_codes, strict=True)]
    assert found.knn_recall == pytest.approx(np.mean(shared))
    for each, judged in ((z, found), (x, own)):
        voted = cross_val_score(KNeighborsClassifier(5), each, labels, cv=LeaveOneOut())
        assert judged.knn_accuracy == pytest.approx(voted.mean())
        assert judged.silhouette == pytest.approx(silhouette_score(each, labels), rel=1e-9)
    first, second = (squareform(pdist(each)) for each in (x, z))
    pairs = spearmanr(first[np.triu_indices(80, 1)], second[np.triu_indices(80, 1)]).statistic
    assert found.rank_correlation == pytest.approx(pairs, abs=0.03)  # 5,000 random pairs, of 3,160


def test_ranks_of_equal_distances_are_those_of_scipy():
    values = np.array([3.0, 1, 3, 2, 3])
    assert metrics._places(values).tolist() == rankdata(values).tolist()


def test_a_label_with_one_row_and_a_row_without_a_label_are_judged_as_they_should_be(rows_and_codes):
    _, z, labels = rows_and_codes
    labels[:1] = 4
    points = metrics.Points(z)
    assert metrics.compare(points, [], 5, labels)[0].silhouette == pytest.approx(silhouette_score(z, labels), rel=1e-9)
    labels[10:20] = -1
    there = labels >= 0
    found = metrics.compare(points, [], 5, labels)[0]
    assert found.silhouette == pytest.approx(silhouette_score(z[there], labels[there]), rel=1e-9)


def test_blocks_of_rows_change_nothing(rows_and_codes, monkeypatch):
    x, z, labels = rows_and_codes
    whole = metrics.compare(metrics.Points(x), [metrics.Points(z)], 5, labels)
    monkeypatch.setattr(metrics, "BLOCK_ROWS", 7)
    for one, other in zip(whole, metrics.compare(metrics.Points(x), [metrics.Points(z)], 5, labels), strict=True):
        assert vars(one) == pytest.approx(vars(other), nan_ok=True)


def test_rows_that_are_there_many_times_are_neighbours_of_each_other():
    rng = np.random.default_rng(0)
    x = np.repeat(rng.normal(size=(6, 4)), 40, axis=0)
    z = x[:, :2] + rng.normal(0, 1e-8, (240, 2))  # a row's code differs in its last bits with its place
    found = metrics.compare(metrics.Points(x), [metrics.Points(z)], 15, np.full(240, -1))[0]
    assert (found.trustworthiness, found.continuity, found.knn_recall) == (1, 1, 1)


def test_one_far_row_does_not_round_the_others_distances(rows_and_codes):
    x, z, labels = rows_and_codes
    x[7], z[7] = 1e9, 1e9
    near = metrics.compare(metrics.Points(x), [metrics.Points(z)], 5, labels)[0]
    assert near.trustworthiness == pytest.approx(trustworthiness(x, z, n_neighbors=5), abs=0.01)
