import pytest

from aecli.config import Column, ModelConfig, Schema, TrainConfig
from aecli.errors import DataError, UsageError
from aecli.options import FitOptions
from aecli.recipes import RECIPES, resolve


def test_the_tutorials_recipe_is_the_tutorial_to_the_letter():
    model, train = resolve(FitOptions("classic"), 784, 60_000, bounded=True)
    assert model == ModelConfig(784, (256, 128), 64, "sigmoid", "sigmoid", "sigmoid")
    assert (train.optimizer, train.lr, train.batch_size, train.epochs) == ("adam", 0.001, 256, 50)
    assert (train.init, train.schedule, train.precision, train.noise) == ("normal", "constant", "fp32", 0.0)


def test_its_second_half_has_two_layers_more_and_a_linear_bottleneck_of_two():
    model, _ = resolve(FitOptions("classic-2d"), 784, 60_000, bounded=True)
    assert model == ModelConfig(784, (256, 128, 64, 10), 2, "sigmoid", "none", "sigmoid")


@pytest.mark.parametrize(
    ("inputs", "latent_dim"), [(784, 64), (64, 5), (13, 2), (4, 2), (3, 2), (2, 1), (100_000, 64)], ids=str
)
def test_the_bottleneck_is_a_twelfth_of_the_inputs_within_2_and_64(inputs, latent_dim):
    assert resolve(FitOptions("modern"), inputs, 1000, bounded=False)[0].latent_dim == latent_dim


def test_one_value_a_row_cannot_be_compressed():
    with pytest.raises(DataError, match="a row of this data is one value"):
        resolve(FitOptions("modern"), 1, 1000, bounded=False)


@pytest.mark.parametrize("rows", [5, 150, 1437, 60_000, 1_000_000])
def test_few_rows_and_many_get_a_run_of_sane_length(rows):
    _, train = resolve(FitOptions("modern"), 30, rows, bounded=False)
    steps = train.epochs * max(1, rows // train.batch_size)
    assert train.batch_size <= 512
    assert train.epochs >= 2
    assert 100 <= steps <= 10_000


def test_what_is_asked_for_overrides_the_recipe():
    model, train = resolve(
        FitOptions("classic", latent_dim=7, epochs=2, lr=None, seed=3, holdout=0.0), 784, 100, bounded=True
    )
    assert (model.latent_dim, train.epochs, train.lr, train.seed) == (7, 2, 0.001, 3)


@pytest.mark.parametrize("recipe", RECIPES)
def test_configs_survive_json(recipe):
    for config in resolve(FitOptions(recipe), 784, 100, bounded=True):
        assert type(config).from_json(config.to_json()) == config


def test_schemas_survive_json():
    for schema in (
        Schema(2, columns=(Column("a"), Column("b")), label="c"),
        Schema(6, image_shape=(1, 2, 3), full_scale=255.0),
    ):
        assert Schema.from_json(schema.to_json()) == schema


@pytest.mark.parametrize(
    ("field", "value"),
    [("epochs", 0), ("epochs", "3"), ("epochs", True), ("lr", float("nan")), ("lr", 0.0), ("optimizer", "magic")],
    ids=str,
)
def test_a_value_that_is_out_of_range_or_of_another_type_is_refused(field, value):
    _, train = resolve(FitOptions("modern"), 784, 100, bounded=True)
    with pytest.raises((ValueError, UsageError), match=field):
        TrainConfig.from_json(train.to_json() | {field: value})


@pytest.mark.parametrize(
    ("asked", "inputs", "rows", "image", "layers", "epochs", "batch"),
    [
        ({}, 784, 60_000, (28, 28), "784-conv16-conv32-64", 9, 128),
        ({"latent_dim": 2}, 784, 60_000, (28, 28), "784-256-128-128-128-2", 20, 512),
        ({"hidden_dims": (256, 128)}, 784, 60_000, (28, 28), "784-256-128-64", 20, 512),
        ({}, 225, 60_000, (15, 15), "225-256-128-19", 20, 512),
        ({}, 64, 1_437, (8, 8), "64-256-5", 48, 89),
        ({}, 64, 50_000, None, "64-64-64-5", 23, 512),
        ({}, 65, 50_000, None, "65-256-128-5", 23, 512),
        ({}, 512, 5_000, None, "512-64-64-43", 70, 312),
        ({"recipe": "map"}, 12, 10, None, "12-128-64-64-64-2", 600, 10),
        ({"recipe": "map"}, 12, 50, None, "12-128-64-64-64-2", 384, 16),
        ({"recipe": "map"}, 12, 499, None, "12-128-64-64-64-2", 149, 31),
        ({"recipe": "map"}, 12, 500, None, "12-256-128-128-128-2", 149, 31),
        ({"recipe": "map"}, 12, 10_000_000, None, "12-256-128-128-128-2", 1, 512),
    ],
)
def test_layers_and_steps_follow_the_data(asked, inputs, rows, image, layers, epochs, batch):
    model, train = resolve(FitOptions(**asked), inputs, rows, bounded=True, image_shape=image)
    assert (model.layers, train.epochs, train.batch_size) == (layers, epochs, batch)


def test_a_short_run_has_the_weight_decay_of_one_of_the_usual_length_and_a_long_one_less():
    usual, short, long = (
        resolve(FitOptions(epochs=epochs), 784, 10_000, bounded=True, image_shape=(28, 28))[1].weight_decay
        for epochs in (31, 2, 310)
    )
    assert short == pytest.approx(usual, rel=0.02)
    assert long == pytest.approx(usual / 10, rel=0.02)
