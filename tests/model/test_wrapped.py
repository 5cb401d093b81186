"""The torch module computes what the model computes, in raw units, and can be differentiated."""

import re
import sys

import numpy as np
import pandas as pd
import pytest
import torch

import aecli
from aecli.errors import AecliError, DataError

RNG = np.random.default_rng(0)
TABLE = RNG.normal(size=(40, 5)) * [1, 10, 100, 1e4, 1] + [0, 1, 2000, 1e5, 3]
TIMES = np.add(TABLE, [0, 0, 0, 0, 1.7e9])
GREY, COLOUR = RNG.random((30, 8, 8), np.float32), RNG.integers(0, 256, (30, 8, 8, 3), np.uint8)
CONVOLUTIONS = {"hidden_dims": (), "channels": (2, 3)}
CASES = {
    "standard": (TABLE, {}),
    "minmax": (TABLE, {"scale": "minmax"}),
    "robust": (TABLE, {"scale": "robust"}),
    "quantile": (TABLE, {"scale": "quantile"}),
    "common": (TABLE[:, :2], {"scale": "common"}),
    "none": (TABLE / 1e4, {"scale": "none"}),
    "seconds since 1970": (TIMES, {}),
    "variational": (TABLE, {"bottleneck": "variational"}),
    "sparse": (TABLE, {"bottleneck": "sparse", "latent_dim": 4, "active": 2}),
    "dictionary": (TABLE, {"bottleneck": "sparse", "latent_dim": 10, "active": 2, "hidden_dims": None}),
    "nested": (TABLE, {"nested": True, "latent_dim": 4}),
    "grey images": (GREY, CONVOLUTIONS),
    "images in colour": (COLOUR, CONVOLUTIONS),
    "channels first": (np.moveaxis(COLOUR, -1, 1), CONVOLUTIONS),
}


def quick(data, **options):
    return aecli.fit(data, **{"epochs": 1, "hidden_dims": (8,), "device": "cpu", "holdout": 0} | options)


@pytest.mark.parametrize(("rows", "options"), CASES.values(), ids=CASES)
def test_the_module_is_the_model(rows, options):
    model = quick(rows, **options)
    module = model.torch()
    x = rows.copy() if rows.dtype == np.float64 else rows.astype(np.float32)
    if rows.ndim == 2:
        x[3, 1], x[4] = np.nan, x[4] + 3 * x.std(axis=0)
    given, z = torch.tensor(x), model.embed(x)
    scale = np.ptp(rows.reshape(len(rows), -1).astype(np.float64), axis=0)
    assert torch.is_grad_enabled()
    assert isinstance(module, torch.nn.Module)
    np.testing.assert_allclose(module.encode(given).detach().numpy(), z, rtol=1e-5, atol=1e-5)
    apart = module(given).detach().numpy() - model.reconstruct(x)
    assert apart.shape == x.shape
    assert (np.abs(apart.reshape(len(x), -1)) <= 1e-5 * scale + 1e-7).all()
    decoded = module.decode(torch.tensor(z)).detach().numpy() - model.decode(z)
    assert (np.abs(decoded) <= 1e-5 * scale.max()).all()


def test_flat_rows_of_images_are_as_the_model_takes_them():
    first = np.moveaxis(COLOUR, -1, 1).astype(np.float32)
    module = quick(first.astype(np.uint8), **CONVOLUTIONS).torch()
    codes = [module.encode(torch.tensor(np.ascontiguousarray(x))) for x in (first, np.moveaxis(first, 1, -1))]
    assert torch.equal(*codes)
    assert torch.equal(codes[0], module.encode(torch.tensor(first.reshape(30, -1))))


def test_categories_are_indicators():
    frame = pd.DataFrame({"a": TABLE[:, 0], "kind": RNG.choice(["x", "y", "z"], 40)})
    model = quick(frame, categorical="kind")
    kinds = np.array(model.schema.columns[1].categories)
    indicators = (frame["kind"].to_numpy()[:, None] == kinds).astype(float)
    rows = torch.tensor(np.column_stack([frame["a"], indicators]))
    module = model.torch()
    np.testing.assert_allclose(module.encode(rows).detach().numpy(), model.embed(frame), atol=1e-5)
    likeliest = kinds[module(rows)[:, 1:].argmax(dim=1).numpy()]
    assert likeliest.tolist() == model.reconstruct(frame)["kind"].tolist()


def test_gradients_reach_rows_and_weights_and_holes_have_none():
    module = quick(TABLE, scale="quantile").torch()
    rows = torch.tensor(TABLE)
    rows[3, 2] = torch.nan
    rows.requires_grad_()
    module(rows).square().sum().backward()
    assert torch.isfinite(rows.grad).all()
    assert rows.grad[3, 2] == 0
    assert (rows.grad != 0).any(dim=0).all()
    assert all((parameter.grad != 0).any() for parameter in module.parameters())


def test_times_are_float64_and_other_numbers_float32():
    assert quick(TABLE).torch()(torch.tensor(TABLE, dtype=torch.float32)).dtype == torch.float32
    assert quick(TIMES).torch()(torch.tensor(TIMES)).dtype == torch.float64


def test_the_module_is_a_copy():
    model = quick(TABLE)
    before = model.to_bytes()
    module = model.torch()
    with torch.no_grad():
        for parameter in (*module.parameters(), *module.buffers()):
            parameter.zero_()
    assert model.to_bytes() == before


def test_a_model_says_what_it_is_and_what_it_lacks(monkeypatch):
    model = quick(TABLE)
    assert repr(model) == f"<aecli.Model {model.checkpoint.model.layers}, modern>"
    model.save("m.safetensors")
    assert repr(model).endswith(", modern, m.safetensors>")
    monkeypatch.setitem(sys.modules, "aecli.model.wrapped", None)  # as where torch is not installed
    with pytest.raises(AecliError, match="a torch module needs the package torch, which is not installed"):
        model.torch()


def test_rows_of_another_shape_are_refused():
    with pytest.raises(DataError, match=re.escape("rows of shape (3, 4), and (N, 5) were expected")):
        quick(TABLE).torch()(torch.zeros(3, 4))
    message = "rows of shape (3, 8, 9), and (N, 64) or (N, 8, 8) or (N, 8, 8, 1) or (N, 1, 8, 8) were expected"
    with pytest.raises(DataError, match=re.escape(message)):
        quick(GREY).torch()(torch.zeros(3, 8, 9))
