"""The tutorial and what beats it, on the real digits."""

import json

import pytest

pytestmark = pytest.mark.usefixtures("mnist")


def test_the_default_is_far_below_pca_on_the_test_images_in_a_quarter_of_its_epochs(run):
    done = run("train", "mnist", "--epochs", "2", "--json", "--device", "cpu", "-q")
    assert done.code == 0, done.err
    facts = json.loads(done.out)
    assert (facts["rows"], facts["inputs"], facts["latent_dim"], facts["parameters"]) == (60_000, 784, 64, 219_297)
    assert facts["pca_mse"] == pytest.approx(0.00905, abs=0.00001)
    assert facts["test_mse"] <= 0.0028


def test_the_tutorial_learns_as_slowly_as_under_tensorflow(run):
    done = run("train", "mnist", "--recipe", "classic", "--epochs", "2", "--device", "cpu")
    costs = [float(line.split()[3]) for line in done.err.splitlines() if line.startswith("epoch")]
    assert len(costs) == 2
    assert 0.25 > costs[0] > costs[1] > 0.08
