"""The recipe `map`: neighbours are found, held together in a batch, and a run of it is like any other."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits, make_blobs
from sklearn.metrics.pairwise import nan_euclidean_distances
from sklearn.neighbors import NearestNeighbors

import aecli
from aecli.config import ModelConfig, Schema
from aecli.data.part import Part
from aecli.data.source import ArraySource
from aecli.errors import UsageError
from aecli.model.module import Autoencoder
from aecli.model.scaler import Scaler
from aecli.options import FitOptions
from aecli.recipes import resolve
from aecli.training import neighbours
from aecli.training.fit import fit
from aecli.training.neighbours import Pairs, nearest
from aecli.training.objectives import FAR, Neighbours
from aecli.training.rows import Rows
from aecli.training.step import Backprop

QUICK = {"recipe": "map", "epochs": 2, "device": "cpu"}


def rows(count=400, width=12, seed=0):
    return np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)


def plain_rows(x):
    return Rows(Part(x), Scaler.fit("none", Part(x), Schema(x.shape[1])), torch.device("cpu"))


@pytest.mark.parametrize(("count", "k"), [(2, 1), (30, 15), (64, 3), (700, 15), (1300, 80)])
def test_the_nearest_rows_are_those_that_scikit_learn_finds(count, k):
    x = rows(count)
    expected = NearestNeighbors(n_neighbors=k).fit(x).kneighbors(return_distance=False)
    found = nearest(torch.from_numpy(x), k).numpy()
    np.testing.assert_array_equal(np.sort(found, axis=1), np.sort(expected, axis=1))


def test_equal_rows_are_neighbours_and_no_row_is_its_own():
    x = torch.from_numpy(np.repeat(rows(50), 4, axis=0))
    found = nearest(x, 3)
    assert (found // 4 == torch.arange(200)[:, None] // 4).all()
    assert (found != torch.arange(200)[:, None]).all()
    assert nearest(x[:1], 5).tolist() == [[0]]  # of a lone row there is no other


def test_rows_with_holes_are_compared_by_what_is_there_in_both():
    x = rows(200)
    x[np.random.default_rng(1).random(x.shape) < 0.3] = np.nan
    distances = nan_euclidean_distances(x)
    np.fill_diagonal(distances, np.inf)
    filled = torch.from_numpy(np.nan_to_num(x))
    found = nearest(filled, 5, torch.from_numpy(~np.isnan(x)))
    np.testing.assert_allclose(
        np.take_along_axis(distances, found.numpy(), 1), np.sort(distances, axis=1)[:, :5], rtol=1e-4
    )


def test_rows_that_share_no_value_are_the_farthest_and_no_place_is_beyond_the_rows():
    x = torch.zeros(4, 2)
    there = torch.tensor([[True, False], [False, True], [True, True], [True, False]])
    found = nearest(x, 2, there)
    assert found[1, 0] == 2
    assert set(found[0].tolist()) == {2, 3}
    for count in (10, 45, 130):
        kinds = torch.arange(count)[:, None] % 2 == torch.tensor([[0, 1]])
        assert int(nearest(torch.rand(count, 2), min(15, count - 1), kinds).max()) < count


def test_a_map_of_two_kinds_of_rows_without_a_value_in_common_is_made():
    x = rows(40, 4)
    x[::2, :2], x[1::2, 2:] = np.nan, np.nan
    assert np.isfinite(aecli.fit(x, missing="mean", holdout=0, **QUICK).embed(x)).all()


@pytest.mark.parametrize("shift", [0, 2_000, 20_000])
def test_neighbours_are_found_far_from_0_too(shift):
    x = rows(400, 3).astype(np.float64)
    expected = NearestNeighbors(n_neighbors=5).fit(x).kneighbors(return_distance=False)
    x[:, 0] += shift
    found = nearest(torch.from_numpy(x.astype(np.float32)), 5).numpy()
    assert np.mean([len(np.intersect1d(*pair)) / 5 for pair in zip(found, expected, strict=True)]) > 0.98


def test_one_value_out_of_all_proportion_does_not_outweigh_the_others():
    x = rows(300, 6)
    plain = Pairs(Rows(Part(x), Scaler.fit("robust", Part(x), Schema(6)), torch.device("cpu")), 5, seed=0).variance
    x[0, 0] = 1e5
    far = Pairs(Rows(Part(x), Scaler.fit("robust", Part(x), Schema(6)), torch.device("cpu")), 5, seed=0).variance
    assert far < 1.5 * plain


def test_vectors_of_one_length_in_a_file_are_compared_by_their_angle_too():
    x = rows(300, 80) * np.geomspace(1, 0.01, 80, dtype=np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    file = Rows(Part(x, np.arange(1)), Scaler.fit("standard", Part(x), Schema(80)), torch.device("cpu"))
    nearest_by_angle = NearestNeighbors(n_neighbors=5, metric="cosine").fit(x).kneighbors(return_distance=False)
    scaled, found = file.scaler.transform(x), 0
    for batch in Pairs(file, 5, seed=0).shuffled(50, seed=0):
        places = [np.flatnonzero((scaled == row).all(axis=1)).item() for row in batch.numpy()]
        found += sum(b in nearest_by_angle[a] for a, b in zip(places[:50], places[50:], strict=True))
    assert found / 300 > 0.95


@pytest.mark.parametrize("width", [12, 80], ids=["as they are", "by principal components"])
def test_a_batch_is_rows_and_a_neighbour_of_each(width):
    x = np.repeat(rows(60, width), 5, axis=0) + 0.001 * rows(300, width, seed=1)  # 60 families of five
    pairs = Pairs(plain_rows(x), 4, seed=0)
    seen = []
    for batch in pairs.shuffled(50, seed=3):
        places = [np.flatnonzero((x == row).all(axis=1)).item() for row in batch.numpy()]
        anchors, others = places[:50], places[50:]
        assert all(a // 5 == b // 5 and a != b for a, b in zip(anchors, others, strict=True))
        seen += anchors
    assert sorted(seen) == list(range(300))  # each row once
    again = list(pairs.shuffled(50, seed=3))
    assert all(torch.equal(a, b) for a, b in zip(again, pairs.shuffled(50, seed=3), strict=True))
    assert not torch.equal(again[0], next(pairs.shuffled(50, seed=4)))


@pytest.mark.parametrize("width", [12, 80])
def test_of_vectors_of_one_length_the_angle_decides(width):
    x = rows(300, width) * np.geomspace(1, 0.01, width, dtype=np.float32)  # scaled, all columns would be as good
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    scaled = Rows(Part(x), Scaler.fit("standard", Part(x), Schema(width)), torch.device("cpu"))
    expected = NearestNeighbors(n_neighbors=5, metric="cosine").fit(x).kneighbors(return_distance=False)
    found = Pairs(scaled, 5, seed=0).graph.numpy()
    same = np.mean([len(np.intersect1d(*pair)) / 5 for pair in zip(found, expected, strict=True)])
    assert same > 0.95
    longer = Rows(Part(2 * x + 1), Scaler.fit("standard", Part(2 * x + 1), Schema(width)), torch.device("cpu"))
    assert not (np.sort(Pairs(longer, 5, seed=0).graph) == np.sort(expected)).all(axis=1).mean() > 0.5


def test_neighbours_are_looked_for_among_some_rows_at_a_time(monkeypatch):
    monkeypatch.setattr(neighbours, "TOGETHER", 40)
    x = rows(100)
    pairs = Pairs(plain_rows(x), 5, seed=0)
    order = torch.randperm(100, generator=torch.Generator().manual_seed(0))
    for together in torch.tensor_split(order, 3):
        exact = NearestNeighbors(n_neighbors=5).fit(x[together]).kneighbors(return_distance=False)
        np.testing.assert_array_equal(pairs.graph[together].sort(1).values, together[exact].sort(1).values)


def test_rows_in_a_file_have_neighbours_in_their_window_and_each_is_seen_once(monkeypatch):
    monkeypatch.setattr("aecli.data.part.BLOCK_BYTES", 480)
    monkeypatch.setattr("aecli.training.rows.WINDOW_BYTES", 4800)
    x = np.repeat(rows(40), 10, axis=0) + 0.001 * rows(400, seed=1)  # a block is a family of ten
    part = Part(x, np.arange(40))
    made = Rows(part, Scaler.fit("none", part, Schema(12)), torch.device("cpu"))
    seen = []
    for batch in Pairs(made, 5, seed=0).shuffled(64, seed=0):
        assert batch.shape == (128, 12)
        places = [np.flatnonzero((x == row).all(axis=1)).item() for row in batch.numpy()]
        assert all(a // 10 == b // 10 and a != b for a, b in zip(places[:64], places[64:], strict=True))
        seen += places[:64]
    assert len(seen) == len(set(seen)) == 400 // 64 * 64


@pytest.mark.parametrize("count", [101, 201], ids=lambda count: f"{count} rows")
def test_no_row_in_a_file_is_its_own_neighbour(monkeypatch, count):
    monkeypatch.setattr("aecli.data.part.BLOCK_BYTES", 480)
    monkeypatch.setattr("aecli.training.rows.BLOCK_BYTES", 480)
    monkeypatch.setattr("aecli.training.rows.WINDOW_BYTES", 4800)
    x = rows(count)
    part = Part(x, np.arange(-(-count // 10)))  # the last block is of one row, and is now first, now last
    pairs = Pairs(Rows(part, Scaler.fit("none", part, Schema(12)), torch.device("cpu")), 5, seed=0)
    for seed in range(30):
        seen = [batch.numpy() for batch in pairs.shuffled(1, seed)]
        assert len(seen) == count
        assert not any((row == neighbour).all() for row, neighbour in seen)


def test_the_memory_that_is_announced_holds_the_neighbours_of_all_rows():
    images = ArraySource("", np.broadcast_to(np.uint8(0), (20_000_000, 16)), image_shape=(4, 4), full_scale=255.0)

    def gigabytes(**options):
        def stop(sentence):
            raise InterruptedError(sentence)

        with pytest.raises(InterruptedError) as said:
            fit(images, recipe="map", announce=stop, **options)
        return float(re.search(r"about ([\d.]+) GB of memory", str(said.value))[1])

    assert gigabytes(neighbours=15) - gigabytes(neighbours=5) == pytest.approx(0.8)  # 10 places of 4 bytes a row


def test_the_share_of_rows_that_are_compared_decides_how_many_neighbours_a_row_has(monkeypatch):
    some = [resolve(FitOptions(recipe="map"), 12, n, bounded=False)[1].neighbours for n in (100, 16_384, 30_000, 10**6)]
    assert some == [15, 15, 8, 5]
    monkeypatch.setattr("aecli.data.gather.MEMORY_BYTES", 1000)
    np.save("rows.npy", rows(100))
    in_a_file, asked = (
        aecli.fit("rows.npy", holdout=0, **QUICK, **more).checkpoint.train for more in ({}, {"neighbours": 9})
    )
    assert (in_a_file.neighbours, asked.neighbours) == (5, 9)


def of_a_map(h, x, weight):
    """Write the loss as its sources do: of neighbours, and of distances that go together."""
    a, b = h.chunk(2)
    q = 1 / (1 + torch.cdist(a, b) ** 2)
    pairs = -1.5 * q.diagonal().log() + q.sum(1).log() / 2 + q.sum(0).log() / 2
    near, far = ((rows - rows.roll(1, 0)).norm(dim=1) for rows in (a, x))
    together = torch.corrcoef(torch.stack([near, far]))[0, 1]
    return weight * (pairs.sum() - FAR * len(a) * together)


@pytest.mark.parametrize("latent_dim", [1, 2, 3, 8])
def test_the_neighbours_gradient_is_autograds(latent_dim):
    torch.manual_seed(0)
    h, x = (3 * torch.randn(64, latent_dim)).requires_grad_(), torch.randn(32, 5)
    objective = Neighbours(0.7)
    objective.begin(1.0)
    _, found = objective(h.detach(), x)
    of_a_map(h, x, 0.7).backward()
    torch.testing.assert_close(found, h.grad, rtol=1e-4, atol=1e-5)


def test_the_gradients_of_a_step_are_autograds():
    torch.manual_seed(0)
    config = ModelConfig(12, (9, 6), 2)
    model, x = Autoencoder(config), torch.randn(32, 12)
    objective = Neighbours(0.7)
    objective.begin(1.0)
    by_hand = Backprop(model, 16, objective=objective, pairs=True)
    by_hand(torch.randn(32, 12), torch.randn(16, 12))  # of which nothing is left
    loss = by_hand(x, x[:16])
    gradients = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    h = model.encode(x)
    mse = torch.nn.functional.mse_loss(model.decode(h[:16]), x[:16])
    torch.testing.assert_close(loss, mse.detach())  # what is reported is the error alone
    (mse + 2 / (16 * 12) * of_a_map(h, x[:16], 0.7)).backward()
    torch.testing.assert_close(gradients, [parameter.grad for parameter in model.parameters()], rtol=1e-4, atol=1e-6)


def accuracy(z, labels, z_test, labels_test):
    from sklearn.neighbors import KNeighborsClassifier

    return KNeighborsClassifier(15).fit(z, labels).score(z_test, labels_test)


@pytest.mark.usefixtures("one_network")
def test_a_map_of_the_digits_keeps_neighbours_that_a_plain_code_of_two_values_does_not():
    digits = load_digits()
    x, y = digits.images / 16, digits.target
    order = np.random.default_rng(0).permutation(len(x))
    train, test = order[360:], order[:360]
    scores = {}
    for recipe, epochs in (("map", 15), ("modern", 6)):
        model = aecli.fit(x[train], test=x[test], recipe=recipe, latent_dim=2, epochs=epochs, device="cpu")
        scores[recipe] = accuracy(model.embed(x[train]), y[train], model.embed(x[test]), y[test])
        assert model.checkpoint.results.test_mse < model.checkpoint.results.pca_mse
    assert scores["map"] > 0.9 > scores["modern"] + 0.1


@pytest.mark.usefixtures("one_network")
def test_a_map_of_dim_images_is_not_drowned_in_noise():
    x = load_digits().images.astype(np.uint8)  # 16 of 255 is their brightest
    made = aecli.fit(x, recipe="map", epochs=15, device="cpu").checkpoint
    assert made.train.noise < 0.02
    assert made.results.test_mse < made.results.pca_mse


@pytest.mark.parametrize("count", [1, 2, 3, 20])
def test_few_rows_make_a_map_too(count):
    model = aecli.fit(rows(count), holdout=0, **QUICK)
    assert np.isfinite(model.embed(rows(count))).all()


def test_equal_runs_give_equal_bytes_and_other_seeds_others():
    x = make_blobs(200, 6, random_state=0)[0]
    first, second, other = (aecli.fit(x, seed=seed, **QUICK).to_bytes() for seed in (1, 1, 2))
    assert first == second != other


def test_noise_is_no_more_than_neighbours_differ_by_or_the_layers_of_a_roll_would_become_one():
    from sklearn.datasets import make_swiss_roll

    points, _ = make_swiss_roll(2_000, random_state=0)
    layers = aecli.fit(points, recipe="map", epochs=1, device="cpu").checkpoint.train.noise
    cloud = aecli.fit(np.random.default_rng(0).normal(size=(2_000, 30)), recipe="map", epochs=1, device="cpu")
    assert 0.05 < layers < 0.2 < cloud.checkpoint.train.noise == 0.5


def test_a_map_is_gone_on_with_by_its_own_noise():
    x = 0.01 * rows(100, 6)
    model = aecli.fit(x, scale="none", **QUICK)
    further = aecli.fit(x, init_from=model, epochs=1, device="cpu")
    assert model.checkpoint.train.noise == further.checkpoint.train.noise == 0


def test_a_map_of_images_may_have_convolutions_and_three_values():
    x = (np.random.default_rng(0).random((60, 16, 16)) * 255).astype(np.uint8)
    made = aecli.fit(x, channels=(4, 8), latent_dim=3, **QUICK).checkpoint
    assert (made.model.channels, made.model.latent_dim) == ((4, 8), 3)


def test_a_map_takes_no_bottleneck_of_another_kind():
    with pytest.raises(UsageError, match=r"--recipe map .* --bottleneck variational") as error:
        resolve(FitOptions(recipe="map", bottleneck="variational"), 12, 400, bounded=False)
    assert error.value.hint == "leave --bottleneck out, or choose another --recipe"


def test_the_checkpoint_of_a_map_is_named_so_and_goes_on(run):
    np.savetxt("rows.csv", rows(100), delimiter=",", header=",".join("abcdefghijkl"), comments="")
    assert run("train", "rows.csv", "--recipe", "map", "--epochs", "2", "-q").code == 0
    assert Path("rows-map.safetensors").exists()
    shown = json.loads(run("info", "rows-map.safetensors", "--json").out)
    assert (shown["train"]["recipe"], shown["train"]["neighbours"], shown["model"]["latent_dim"]) == ("map", 15, 2)
    further = run("train", "rows.csv", "--init-from", "rows-map.safetensors", "--epochs", "1", "-o", "f.safetensors")
    assert further.code == 0, further.err
    assert json.loads(run("info", "f.safetensors", "--json").out)["train"]["neighbours"] == 15


@pytest.mark.usefixtures("one_network")
def test_a_map_of_a_table_with_categories_is_drawn_placed_and_judged(run):
    rng, kinds = np.random.default_rng(0), np.repeat(["oak", "fir", "elm"], 40)
    sizes = np.repeat([1.0, 4.0, 7.0], 40)[:, None] + rng.normal(size=(120, 3))
    lines = [f"{kind},{','.join(f'{size:.3f}' for size in row)}" for kind, row in zip(kinds, sizes, strict=True)]
    Path("trees.csv").write_text("\n".join(["kind,height,girth,age", *lines]) + "\n")
    words = "--recipe map --categorical kind --epochs 40 --holdout 0"
    done = run("train", "trees.csv", *words.split())
    assert done.code == 0, done.err
    assert json.loads(run("info", "trees-map.safetensors", "--json").out)["model"]["inputs"] == 6

    codes = run("embed", "trees-map.safetensors", "trees.csv", "-q").out.splitlines()
    assert codes[0] == "z0,z1"
    z = np.loadtxt(codes[1:], delimiter=",")
    place = NearestNeighbors(n_neighbors=5).fit(z).kneighbors(return_distance=False)
    assert (kinds[place] == kinds[:, None]).mean() > 0.95  # a category weighs as much as a number

    assert run("plot", "trees-map.safetensors", "trees.csv", "--colour", "kind", "-o", "trees.svg").code == 0
    assert all(f">{kind}</text>" in Path("trees.svg").read_text() for kind in ("oak", "fir", "elm"))
    judged = json.loads(run("evaluate", "trees-map.safetensors", "trees.csv", "--json").out)
    assert judged["rows"] == 120
    assert judged["model"]["trustworthiness"] > 0.9
    places = "z0,z1\n" + "\n".join(f"{a},{b}" for a, b in z[[0, 50, 100]]) + "\n"
    there = run("decode", "trees-map.safetensors", "-", stdin=places.encode())
    assert there.out.startswith("kind,height,girth,age\noak,"), there
    assert [line.split(",")[0] for line in there.out.splitlines()[1:]] == ["oak", "fir", "elm"]


def test_a_map_of_a_hundred_rows_is_made_by_the_defaults_and_judged(run):
    x, labels = make_blobs(100, 6, centers=4, random_state=0)
    np.savetxt("few.csv", np.column_stack([x, labels]), "%.4f", ",", header="a,b,c,d,e,f,kind", comments="")
    done = run("train", "few.csv", "--label", "kind", "--recipe", "map", "--json")
    assert done.code == 0, done.err
    trained = json.loads(done.out)
    assert trained["test_mse"] < trained["pca_mse"]
    judged = json.loads(run("evaluate", "few-map.safetensors", "few.csv", "--json").out)
    assert judged["model"]["trustworthiness"] > judged["pca"]["trustworthiness"]
    assert judged["model"]["knn_accuracy"] == 1


def test_fewer_neighbours_than_none_are_refused():
    with pytest.raises(UsageError, match="neighbours is -3, and must be at least 0"):
        aecli.fit(rows(40), neighbours=-3, **QUICK)
