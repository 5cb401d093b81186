"""Small data under the default recipe: held-out error over PCA's with as many components, on ten fixed splits.

python -m tests.bench.tables [--sets wine,iris] [hidden_dims=64,64 ...]

`PCA` is in how many of the splits the model was PCA's own, because no network was better by cross-validation.
"""

import argparse
import json
import statistics
import time

import numpy as np
import sklearn.datasets
import sklearn.feature_extraction.image

from aecli.config import PCA
from aecli.data.source import ArraySource
from aecli.training.fit import fit

SPLITS = 10
HELD_OUT = 0.1


def tables():
    """Give each set's rows (N, D) and what its schema says of images."""
    image = {"image_shape": (8, 8), "full_scale": 16.0}
    return {
        "wine": (sklearn.datasets.load_wine().data, {}),
        "breast cancer": (sklearn.datasets.load_breast_cancer().data, {}),
        "diabetes": (sklearn.datasets.load_diabetes(scaled=False).data, {}),
        "digits": (sklearn.datasets.load_digits().data, image),
        "iris": (sklearn.datasets.load_iris().data, {}),
        "noise": (np.random.default_rng(6).normal(size=(300, 20)), {}),
        "photographs": photographs(),
    }


def photographs(patches=300, side=16):
    """Give patches in colour of scikit-learn's two photographs."""
    cut = [
        sklearn.feature_extraction.image.extract_patches_2d(photo, (side, side), max_patches=patches, random_state=i)
        for i, photo in enumerate(sklearn.datasets.load_sample_images().images)
    ]
    schema = {"image_shape": (side, side, 3), "full_scale": 255.0, "dtype": "uint8"}
    return np.concatenate(cut), schema


def ratio(x, schema, split, **asked):
    """Give the held-out error of a model over that of PCA, for one split; and whether the model is PCA."""
    order = np.random.default_rng(1000 + split).permutation(len(x))
    held = round(HELD_OUT * len(x))
    test, train = (ArraySource("rows", x[rows], **schema) for rows in (order[:held], order[held:]))
    made = fit(train, test=test, seed=split, device="cpu", **asked).checkpoint
    return made.results.test_mse / made.results.pca_mse, made.train.init == PCA


def value_of(text):
    """Read a value as a flag does: a number, or widths such as 64,64."""
    return tuple(map(int, text.split(","))) if "," in text else float(text) if "." in text else int(text)


def main():
    """Print a table, and a JSON object as the last line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", default=",".join(tables()))
    parser.add_argument("asked", nargs="*", metavar="NAME=VALUE")
    arguments = parser.parse_args()
    asked = {name: value_of(text) for name, _, text in (pair.partition("=") for pair in arguments.asked)}
    found = {}
    for name in arguments.sets.split(","):
        x, schema = tables()[name]
        started = time.perf_counter()
        ratios, linear = zip(*[ratio(x, schema, split, **asked) for split in range(SPLITS)], strict=True)
        seconds = (time.perf_counter() - started) / SPLITS
        found[name] = {"mean": statistics.mean(ratios), "max": max(ratios), "pca": sum(linear), "seconds": seconds}
        print(
            f"{name:14} mean {found[name]['mean']:.3f}  max {found[name]['max']:.3f}  PCA {sum(linear)} of {SPLITS}  "
            f"{seconds:.2f} s a run",
            flush=True,
        )
    print(json.dumps(found))


if __name__ == "__main__":
    main()
