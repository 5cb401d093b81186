import math

import pytest
import torch
from torch.nn import functional

from aecli.config import ACTIVATIONS, ModelConfig
from aecli.model.module import Autoencoder
from aecli.training import objectives, optim
from aecli.training.step import Backprop

SHAPES = {
    "no hidden layer": (5, (), 2),
    "one": (7, (4,), 3),
    "several": (12, (9, 6), 2),
    "wider than its input": (3, (8,), 2),
}


AUTOGRADS = {
    "mse": functional.mse_loss,
    "bce": functional.binary_cross_entropy,
    "huber": lambda recon, target: functional.huber_loss(recon, target, delta=1.0),
}


def losses_and_gradients(config, rows=16, *, bf16=False, loss="mse", spread=1):
    """Give loss and gradients of one batch, by hand and from autograd in fp32; each after a batch of other rows."""
    torch.manual_seed(0)
    model = Autoencoder(config)
    other, x, target = torch.rand(3, rows, config.inputs) * spread
    by_hand = Backprop(model, rows, loss=loss, bf16=bf16)
    by_hand(other, other)
    name, loss = loss, by_hand(x, target)
    gradients = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    expected = AUTOGRADS[name](model(x), target)
    expected.backward()
    return (loss, gradients), (expected.detach(), [parameter.grad for parameter in model.parameters()])


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_gradients_by_hand_are_autograds(activation, shape):
    inputs, hidden_dims, latent_dim = shape
    for latent, output in (("none", "sigmoid"), (activation, activation)):
        config = ModelConfig(inputs, hidden_dims, latent_dim, activation, latent, output)
        (loss, gradients), (expected, autograds) = losses_and_gradients(config)
        torch.testing.assert_close(loss, expected)
        torch.testing.assert_close(gradients, autograds, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(
    ("image", "channels", "hidden"),
    [((8, 8, 1), (3, 5), ()), ((7, 11, 3), (4,), (6,)), ((2, 5, 4), (2,), ())],
    ids=["two", "one, of odd sizes, and a dense layer", "the smallest image"],
)
def test_gradients_of_convolutions_by_hand_are_autograds(activation, image, channels, hidden):
    for latent, output in (("none", "sigmoid"), (activation, activation)):
        shape = {"channels": channels, "image_shape": image}
        config = ModelConfig(math.prod(image), hidden, 3, activation, latent, output, **shape)
        (loss, gradients), (expected, autograds) = losses_and_gradients(config)
        torch.testing.assert_close(loss, expected)
        torch.testing.assert_close(gradients, autograds, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize(
    ("loss", "output", "spread"), [("bce", "sigmoid", 1), ("huber", "none", 4), ("huber", "gelu", 4)]
)
def test_gradients_of_each_loss_by_hand_are_autograds(loss, output, spread):
    config = ModelConfig(12, (9, 6), 2, output_activation=output)
    (found, gradients), (expected, autograds) = losses_and_gradients(config, loss=loss, spread=spread)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradients, autograds, atol=1e-6, rtol=1e-4)


def test_gradients_of_the_cross_entropy_by_hand_are_autograds_of_convolutions_too():
    config = ModelConfig(64, (6,), 3, output_activation="sigmoid", channels=(3, 5), image_shape=(8, 8, 1))
    (found, gradients), (expected, autograds) = losses_and_gradients(config, loss="bce")
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradients, autograds, atol=1e-6, rtol=1e-4)


def test_the_cross_entropy_of_outputs_that_are_certain_and_wrong_is_finite_and_right():
    model = Autoencoder(ModelConfig(2, (), 1, output_activation="sigmoid"))
    with torch.no_grad():
        model.decoder[0].weight.zero_()
        model.decoder[0].bias.copy_(torch.tensor([200.0, -200.0]))
    loss = Backprop(model, 3, loss="bce")(torch.zeros(3, 2), torch.tensor([[0.0, 1.0]]).expand(3, 2))
    assert float(loss) == pytest.approx(200)
    torch.testing.assert_close(model.decoder[0].bias.grad, torch.tensor([0.5, -0.5]))


def variational(model, x, target, noise, loss, beta, counted=None):
    """Give the loss of a variational autoencoder as its paper has it, for autograd: a mean over counted values."""
    mean, logarithm = model.encoder(x).chunk(2, dim=1)
    recon = model.decode(mean + noise * torch.exp(logarithm / 2))
    posterior = torch.distributions.Normal(mean, torch.exp(logarithm / 2))
    kl = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0.0, 1.0)).sum()
    counted = torch.ones_like(x, dtype=torch.bool) if counted is None else counted
    error = AUTOGRADS[loss](recon[counted], target[counted])
    return error + (2 if loss == "mse" else 1) * beta * kl / counted.sum()


@pytest.mark.parametrize("holes", [False, True], ids=["whole", "holes"])
@pytest.mark.parametrize("hidden", [(), (9,), (9, 6)], ids=str)
@pytest.mark.parametrize("loss", AUTOGRADS)
def test_gradients_of_a_variational_bottleneck_by_hand_are_autograds(loss, hidden, holes):
    torch.manual_seed(0)
    config = ModelConfig(12, hidden, 3, output_activation="sigmoid", bottleneck="variational")
    model = Autoencoder(config)
    other, x, target = torch.rand(3, 16, 12)
    counted = torch.rand(16, 12) < 0.7 if holes else None
    generator = torch.Generator().manual_seed(1)
    divergence = objectives.Divergence(2.5)
    bottleneck = objectives.Variational(generator)
    by_hand = Backprop(model, 16, loss=loss, bottleneck=bottleneck, objective=divergence)
    by_hand(other, other)
    generator.manual_seed(2)
    found = by_hand(x, target, counted)
    gradients = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    noise = torch.randn(16, 3, generator=generator.manual_seed(2))
    expected = variational(model, x, target, noise, loss, 2.5, counted)
    expected.backward()
    torch.testing.assert_close(found, expected.detach())
    torch.testing.assert_close(gradients, [parameter.grad for parameter in model.parameters()], atol=1e-6, rtol=1e-4)


