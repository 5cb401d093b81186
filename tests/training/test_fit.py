import numpy as np
import pytest
import torch

from aecli.data.source import ArraySource
from aecli.errors import DataError, TrainingError
from aecli.options import FitOptions
from aecli.recipes import resolve
from aecli.training.fit import fit
from aecli.training.rows import shifts as shifts_of


def blobs(rows=400, inputs=12):
    """Rows near a curved surface of two dimensions, (rows, inputs)."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=(rows, 2))
    return np.tanh(z @ rng.normal(size=(2, 20))) @ rng.normal(size=(20, inputs)) + 0.01 * rng.normal(
        size=(rows, inputs)
    )


def test_the_loss_falls_below_that_of_pca():
    options = {"epochs": 40, "batch_size": 90, "hidden_dims": (64, 32), "latent_dim": 2, "device": "cpu"}
    fitted = fit(ArraySource("blobs", blobs()), **options)
    results, history = fitted.checkpoint.results, fitted.checkpoint.history
    assert history.loss[-1] < history.loss[0] / 2
    assert results.test_mse < 0.8 * results.pca_mse
    assert (results.rows, results.test_rows) == (360, 40)
    assert len(history.loss) == len(history.test_loss) == 40
    assert history.test_loss[-1] == results.test_mse


def test_progress_is_told_in_order_and_at_the_end_of_each_epoch():
    told = []
    fit(ArraySource("blobs", blobs()), epochs=4, batch_size=30, on_progress=told.append, device="cpu")
    assert [p.step for p in told if p.epoch_done] == [12, 24, 36, 48]
    assert [p.step for p in told] == sorted(p.step for p in told)
    assert told[-1].step == told[-1].steps
    assert all(p.test_loss is not None and p.rows_per_second > 0 for p in told if p.epoch_done)


def test_nothing_is_held_out_when_nothing_is_asked_to_be():
    results = fit(ArraySource("blobs", blobs()), holdout=0, epochs=2, device="cpu").checkpoint.results
    assert (results.rows, results.test_rows, results.test_mse, results.pca_mse) == (400, 0, None, None)


def test_held_out_rows_do_not_touch_the_model():
    x = blobs()
    spoiled = x.copy()
    options = {"epochs": 3, "hidden_dims": (8,), "device": "cpu"}
    first = fit(ArraySource("a", x), test=ArraySource("t", x[:50]), **options)
    second = fit(ArraySource("a", x), test=ArraySource("t", spoiled[:50] + 100), **options)
    assert all(np.array_equal(first.tensors[name], second.tensors[name]) for name in first.tensors)


@pytest.mark.parametrize(
    "options", [{}, {"noise": 0.1}, {"patience": 1}, {"recipe": "classic", "latent_dim": 3}], ids=str
)
def test_equal_seeds_give_equal_weights_and_others_others(options):
    def weights(seed):
        options_of_all = {"holdout": 0, "epochs": 3, "hidden_dims": (8,), "device": "cpu"}
        fitted = fit(ArraySource("blobs", blobs()), seed=seed, **options_of_all, **options)
        return np.concatenate([fitted.tensors[name].ravel() for name in sorted(fitted.tensors)])

    assert np.array_equal(weights(1), weights(1))
    assert not np.array_equal(weights(1), weights(2))


@pytest.mark.parametrize("epochs", [1, 3, None])
def test_a_handful_of_rows_does_not_diverge(epochs):
    for rows in (1, 2, 3, 7):
        x = np.random.default_rng(rows).normal(size=(rows, 6))
        results = fit(ArraySource("few", x), holdout=0, epochs=epochs, device="cpu").checkpoint.results
        assert results.train_mse < 1.5


def test_a_loss_that_is_no_number_stops_the_run_and_says_where():
    with pytest.raises(TrainingError, match=r"the loss became (nan|inf) at epoch \d+, step \d+"):
        fit(ArraySource("b", blobs()), lr=1e30, optimizer="adam", epochs=50, scale="none", device="cpu")


def test_weights_that_the_last_step_made_infinite_are_an_error():
    source = ArraySource("few", np.random.default_rng(0).normal(size=(20, 4)))
    with pytest.raises(TrainingError, match=r"(weight|bias) is no longer finite after epoch 1$"):
        fit(source, epochs=1, batch_size=20, lr=1e40, optimizer="adam", holdout=0.0, device="cpu")


@pytest.mark.parametrize("told", [None, (100, 200)])
def test_whole_pixels_and_their_floats_train_the_same_model(told):
    low, high = told or (0, 255)
    pixels = np.random.default_rng(0).integers(low, high + 1, (100, 4, 4), dtype=np.uint8)
    options = {"image_shape": (4, 4), "full_scale": 255.0}
    narrow, wide = (
        fit(ArraySource("p", x, **options), input_range=told, holdout=0, epochs=1, latent_dim=3, device="cpu").tensors
        for x in (pixels, pixels.astype(np.float64))
    )
    assert all(np.allclose(narrow[name], wide[name], atol=1e-4) for name in narrow)


def stripes(rows=300, side=16):
    """8-bit images of diagonal stripes, (rows, side, side), each at a place of its own."""
    rng = np.random.default_rng(0)
    place = np.arange(side)[:, None] + np.arange(side) + rng.integers(0, 8, (rows, 1, 1))
    return np.where(place % 8 < 4, 255, rng.integers(0, 60, (rows, side, side))).astype(np.uint8)


def test_early_stopping_keeps_the_best_weights_on_rows_that_it_cut_off():
    source = ArraySource("noise", np.random.default_rng(0).normal(size=(200, 16)))
    fitted = fit(source, epochs=60, hidden_dims=(64,), patience=3, device="cpu")
    history, results = fitted.checkpoint.history, fitted.checkpoint.results
    best = history.validation_loss.index(min(history.validation_loss))
    assert len(history.loss) == len(history.validation_loss) == len(history.test_loss) == best + 1 + 3 < 60
    assert (results.rows, results.test_rows) == (162, 20)
    assert results.test_mse == history.test_loss[best]


@pytest.mark.usefixtures("one_network")
def test_shifted_images_are_no_longer_learnt_by_heart():
    source = ArraySource("stripes", stripes(), image_shape=(16, 16), full_scale=255.0)
    gaps = []
    for shift in (0, 1):
        options = {"epochs": 30, "hidden_dims": (64,), "latent_dim": 16, "augment_shift": shift, "device": "cpu"}
        results = fit(source, **options).checkpoint.results
        gaps.append(results.test_mse / results.train_mse)
    assert gaps[1] - 1 < (gaps[0] - 1) / 2


def test_images_are_shifted_where_the_model_could_learn_them_by_heart():
    def shift(rows, side, **options):
        return resolve(FitOptions(**options), side * side, rows, bounded=True, image_shape=(side, side))[1]

    assert shift(60_000, 28).augment_shift == 0
    assert shift(60_000, 28, hidden_dims=(1000, 500, 250), latent_dim=30).augment_shift == 1
    assert shift(1_000, 28).augment_shift == 1
    assert shift(1_000, 8).augment_shift == 0
    assert shift(1_000, 28, augment_shift=0).augment_shift == 0
    assert resolve(FitOptions("modern"), 784, 1_000, bounded=True)[1].augment_shift == 0


@pytest.mark.parametrize("channels", [(), (3,)], ids=["grey", "colour"])
def test_a_shift_moves_whole_pixels_and_repeats_the_edge(channels):
    images = (
        np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)[:, :, : 3 if channels else 1].reshape(4, 5, *channels)
    )
    shifts = shifts_of(images.shape, 1)
    moved = {images.reshape(-1)[shift].tobytes() for shift in shifts}
    padded = np.pad(images, [(1, 1), (1, 1)] + [(0, 0)] * len(channels), mode="edge")
    assert moved == {padded[i : i + 4, j : j + 5].tobytes() for i in range(3) for j in range(3)}


def test_only_images_are_shifted():
    with pytest.raises(DataError, match="--augment-shift moves images, and these rows are not images"):
        fit(ArraySource("blobs", blobs()), augment_shift=1, device="cpu")


def test_a_small_model_is_trained_by_one_thread_and_the_caller_keeps_his():
    before, said = torch.get_num_threads(), []
    torch.set_num_threads(2)
    try:
        for widths, threads in (((16,), "CPU, 1 thread"), ((600, 400), "CPU, 2 threads")):
            fit(
                np.random.default_rng(0).normal(size=(64, 20)),
                hidden_dims=widths,
                batch_size=57,
                epochs=1,
                device="cpu",
                on_start=lambda plan: said.append(plan.device),
            )
            assert said[-1] == threads
            assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
