import pytest
import torch

from aecli.config import ACTIVATIONS, ModelConfig
from aecli.errors import UsageError
from aecli.model.layers import tensor_shapes
from aecli.model.module import Autoencoder, initialise


@pytest.mark.parametrize("hidden", [(), (8,), (16, 8)], ids=str)
@pytest.mark.parametrize("activation", ["gelu", "sigmoid", "none"])
def test_the_state_dict_is_the_table_of_layers(hidden, activation):
    config = ModelConfig(12, hidden, 3, activation=activation, output_activation="sigmoid")
    shapes = {name: tuple(tensor.shape) for name, tensor in Autoencoder(config).state_dict().items()}
    assert shapes == tensor_shapes(config)
    assert sum(tensor.numel() for tensor in Autoencoder(config).parameters()) == config.parameters


@pytest.mark.parametrize("kind", [{"bottleneck": "variational"}, {"bottleneck": "sparse", "active": 2}], ids=str)
@pytest.mark.parametrize("hidden", [(), (16, 8)], ids=str)
def test_the_state_dict_of_a_bottleneck_is_the_table_of_layers(hidden, kind):
    config = ModelConfig(12, hidden, 3, **kind)
    shapes = {name: tuple(tensor.shape) for name, tensor in Autoencoder(config).state_dict().items()}
    assert shapes == tensor_shapes(config)
    assert sum(tensor.numel() for tensor in Autoencoder(config).parameters()) == config.parameters


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"bottleneck": "sparse"}, "active is None, and must be 1 to 3"),
        ({"bottleneck": "sparse", "active": 4}, "active is 4, and must be 1 to 3"),
        ({"active": 2}, "active is 2, and must be left out"),
        ({"bottleneck": "wide"}, "bottleneck is wide, and must be one of none, variational, sparse"),
        ({"bottleneck": "variational", "latent_activation": "tanh"}, "latent_activation is tanh, and must be none"),
    ],
    ids=str,
)
def test_a_bottleneck_that_makes_no_sense_is_refused(asked, why):
    with pytest.raises(UsageError, match=why):
        ModelConfig(12, (8,), 3, **asked)


def test_the_state_dict_of_convolutions_is_the_table_of_layers():
    config = ModelConfig(15 * 9 * 2, (8,), 3, channels=(4, 6), image_shape=(15, 9, 2))
    shapes = {name: tuple(tensor.shape) for name, tensor in Autoencoder(config).state_dict().items()}
    assert shapes == tensor_shapes(config)
    assert shapes["encoder.2.weight"] == (6, 4, 4, 4)
    assert shapes["decoder.4.weight"] == (6, 4, 4, 4)
    assert sum(tensor.numel() for tensor in Autoencoder(config).parameters()) == config.parameters


def test_more_convolutions_than_halve_the_image_are_refused():
    with pytest.raises(
        UsageError,
        match="--channels 4,4,4: 3 convolutions, and images of 4 × 7 pixels allow at most 2: each halves the image",
    ):
        ModelConfig(28, (), 3, channels=(4, 4, 4), image_shape=(7, 4, 1))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_rows_go_through_the_bottleneck_and_come_back(activation):
    model = Autoencoder(ModelConfig(12, (8,), 3, activation=activation, latent_activation=activation))
    x = torch.randn(5, 12)
    z = model.encode(x)
    assert z.shape == (5, 3)
    assert model.decode(z).shape == (5, 12)
    assert torch.equal(model(x), model.decode(z))


def test_the_tutorials_weights_are_drawn_from_a_standard_normal():
    config = ModelConfig(784, (256, 128), 64)
    model = Autoencoder(config)
    initialise(model, config, "normal", torch.zeros(784), torch.Generator().manual_seed(0))
    for parameter in model.parameters():
        assert float(parameter.detach().mean()) == pytest.approx(0, abs=5 / parameter.numel() ** 0.5)
        assert float(parameter.detach().std()) == pytest.approx(1, abs=5 / parameter.numel() ** 0.5)


def test_equal_seeds_draw_equal_weights_and_others_others():
    config = ModelConfig(12, (8,), 3)
    models = [Autoencoder(config) for _ in range(3)]
    for model, seed in zip(models, (1, 1, 2), strict=True):
        initialise(model, config, "fan-in", torch.zeros(12), torch.Generator().manual_seed(seed))
    first, again, other = (torch.cat([p.detach().flatten() for p in model.parameters()]) for model in models)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("output", ["sigmoid", "none"])
def test_the_modern_start_gives_back_the_mean_row(output):
    config = ModelConfig(12, (8,), 3, output_activation=output)
    model, mean = Autoencoder(config), torch.linspace(0.1, 0.9, 12)
    initialise(model, config, "fan-in", mean, torch.Generator().manual_seed(0))
    with torch.no_grad():
        model.decoder[-2 if output == "sigmoid" else -1].weight.zero_()
        assert torch.allclose(model(torch.randn(5, 12)), mean.expand(5, 12), atol=1e-6)