def test_the_weight_of_the_divergence_rises_and_the_loss_is_that_of_the_whole_weight():
    h, divergence = torch.randn(5, 6), objectives.Divergence(2.0)
    nats, whole = divergence(h, h)
    for done, share in ((0.01, 0.1), (0.05, 0.5), (0.1, 1.0), (1.0, 1.0)):
        divergence.begin(done)
        now, gradient = divergence(h, h)
        torch.testing.assert_close(now, nats)
        torch.testing.assert_close(gradient, whole * share)


def test_a_sparse_bottleneck_keeps_all_values_at_first_and_fewer_over_the_first_tenth():
    h, sparse = torch.randn(5, 40), objectives.Sparse(4)
    for done, kept in ((0.0, 40), (0.05, 22), (0.1, 4), (1.0, 4)):
        sparse.begin(done)
        assert (sparse.forward(h) != 0).sum(1).tolist() == [kept] * 5


@pytest.mark.parametrize("hidden", [(), (9, 6)], ids=str)
@pytest.mark.parametrize(("active", "latent"), [(1, 3), (4, 20), (20, 20)])
def test_gradients_of_a_sparse_bottleneck_by_hand_are_autograds(active, latent, hidden):
    torch.manual_seed(0)
    model = Autoencoder(ModelConfig(12, hidden, latent, bottleneck="sparse", active=active))
    other, x, target = torch.rand(3, 16, 12)
    by_hand = Backprop(model, 16, bottleneck=objectives.Sparse(active))
    by_hand(other, other)
    found = by_hand(x, target)
    gradients = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    h = model.encoder(x)
    kept = torch.zeros_like(h).scatter(1, h.topk(active).indices, 1)
    expected = functional.mse_loss(model.decode(h * kept), target)
    expected.backward()
    torch.testing.assert_close(found, expected.detach())
    torch.testing.assert_close(gradients, [parameter.grad for parameter in model.parameters()], atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("kind", ["variational", "sparse"])
def test_gradients_of_a_bottleneck_in_bf16_are_near_those_in_fp32(kind):
    torch.manual_seed(0)
    config = ModelConfig(
        64, (32,), 16, output_activation="sigmoid", bottleneck=kind, active=16 if kind == "sparse" else None
    )
    model, x = Autoencoder(config), torch.rand(256, 64)
    found = []
    for bf16 in (False, True):
        bottleneck = objectives.bottleneck(config, torch.Generator().manual_seed(1))
        objective = objectives.Divergence(1.0) if kind == "variational" else None
        loss = Backprop(model, 256, loss="bce", bottleneck=bottleneck, objective=objective, bf16=bf16)(x, x)
        found.append((loss, torch.cat([parameter.grad.flatten() for parameter in model.parameters()]).clone()))
    torch.testing.assert_close(found[1][0], found[0][0], rtol=0.01, atol=0)
    assert torch.linalg.vector_norm(found[1][1] - found[0][1]) < 0.05 * torch.linalg.vector_norm(found[0][1])


@pytest.mark.parametrize("loss", AUTOGRADS)
def test_values_that_are_not_counted_have_no_part_in_any_loss(loss):
    torch.manual_seed(0)
    model = Autoencoder(ModelConfig(6, (5,), 2, output_activation="sigmoid"))
    x, counted = torch.rand(16, 6), torch.rand(16, 6) < 0.7
    found = Backprop(model, 16, loss=loss)(x, x, counted)
    gradients = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    expected = AUTOGRADS[loss](model(x)[counted], x[counted])
    expected.backward()
    torch.testing.assert_close(found, expected.detach())
    torch.testing.assert_close(gradients, [parameter.grad for parameter in model.parameters()], atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("channels", [(), (8,)], ids=["dense", "convolution"])
def test_gradients_in_bf16_are_near_those_in_fp32(channels):
    shape = {"channels": channels, "image_shape": (8, 8, 1) if channels else None}
    config = ModelConfig(64, (32, 16), 8, output_activation="sigmoid", **shape)
    (loss, gradients), (expected, exact) = losses_and_gradients(config, rows=256, bf16=True)
    torch.testing.assert_close(loss, expected, rtol=0.01, atol=0)
    for gradient, other in zip(gradients, exact, strict=True):
        assert gradient.dtype == torch.float32
        assert torch.linalg.vector_norm(gradient - other) < (0.05 if channels else 0.03) * torch.linalg.vector_norm(
            other
        )


def test_an_optimizer_made_later_gets_the_gradients():
    torch.manual_seed(0)
    model = Autoencoder(ModelConfig(6, (4,), 2))
    by_hand = Backprop(model, 8)
    x = torch.rand(8, 6)
    by_hand(x, x)
    for build in (optim.Muon, optim.Adam):
        optimizer, before = build(model.parameters()), by_hand(x, x)
        for _ in range(20):
            optimizer.step(0.01)
            loss = by_hand(x, x)
        assert loss < before


def test_large_values_give_finite_gradients():
    config = ModelConfig(4, (6,), 2)
    model = Autoencoder(config)
    x = torch.full((8, 4), 1e6)
    loss = Backprop(model, 8)(x, x)
    assert torch.isfinite(loss)
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())
