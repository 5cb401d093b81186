"""A model as an ONNX file: onnxruntime computes what aecli does, from raw units to raw units."""

import json
import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

import aecli
from aecli.cli.completion import GUIDE
from aecli.config import ACTIVATIONS, Column, History, ModelConfig, Results, Schema, TrainConfig
from aecli.data.part import Part
from aecli.errors import UsageError
from aecli.model.checkpoint import Checkpoint
from aecli.model.layers import tensor_shapes
from aecli.model.scaler import KINDS, Scaler

RNG = np.random.default_rng(0)
NUMBERS = RNG.normal([5, -100, 0, 2e3], [1, 10, 0.01, 3], (300, 4))
CITIES = ("Bern", "Oslo", "Rome")
MIXED = (
    Column("age"),
    Column("city", "category", CITIES, other=True),
    Column("wet", "boolean", words=("no", "yes")),
    Column("day", "date"),
    Column("text", "vector", width=2),
    Column("sky", "category", ("grey", "blue")),
)
MIXED_ROWS = np.column_stack(
    [
        RNG.normal(40, 9, 300),
        RNG.integers(0, 3, 300),
        RNG.integers(0, 2, 300),
        86400 * RNG.integers(18000, 20000, 300),
        RNG.normal(size=(300, 2)),
        RNG.integers(0, 2, 300),
    ]
)


def model(rows, scale="standard", schema=None, *, latent_dim=3, hidden_dims=(8,), nested=False, **network):
    """Return a model of random weights, and the scaler of `rows` (N, D)."""
    schema = schema or Schema(rows.shape[1])
    scaler = Scaler.fit(scale, Part(rows), schema)
    config = ModelConfig(scaler.inputs, hidden_dims, latent_dim, **network)
    rng = np.random.default_rng(1)
    tensors = {
        name: rng.normal(0, 1 / math.sqrt(math.prod(shape[1:])), shape).astype(np.float32)
        for name, shape in tensor_shapes(config).items()
    }
    numbers = dict.fromkeys(("weight_decay", "noise", "holdout"), 0.0)
    counts = dict.fromkeys(("augment_shift", "patience", "seed"), 0)
    run = {"recipe": "modern", "optimizer": "muon", "schedule": "linear", "init": "fan-in", "precision": "auto"}
    train = TrainConfig(epochs=1, batch_size=1, lr=0.1, nested=nested, **run, **numbers, **counts)
    results = Results(len(rows), 0, 0.0, None, None)
    return aecli.Model(Checkpoint(config, train, schema, scaler.kind, None, results, History(), {}), tensors, scaler)


