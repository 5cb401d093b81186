import numpy as np
import pytest

from aecli import training
from aecli.data.source import ArraySource
from aecli.errors import TrainingError


def blobs(rows=400, inputs=12):
    """Rows near a curved surface of two dimensions, (rows, inputs)."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=(rows, 2))
    return np.tanh(z @ rng.normal(size=(2, 20))) @ rng.normal(size=(20, inputs)) + 0.01 * rng.normal(
        size=(rows, inputs)
    )


def test_the_loss_falls_below_that_of_pca():
    fitted = training.fit(ArraySource("blobs", blobs()), epochs=150, latent_dim=2, device_name="cpu")
    results, history = fitted.checkpoint.results, fitted.checkpoint.history
    assert history.loss[-1] < history.loss[0] / 2
    assert results.test_mse < 0.8 * results.pca_mse
    assert (results.rows, results.test_rows) == (360, 40)
    assert len(history.loss) == len(history.test_loss) == 150
    assert history.test_loss[-1] == results.test_mse


def test_progress_is_told_in_order_and_at_the_end_of_each_epoch():
    told = []
    training.fit(ArraySource("blobs", blobs()), epochs=4, batch_size=30, on_progress=told.append, device_name="cpu")
    assert [p.step for p in told if p.epoch_done] == [12, 24, 36, 48]
    assert [p.step for p in told] == sorted(p.step for p in told)
    assert told[-1].step == told[-1].steps
    assert all(p.test_loss is not None and p.rows_per_second > 0 for p in told if p.epoch_done)


def test_nothing_is_held_out_when_nothing_is_asked_to_be():
    results = training.fit(ArraySource("blobs", blobs()), holdout=0, epochs=2, device_name="cpu").checkpoint.results
    assert (results.rows, results.test_rows, results.test_mse, results.pca_mse) == (400, 0, None, None)


def test_held_out_rows_do_not_touch_the_model():
    x = blobs()
    spoiled = x.copy()
    first = training.fit(ArraySource("a", x), ArraySource("t", x[:50]), epochs=3, device_name="cpu")
    second = training.fit(ArraySource("a", x), ArraySource("t", spoiled[:50] + 100), epochs=3, device_name="cpu")
    assert all(np.array_equal(first.tensors[name], second.tensors[name]) for name in first.tensors)


@pytest.mark.parametrize("options", [{}, {"noise": 0.1}, {"recipe": "classic", "latent_dim": 3}], ids=str)
def test_equal_seeds_give_equal_weights_and_others_others(options):
    def weights(seed):
        fitted = training.fit(
            ArraySource("blobs", blobs()), holdout=0, epochs=3, seed=seed, device_name="cpu", **options
        )
        return np.concatenate([fitted.tensors[name].ravel() for name in sorted(fitted.tensors)])

    assert np.array_equal(weights(1), weights(1))
    assert not np.array_equal(weights(1), weights(2))


def test_a_loss_that_is_no_number_stops_the_run_and_says_where():
    with pytest.raises(TrainingError, match=r"the loss became (nan|inf) at epoch \d+, step \d+"):
        training.fit(ArraySource("b", blobs()), lr=1e30, optimizer="adam", epochs=50, scale="none", device_name="cpu")


def test_whole_pixels_and_their_floats_train_the_same_model():
    pixels = np.random.default_rng(0).integers(0, 256, (100, 4, 4), dtype=np.uint8)
    options = {"image_shape": (4, 4), "full_scale": 255.0}
    narrow, wide = (
        training.fit(ArraySource("p", x, **options), holdout=0, epochs=1, latent_dim=3, device_name="cpu").tensors
        for x in (pixels, pixels.astype(np.float64))
    )
    assert all(np.allclose(narrow[name], wide[name], atol=1e-4) for name in narrow)
