import numpy as np
import pytest

from aecli.config import Schema
from aecli.data.part import Part
from aecli.model.scaler import Scaler


@pytest.mark.parametrize("kind", ["standard", "minmax", "none"])
def test_the_inverse_gives_back_the_raw_units(kind):
    x = np.random.default_rng(0).normal([5, -100, 1e6], [1, 10, 1e3], (500, 3))
    scaler = Scaler.fit(kind, Part(x), Schema(3))
    assert scaler.inverse(scaler.transform(x)) == pytest.approx(x, rel=1e-5)


def test_standard_gives_mean_0_and_variance_1():
    x = np.random.default_rng(0).normal([5, -100], [1, 10], (5000, 2))
    scaled = Scaler.fit("standard", Part(x), Schema(2)).transform(x)
    assert scaled.mean(axis=0) == pytest.approx([0, 0], abs=1e-4)
    assert scaled.std(axis=0) == pytest.approx([1, 1], abs=1e-4)


def test_minmax_gives_0_to_1():
    x = np.random.default_rng(0).normal(size=(100, 2))
    scaled = Scaler.fit("minmax", Part(x), Schema(2)).transform(x)
    assert scaled.min(axis=0).tolist() == [0, 0]
    assert scaled.max(axis=0).tolist() == [1, 1]


@pytest.mark.parametrize("kind", ["standard", "minmax"])
@pytest.mark.parametrize("value", [0.1, 0.0, 1e9 + 0.1])
def test_a_constant_column_is_divided_by_1(kind, value):
    x = np.column_stack([np.full(1000, value), np.arange(1000.0)])
    scaler = Scaler.fit(kind, Part(x), Schema(2))
    assert scaler.scale[0] == 1
    assert np.abs(scaler.transform(x)[:, 0]).max() <= 1e-12 * abs(value)


def test_pixels_are_divided_by_their_full_scale_whatever_was_asked_for():
    x = np.array([[0, 255], [128, 3]], np.uint8)
    scaler = Scaler.fit("standard", Part(x), Schema(2, image_shape=(1, 2), full_scale=255.0))
    assert scaler.kind == "full-scale"
    assert scaler.bounded
    assert scaler.transform(x).tolist() == np.float32([[0, 1], [128 / 255, 3 / 255]]).tolist()


def test_images_of_other_values_are_scaled_as_a_table_is():
    x = np.array([[0.0, 2.5], [-1.0, 0.5]])
    assert Scaler.fit("standard", Part(x), Schema(2, image_shape=(1, 2), full_scale=1.0)).kind == "standard"


def test_moments_keep_their_digits_far_from_zero():
    x = np.random.default_rng(0).normal(1.7e9, 1, (10_000, 1))
    assert Scaler.fit("standard", Part(x), Schema(1)).scale == pytest.approx(x.std(axis=0), rel=1e-6)
