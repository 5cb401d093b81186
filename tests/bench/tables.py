"""Small tables under the default recipe: held-out error over PCA's with as many components, on ten fixed splits.

python -m tests.bench.tables
"""

import json
import statistics
import sys
import time

import numpy as np
import sklearn.datasets

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
    }


def ratio(x, schema, split, **asked):
    """Give the held-out error of a model over that of PCA, for one split."""
    order = np.random.default_rng(1000 + split).permutation(len(x))
    held = round(HELD_OUT * len(x))
    test, train = (ArraySource("rows", x[rows], **schema) for rows in (order[:held], order[held:]))
    results = fit(train, test=test, seed=split, device="cpu", **asked).checkpoint.results
    return results.test_mse / results.pca_mse


def main():
    """Print a table, and a JSON object as the last line."""
    asked = {name: float(value) for name, value in (pair.split("=") for pair in sys.argv[1:])}
    found = {}
    for name, (x, schema) in tables().items():
        started = time.perf_counter()
        ratios = [ratio(x, schema, split, **asked) for split in range(SPLITS)]
        seconds = (time.perf_counter() - started) / SPLITS
        found[name] = {"mean": statistics.mean(ratios), "max": max(ratios), "seconds": seconds}
        print(
            f"{name:14} mean {found[name]['mean']:.3f}  max {found[name]['max']:.3f}  {seconds:.2f} s a run", flush=True
        )
    print(json.dumps(found))


if __name__ == "__main__":
    main()
