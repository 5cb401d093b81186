"""Codes of vectors: those that a search by cosine finds the same rows with, and nested ones."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch.nn import functional

import aecli
from aecli import search
from aecli.config import ModelConfig, Schema, prefixes
from aecli.data.part import Part
from aecli.errors import DataError, UsageError
from aecli.metrics import Pca
from aecli.model.module import Autoencoder
from aecli.model.scaler import Scaler
from aecli.training import objectives
from aecli.training.step import Backprop

QUICK = {"device": "cpu", "store_rows": 0}


def clustered(rows, seed=0):
    """Vectors on a curved surface of three dimensions in 40, away from 0."""
    rng = np.random.default_rng(seed)
    t = rng.uniform(-2, 2, (rows, 3))
    bent = np.hstack([np.sin(2 * t), np.cos(2 * t), t**2, t[:, :1] * t])
    return (bent @ np.random.default_rng(9).normal(size=(12, 40)) + 3).astype(np.float32)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Models of vectors of eight values, nested, as a file, and what was said."""
    folder, said = tmp_path_factory.mktemp("vectors"), []
    model = aecli.fit(
        clustered(600), recipe="vectors", latent_dim=8, nested=True, epochs=12, announce=said.append, **QUICK
    )
    model.save(folder / "m.safetensors")
    return folder / "m.safetensors"


def likeness(z, x):
    """Return the KL divergence that `Likeness` minimises, by autograd's functions."""
    apart = [functional.normalize(each, dim=1) for each in (x, z)]
    p, q = ((u @ u.T / objectives.TEMPERATURE).fill_diagonal_(-1e9).log_softmax(1) for u in apart)
    return functional.kl_div(q, p, log_target=True, reduction="sum")


@pytest.mark.parametrize("widths", [(5,), (5, 2, 1)])
def test_the_gradient_of_likeness_is_autograds(widths):
    torch.manual_seed(0)
    x, z = torch.randn(12, 7), torch.randn(12, 5, requires_grad=True)
    nats, gradient = objectives.Likeness(widths)(z.detach(), x)
    weight = x.square().sum() / (2 * len(x))
    (sum(likeness(z[:, :width], x) for width in widths) / len(widths) * weight).backward()
    assert nats == 0
    torch.testing.assert_close(gradient, z.grad, rtol=1e-3, atol=1e-4)


def test_a_code_of_length_0_has_no_gradient_of_likeness():
    torch.manual_seed(0)
    x, z = torch.randn(12, 7), torch.randn(12, 5)
    z[3] = 0
    gradient = objectives.Likeness((5, 2))(z, x)[1]
    assert not gradient[3].any()
    assert 0 < gradient.abs().max() < 1e4


def test_nested_codes_are_rebuilt_from_their_first_values_in_equal_parts_of_a_batch():
    torch.manual_seed(0)
    config = ModelConfig(6, (5,), 4)
    model, x = Autoencoder(config), torch.randn(9, 6)
    loss = Backprop(model, 9, bottleneck=objectives.Nested(4))(x, x)
    gradients = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    kept = torch.arange(4) < torch.tensor([4] * 3 + [2] * 3 + [1] * 3)[:, None]
    expected = functional.mse_loss(model.decode(model.encode(x) * kept), x)
    expected.backward()
    torch.testing.assert_close(loss, expected.detach())
    torch.testing.assert_close(gradients, [parameter.grad for parameter in model.parameters()], atol=1e-6, rtol=1e-4)


def test_the_prefixes_are_the_half_and_the_quarter():
    assert prefixes(64) == (32, 16)
    assert [prefixes(values) for values in (5, 3, 1)] == [(2, 1), (1,), ()]


def test_pca_that_leaves_the_mean_in_keeps_products_best():
    for x in (clustered(300), clustered(30)):  # more rows than values, and fewer
        scaler = Scaler.fit("none", Part(x), Schema(40))
        pca = Pca(Part(x), scaler, 3, centred=False)
        z = pca.encode(x)
        _, s, vh = np.linalg.svd(x.astype(np.float64), full_matrices=False)
        best = x @ vh[:3].T @ vh[:3]
        np.testing.assert_allclose(z @ z.T, best @ best.T, atol=1e-2 * s[0])
        assert not pca.mean.any()