def session(made, part="all"):
    """Return a runtime with a file of a model, which is checked."""
    data = made if isinstance(made, bytes) else made.to_onnx(part)
    onnx.checker.check_model(onnx.load_from_string(data), full_check=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def signature(values):
    return {each.name: (each.type, each.shape) for each in values}


def check(made, x):
    """Check that the runtime gives the codes and rows of a model, in one file and in two halves."""
    expected_z, expected = made.embed(x), made.reconstruct(x)
    z, recon = session(made).run(["z", "recon"], {"x": x})
    spread = np.nanstd(np.asarray(x, float).reshape(len(x), -1), axis=0).reshape(x.shape[1:])
    assert z.dtype == np.float32
    assert z == pytest.approx(expected_z, rel=1e-4, abs=1e-5, nan_ok=True)
    assert recon.shape == x.shape
    close = np.abs(recon - expected) <= 1e-4 * np.maximum(np.abs(expected), spread)
    assert (close | (np.isnan(recon) & np.isnan(expected))).all()
    encoder, decoder = session(made, "encoder"), session(made, "decoder")
    assert np.array_equal(encoder.run(None, {"x": x})[0], z, equal_nan=True)
    assert decoder.run(None, {"z": z})[0] == pytest.approx(recon, rel=1e-5, abs=1e-5, nan_ok=True)
    for rows in (0, 1):
        assert [len(each) for each in session(made).run(None, {"x": x[:rows]})] == [rows] * 2


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_is_computed(activation):
    at_all = dict.fromkeys(("activation", "latent_activation", "output_activation"), activation)
    check(model(NUMBERS, **at_all), NUMBERS.astype(np.float32))


@pytest.mark.parametrize(
    "network",
    [
        {"hidden_dims": ()},
        {"hidden_dims": (9, 7), "output_activation": "sigmoid"},
        {"bottleneck": "variational"},
        {"bottleneck": "sparse", "latent_dim": 16, "active": 3},
        {"bottleneck": "sparse", "latent_dim": 16, "active": 3, "hidden_dims": ()},
        {"bottleneck": "sparse", "latent_dim": 4, "active": 4, "latent_activation": "relu"},
        {"latent_dim": 8, "nested": True},
    ],
    ids=str,
)
def test_every_bottleneck_is_computed(network):
    check(model(NUMBERS, **network), NUMBERS.astype(np.float32))


def test_of_equal_latent_values_the_first_are_kept():
    made = model(NUMBERS, hidden_dims=(), latent_dim=6, bottleneck="sparse", active=2)
    for name in ("encoder.0.weight", "encoder.0.bias"):
        made.tensors[name][:] = 1
    z = session(made).run(["z"], {"x": NUMBERS.astype(np.float32)})[0]
    assert (z[:, :2] != 0).all()
    assert not z[:, 2:].any()
    assert z == pytest.approx(made.embed(NUMBERS), rel=1e-4, abs=1e-4)


IMAGES = [
    ("uint8", (8, 6), (4,), ()),
    ("uint16", (9, 14, 3), (4, 5), (6,)),
    ("float64", (2, 9, 4), (3,), ()),
    ("uint8", (5, 3, 1), (7,), (4,)),
    ("int16", (4, 4), (), (5,)),
]


@pytest.mark.parametrize(("dtype", "shape", "channels", "hidden_dims"), IMAGES, ids=str)
def test_images_of_every_size_and_type_are_taken_as_they_are(dtype, shape, channels, hidden_dims):
    white = np.iinfo(dtype).max if dtype != "float64" else 1
    x = (RNG.random((20, *shape)) * white).astype(dtype)
    schema = Schema(math.prod(shape), image_shape=shape, full_scale=float(white), dtype=dtype)
    in_full = (*shape, 1)[:3]
    made = model(
        x.reshape(20, -1), schema=schema, hidden_dims=hidden_dims, channels=channels, image_shape=in_full,
        output_activation="sigmoid",
    )  # fmt: skip
    check(made, x.astype(np.float32))


def test_images_whose_channels_came_first_go_in_and_come_out_so():
    first = RNG.integers(0, 256, (20, 3, 8, 6)).astype(np.float32)
    last = np.moveaxis(first, 1, -1)
    schema = Schema(144, image_shape=(8, 6, 3), full_scale=255.0, dtype="uint8", channels_first=True)
    made = model(last.reshape(20, -1), schema=schema, channels=(4,), image_shape=(8, 6, 3))
    assert signature(session(made).get_inputs()) == {"x": ("tensor(float)", ["N", 3, 8, 6])}
    check(made, first)


@pytest.mark.parametrize("scale", KINDS)
def test_every_scaling_is_inside_and_holes_are_filled(scale):
    x = np.column_stack([NUMBERS, RNG.lognormal(0, 2, 300).round(1), RNG.integers(0, 3, 300), np.full(300, 7.5)])
    made = model(x, scale)
    rows = np.concatenate([x, x * 3, np.full((1, 7), np.nan), np.full((1, 7), 1e30), np.full((1, 7), -1e30)])
    rows[::5, 2] = np.nan
    check(made, rows.astype(np.float32)[:-2])
    z = session(made).run(["z"], {"x": rows.astype(np.float32)})[0]
    assert z[-2:] == pytest.approx(made.embed(rows.astype(np.float32))[-2:], rel=1e-4)


@pytest.mark.parametrize("scale", ["standard", "minmax", "robust", "quantile"])
def test_values_that_float32_would_round_are_taken_as_float64(scale):
    x = 1.7e12 + 60_000.0 * np.arange(300)[:, None] * [1, 2]
    made = model(x, scale)
    assert signature(session(made).get_inputs()) == {"x": ("tensor(double)", ["N", 2])}
    assert signature(session(made).get_outputs())["recon"] == ("tensor(double)", ["N", 2])
    check(made, x)


@pytest.mark.parametrize("scale", KINDS)
def test_categories_are_places_and_the_likeliest_comes_back(scale):
    made = model(MIXED_ROWS, scale, Schema(7, MIXED))
    holed = MIXED_ROWS.copy()
    holed[::4, 1], holed[1::4, 6], holed[::3, 0] = np.nan, np.nan, np.nan
    holed[2::4, 1] = -1
    holed[7] = np.nan
    dtype = np.float64 if signature(session(made).get_inputs())["x"][0] == "tensor(double)" else np.float32
    x = holed.astype(dtype)
    z, recon = session(made).run(["z", "recon"], {"x": x})
    expected = made.reconstruct(x)
    spread = np.nanstd(x, axis=0)
    assert z == pytest.approx(made.embed(x), rel=1e-4, abs=1e-5, nan_ok=True)
    close = np.abs(recon - expected) <= 1e-4 * np.maximum(np.abs(expected), spread)
    assert np.delete(close, 7, axis=0).all()
    assert np.isnan(recon[7]).all()
    assert set(np.delete(recon[:, 1], 7)) <= {0, 1, 2}


def test_the_file_says_what_its_rows_are():
    found = session(model(MIXED_ROWS, "minmax", Schema(7, MIXED), nested=True, latent_dim=8))
    said = found.get_modelmeta()
    assert said.producer_name == "aecli"
    plain = {"width": 1}
    assert {name: json.loads(text) for name, text in said.custom_metadata_map.items()} == {
        "columns": [
            {"name": "age", "kind": "number", "first": 0, **plain},
            {"name": "city", "kind": "category", "first": 1, **plain, "categories": [*CITIES], "other": True},
            {"name": "wet", "kind": "boolean", "first": 2, **plain, "words": ["no", "yes"]},
            {"name": "day", "kind": "date", "first": 3, **plain},
            {"name": "text", "kind": "vector", "first": 4, "width": 2},
            {"name": "sky", "kind": "category", "first": 6, **plain, "categories": ["grey", "blue"], "other": False},
        ],
        "prefixes": [4, 2],
    }
    schema = Schema(48, image_shape=(8, 6), full_scale=255.0, dtype="uint8")
    of_images = session(model(RNG.integers(0, 256, (9, 48)).astype(np.uint8), schema=schema)).get_modelmeta()
    assert {name: json.loads(text) for name, text in of_images.custom_metadata_map.items()} == {
        "image": {"layout": "HW", "black": 0.0, "white": 255.0}
    }


@pytest.mark.parametrize("name", ["classic", "digits", "icons", "photos", "wine"])
def test_checkpoints_of_earlier_versions_are_exported(name):
    made = aecli.load(Path(__file__).parent / "checkpoints" / "0.1" / f"{name}.safetensors")
    shape = made.schema.image_shape or (made.schema.inputs,)
    check(made, RNG.integers(0, 3, (10, *shape)).astype(np.float32))


def test_a_hole_that_nothing_fills_is_not_made_up():
    made = aecli.load(Path(__file__).parent / "checkpoints" / "0.1" / "icons.safetensors")
    x = np.zeros((2, 6, 7, 3), np.float32)
    x[1, 2, 3, 1] = np.nan
    z, recon = session(made).run(["z", "recon"], {"x": x})
    assert np.isfinite(z[0]).all()
    assert np.isnan(z[1]).all()
    assert np.isnan(recon[1]).all()


def test_equal_models_have_equal_bytes():
    assert model(NUMBERS).to_onnx() == model(NUMBERS).to_onnx()


def test_a_part_that_there_is_none_of_is_refused():
    with pytest.raises(UsageError, match="part is 'half', and must be one of all, encoder, decoder"):
        model(NUMBERS).to_onnx("half")


def test_the_lines_of_the_guide_run():
    columns = (Column("size"), Column("city", "category", CITIES), Column("rent"))
    made = model(MIXED_ROWS[:, :3], schema=Schema(3, columns), latent_dim=2)
    Path("flats.onnx").write_bytes(made.to_onnx())
    code = re.search(r"^```python\n(.*?)^```$", (GUIDE / "export.md").read_text(), re.DOTALL | re.MULTILINE)[1]
    names = {}
    exec(code, names)
    assert names["cities"] == [*CITIES]
    assert names["z"] == pytest.approx(made.embed(names["x"]), rel=1e-4, abs=1e-5)


def test_a_file_is_named_after_the_model_and_its_part(run, digits_model):
    done = run("export", digits_model)
    assert (done.code, done.out) == (0, "")
    assert done.err == (
        "takes x float32 (N, 8, 8); gives z float32 (N, 5), recon float32 (N, 8, 8)\nwrote digits.onnx\n"
    )
    made = aecli.load(digits_model)
    assert Path("digits.onnx").read_bytes() == made.to_onnx()
    done = run("export", digits_model, "--part", "decoder")
    assert done.err == "takes z float32 (N, 5); gives recon float32 (N, 8, 8)\nwrote digits-decoder.onnx\n"
    assert Path("digits-decoder.onnx").read_bytes() == made.to_onnx("decoder")
    done = run("export", digits_model, "-o", "digits.onnx", "-q")
    assert (done.code, done.out, done.err) == (0, "", "")


def test_a_file_goes_to_stdout(digits_model):
    command = [sys.executable, "-m", "aecli", "export", digits_model, "--part", "encoder", "-o", "-"]
    done = subprocess.run(command, capture_output=True, check=True)
    assert done.stdout == aecli.load(digits_model).to_onnx("encoder")
    assert done.stderr == b"takes x float32 (N, 8, 8); gives z float32 (N, 5)\n"


def test_without_onnx_the_error_says_how_to_install_it(run, digits_model, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    done = run("export", digits_model)
    assert (done.code, done.out) == (1, "")
    assert done.err == (
        "error: export needs the package onnx, which is not installed\nhint: pip install 'aecli[onnx]'\n"
    )
    assert not list(Path().iterdir())
