"""Model.anomalies: what aecli score writes, for Python; and which columns are reasons."""

import json

import numpy as np
import pandas as pd
import polars as pl
import pytest

import aecli
from aecli.data import table
from aecli.errors import DataError, UsageError


def payments(rows, seed=0):
    """Payments as a data frame: the fee hangs on the amount, whether they are online on the country."""
    rng = np.random.default_rng(seed)
    amount = rng.gamma(2, 30, rows).round(2)
    country = rng.choice(["FR", "IT", "ES"], rows, p=[0.6, 0.3, 0.1])
    columns = {
        "amount": amount,
        "fee": (amount / 50 + rng.normal(0, 0.05, rows)).round(3),
        "country": country,
        "online": (country != "FR") ^ (rng.random(rows) < 0.1),
        "id": [f"n{i}" for i in range(rows)],
    }
    return pd.DataFrame(columns, index=[f"row {i}" for i in range(rows)])


@pytest.fixture(scope="module")
def model():
    how = {"epochs": 4, "hidden_dims": (8,), "latent_dim": 2, "holdout": 0, "device": "cpu"}
    return aecli.fit(payments(200), exclude="id", categorical="country", **how)


@pytest.fixture
def odd():
    """Sixty payments: one from an unknown country, and one with a fee out of all proportion."""
    frame = payments(60, seed=1)
    frame.loc["row 7", "country"], frame.loc["row 9", "fee"] = "DE", 99
    return frame


def test_a_frame_gives_what_the_command_writes_with_its_index(run, model, odd):
    odd.to_csv("odd.csv", index=False)
    model.save("m.safetensors")
    words = ["--top", "9", "--alpha", "0.05", "--top-features", "4", "--unknown", "ignore", "--keep", "id"]
    done = run("score", "m.safetensors", "odd.csv", *words, "--format", "jsonl", "-q")
    wanted = [json.loads(line) for line in done.out.splitlines()]
    options = {"top": 9, "alpha": 0.05, "top_features": 4, "unknown": "ignore", "keep": "id"}
    found = model.anomalies(odd, **options)
    assert list(found.columns) == list(wanted[0])
    assert found.index.tolist() == [f"row {row['row'] - 1}" for row in wanted]
    assert found.to_dict("records") == wanted
    arrays = model.anomalies("odd.csv", **options)
    assert {name: values.tolist() for name, values in arrays.items()} == found.to_dict("list")
    in_polars = model.anomalies(pl.from_pandas(odd), **options)
    assert in_polars["value1"].to_list() == [str(value).removesuffix(".0") for value in found["value1"]]
    assert in_polars["p"].to_list() == found["p"].tolist()


def test_without_options_each_row_has_a_score_a_p_and_a_flag(model, odd):
    known = odd.drop(index="row 7")
    found = model.anomalies(known)
    assert list(found.columns) == ["score", "p", "anomaly"]
    assert found.index.equals(known.index)
    assert found["score"].equals(model.score(known))
    assert (found["p"] == model.scoring.p(found["score"].to_numpy())).all()
    assert (found["anomaly"] == (found["p"] <= 0.01)).all()
    x = np.random.default_rng(0).normal(size=(40, 3))
    of_numbers = aecli.fit(x, epochs=1, latent_dim=1, hidden_dims=(), holdout=0, device="cpu")
    assert np.array_equal(of_numbers.anomalies(x)["score"], of_numbers.score(x))
    x[5, 1] = np.inf
    assert np.isnan(of_numbers.anomalies(x, bad_rows="blank", top_features=1)["p"]).nonzero()[0].tolist() == [5]
    assert of_numbers.reconstruct(x, bad_rows="skip").shape == (39, 3)


def test_skipped_rows_are_missing_in_the_index_and_blank_ones_are_empty(model, odd):
    for result in (model.anomalies, model.score, model.errors, model.embed, model.reconstruct):
        assert result(odd, bad_rows="skip").index.equals(odd.index.drop("row 7"))
        blank = result(odd, bad_rows="blank")
        assert blank.index.equals(odd.index)
        assert np.all(blank.loc["row 7"].isna() if blank.ndim == 2 else np.isnan(blank["row 7"]))
    assert len(model.anomalies(pl.from_pandas(odd), bad_rows="skip")) == 59


def test_an_unknown_category_is_shown_as_it_stands_in_the_cell(model, odd, monkeypatch):
    monkeypatch.setattr(table, "MAX_UNKNOWN", 2)
    odd.loc[["row 7", "row 8", "row 11", "row 12"], "country"] = ["DE", "PL", "AT", "DE"]
    found = model.anomalies(odd, unknown="ignore", top_features=4)
    cells = {row: found.loc[row, f"value{i}"] for row in found.index for i in range(1, 5)
             if found.loc[row, f"worst{i}"] == "country"}  # fmt: skip
    assert {row: cell for row, cell in cells.items() if cell not in ("FR", "IT", "ES")} == {
        "row 7": "DE", "row 8": "PL", "row 11": "(unknown)", "row 12": "DE"
    }  # fmt: skip


def test_a_category_or_a_boolean_that_is_as_expected_is_no_reason(model):
    found = model.anomalies(payments(300, seed=2), top_features=4)
    shares = found[[f"share{i}" for i in range(1, 5)]].sum(axis=1)
    assert np.allclose(shares, 1, atol=1e-5)
    named = 0
    for i in range(1, 5):
        words = found[f"worst{i}"].isin(["country", "online"])
        same = words & (found[f"value{i}"] == found[f"expected{i}"])
        assert (found.loc[same, f"share{i}"] == 0).all()
        named += int((words & ~same & (found[f"share{i}"] > 0)).sum())
    assert named > 0


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"top": 0}, UsageError, "top is 0, and must be at least 1"),
        ({"top_features": -1}, UsageError, "top_features is -1, and must be at least 0"),
        ({"alpha": 5}, UsageError, "alpha is 5, and a p is at most 1"),
        ({"unknwn": "ignore"}, UsageError, "there is no option 'unknwn'"),
        ({}, DataError, "the data frame: row 8, column 'country' holds 'DE', and the model knows 'FR', 'IT', 'ES'"),
    ],
    ids=str,
)
def test_what_cannot_be_is_an_error(model, odd, options, kind, message):
    with pytest.raises(kind) as raised:
        model.anomalies(odd, **options)
    assert raised.value.message == message


def test_columns_are_kept_only_where_the_result_has_columns(model, odd):
    with pytest.raises(UsageError, match="there is no option 'keep'"):
        model.score(odd, keep="id")
    assert model.score(odd, unknown="ignore").shape == (60,)