def test_a_search_among_codes_of_vectors_finds_more_than_among_pcas():
    x, queries = load_digits().data[:1200], load_digits().data[1200:]
    model = aecli.fit(x, recipe="vectors", latent_dim=4, epochs=20, **QUICK)
    made = model.checkpoint
    assert (made.train.recipe, made.scaler, made.train.init) == ("vectors", "common", "fan-in")
    assert made.results.test_recall > made.results.pca_recall + 0.05
    pca = Pca(Part(x), model.scaler, 4, centred=False)
    codes = {"ours": (model.embed(queries), model.embed(x)), "PCA": (pca.encode(queries), pca.encode(x))}
    found = search.recalls(queries, x, codes)
    assert found["ours"] > found["PCA"] + 0.05


def test_where_pca_serves_a_search_better_the_model_is_pcas(run):
    noise = np.random.default_rng(0).normal(size=(400, 20)).astype(np.float32) * 7 + 1
    np.save("noise.npy", noise)
    done = run("train", "noise.npy", "--recipe", "vectors", "--latent-dim", "18", "--device", "cpu")
    assert done.code == 0
    assert "the model is PCA's, a linear autoencoder: on validation rows a network's recall@10 is 0." in done.err
    model = aecli.load("noise-vectors.safetensors")
    made = model.checkpoint
    assert (made.model.hidden_dims, made.train.init, made.history.loss) == ((), "pca", ())
    assert made.results.test_recall == made.results.pca_recall
    assert not model.encode(np.zeros((1, 20), np.float32)).any()  # the mean is left in
    assert "vectors: PCA, because no network served a search better\n" in run("info", "noise-vectors.safetensors").out


def test_who_asks_for_a_network_of_vectors_gets_it_and_is_told_that_pca_finds_more(run):
    np.save("noise.npy", np.random.default_rng(0).normal(size=(150, 6)))
    asked = "--recipe vectors --latent-dim 4 --epochs 1 --device cpu -o m.safetensors"
    done = run("train", "noise.npy", *asked.split())
    made = aecli.load("m.safetensors").checkpoint
    assert made.train.init == "fan-in"
    assert made.results.rows == 135  # and none are held back to compare it with PCA
    recall, of_pca = made.results.test_recall, made.results.pca_recall
    said = (
        f"held-out recall@10 {recall:.3f} with 4 values, PCA's {of_pca:.3f}: a search by cosine among the training rows"
    )
    assert f"{said}; PCA finds more\n" in done.err


def test_what_train_says_of_a_search_is_of_the_rows_as_they_are_and_not_as_they_are_scaled():
    x, queries = clustered(200), clustered(50, seed=1)
    options = {"recipe": "vectors", "scale": "standard", "latent_dim": 4, "epochs": 1}
    model = aecli.fit(x, test=queries, **options, **QUICK)
    found = search.recalls(queries, x, {"codes": (model.embed(queries), model.embed(x))})["codes"]
    assert model.checkpoint.results.test_recall == pytest.approx(found, abs=2e-3)


def test_rows_of_zeros_are_not_searched_for(run, trained):
    x = clustered(60, seed=3)
    x[::6] = 0
    np.save("some.npy", x)
    np.save("zeros.npy", x * 0)
    done = run("evaluate", trained, "some.npy", "--json")
    said = "recall@10: each of 50 rows is searched for among the others, by cosine; the 10 of zeros have no cosine\n"
    assert said in done.err
    z = aecli.load(trained).embed(x)
    expected = search.recalls(x, x, {"model": (z, z)}, themselves=True)["model"]
    assert json.loads(done.out)["codes"][0]["recall_at_10"] == pytest.approx(expected)
    done = run("evaluate", trained, "zeros.npy", "--json")
    assert "recall@10 is left out: all rows are zeros, which have no cosine\n" in done.err
    assert {code["recall_at_10"] for code in json.loads(done.out)["codes"]} == {None}


def test_pca_that_finds_every_row_of_few_is_left_out(trained):
    names = [code.name for code in aecli.load(trained).evaluate(clustered(12, seed=3)).codes]
    assert "PCA" in names
    model = aecli.fit(clustered(40), latent_dim=20, epochs=1, **QUICK)
    assert [code.name for code in model.evaluate(clustered(21, seed=3)).codes] == [
        "model",
        "model, int8",
        "int8",
        "truncated",
    ]


def test_sparse_codes_are_not_searched(run):
    np.save("x.npy", clustered(40))
    asked = "--bottleneck sparse --latent-dim 48 --active 4 --epochs 1 --device cpu -o m.safetensors"
    assert run("train", "x.npy", *asked.split()).code == 0
    done = run("evaluate", "m.safetensors", "x.npy", "--json")
    assert json.loads(done.out)["codes"] == []
    assert "recall@10" not in done.err


