import math
import re
import warnings

import numpy as np
import pandas as pd
import pytest
import torch

import aecli
from aecli.config import ACTIVATIONS, ModelConfig
from aecli.errors import DataError
from aecli.model.module import Autoencoder, OnDevice, inactive, initialise
from aecli.model.network import Network, sparse

SHAPES = [(1, (), 1), (12, (), 3), (12, (8,), 3), (784, (256, 128), 64), (65, (33, 17, 9), 2), (5, (300,), 1)]


def both(config, seed=0):
    """Give one model twice: in NumPy, and in torch on the CPU."""
    torch_model = Autoencoder(config)
    initialise(torch_model, config, "fan-in", torch.zeros(config.inputs), torch.Generator().manual_seed(seed))
    tensors = {name: tensor.numpy() for name, tensor in torch_model.state_dict().items()}
    return Network(config, tensors), OnDevice(config, tensors, torch.device("cpu"))


# The images' shape, the channels, and the widths after them: sizes that no stride divides, one pixel that is left, ...
CONVOLUTIONS = [
    ((28, 28, 1), (16, 32), ()),
    ((17, 23, 3), (4, 8, 5), (20,)),
    ((2, 9, 3), (4,), ()),
    ((5, 3, 4), (7,), ()),
]


@pytest.mark.parametrize("shape", [*SHAPES, *CONVOLUTIONS], ids=str)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_numpy_computes_what_torch_computes(activation, shape):
    activations = dict.fromkeys(("activation", "latent_activation", "output_activation"), activation)
    if shape in CONVOLUTIONS:
        image, channels, hidden = shape
        config = ModelConfig(math.prod(image), hidden, 3, channels=channels, image_shape=image, **activations)
    else:
        config = ModelConfig(*shape, **activations)
    network, on_device = both(config)
    x = np.random.default_rng(0).normal(size=(100, config.inputs)).astype(np.float32)
    z = network.encode(x)
    assert z.dtype == np.float32
    assert z == pytest.approx(on_device.encode(x), rel=1e-5, abs=1e-5)
    assert network.decode(z) == pytest.approx(on_device.decode(z), rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(("latent", "active"), [(3, 1), (40, 5), (40, 40)])
def test_numpy_keeps_what_torch_keeps_of_a_sparse_code(activation, latent, active):
    config = ModelConfig(12, (8,), latent, latent_activation=activation, bottleneck="sparse", active=active)
    network, on_device = both(config)
    x = np.random.default_rng(0).normal(size=(100, 12)).astype(np.float32)
    z = network.encode(x)
    assert z == pytest.approx(on_device.encode(x), rel=1e-5, abs=1e-5)
    assert (np.count_nonzero(z, axis=1) <= active).all()
    if activation not in ("relu", "gelu"):
        assert (np.count_nonzero(z, axis=1) == active).all()


def test_of_equal_values_the_first_are_kept_and_what_is_no_number_stays_none():
    z = np.array([[1, 2, 2, 2, 0], [0, 0, 0, 0, 0], [-1, -2, -3, -3, -9], [np.nan, 1, 2, 3, 4]], np.float32)
    expected = [[0, 2, 2, 0, 0], [0] * 5, [-1, -2, 0, 0, 0]]
    in_torch = torch.tensor(z).masked_fill(inactive(torch.tensor(z), 2), 0).numpy()
    in_numpy = sparse(z.copy(), 2)
    for kept in (in_torch, in_numpy):
        assert kept[:3].tolist() == expected
        assert np.isnan(kept[3, 0])
    assert np.array_equal(in_torch, in_numpy, equal_nan=True)


def test_the_code_of_a_variational_model_is_the_mean_in_numpy_and_in_torch():
    config = ModelConfig(12, (8,), 3, bottleneck="variational")
    network, on_device = both(config)
    x = np.random.default_rng(0).normal(size=(50, 12)).astype(np.float32)
    z = network.encode(x)
    assert (z.shape, z.flags.c_contiguous) == ((50, 3), True)
    assert z == pytest.approx(on_device.encode(x), rel=1e-5, abs=1e-5)
    plain = ModelConfig(12, (8,), 3)
    means = {name: tensor[:3] if name.startswith("encoder.2") else tensor for name, tensor in network._tensors.items()}
    assert z == pytest.approx(Network(plain, means).encode(x), abs=1e-6)
    assert network.decode(z) == pytest.approx(on_device.decode(z), rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_each_activation_is_torchs_over_the_whole_range(activation):
    config = ModelConfig(1, (), 1, latent_activation=activation)
    tensors = dict.fromkeys(("encoder.0.weight", "decoder.0.weight"), np.ones((1, 1), np.float32))
    tensors |= dict.fromkeys(("encoder.0.bias", "decoder.0.bias"), np.zeros(1, np.float32))
    powers = np.logspace(-30, 18, 2000)
    x = np.concatenate([-powers, [0], powers, np.linspace(-20, 20, 4001)]).astype(np.float32)[:, None]
    expected = OnDevice(config, tensors, torch.device("cpu")).encode(x)
    assert np.isfinite(expected).all()
    assert Network(config, tensors).encode(x) == pytest.approx(expected, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_what_is_no_number_stays_none_and_what_overflows_is_no_warning(activation):
    config = ModelConfig(2, (4,), 2, activation, latent_activation=activation)
    network, on_device = both(config)
    x = np.array([[np.nan, 1], [1e18, 1e18], [-1e18, 1e18], [3e38, 3e38], [-3e38, 3e38]], np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        z = network.encode(x)
    assert z[:3] == pytest.approx(on_device.encode(x)[:3], rel=1e-5, abs=1e-5, nan_ok=True)


def test_the_rows_that_go_in_stay_as_they_are():
    network, _ = both(ModelConfig(3, (), 3, latent_activation="sigmoid", output_activation="relu"))
    x = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    before = x.copy()
    network.decode(network.encode(x))
    assert np.array_equal(x, before)


def test_a_row_is_computed_to_the_same_bits_whatever_stands_beside_it(digits_model):
    model = aecli.load(digits_model)
    x = np.random.default_rng(0).integers(0, 17, (700, 64))
    z, recon, errors = model.embed(x), model.reconstruct(x), model.errors(x)
    others = x.copy()
    others[::3] = 0
    kept = np.arange(700) % 3 > 0
    assert np.array_equal(model.embed(others)[kept], z[kept])
    assert np.array_equal(model.errors(others)[kept], errors[kept])
    for rows in (1, 40, 256, 257, 600):
        assert np.array_equal(model.embed(x[:rows]), z[:rows])
        assert np.array_equal(model.reconstruct(x[:rows]), recon[:rows])
        assert np.array_equal(model.decode(z[:rows]), recon[:rows])
    assert model.embed(x[:0]).shape == (0, 5)
    order = np.random.default_rng(1).permutation(len(x))
    assert model.embed(x[order]) == pytest.approx(z[order], rel=1e-5, abs=1e-5)


def test_a_data_frames_columns_are_taken_by_name(iris_model, iris_rows):
    x, names, species = iris_rows
    model, frame = aecli.load(iris_model), pd.DataFrame(x, columns=names).assign(species=species)
    frame = frame[frame.columns[::-1]]
    assert np.array_equal(model.embed(frame), model.embed(x))
    assert np.array_equal(model.reconstruct(frame)[names], model.reconstruct(x))
    assert np.array_equal(model.errors(frame), model.errors(x))
    missing = f"the data frame: 1 of the model's 4 columns are missing: {names[0]!r}"
    with pytest.raises(DataError, match=re.escape(missing)):
        model.embed(frame.drop(columns=names[0]))


def test_a_model_may_be_used_from_several_threads_at_once(digits_model):
    from concurrent.futures import ThreadPoolExecutor

    model = aecli.load(digits_model)
    rows = [np.random.default_rng(seed).integers(0, 17, (300, 64)) for seed in range(8)]
    expected = [model.embed(x) for x in rows]
    with ThreadPoolExecutor(4) as pool:
        for z, found in zip(expected * 4, pool.map(model.embed, rows * 4), strict=True):
            assert np.array_equal(found, z)


def test_other_devices_take_torch_and_auto_takes_it_where_there_is_a_gpu(digits_model, monkeypatch):
    x = np.random.default_rng(0).integers(0, 17, (300, 64))
    on_cpu = aecli.load(digits_model)
    monkeypatch.setattr("aecli.model.device.pick", lambda name: torch.device("cpu" if name == "auto" else "meta"))
    assert isinstance(aecli.load(digits_model, device="auto")._net, Network)
    model = aecli.load(digits_model, device="cuda")
    assert isinstance(model._net, OnDevice)
    tensors = on_cpu._net._tensors
    model._net = OnDevice(model.checkpoint.model, tensors, torch.device("cpu"))
    assert model.embed(x) == pytest.approx(on_cpu.embed(x), rel=1e-5, abs=1e-5)
    assert model.reconstruct(x) == pytest.approx(on_cpu.reconstruct(x), rel=1e-5, abs=1e-4)
    assert model.errors(x) == pytest.approx(on_cpu.errors(x), rel=1e-4)
