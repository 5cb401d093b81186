"""Pictures of scores: how many rows are beyond the threshold, and which images are the strangest."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
from matplotlib.text import Text

import aecli
from aecli.data.opening import open_source
from aecli.data.source import Batch
from aecli.figures import errors as figure
from aecli.figures.examples import Strangest
from aecli.figures.style import Look
from aecli.inference import Scored
from aecli.scoring import Score

BROKEN = [3, 50, 120, 200, 301]


def score_of(calibration):
    """Return a score that knows these scores of training rows, and nothing else."""
    nothing = np.zeros(1, np.float32)
    return Score(*[nothing] * 5, 0.0, *[nothing] * 2, np.sort(calibration).astype(np.float32), *[nothing] * 4)


def strangest_of(scores, batch=1000, side=4):
    """Return the strangest eight of images, each of which is filled with its number, in batches of so many."""
    found, x = Strangest(8, (side, side)), np.repeat(np.arange(len(scores))[:, None], side * side, axis=1)
    for first in range(0, len(scores), batch):
        of, own = x[first : first + batch], scores[first : first + batch]
        found.add(Scored(Batch(of), of, of, own, of * 0.5, score=own, p=own))
    return found


@pytest.mark.parametrize("rows", [1, 5, 98, 99, 100, 576, 20_000])
@pytest.mark.parametrize("ties", [False, True])
def test_the_threshold_is_the_smallest_score_that_is_an_anomalys(rows, ties):
    calibration = np.random.default_rng(rows).exponential(size=rows)
    score = score_of(calibration.round(1) if ties else calibration)
    there, below = (score.p(np.array([at])) for at in (score.threshold, np.nextafter(np.float32(score.threshold), 0)))
    assert there <= score.alpha < below


@pytest.fixture
def broken(digits_model):
    """The digits' test rows, five of which are noise, and their scores."""
    x = open_source(["digits"], split="test", data_dir=Path()).read().x.reshape(-1, 8, 8)
    x[BROKEN] = np.random.default_rng(0).integers(0, 17, (5, 8, 8))
    np.save("broken.npy", x)
    return aecli.load(digits_model).score(x)


def shown_in(path):
    """Return all text of an SVG."""
    return re.findall(r">([^<>]+)</text>", Path(path).read_text())


def test_a_picture_of_scores_counts_the_rows_beyond_and_shows_the_strangest_images(run, digits_model, broken):
    assert run("plot", digits_model, "broken.npy", "--kind", "errors", "-o", "e.svg").code == 0
    score, shown = aecli.load(digits_model).scoring, shown_in("e.svg")
    beyond = int((score.p(broken) <= 0.01).sum())
    assert beyond >= 5
    assert f"score at p 0.01: {score.threshold:.3g}; {beyond} of 360 rows beyond" in shown
    assert "score of a row (nats)" in shown
    order = np.argsort(-broken)[:8]
    assert set(order[:5]) == set(BROKEN)
    below = [text for row in order for text in (f"{broken[row]:.3g}", str(row + 1))]
    assert set(below) <= set(shown)
    assert any(text.startswith("&gt;") for text in shown)  # the axis's last tick
    assert run("plot", digits_model, "broken.npy", "--kind", "errors", "--show").out.splitlines()[0] in shown


def test_a_model_without_a_score_is_drawn_by_its_errors(run):
    Path("few.csv").write_text("a,b\n" + "\n".join(f"{i},{i * i % 7}" for i in range(1, 9)) + "\n")
    assert run("train", "few.csv", "--features", "a", "--features", "b", "--latent-dim", "1", "-q").code == 0
    assert run("plot", "few.safetensors", "few.csv", "--kind", "errors", "-o", "e.svg").code == 0
    assert "mean squared error of a row" in shown_in("e.svg")


@pytest.mark.parametrize("labels", [None, np.arange(500) % 3])
def test_each_row_stands_in_a_bar_however_far_it_is(labels):
    score = score_of(np.random.default_rng(0).exponential(size=500))
    scores = np.random.default_rng(1).exponential(size=500)
    scores[7], scores[8] = 1e6, np.finfo(np.float32).max
    axes = figure.scores(scores, score, labels, Look()).axes[0]
    last = [patch.get_data() for patch in axes.patches]
    assert all(bars.edges[-1] == axes.get_xlim()[1] for bars in last)
    assert sum(bars.values[-1] > (bars.baseline or 0) for bars in last) == (1 if labels is None else 2)
    if labels is None:
        assert last[0].values.sum() == 500
    assert axes.get_xticklabels()[-1].get_text().startswith(">")
    usual = figure.scores(np.minimum(scores, score.threshold), score, labels, Look()).axes[0]
    assert not any(text.get_text().startswith(">") for text in usual.findobj(Text))


@pytest.mark.parametrize("batch", [1, 7, 300])
def test_the_strangest_are_the_same_in_whatever_batches_they_come(batch):
    scores = np.random.default_rng(0).exponential(size=300)
    found = strangest_of(scores, batch)
    assert found.row.tolist() == np.argsort(-scores)[:8].tolist()
    assert found.x[:, 0, 0, 0].tolist() == found.row.tolist()
    assert (found.squares == found.x * 0.5).all()
    assert found.score.tolist() == scores[found.row].tolist()
    assert strangest_of(np.ones(20), batch).row.tolist() == list(range(8))


def test_maps_of_errors_have_one_scale():
    found = strangest_of(np.arange(20.0))
    drawn = figure.scores(np.ones(20), score_of(np.ones(99)), None, Look(), strangest=found)
    (image,) = drawn.axes[1].images
    first = np.asarray(image.get_array())[5, ::5]  # of each map the first pixel
    assert first == pytest.approx(Look().heat(np.arange(19, 11, -1) / 19), abs=1e-6)


def test_a_wide_picture_leaves_room_for_the_histogram(broken, digits_model):
    made = dataclasses.replace(Look(), size=(8.0, 4.5))
    drawn = figure.scores(broken, aecli.load(digits_model).scoring, None, made, strangest=strangest_of(broken))
    above, below = (axes.get_position(original=True) for axes in drawn.axes)
    assert above.height > 0.4
    assert below.height > 0.2