@pytest.mark.parametrize(
    ("column", "kind"), [("b,a,b", "category"), ("2024-01-03,2024-01-01,2024-01-05", "date")], ids=["category", "date"]
)
def test_columns_of_other_units_are_no_vectors(run, column, kind):
    Path("t.csv").write_text(
        "x,y,d\n" + "".join(f"{i % 7},{i * i % 5},{each}\n" for i, each in enumerate(column.split(",") * 4))
    )
    done = run("train", "t.csv", "--recipe", "vectors", *["--categorical", "d"] * (kind == "category"))
    assert done.code == 1
    said = f"error: t.csv: --recipe vectors is for numbers of one unit, and column 'd' is a {kind}\n"
    assert said in done.err


@pytest.mark.parametrize(
    ("asked", "rows", "said"),
    [
        (
            {"recipe": "vectors", "batch_size": 2},
            40,
            "--recipe vectors needs batches of at least 3 rows, and these have 2",
        ),
        (
            {"recipe": "vectors", "holdout": 0.0},
            1,
            "--recipe vectors needs batches of at least 3 rows, and these have 1",
        ),
        ({"nested": True, "batch_size": 1}, 40, "--nested needs batches of at least 3 rows, and these have 1"),
    ],
    ids=["two rows a step", "one row", "nested"],
)
def test_a_batch_too_small_to_be_compared_or_cut_is_an_error(asked, rows, said):
    with pytest.raises(DataError) as error:
        aecli.fit(clustered(rows), **asked, **QUICK)
    assert error.value.message == said


def test_evaluate_says_what_a_search_finds(run, trained):
    np.save("new.npy", clustered(200, seed=3))
    done = run("evaluate", trained, "new.npy")
    assert "recall@10: each of 200 rows is searched for among the others, by cosine\n" in done.err
    metrics, codes = done.out.split("\n\n")
    assert metrics.splitlines()[0].split() == ["metric", "model", "PCA"]
    header, *lines = codes.splitlines()
    assert header.split() == ["code", "values", "bytes", "mse", "recall@10"]
    names = ["model", "model, first 4", "model, first 2", "model, int8", "PCA", "PCA, int8", "int8", "truncated"]
    assert [line[:16].rstrip() for line in lines] == names
    found = json.loads(run("evaluate", trained, "new.npy", "--json").out)["codes"]
    assert [code["name"] for code in found] == names
    assert [code["bytes"] for code in found] == [32, 16, 8, 8, 32, 32, 32, 32]
    for line, code in zip(lines, found, strict=True):
        *_, values, size, mse, recall = line.split()
        assert (int(values), int(size)) == (code["values"], code["bytes"])
        assert (mse == "-") if code["mse"] is None else float(mse) == pytest.approx(code["mse"], rel=1e-3)
        assert float(recall) == pytest.approx(code["recall_at_10"], abs=6e-4)
    x = np.load("new.npy")
    basis = np.linalg.svd(x.astype(np.float64), full_matrices=False)[2][:32]
    codes = {name: x @ basis[:width].T for name, width in (("PCA", 8), ("PCA, int8", 32))}
    expected = search.recalls(x, x, {name: (each, each) for name, each in codes.items()}, themselves=True)
    for code in found[4:6]:  # to a byte a value rounds little
        assert code["recall_at_10"] == pytest.approx(expected[code["name"]], abs=0.03)
    errors, recalls = ([code[key] for code in found[:3]] for key in ("mse", "recall_at_10"))
    assert errors == sorted(errors)
    assert recalls == sorted(recalls, reverse=True)


def test_a_table_of_named_columns_is_searched_for_nothing(run, iris_model, iris_csv):
    done = run("evaluate", iris_model, iris_csv)
    assert "recall@10" not in done.out + done.err
    assert json.loads(run("evaluate", iris_model, iris_csv, "--json").out)["codes"] == []


def test_a_run_says_how_good_the_first_values_are(run, trained):
    said, results = run("info", trained).out, aecli.load(trained).checkpoint.results
    of_4, of_2 = (f"{error:.5g}" for error in results.prefix_mse)
    assert f"nested codes   held-out MSE {of_4} with the first 4, {of_2} with the first 2\n" in said
    assert results.test_mse < results.prefix_mse[0] < results.prefix_mse[1]
    model = aecli.load(trained)
    x = clustered(200, seed=3)
    z = model.embed(x)
    z[:, 4:] = 0
    found = model.evaluate(x).codes[1]
    expected = np.square(model.scaler.transform(model.decode(z)) - model.scaler.transform(x)).mean()
    assert (found.name, found.mse) == ("model, first 4", pytest.approx(expected, rel=1e-4))


