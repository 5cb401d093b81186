"""Short codes of vectors for a search by cosine: the recall@10 of aecli's beside PCA's, int8 and truncation.

AECLI_DATA_DIR=... python -m tests.bench.search --adbench FOLDER [--sets resnet,bert] [--widths 16,32,64] [--rows 20000]

FOLDER holds the .npz files of ADBench. Queries are up to 1,000 held-out rows, of a fifth of each set or of MNIST's test
images. They are searched for among the training rows, of which at most --rows are taken. `codes` are 256 values of
MNIST's images, by a model that is trained first. `aecli` is --recipe vectors with its defaults; `nested` are the first
values of one model of the largest width, trained with --nested. PCA is fitted to the training rows, with the mean left
in: without it, a search by cosine finds less. `int8` has as many bytes as aecli's codes, or one for each value of a row
where these are fewer; `truncated` are the first values. A star marks where aecli chose PCA itself.
`MSE` are the errors of the queries that aecli's codes rebuild, and nested ones do, over their mean square.
"""

import argparse
import gzip
import os
import time
from pathlib import Path

import numpy as np

from aecli import search
from aecli.training.fit import fit

QUERIES = 1_000


def mnist(_folder, _rows):
    raw = Path(os.environ["AECLI_DATA_DIR"]) / "MNIST" / "raw"
    images = []
    for part in ("train", "t10k"):
        found = gzip.decompress((raw / f"{part}-images-idx3-ubyte.gz").read_bytes())
        images.append(np.frombuffer(found, np.uint8, offset=16).reshape(-1, 784).astype(np.float32))
    return images


def codes(folder, rows):
    images = [each.reshape(-1, 28, 28).astype(np.uint8) for each in mnist(folder, rows)]
    images[0] = images[0][:rows]
    asked = {"latent_dim": 256, "hidden_dims": (512,), "epochs": 5, "holdout": 0}
    model = fit(images[0], device="cpu", store_rows=0, **asked)
    return [model.embed(each) for each in images]


def adbench(name):
    def load(folder, _rows):
        with np.load(folder / f"{name}.npz") as found:
            x = found["X"].astype(np.float32)
        test, train = np.split(x[np.random.default_rng(0).permutation(len(x))], [len(x) // 5])
        return train, test

    return load


def digits(_folder, _rows):
    from sklearn.datasets import load_digits

    x = load_digits().data.astype(np.float32)
    return x[len(x) // 5 :], x[: len(x) // 5]


SETS = {
    "digits": digits,
    "resnet": adbench("CV_by_ResNet18__CIFAR10_4"),
    "bert": adbench("NLP_by_BERT__20news_3"),
    "hazelnut": adbench("CV_by_ViT__MVTec-AD_hazelnut"),
    "mnist": mnist,
    "codes": codes,
}


def trained(train, width, *, nested=False):
    started = time.perf_counter()
    model = fit(train, recipe="vectors", latent_dim=width, nested=nested, holdout=0, device="cpu", store_rows=0)
    return model, time.perf_counter() - started


def error(model, rows, width=None):
    """Return the mean squared error of rows that are rebuilt from the first values of their codes, over their own."""
    z = model.embed(rows)
    z[:, width or z.shape[1] :] = 0
    return float(np.square(model.decode(z) - rows).mean() / np.square(rows).mean())


def pca(train, width):
    _, axes = np.linalg.eigh(train.T.astype(np.float64) @ train)
    return axes[:, ::-1][:, :width].astype(np.float32)


def main():
    """Train on every set, and print a line for each width."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--widths", default="16,32,64")
    parser.add_argument("--rows", type=int, default=1 << 30)
    parser.add_argument("--adbench", type=Path, required=True, metavar="FOLDER")
    asked = parser.parse_args()
    widths = [int(width) for width in asked.widths.split(",")]
    print(
        f"{'set':10}{'rows':>16}{'values':>7}{'aecli':>8}{'nested':>8}{'PCA':>7}{'int8':>7}{'trunc.':>7}{'MSE':>8}{'nested':>8}{'seconds':>9}"
    )
    for name in asked.sets.split(","):
        train, test = SETS[name](asked.adbench, asked.rows)
        train, test = train[: asked.rows], test[:QUERIES]
        nested, _ = trained(train, max(widths), nested=True)
        for width in widths:
            model, seconds = trained(train, width)
            axes = pca(train, width)
            every = {
                "aecli": (model.embed(test), model.embed(train)),
                "nested": (nested.embed(test)[:, :width], nested.embed(train)[:, :width]),
                "PCA": (test @ axes, train @ axes),
            }
            found = search.compare(test, train, every)
            cells = [f"{found[each].recall_at_10:.3f}" for each in (*every, "int8", "truncated")]
            for i, made in enumerate((model, nested)):
                cells[i] += "*" * (made.checkpoint.train.init == "pca")
            print(
                f"{name:10}{f'{len(train):,} x {train.shape[1]}':>16}{width:>7}{cells[0]:>8}{cells[1]:>8}"
                f"{cells[2]:>7}{cells[3]:>7}{cells[4]:>7}{error(model, test):>8.4f}{error(nested, test, width):>8.4f}"
                f"{seconds:>9.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
