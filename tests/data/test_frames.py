"""Data frames of pandas and polars come out as data frames."""

import datetime as dt

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import aecli
from aecli.errors import DataError

RNG = np.random.default_rng(0)
ROWS = 30
NUMBERS = ["a", "whole"]


def frame_of_all_kinds():
    return pd.DataFrame(
        {
            "label": ["l"] * ROWS,
            "a": RNG.normal(size=ROWS),
            "whole": pd.array(RNG.integers(0, 9, ROWS), dtype="Int64"),
            "kind": pd.Categorical(RNG.choice(list("xyz"), ROWS)),
            "code": RNG.choice([10, 20], ROWS),
            "ok": pd.array(RNG.choice([True, False], ROWS), dtype="boolean"),
            "when": (pd.Timestamp("2024-01-01") + pd.to_timedelta(RNG.permutation(ROWS) * 7919, unit="s")).tz_localize(
                "Europe/Berlin"
            ),
            "day": [dt.date(2024, 1, int(day)) for day in RNG.integers(1, 28, ROWS)],
            "takes": pd.to_timedelta(RNG.integers(0, 999, ROWS), unit="s"),
        },
        index=[f"row {i}" for i in range(ROWS)],
    )


FRAME = frame_of_all_kinds()
FRAMES = {"pandas": FRAME, "polars": pl.from_pandas(FRAME)}


@pytest.fixture(scope="module")
def model():
    options = {"label": "label", "categorical": ["kind", "code"], "epochs": 1, "hidden_dims": (8,), "device": "cpu"}
    return aecli.fit(FRAME, holdout=0, **options)


@pytest.fixture(params=FRAMES.values(), ids=FRAMES)
def frame(request):
    return request.param


def as_pandas(made):
    """Return a frame or a series as one of pandas with the index of FRAME."""
    return made if hasattr(made, "index") else made.to_pandas().set_axis(FRAME.index)


def types(frame):
    return dict(zip(frame.columns, frame.dtypes, strict=True))


def test_codes_are_a_frame_with_the_index_of_the_rows(model, frame):
    codes = model.embed(frame)
    assert type(codes) is type(frame)
    assert list(codes.columns) == [f"z{i}" for i in range(model.checkpoint.model.latent_dim)]
    assert as_pandas(codes).index.equals(FRAME.index)
    assert np.array_equal(codes.to_numpy(), model.embed(pa.Table.from_pandas(FRAME)))


def test_columns_are_matched_by_name(model, frame):
    assert np.array_equal(model.embed(frame[list(frame.columns)[::-1]]).to_numpy(), model.embed(frame).to_numpy())


def test_rebuilt_rows_have_the_columns_of_the_frame_and_their_types(model, frame):
    recon = model.reconstruct(frame)
    assert list(recon.columns) == [name for name in frame.columns if name != "label"]
    found, own = types(recon), types(frame)
    assert {name: kind for name, kind in found.items() if name not in NUMBERS} == {
        name: kind for name, kind in own.items() if name not in (*NUMBERS, "label")
    }
    assert {str(found[name]).lower() for name in NUMBERS} == {"float32"}
    assert as_pandas(recon).index.equals(FRAME.index)
    assert set(recon["kind"]) <= set("xyz")
    both = (as_pandas(each).drop(columns="day") for each in (recon, model.reconstruct(FRAME)))
    np.testing.assert_array_equal(*both)


def test_codes_of_a_frame_are_decoded_to_a_frame(model, frame):
    decoded, recon = (as_pandas(each) for each in (model.decode(model.embed(frame)), model.reconstruct(frame)))
    assert list(decoded.columns) == list(model.schema.features)
    assert decoded.index.equals(FRAME.index)
    np.testing.assert_array_equal(decoded[[*NUMBERS, "kind", "ok"]], recon[[*NUMBERS, "kind", "ok"]])


@pytest.mark.parametrize(("method", "name"), [("errors", "mse"), ("score", "score")])
def test_what_rows_are_judged_by_is_a_series(model, frame, method, name):
    found = getattr(model, method)(frame)
    assert type(found) is type(frame["a"])
    assert found.name == name
    assert as_pandas(found).index.equals(FRAME.index)
    assert np.array_equal(found.to_numpy(), getattr(model, method)(pa.Table.from_pandas(FRAME)))


def test_holes_alone_are_filled_and_no_type_changes(model, frame):
    holed, places = FRAME.copy(), [("row 3", "a"), ("row 4", "whole"), ("row 5", "kind"), ("row 6", "when")]
    for place in places:
        holed.loc[place] = None
    given = pl.from_pandas(holed) if isinstance(frame, pl.DataFrame) else holed
    filled = model.fill_holes(given)
    assert types(filled) == types(given)
    made = as_pandas(filled).astype(object)
    assert made.notna().all(axis=None)
    differ = (made != as_pandas(frame).astype(object)).to_numpy()
    assert {(FRAME.index[row], FRAME.columns[column]) for row, column in np.argwhere(differ)} <= set(places)
    assert as_pandas(given).isna().sum().sum() == len(places)


def test_a_row_without_any_value_stays_and_is_empty(model, frame):
    holed = FRAME.astype({"code": "Int64"})
    holed.iloc[2, 1:] = None
    given = pl.from_pandas(holed) if isinstance(frame, pl.DataFrame) else holed
    for made in (model.embed(given), model.reconstruct(given), model.errors(given).to_frame()):
        empty = as_pandas(made).isna()
        assert empty.iloc[2].all()
        assert not empty.drop(index="row 2").any(axis=None)


def test_a_frame_without_rows_gives_one_without_rows(model, frame):
    assert model.embed(frame[:0]).shape == (0, model.checkpoint.model.latent_dim)
    assert model.reconstruct(frame[:0]).shape == (0, 8)
    assert len(model.score(frame[:0])) == 0


def test_enums_categories_and_vectors_of_polars_are_learnt_and_rebuilt():
    frame = pl.DataFrame(
        {
            "size": pl.Series(RNG.choice(["s", "m"], 20), dtype=pl.Enum(["s", "m"])),
            "kind": pl.Series(RNG.choice(["x", "y"], 20), dtype=pl.Categorical),
            "vector": pl.Series(RNG.normal(size=(20, 3)), dtype=pl.Array(pl.Float32, 3)),
        }
    )
    model = aecli.fit(frame, categorical=["size", "kind"], epochs=1, hidden_dims=(8,), device="cpu", holdout=0)
    assert model.reconstruct(frame).schema == frame.schema


def test_labels_of_columns_may_be_numbers():
    frame = pd.DataFrame(RNG.normal(size=(20, 4)))
    model = aecli.fit(frame, epochs=1, hidden_dims=(8,), device="cpu", holdout=0)
    assert (frame - model.reconstruct(frame)).shape == (20, 4)


@pytest.mark.filterwarnings("ignore::polars.exceptions.PerformanceWarning")
def test_a_lazy_frame_has_to_be_collected(model):
    with pytest.raises(DataError, match="a lazy frame, and rows were expected") as raised:
        model.embed(FRAMES["polars"].lazy())
    assert raised.value.hint == "collect it: frame.collect()"
