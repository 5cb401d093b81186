"""Bottlenecks: what lies between encoder and decoder, from the command line to the bytes."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

import aecli
from aecli.errors import DataError, UsageError
from aecli.model import checkpoint
from aecli.options import FitOptions
from aecli.recipes import resolve
from aecli.training import loop, objectives

QUICK = {"epochs": 3, "hidden_dims": (16,), "device": "cpu"}
KINDS = {"variational": {"bottleneck": "variational", "latent_dim": 3}, "sparse": {"bottleneck": "sparse", "active": 2}}

OF_DIGITS = {"bottleneck": "variational", "latent_dim": 8, "hidden_dims": (48,), "device": "cpu"}


def curve(rows=300, seed=0):
    t = np.random.default_rng(seed).uniform(-2, 2, (rows, 1))
    return np.hstack([t, t**2, np.sin(2 * t), np.cos(2 * t), t**3 / 4, np.exp(t) / 4])


@pytest.fixture(scope="module")
def drawn_digits():
    """A variational model of the digits."""
    return aecli.fit("digits", **OF_DIGITS, epochs=40)


def test_the_divergence_is_that_of_the_closed_form():
    mean, logarithm = torch.randn(2, 40, 5, dtype=torch.float64)
    ours = objectives.divergence(torch.cat([mean, logarithm], 1))
    gaussian = torch.distributions.Normal(mean, (logarithm / 2).exp())
    closed = torch.distributions.kl_divergence(gaussian, torch.distributions.Normal(0.0, 1.0))
    torch.testing.assert_close(ours, closed.float())


@pytest.mark.parametrize(("loss", "scale"), [("bce", "minmax"), ("mse", "standard"), ("huber", "standard")])
def test_the_loss_is_the_reconstructions_nats_and_beta_times_the_divergence(loss, scale):
    model = aecli.fit(curve(), scale=scale, loss=loss, beta=0.3, holdout=0, **KINDS["variational"], **QUICK)
    made = model.checkpoint
    net = loop.Autoencoder(made.model)
    net.load_state_dict({name: torch.tensor(t) for name, t in checkpoint.weights(model.tensors).items()})
    x = torch.tensor(model.scaler.transform(curve()))
    with torch.no_grad():
        mean, logarithm = net.encoder(x).chunk(2, dim=1)
        noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(0))
        recon = net.decode(mean + noise * (logarithm / 2).exp())
    nats = {
        "bce": lambda: torch.nn.functional.binary_cross_entropy(recon, x.clamp(0, 1), reduction="sum"),
        "mse": lambda: ((recon - x) ** 2).sum() / 2,
        "huber": lambda: torch.nn.functional.huber_loss(recon, x, reduction="sum"),
    }[loss]()
    a_row = float(nats) / len(x) + 0.3 * sum(made.results.kl)
    assert made.results.train_loss * 6 / (2 if loss == "mse" else 1) == pytest.approx(a_row, rel=1e-4)


def test_the_codes_of_digits_do_not_collapse(drawn_digits):
    results = drawn_digits.checkpoint.results
    assert drawn_digits.checkpoint.train.loss == "bce"
    assert results.active_dims >= 4
    assert results.active_dims == sum(nats > 0.01 for nats in results.kl)
    assert sum(results.kl) > 2
    assert results.test_mse < results.pca_mse * 1.5
    z = drawn_digits.embed("digits")
    assert z.shape == (360, 8)
    assert np.abs(z.mean(axis=0)).max() < 0.3  # held near N(0, I)
    assert (z.std(axis=0) < 1.3).all()


def test_a_larger_beta_leaves_less_in_the_codes(drawn_digits):
    less, more = (sum(aecli.fit("digits", beta=b, **OF_DIGITS, epochs=10).checkpoint.results.kl) for b in (4, 0.25))
    assert less < sum(drawn_digits.checkpoint.results.kl) < more


def test_what_is_drawn_from_the_prior_looks_like_digits(drawn_digits):
    drawn = drawn_digits.sample(300, seed=1)
    x = load_digits().data
    assert np.array_equal(drawn_digits.sample(5, seed=1), drawn[:5])
    assert drawn.mean(axis=0) == pytest.approx(x.mean(axis=0), abs=2)
    z = np.concatenate(list(drawn_digits.draws(20_000)))
    assert np.cov(z.T) == pytest.approx(np.eye(8), abs=0.05)
    assert drawn_digits.checkpoint.mixture is None


def test_a_sparse_code_keeps_as_many_values_as_are_active_and_may_be_wider_than_a_row():
    model = aecli.fit("digits", bottleneck="sparse", active=6, latent_dim=100, epochs=20, device="cpu")
    results, z = model.checkpoint.results, model.embed("digits")
    assert z.shape == (360, 100)
    assert (np.count_nonzero(z, axis=1) <= 6).all()
    assert 6 <= results.active_dims <= 100
    assert results.test_mse < results.pca_mse  # of PCA with 6 components
    assert (np.count_nonzero(np.concatenate(list(model.draws(50))), axis=1) <= 6).all()
    assert np.isfinite(model.sample(50)).all()


@pytest.mark.usefixtures("one_network")
@pytest.mark.parametrize("optimizer", ["muon", "adam"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_falls_under_both_optimizers(kind, optimizer):
    options = {"optimizer": optimizer, "lr": {"muon": 0.01, "adam": 0.003}[optimizer], "patience": 40}
    history = aecli.fit(curve(), **KINDS[kind] | QUICK | {"epochs": 40}, beta=None, **options).checkpoint.history
    assert history.loss[-1] < 0.9 * history.loss[0]
    assert min(history.validation_loss) < 0.95 * history.validation_loss[0]


@pytest.mark.parametrize("kind", KINDS)
def test_equal_seeds_give_equal_bytes_and_others_others(kind):
    first, again, other = (aecli.fit(curve(), seed=s, **KINDS[kind], **QUICK).to_bytes() for s in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_with_a_bottleneck_is_trained_further_as_it_is(kind):
    model = aecli.fit(curve(), **KINDS[kind], **QUICK)
    further = aecli.fit(curve(seed=1), init_from=model, epochs=2, device="cpu")
    assert further.checkpoint.model == model.checkpoint.model
    with pytest.raises(UsageError, match="--bottleneck is none, and the model has"):
        aecli.fit(curve(), init_from=model, bottleneck="none", epochs=1)


def test_a_variational_model_is_trained_further_with_its_loss_and_beta():
    options = {"loss": "mse", "beta": 0.5, "scale": "minmax"}
    model = aecli.fit(curve(), **KINDS["variational"], **QUICK, **options)
    made = aecli.fit(curve(), init_from=model, epochs=1, device="cpu").checkpoint
    assert (made.train.loss, made.train.beta) == ("mse", 0.5)


def chosen(**options):
    return resolve(FitOptions(**options), 64, 1000, bounded=options.pop("scale", None) == "minmax")


def test_what_is_chosen_where_nothing_is_said():
    model, train = chosen(bottleneck="variational", scale="minmax")
    assert (model.latent_dim, model.encoded_dim, train.loss, train.beta) == (5, 10, "bce", 1.0)
    assert chosen(bottleneck="variational")[1].loss == "mse"
    model, train = chosen(bottleneck="sparse")
    assert (model.latent_dim, model.active, train.loss) == (80, 5, "mse")
    assert chosen(bottleneck="sparse", active=10)[0].latent_dim == 160
    assert chosen(bottleneck="sparse", latent_dim=4)[0].active == 1
    assert chosen(bottleneck="sparse", latent_dim=40)[0].active == 2
    model, _ = chosen(bottleneck="variational", recipe="classic", latent_dim=7, scale="minmax")
    assert (model.latent_activation, model.latent_dim) == ("none", 7)


@pytest.mark.parametrize(
    ("options", "error", "why", "hint"),
    [
        (
            {"active": 3},
            UsageError,
            "--active is for a sparse bottleneck",
            "add --bottleneck sparse, or leave --active out",
        ),
        (
            {"beta": 2.0},
            UsageError,
            "--beta is for a variational bottleneck",
            "add --bottleneck variational, or leave --beta out",
        ),
        (
            {"bottleneck": "sparse", "active": 9, "latent_dim": 8},
            UsageError,
            "--active is 9, and the code has 8 values",
            "choose an --active of at most 8, or a larger --latent-dim",
        ),
        (
            {"bottleneck": "sparse", "active": 64},
            DataError,
            "the bottleneck keeps 64 values, a row of this data has 64: nothing is compressed",
            "choose an --active below 64",
        ),
        (
            {"bottleneck": "variational", "latent_dim": 64},
            DataError,
            "the bottleneck holds 64 values, a row of this data has 64: nothing is compressed",
            "choose a --latent-dim below 64",
        ),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused_with_the_way_out(options, error, why, hint):
    with pytest.raises(error, match=why) as refused:
        chosen(**options)
    assert refused.value.hint == hint


@pytest.mark.usefixtures("one_network")
def test_the_shell_tells_the_divergence_and_each_command_takes_the_model(run):
    done = run("train", "digits", "--bottleneck", "variational", "--epochs", "10", "--json", "-o", "v.safetensors")
    facts, lines = json.loads(done.out), done.err.splitlines()
    nats = ", ".join(f"{facts[name] * 64:.5g}" for name in ("train_loss", "test_loss"))
    said = f"loss (bce + KL): training {facts['train_loss']:.5g}, held-out {facts['test_loss']:.5g}"
    said = f"{said}; in nats per row {nats}"
    assert said in lines
    used = f"KL {sum(facts['kl']):.2f} nats per row, {facts['active_dims']} of 5"
    assert any(line.startswith(used) for line in lines)
    told = run("info", "v.safetensors").out
    assert re.search(r"^bottleneck +variational, a Gaussian for each row$", told, re.MULTILINE)
    assert "decode --samples draws from N(0, I)" in told
    for command in (
        "embed v.safetensors -o z.csv",
        "reconstruct v.safetensors -o r.csv",
        "decode v.safetensors z.csv -o d.csv",
        "decode v.safetensors --samples 5 -o s.csv",
        *(
            f"plot v.safetensors --kind {kind}"
            for kind in ("latent", "samples", "history", "manifold", "traversal", "map")
        ),
    ):
        assert run(*command.split(), "-q").code == 0, command


def test_the_shell_tells_how_much_a_sparse_code_explains_and_each_command_takes_the_model(run):
    words = ["--bottleneck", "sparse", "--active", "4", "--epochs", "10", "--json", "-o", "s.safetensors"]
    done = run("train", "digits", *words)
    facts = json.loads(done.out)
    assert facts["active_values"] == 4
    assert facts["dead_latents"] == 1 - facts["active_dims"] / 64 < 0.05  # of fewer than 10,000 training rows
    told = (
        f"held-out explained variance {facts['explained_variance']:.3f}; 4.0 active values per row; "
        f"{facts['dead_latents']:.1%} of latents dead"
    )
    assert told in done.err.splitlines()
    assert re.search(r"times PCA's \S+ \(4 components\)$", done.err, re.MULTILINE)
    assert re.search(rf"^codes +{re.escape(told)}$", run("info", "s.safetensors").out, re.MULTILINE)
    judged = run("evaluate", "s.safetensors", "digits:test", "--json")
    found = json.loads(judged.out)["model"]
    assert found["explained_variance"] == found["variance_rebuilt"]
    assert found["explained_variance"] == pytest.approx(facts["explained_variance"], rel=1e-5)
    assert found["active_values"] == 4
    assert 0 <= found["dead_latents"] < 0.1
    table = run("evaluate", "s.safetensors", "digits:test").out.splitlines()
    assert all(len(line) <= 80 for line in table)
    assert "active_values          4.000         -         -  code values that are not 0" in table
    for command in (
        "embed s.safetensors -o z.csv",
        "reconstruct s.safetensors -o r.csv",
        "decode s.safetensors z.csv -o d.csv",
        "decode s.safetensors --samples 5 -o s.csv",
        *(f"plot s.safetensors --kind {kind}" for kind in ("latent", "samples", "traversal", "map")),
    ):
        assert run(*command.split(), "-q").code == 0, command


@pytest.mark.usefixtures("few_steps")
def test_who_asks_for_a_bottleneck_gets_it_and_not_pca():
    noise = np.random.default_rng(6).normal(size=(100, 12))
    for options in ({"bottleneck": "variational"}, {"bottleneck": "none"}, {"bottleneck": "sparse"}, {"loss": "huber"}):
        assert aecli.fit(noise, **options, device="cpu").checkpoint.train.init == "fan-in"


def test_the_weights_of_the_tutorial_start_a_variational_model_at_variances_of_1():
    x = np.random.default_rng(0).uniform(size=(200, 64))
    made = aecli.fit(x, recipe="classic", bottleneck="variational", latent_dim=7, epochs=3, device="cpu").checkpoint
    assert made.history.loss[2] < made.history.loss[0] < 1000


def test_training_further_keeps_the_strength_of_the_bottleneck_from_the_first_step(monkeypatch):
    shares = []
    begin = objectives.Sparse.begin
    monkeypatch.setattr(objectives.Sparse, "begin", lambda self, done: (shares.append(done), begin(self, done)))
    model = aecli.fit("digits", bottleneck="sparse", active=6, hidden_dims=(16,), epochs=1, device="cpu")
    steps = shares.index(1) + 1  # those of the networks that calibrate its scores follow
    assert 0 < shares[0] < 0.1 < shares[steps - 1] == 1
    shares.clear()
    aecli.fit("digits", init_from=model, epochs=1, device="cpu")
    assert set(shares[:steps]) == {1}


def test_the_nats_of_each_value_stand_in_the_order_of_the_values(run):
    done = run("train", "digits", "--bottleneck", "variational", "--epochs", "3", "--json", "-o", "v.safetensors")
    shown = " ".join(f"{nats:.2f}" for nats in json.loads(done.out)["kl"])
    assert re.search(rf"^KL .* active: {shown}$", done.err, re.MULTILINE)
    assert re.search(rf"^KL .* active: {shown}$", run("info", "v.safetensors").out, re.MULTILINE)


COLLAPSED = "the codes say nothing about the rows: try a smaller --beta"


@pytest.mark.usefixtures("one_network")
@pytest.mark.parametrize(
    ("options", "way"),
    [
        ([], ", or --scale minmax, for --loss bce"),
        (["--scale", "minmax", "--loss", "bce"], ", or --scale standard"),
        (["--image-shape", "3x2"], ""),
    ],
    ids=["standard", "minmax and bce", "images"],
)
def test_the_way_out_of_collapsed_codes_is_one_that_was_not_taken(run, options, way):
    np.savetxt("rows.csv", np.random.default_rng(0).uniform(0, 1, (60, 6)).round(3), delimiter=",", comments="")
    options = [*options, "--beta", "1000", "--bottleneck", "variational", "--epochs", "30", "--latent-dim", "2"]
    done = run("train", "rows.csv", *options, "-o", "v.safetensors", "--device", "cpu")
    assert done.code == 0, done.err
    assert COLLAPSED + way in done.err.splitlines()


def test_constant_columns_are_named_and_their_codes_need_no_way_out(run):
    Path("rows.csv").write_text("a,b,c\n" + "1,2,3\n" * 40)
    done = run("train", "rows.csv", "--bottleneck", "variational", "--epochs", "2", "--beta", "1000")
    assert done.code == 0, done.err
    assert "3 columns are constant: 'a', 'b', 'c'; --exclude leaves them out" in done.err.splitlines()
    assert COLLAPSED not in done.err
    Path("rows.csv").write_text("a,b,c\n" + "".join(f"{i % 7},2,{i % 5}\n" for i in range(40)))
    done = run("train", "rows.csv", "--epochs", "2", "--force")
    assert "1 column is constant: 'b'; --exclude leaves it out" in done.err.splitlines()


def test_cross_entropy_of_values_that_only_happen_to_lie_in_0_to_1_is_refused_in_true_words(run):
    np.save("rows.npy", np.random.default_rng(0).uniform(0, 1, (60, 6)))
    done = run("train", "rows.npy", "--scale", "none", "--loss", "bce", "--epochs", "1")
    assert (done.code, done.err.splitlines()[-2:]) == (
        1,
        [
            "error: --loss bce is for values from 0 to 1, and this scaling has no bounds",
            "hint: --loss mse or huber takes any values; --scale minmax brings them to that range",
        ],
    )
