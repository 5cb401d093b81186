import numpy as np
import pytest

from aecli.config import Schema
from aecli.data.part import Part
from aecli.model.scaler import KINDS, Scaler


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


def test_holes_count_in_no_statistic():
    x = np.random.default_rng(0).normal([5, -100], [1, 10], (1000, 2))
    holed = np.concatenate([x, np.full((500, 2), np.nan)])
    for kind in KINDS:
        scaler, whole = (Scaler.fit(kind, Part(rows), Schema(2)) for rows in (holed, x))
        assert scaler.scale == pytest.approx(whole.scale, rel=0.05)
        assert scaler.transform(np.full((1, 2), np.nan)) == pytest.approx(whole.transform(whole.fill[None]), abs=0.01)


def test_one_value_does_not_decide_the_robust_scale():
    x = np.random.default_rng(0).normal(50, 3, (2000, 1))
    x[7] = 1e9
    scaler = Scaler.fit("robust", Part(x), Schema(1))
    assert scaler.scale == pytest.approx([3], rel=0.1)
    assert scaler.transform(x)[7] > 1e8
    assert scaler.transform(x, training=True).max() == 20
    rare = Scaler.fit("robust", Part(np.eye(10)), Schema(10))
    assert rare.scale == pytest.approx(np.full(10, 0.3))


def test_quantiles_make_a_normal_distribution_of_any():
    x = np.random.default_rng(0).lognormal(0, 3, (5000, 2)).round(2)
    scaler = Scaler.fit("quantile", Part(x), Schema(2))
    scaled = scaler.transform(x)
    assert np.abs(scaled).max() < 5
    for level, score in ((0.16, -1), (0.5, 0), (0.84, 1)):
        assert np.quantile(scaled, level, axis=0) == pytest.approx([score] * 2, abs=0.1)


@pytest.mark.parametrize("values", ["ties", "few", "constant", "beyond"])
def test_quantiles_have_an_inverse(values):
    rng = np.random.default_rng(0)
    x = {
        "ties": rng.integers(0, 3, (300, 2)).astype(float),
        "few": rng.normal(size=(4, 2)),
        "constant": np.full((50, 2), 7.5),
        "beyond": rng.normal(1e6, 10, (300, 2)),
    }[values]
    scaler = Scaler.fit("quantile", Part(x), Schema(2))
    wide = np.concatenate([x, x + (x.max() - x.min()) * 3, x - 20]) if values == "beyond" else x
    scaled = scaler.transform(wide)
    assert scaler.inverse(scaled) == pytest.approx(wide, rel=1e-5, abs=1e-6)
    assert (np.diff(scaled[np.argsort(wide[:, 0], kind="stable"), 0]) >= 0).all()


@pytest.mark.parametrize("kind", KINDS[:4])
@pytest.mark.parametrize(("start", "step"), [(4_111_111_111_111_111, 7), (1_700_000_000, 5), (10**15, 0.125)])
def test_a_spread_that_is_small_beside_its_values_is_a_spread(kind, start, step):
    x = start + step * np.arange(300.0)[:, None]
    scaler = Scaler.fit(kind, Part(x), Schema(1))
    scaled = scaler.transform(x)
    assert scaled.max() - scaled.min() > 0.9
    assert np.abs(scaler.inverse(scaled) - x).max() <= step * 1e-3 + np.spacing(x.max())


def test_one_factor_for_all_columns_keeps_cosines():
    x = np.random.default_rng(0).normal(5, [1, 20, 300], (200, 3))
    scaler = Scaler.fit("common", Part(x), Schema(3))
    scaled = scaler.transform(x)
    assert np.square(scaled).mean() == pytest.approx(1)
    assert scaled / np.linalg.norm(scaled, axis=1)[:, None] == pytest.approx(x / np.linalg.norm(x, axis=1)[:, None])
    assert scaler.inverse(scaled) == pytest.approx(x, rel=1e-5)
    assert Scaler.fit("common", Part(np.zeros((4, 3))), Schema(3)).scale == 1