def test_decode_takes_the_first_values_of_nested_codes(run, trained):
    np.save("x.npy", clustered(30, seed=4))
    embedded = run("embed", trained, "x.npy").out
    first = "".join(",".join(line.split(",")[:4]) + "\n" for line in embedded.splitlines())
    zeros = "".join(
        f"{','.join(line.split(',')[:4])},{','.join(['0'] * 4 if i else [f'z{j}' for j in range(4, 8)])}\n"
        for i, line in enumerate(embedded.splitlines())
    )
    Path("first.csv").write_text(first)
    Path("zeros.csv").write_text(zeros)
    done, whole = run("decode", trained, "first.csv"), run("decode", trained, "zeros.csv")
    assert (done.code, done.out) == (0, whole.out)
    assert run("decode", trained, "-", stdin=first.encode()).out == whole.out
    np.save("first.npy", np.loadtxt("first.csv", delimiter=",", skiprows=1, dtype=np.float32))
    assert run("decode", trained, "first.npy").out == whole.out
    assert run("decode", trained, "first.csv", "--between", "1", "2", "--steps", "2").code == 0
    model = aecli.load(trained)
    np.testing.assert_array_equal(model.decode(np.load("first.npy")), model.decode("zeros.csv"))
    Path("three.csv").write_text("z0,z1,z2\n1,2,3\n")  # training made no code of so many
    done = run("decode", trained, "three.csv")
    assert (done.code, done.out) == (1, "")
    assert "error: three.csv: 5 of the model's 8 columns are missing: 'z3', 'z4', 'z5', 'z6', 'z7'\n" in done.err


def test_without_nested_a_shorter_code_is_an_error(run):
    np.save("x.npy", clustered(40))
    assert run("train", "x.npy", "--latent-dim", "3", "--epochs", "1", "-o", "m.safetensors").code == 0
    Path("first.csv").write_text("z0,z1\n1,2\n")
    done = run("decode", "m.safetensors", "first.csv")
    assert (done.code, done.out) == (1, "")
    assert "error: first.csv: 1 of the model's 3 columns are missing: 'z2'\n" in done.err
    with pytest.raises(DataError, match=r"latent rows of shape \(1, 2\), and \(N, 3\) expected"):
        aecli.load("m.safetensors").decode([[1, 2]])


@pytest.mark.parametrize(
    ("asked", "other"),
    [
        ({"bottleneck": "variational"}, "--bottleneck variational"),
        ({"bottleneck": "sparse"}, "--bottleneck sparse"),
        ({"recipe": "map"}, "--recipe map"),
    ],
    ids=["variational", "sparse", "map"],
)
def test_what_has_no_order_of_values_is_not_nested(asked, other):
    with pytest.raises(UsageError) as error:
        aecli.fit(clustered(40), nested=True, **asked, **QUICK)
    assert error.value.message == f"--nested orders the values of a code by importance, and cannot be used with {other}"


def test_a_code_of_one_value_is_not_nested():
    with pytest.raises(UsageError, match=r"^--nested cuts a code to its half, and this one is 1 value$"):
        aecli.fit(clustered(40), nested=True, latent_dim=1, **QUICK)


@pytest.mark.parametrize("scale", ["common", "minmax"])
def test_vectors_have_no_cross_entropy_whatever_their_scale(scale):
    with pytest.raises(DataError) as error:
        aecli.fit(clustered(40), recipe="vectors", loss="bce", scale=scale, **QUICK)
    said = "--loss bce is for values from 0 to 1, and needs a sigmoid output, which the model does not have"
    assert (error.value.message, error.value.hint) == (said, "--loss mse or huber takes any values")


@pytest.mark.parametrize("bottleneck", ["variational", "sparse"])
def test_codes_of_vectors_have_no_other_bottleneck(bottleneck):
    with pytest.raises(UsageError, match=f"makes codes for a search by cosine, .* --bottleneck {bottleneck}$"):
        aecli.fit(clustered(40), recipe="vectors", bottleneck=bottleneck, **QUICK)


def test_a_model_of_nested_codes_is_trained_further_as_one(trained):
    made = aecli.fit(clustered(60), init_from=trained, epochs=1, **QUICK).checkpoint
    assert made.train.nested
    assert len(made.results.prefix_mse) == 2


def test_an_empty_row_among_shorter_codes_is_decoded_to_an_empty_one(run, trained):
    Path("z.csv").write_text("z0,z1,z2,z3\n1,2,3,4\n,,,\n5,6,7,8\n")
    done = run("decode", trained, "z.csv")
    assert (done.code, done.err) == (0, "left blank 1 row without any value: z.csv: row 2\n")
    _, first, empty, last = done.out.splitlines()
    assert set(empty) == {","}
    assert "," not in (first[0], last[0])
