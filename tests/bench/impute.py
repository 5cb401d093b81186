"""Holes filled: the squared error on a tenth of the cells, taken out at random, over that of the columns' means.

python -m tests.bench.impute [--seeds 10]

The units are standard deviations of the columns. Every contender sees the table with its holes alone: aecli trained on
it with --missing mean and the defaults; one pass of PCA over the table filled with means, with the number of components
that turns out best; scikit-learn's KNNImputer and IterativeImputer at their defaults.
"""

import argparse
import json
import statistics
import warnings

import numpy as np
import sklearn.datasets
from sklearn.decomposition import PCA
from sklearn.experimental import enable_iterative_imputer  # noqa: F401, it lets the next line be imported
from sklearn.impute import IterativeImputer, KNNImputer

import aecli

TABLES = {"wine": sklearn.datasets.load_wine, "breast cancer": sklearn.datasets.load_breast_cancer}
SHARE = 0.1
COMPONENTS = range(1, 11)


def autoencoder(holed, seed):
    model = aecli.fit(holed, missing="mean", seed=seed, device="cpu")
    return model.fill_holes(holed)


def pca(components):
    def fill(holed, _seed):
        filled = np.nan_to_num(holed)
        fitted = PCA(components).fit(filled)
        return fitted.inverse_transform(fitted.transform(filled))

    return fill


CONTENDERS = {
    "aecli": autoencoder,
    **{f"PCA {k}": pca(k) for k in COMPONENTS},
    "KNNImputer": lambda holed, _seed: KNNImputer().fit_transform(holed),
    "IterativeImputer": lambda holed, _seed: IterativeImputer(random_state=0).fit_transform(holed),
}


def ratio(fill, x, seed):
    """Give a contender's squared error on the cells that a seed takes out of rows (N, D), over that of means."""
    gone = np.random.default_rng(seed).random(x.shape) < SHARE
    holed = np.where(gone, np.nan, x)
    mean, spread = np.nanmean(holed, axis=0), np.nanstd(holed, axis=0)
    filled = fill((holed - mean) / spread, seed) * spread + mean  # standardised: PCA and neighbours need it
    errors, of_means = ((estimate - x) / x.std(axis=0) for estimate in (filled, mean))
    return float(np.square(errors[gone]).sum() / np.square(of_means[gone]).sum())


def main():
    """Print a table, and a JSON object as the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    seeds = range(parser.parse_args().seeds)
    warnings.simplefilter("ignore")  # IterativeImputer's, that it did not converge
    found = {}
    for name, load in TABLES.items():
        means = {c: statistics.mean(ratio(fill, load().data, seed) for seed in seeds) for c, fill in CONTENDERS.items()}
        best = min((c for c in means if c.startswith("PCA")), key=means.__getitem__)
        found[name] = {c: means[c] for c in ("aecli", best, "KNNImputer", "IterativeImputer")}
        for contender, mean in found[name].items():
            print(f"{name:14} {contender:18} {mean:.3f} of mean imputation's error", flush=True)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
