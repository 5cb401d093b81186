"""Small data under the default recipe: held-out error over PCA's with as many components, on ten fixed splits.

python -m tests.bench.tables [--sets wine,iris] [--images images.npy] [hidden_dims=64,64 ...]

`faces` wants scikit-image. `--images` adds an array of 8-bit images, (N, H, W) or (N, H, W, C).

`PCA` is in how many of the splits the model was PCA's own, because no network was better by cross-validation.
"""

import argparse
import functools
import json
import statistics
import time
from pathlib import Path

import numpy as np
import sklearn.datasets
import sklearn.feature_extraction.image

from aecli.config import PCA
from aecli.data.source import ArraySource
from aecli.training.fit import fit

SPLITS = 10
HELD_OUT = 0.1


def images(x, white=255):
    """Give images of bytes, (N, H, W) or (N, H, W, C), and what a schema says of them."""
    return x, {"image_shape": x.shape[1:], "full_scale": float(white), "dtype": "uint8"}


def photographs(patches=300, side=16):
    """Give patches in colour of scikit-learn's two photographs."""
    cut = [
        sklearn.feature_extraction.image.extract_patches_2d(photo, (side, side), max_patches=patches, random_state=i)
        for i, photo in enumerate(sklearn.datasets.load_sample_images().images)
    ]
    return images(np.concatenate(cut))


def faces():
    """Give the faces of LFW that come with scikit-image, and as many pieces of background: 200 of 25 x 25 pixels."""
    import skimage.data

    return images(np.uint8(255 * skimage.data.lfw_subset()))


SETS = {  # each gives rows (N, ...) and what a schema says of them
    "wine": lambda: (sklearn.datasets.load_wine().data, {}),
    "breast cancer": lambda: (sklearn.datasets.load_breast_cancer().data, {}),
    "diabetes": lambda: (sklearn.datasets.load_diabetes(scaled=False).data, {}),
    "iris": lambda: (sklearn.datasets.load_iris().data, {}),
    "noise": lambda: (np.random.default_rng(6).normal(size=(300, 20)), {}),
    "digits": lambda: images(sklearn.datasets.load_digits().images.astype(np.uint8), 16),
    "photographs": photographs,
    "faces": faces,
}


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
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--images", type=Path, nargs="*", default=[])
    parser.add_argument("asked", nargs="*", metavar="NAME=VALUE")
    arguments = parser.parse_args()
    asked = {name: value_of(text) for name, _, text in (pair.partition("=") for pair in arguments.asked)}
    found = {}
    own = {path.stem: functools.partial(images, np.load(path)) for path in arguments.images}
    for name in [*filter(None, arguments.sets.split(",")), *own]:
        x, schema = (SETS | own)[name]()
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
