"""Dictionaries: a sparse code between two linear layers, wider than a row."""

import numpy as np
import pytest
import torch

import aecli
from aecli.config import Schema
from aecli.data.part import Part
from aecli.model.module import Autoencoder
from aecli.model.scaler import Scaler
from aecli.options import FitOptions
from aecli.recipes import resolve
from aecli.training.dictionary import Dictionary
from aecli.training.loop import Trainer
from aecli.training.rows import Rows
from aecli.training.start import first_weights

ASKED = {"bottleneck": "sparse", "latent_dim": 24, "active": 2}
QUICK = ASKED | {"epochs": 4, "batch_size": 32, "device": "cpu"}


def rows_of_atoms(rows=400, inputs=8, atoms=16, seed=0):
    """Rows that are each a sum of two of some atoms, which are the same whatever the seed."""
    of = np.random.default_rng(9).normal(size=(atoms, inputs))
    rng = np.random.default_rng(seed)
    z = np.zeros((rows, atoms))
    np.put_along_axis(z, rng.permuted(np.tile(np.arange(atoms), (rows, 1)), axis=1)[:, :2], rng.uniform(1, 3, 2), 1)
    return (z @ of).astype(np.float32)


def lengths(model):
    return np.linalg.norm(model.tensors["decoder.0.weight"], axis=0)


def chosen(inputs=64, *, bounded=False, **options):
    return resolve(FitOptions(bottleneck="sparse", **options), inputs, 1000, bounded=bounded)


def started(rows=400, epochs=4):
    x = rows_of_atoms(rows)
    part = Part(x)
    config, train = resolve(FitOptions(**ASKED, epochs=epochs, batch_size=10), 8, rows, bounded=False)
    model = Autoencoder(config)
    training = Rows(part, Scaler.fit("none", part, Schema(8)), torch.device("cpu"))
    first_weights(model, train, None, training)
    return Trainer(model, train, training), torch.from_numpy(x)


def test_a_sparse_code_as_wide_as_its_rows_has_no_other_layers_a_linear_output_and_adam():
    model, train = chosen(bounded=True, latent_dim=64)
    assert (model.hidden_dims, model.channels, model.output_activation) == ((), (), "none")
    assert (train.optimizer, train.lr) == ("adam", 0.007)
    assert chosen(latent_dim=256, lr=0.1)[1].lr == 0.1
    assert chosen(latent_dim=256, optimizer="muon")[1].lr == 0.01
    assert chosen(bounded=True, latent_dim=256, loss="bce")[0].output_activation == "sigmoid"


def test_layers_that_are_asked_for_and_those_of_codes_narrower_than_a_row_stay():
    for options in ({"latent_dim": 256, "hidden_dims": (32,)}, {"latent_dim": 63}, {"recipe": "classic"}):
        model, train = chosen(bounded=True, **options)
        assert model.hidden_dims
        assert model.output_activation == "sigmoid"
        assert train.lr == (0.001 if options.get("recipe") else 0.01)


@pytest.mark.parametrize("rows", [400, 10], ids=["more rows than atoms", "fewer rows than atoms"])
def test_atoms_start_at_length_1_near_rows_with_the_encoder_tied_to_them(rows):
    trainer, x = started(rows)
    model = trainer.model
    atoms, encoder = model.decoder[0].weight.T, model.encoder[0]
    torch.testing.assert_close(torch.linalg.vector_norm(atoms, dim=1), torch.ones(24))
    scale = encoder.weight.norm() / atoms.norm()
    torch.testing.assert_close(encoder.weight, atoms * scale)
    torch.testing.assert_close(encoder.bias, -encoder.weight @ x.mean(0), atol=1e-5, rtol=1e-4)
    off = x - x.mean(0)
    recon = model(x) - x.mean(0)
    assert ((recon - off) ** 2).sum() < 0.7 * (off**2).sum()
    for other in (0.9, 1.1):  # no other scale rebuilds the rows better
        assert ((recon - off) ** 2).sum() < ((other * recon - off) ** 2).sum()


def test_dead_latents_come_back_within_a_few_batches_and_the_biases_of_others_stay_as_they_are():
    trainer, x = started()
    encoder = trainer.model.encoder[0]
    encoder.bias.data[:12] -= 1e3
    bottleneck, before, back = Dictionary(trainer.model, len(x)), encoder.bias.detach().clone(), torch.zeros(24).bool()
    with torch.no_grad():
        for _ in range(5):
            codes = bottleneck.forward(trainer.model.encoder(x))
            back |= (codes != 0).any(0)
            assert torch.equal((codes != 0).sum(1), torch.full((len(x),), 2))
    assert back.all()
    assert torch.equal(encoder.bias[12:], before[12:])


def test_training_keeps_atoms_at_length_1_rebuilds_other_rows_of_the_same_atoms_and_leaves_none_dead():
    trainer, x = started(epochs=40)
    trainer.run(lambda _: None)
    model = trainer.model
    torch.testing.assert_close(torch.linalg.vector_norm(model.decoder[0].weight, dim=0), torch.ones(24))
    with torch.no_grad():
        assert (model.encode(x) != 0).any(0).float().mean() > 0.95
        others = torch.from_numpy(rows_of_atoms(seed=1))
        assert (model(others) - others).square().sum() < 0.15 * (others - others.mean(0)).square().sum()


def test_a_dictionary_trained_further_keeps_the_lengths_of_its_atoms():
    model = aecli.fit(rows_of_atoms(), holdout=0, **QUICK)
    model.tensors["decoder.0.weight"][:, 0] *= 3  # as an earlier aecli left them
    further = aecli.fit(rows_of_atoms(seed=1), init_from=model, epochs=2, holdout=0, device="cpu")
    assert lengths(further) == pytest.approx([3, *[1] * 23], abs=1e-5)
    assert further.checkpoint.train.optimizer == "adam"
