import numpy as np
import pytest
from sklearn.decomposition import PCA

from aecli import metrics
from aecli.config import Schema
from aecli.data.part import Part
from aecli.scaler import Scaler


@pytest.mark.parametrize("kind", ["standard", "none"])
@pytest.mark.parametrize("components", [1, 3, 9])
def test_pca_is_the_pca_of_scikit_learn(kind, components):
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(10, 10))
    x, x_test = rng.normal(size=(300, 10)) @ mix + 5, rng.normal(size=(80, 10)) @ mix + 5
    scaler = Scaler.fit(kind, Part(x), Schema(10))
    scaled, scaled_test = scaler.transform(x), scaler.transform(x_test)
    pca = PCA(components).fit(scaled)
    expected = np.square(pca.inverse_transform(pca.transform(scaled_test)) - scaled_test).mean()
    assert metrics.pca_mse(Part(x), Part(x_test), scaler, components) == pytest.approx(expected, rel=1e-3)


def test_pca_is_left_out_above_4096_inputs():
    x = np.zeros((3, 4097))
    assert metrics.pca_mse(Part(x), Part(x), Scaler.fit("none", Part(x), Schema(4097)), 2) is None
