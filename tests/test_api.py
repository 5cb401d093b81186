"""The library: what the command line is a client of."""

import dataclasses
import inspect
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import aecli
from aecli.cli import build
from aecli.errors import DataError, UsageError


def quick(data, **options):
    return aecli.fit(data, **{"epochs": 2, "hidden_dims": (8,), "device": "cpu"} | options)


def test_fit_gives_the_bytes_that_the_command_writes_and_prints_nothing(run, iris_csv, capfd):
    run("train", iris_csv, "--label", "species", "--epochs", "2", "--hidden-dims", "8", "--device", "cpu", "-q")
    model = quick("iris.csv", label="species")
    model.save("again.safetensors")
    assert Path("again.safetensors").read_bytes() == Path("iris.safetensors").read_bytes() == model.to_bytes()
    assert capfd.readouterr() == ("", "")


def test_a_fitted_model_is_the_model_that_load_gives(iris_csv):
    model = quick(iris_csv, label="species")
    model.save("m.safetensors")
    loaded = aecli.load("m.safetensors")
    assert isinstance(loaded, aecli.Model)
    rows = np.random.default_rng(0).normal(5, 1, (20, 4))
    for what in ("embed", "reconstruct", "errors"):
        assert np.array_equal(getattr(model, what)(rows), getattr(loaded, what)(rows))


def test_a_path_a_data_frame_and_an_arrow_table_of_the_same_rows_give_equal_weights(iris_csv):
    frame = pd.read_csv(iris_csv)
    models = [quick(data, label="species") for data in (str(iris_csv), frame, pa.Table.from_pandas(frame))]
    assert [model.checkpoint.source for model in models] == ["iris.csv", None, None]
    schema = dataclasses.replace(models[0].schema, dialect=None)
    models[0].checkpoint = dataclasses.replace(models[0].checkpoint, source=None, schema=schema, fingerprint=None)
    for model in models[1:]:
        model.checkpoint = dataclasses.replace(model.checkpoint, fingerprint=None)
    assert models[0].to_bytes() == models[1].to_bytes() == models[2].to_bytes()
    codes = [models[0].embed(rows) for rows in (iris_csv, frame, frame[frame.columns[::-1]])]
    assert np.array_equal(codes[0], codes[1])
    assert np.array_equal(codes[0], codes[2])


def test_several_files_are_read_as_one(iris_csv):
    shutil.copy(iris_csv, "more.csv")
    assert quick([iris_csv, Path("more.csv")], label="species", holdout=0).checkpoint.results.rows == 300


@pytest.mark.parametrize("shape", [(30, 6), (30, 4, 5), (30, 6, 5, 3)], ids=["rows", "grey images", "colour images"])
def test_an_array_is_learnt_as_rows_or_as_images(shape):
    x = np.random.default_rng(0).random(shape, np.float32)
    model = quick(x)
    assert model.schema.image_shape == (shape[1:] if len(shape) > 2 else None)
    assert model.embed(x).shape == (30, model.checkpoint.model.latent_dim)
    assert model.reconstruct(x).shape == shape


def test_a_built_in_set_is_held_out_by_its_own_split():
    model = quick("digits")
    assert model.checkpoint.data == "digits"
    assert (model.checkpoint.results.rows, model.checkpoint.results.test_rows) == (1437, 360)
    assert model.embed("digits").shape == (360, 5)


def test_held_out_rows_may_be_given(iris_csv):
    frame = pd.read_csv(iris_csv)
    results = quick(frame, test=frame[:40], label="species").checkpoint.results
    assert (results.rows, results.test_rows) == (150, 40)


def test_categories_and_dates_of_a_data_frame_are_what_they_are():
    when = pd.date_range("2024-01-01", periods=40)[np.random.default_rng(0).permutation(40)]
    frame = pd.DataFrame({"a": np.arange(40.0) % 7, "kind": ["x", "y"] * 20, "when": when, "ok": [True, False] * 20})
    model = quick(frame, categorical="kind")
    assert [(column.name, column.kind, column.categories) for column in model.schema.columns] == [
        ("a", "number", ()),
        ("kind", "category", ("x", "y")),
        ("when", "timestamp", ()),
        ("ok", "boolean", ()),
    ]
    assert model.embed(frame).shape == (40, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"latentdim": 3}, "there is no option 'latentdim'"),
        ({"recipe": "modrn"}, "recipe is 'modrn', and must be one of modern, map, vectors, classic, classic-2d"),
        ({"latent_dim": "three"}, "latent_dim is 'three', and must be of type int"),
        ({"hidden_dims": "64,32"}, "hidden_dims is '64,32', and must be an int or a tuple of ints"),
        ({"epochs": 1.5}, "epochs is 1.5, and must be of type int"),
        ({"epochs": 0}, "epochs is 0, and must be at least 1"),
    ],
    ids=str,
)
def test_a_wrong_option_is_named(options, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        quick(np.random.default_rng(0).random((30, 6)), **options)


def test_what_is_no_data_is_refused(iris_model):
    with pytest.raises(DataError, match="numbers were expected"):
        quick(np.array([["a", "b"], ["c", "d"]]))
    with pytest.raises(DataError, match=re.escape("no.csv: no such file")):
        quick("no.csv")
    with pytest.raises(DataError, match=re.escape("no.csv: no such file")):
        aecli.load(iris_model).embed("no.csv")


def test_each_flag_of_train_that_is_about_the_model_or_the_data_is_a_keyword_of_fit():
    import typer.main

    command = typer.main.get_command(build({"train"})).commands["train"]
    flags = {parameter.name for parameter in command.params} - {"help"}
    keywords = set(inspect.signature(aecli.fit).parameters)
    own = {"output", "as_json", "quiet", "finish", "log"}
    assert flags - keywords == own
    assert {"device", "data_dir", "resume"} <= flags
