"""Maps in two dimensions: aecli's beside those of UMAP, openTSNE, PaCMAP and PCA.

AECLI_DATA_DIR=... python -m tests.bench.map [--sets mnist,digits] [--seeds 5] [--methods UMAP,aecli] [--adbench FOLDER]

Needs umap-learn, openTSNE and pacmap; a method that is not installed is left out, and so is a set without its folder.
FOLDER holds the .npz files of ADBench. MNIST has its own test rows, of all other sets a fixed fifth is held out.

Every method has its defaults, on the CPU, with the threads that the environment gives, and the same values: pixels from
0 to 1, columns with the mean 0 and the variance 1 of the training rows. aecli scales its rows itself, in the time that
is measured. `aecli-conv` is aecli with convolutions, of images alone.
Each run is a process of its own. `fit` are the seconds from the training rows to their places on the map, `place` those
to place the test rows. Not in them are imports, and the compiling of UMAP and PaCMAP: both first fit and place up to
5,000 rows of the same set. `memory` is the most that the process held until then, with the data, in GB.
`accuracy` is the share of test rows whose label most of the 15 nearest training rows on the map have. The others
compare the map of up to 5,000 test rows, among themselves, with the rows: see `aecli.metrics.compare`. `MSE` is the
error of the test rows that are rebuilt from the map.
"""

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

import numpy as np

NEAREST = 15
JUDGED = 5_000
WARM, WARM_TEST = 5_000, 500  # above 4,096 rows UMAP takes another way: a part of more rows takes it too
UNSET = {"mnist": "AECLI_DATA_DIR is not set", "magic": "--adbench is not given", "resnet": "--adbench is not given"}
MEASURES = {
    "fit": "fit s",
    "place": "place s",
    "memory": "memory GB",
    "accuracy": "accuracy",
    "trustworthiness": "trustworth.",
    "continuity": "continuity",
    "knn_recall": "recall@15",
    "rank_correlation": "rank corr.",
    "mse": "MSE",
}


@dataclass
class Rows:
    """Training and test rows (N, ...) as they are, with labels (N,). `white` is that of images, None for others."""

    train: np.ndarray
    test: np.ndarray
    train_labels: np.ndarray
    test_labels: np.ndarray
    white: float | None = None

    def scaled(self, rows):
        """Return rows as float32 (N, D), as all methods see them."""
        flat = rows.reshape(len(rows), -1)
        if self.white is not None:
            return np.divide(flat, self.white, dtype=np.float32)
        mean, spread = self.train.mean(axis=0, dtype=np.float64), self.train.std(axis=0, dtype=np.float64)
        return ((flat - mean) / np.where(spread > 0, spread, 1)).astype(np.float32)

    @cached_property
    def x(self):
        """The training rows, scaled."""
        return self.scaled(self.train)

    @cached_property
    def x_test(self):
        """The test rows, scaled."""
        return self.scaled(self.test)


@dataclass
class Fitted:
    """The places (N, 2) of the training rows, what places the test rows, and what rebuilds them, scaled (N, D)."""

    codes: np.ndarray
    place: Callable
    rebuild: Callable | None = None


def split(x, labels, white=None):
    """Return rows with a fifth of them as test rows, always the same."""
    order = np.random.default_rng(0).permutation(len(x))
    test, train = np.split(order, [len(x) // 5])
    return Rows(x[train], x[test], labels[train], labels[test], white)


def mnist(_adbench):
    import gzip

    raw = Path(os.environ["AECLI_DATA_DIR"]) / "MNIST" / "raw"

    def read(name, header):
        return np.frombuffer(gzip.decompress((raw / f"{name}-ubyte.gz").read_bytes()), np.uint8, offset=header)

    images = [read(f"{part}-images-idx3", 16).reshape(-1, 28, 28) for part in ("train", "t10k")]
    return Rows(*images, *(read(f"{part}-labels-idx1", 8) for part in ("train", "t10k")), white=255)


def digits(_adbench):
    from sklearn.datasets import load_digits

    found = load_digits()
    return split(found.images.astype(np.uint8), found.target, white=16)


def adbench(name):
    """Return what opens a table or vectors of ADBench."""

    def load(folder):
        with np.load(folder / f"{name}.npz") as found:
            return split(found["X"], found["y"])

    return load


def roll(_adbench):
    """Return 5,000 points of scikit-learn's swiss roll, labelled with the tenth of the roll that they lie in."""
    from sklearn.datasets import make_swiss_roll

    points, position = make_swiss_roll(5_000, random_state=0)
    return split(points, np.int64(10 * (position / (1.5 * np.pi) - 1) / 2))  # it goes from 1.5 pi to 4.5 pi


SETS = {
    "mnist": mnist,
    "digits": digits,
    "magic": adbench("22_magic.gamma"),
    "resnet": adbench("CV_by_ResNet18__CIFAR10_4"),
    "roll": roll,
}


def umap(rows, _seed):
    from umap import UMAP

    fitted = UMAP().fit(rows.x)
    return Fitted(fitted.embedding_, lambda: fitted.transform(rows.x_test))


def opentsne(rows, _seed):
    from openTSNE import TSNE

    embedding = TSNE(n_jobs=threads()).fit(rows.x)
    return Fitted(np.asarray(embedding), lambda: np.asarray(embedding.transform(rows.x_test)))


def pacmap(rows, _seed):
    from pacmap import PaCMAP

    fitted = PaCMAP()
    return Fitted(fitted.fit_transform(rows.x), lambda: fitted.transform(rows.x_test, basis=rows.x))


def pca(rows, seed):
    from sklearn.decomposition import PCA

    fitted = PCA(2, random_state=seed)
    codes = fitted.fit_transform(rows.x)
    return Fitted(
        codes,
        lambda: fitted.transform(rows.x_test),
        lambda: fitted.inverse_transform(fitted.transform(rows.x_test)),
    )


def aecli(**asked):
    """Return the method: aecli's map with these settings, all rows being training rows."""

    def run(rows, seed):
        from aecli.training.fit import fit

        black_and_white = None if rows.white is None else (0, rows.white)
        settings = {"recipe": "map", "holdout": 0.0, "device": "cpu", "input_range": black_and_white} | asked
        model = fit(rows.train, seed=seed, **settings)

        def rebuild():
            own = model.scaler.transform(rows.test.reshape(len(rows.test), -1))
            np.testing.assert_allclose(own, rows.x_test, atol=1e-4)  # it saw what the others see
            return rows.scaled(model.reconstruct(rows.test))

        return Fitted(model.embed(rows.train), lambda: model.embed(rows.test), rebuild)

    return run


@dataclass
class Method:
    """How a map is made. `modules` are imported before; `compiled` tells that the first run compiles."""

    run: Callable
    package: str
    modules: tuple[str, ...]
    compiled: bool = False
    scales: bool = False  # itself


OURS = {"package": "torch", "modules": ("torch", "aecli.training.run"), "scales": True}
METHODS = {
    "UMAP": Method(umap, "umap-learn", ("umap",), compiled=True),
    "openTSNE": Method(opentsne, "openTSNE", ("openTSNE",)),
    "PaCMAP": Method(pacmap, "pacmap", ("pacmap",), compiled=True),
    "PCA": Method(pca, "scikit-learn", ("sklearn.decomposition",)),
    "aecli": Method(aecli(), **OURS),
    "aecli-conv": Method(aecli(channels=(16, 32)), **OURS),
}


def threads():
    """Return how many threads the environment gives."""
    return int(os.environ.get("OMP_NUM_THREADS") or len(os.sched_getaffinity(0)))


def measured(name, method_name, seed, adbench_folder):
    """Return the measures of one run, in this process, by their names."""
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # as the program has it
    import resource

    method, rows = METHODS[method_name], SETS[name](adbench_folder)
    for module in method.modules:
        importlib.import_module(module)
    np.random.seed(seed)  # noqa: NPY002, the generator that the others take
    if method.compiled:
        method.run(part := first(rows), seed).place()
        del part
    if method.scales:
        from aecli.cli.train import keep_freed_memory

        keep_freed_memory()  # as the program has it
    else:
        _ = rows.x, rows.x_test
    started = time.perf_counter()
    fitted = method.run(rows, seed)
    placing = time.perf_counter()
    codes = fitted.place()
    ended = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = {"fit": placing - started, "place": ended - placing, "memory": peak * 1024 / 1e9}
    return found | judged(rows, fitted, codes)


def first(rows):
    """Return the first of the rows."""
    few, few_test = slice(WARM), slice(WARM_TEST)
    return Rows(rows.train[few], rows.test[few_test], rows.train_labels[few], rows.test_labels[few_test], rows.white)


def judged(rows, fitted, codes):
    """Return how good the places (N, 2) of the test rows are, by the names of the measures."""
    from sklearn.neighbors import KNeighborsClassifier

    from aecli.metrics import Points, compare

    accuracy = KNeighborsClassifier(NEAREST).fit(fitted.codes, rows.train_labels).score(codes, rows.test_labels)
    some = np.random.default_rng(0).permutation(len(codes))[:JUDGED]
    quality = compare(Points(rows.x_test[some]), [Points(codes[some])], NEAREST, np.full(len(some), -1))[0].to_json()
    compared = ("trustworthiness", "continuity", "knn_recall", "rank_correlation")
    mse = None if fitted.rebuild is None else float(np.square(fitted.rebuild() - rows.x_test).mean())
    return {"accuracy": accuracy, "mse": mse} | {key: quality[key] for key in compared}


def apart(name, method, seed, folder):
    """Return the measures of one run, in a process of its own; None where it failed, which is said."""
    command = [sys.executable, "-m", "tests.bench.map", "--run", name, method, str(seed)]
    command += [] if folder is None else ["--adbench", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(
            f"{name:8} {method:12} seed {seed}  failed: {(done.stderr.strip() or 'no word').splitlines()[-1]}",
            flush=True,
        )
        return None
    return json.loads(done.stdout.splitlines()[-1])


def chosen(names, known, missing):
    """Return the names that are asked for, without those that are `missing`, which is said."""
    for name in names:
        if name not in known:
            raise SystemExit(f"{name!r} is none of {', '.join(known)}")
        if name in missing:
            print(f"{name} is left out: {missing[name]}")
    return [name for name in names if name not in missing]


def written(key, value):
    return f"{value:.{1 if key == 'fit' and value >= 100 else 2 if key in ('fit', 'place', 'memory') else 4}f}"


def report(runs):
    """Print the mean and the standard deviation of each measure, a line for each set and method."""
    print(f"\n{'set':8} {'method':12} {'runs':4} " + " ".join(f"{title:>17}" for title in MEASURES.values()))
    for name, method in dict.fromkeys((run["set"], run["method"]) for run in runs):
        own = [run for run in runs if (run["set"], run["method"]) == (name, method)]
        cells = []
        for key in MEASURES:
            values = [run[key] for run in own if run[key] is not None]
            cell = written(key, statistics.mean(values)) if values else "-"
            cells.append(cell + (f" ± {written(key, statistics.stdev(values))}" if len(values) > 1 else ""))
        print(f"{name:8} {method:12} {len(own):4} " + " ".join(f"{cell:>17}" for cell in cells))


def main():
    """Run every method on every set; print each run, then a table, and write a JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--adbench", type=Path, metavar="FOLDER")
    parser.add_argument("--output", type=Path, default=Path("map.json"))
    parser.add_argument("--run", nargs=3, metavar=("SET", "METHOD", "SEED"), help="one run, in this process")
    asked = parser.parse_args()
    if asked.run is not None:
        name, method, seed = asked.run
        print(json.dumps(measured(name, method, int(seed), asked.adbench)))
        return
    given = {"mnist": os.environ.get("AECLI_DATA_DIR"), "magic": asked.adbench, "resnet": asked.adbench}
    sets = chosen(asked.sets.split(","), SETS, {name: UNSET[name] for name, folder in given.items() if folder is None})
    installed = {name: importlib.util.find_spec(of.modules[0].partition(".")[0]) for name, of in METHODS.items()}
    absent = {name: f"{METHODS[name].package} is not installed" for name, spec in installed.items() if spec is None}
    methods = chosen(asked.methods.split(","), METHODS, absent)
    packages = dict.fromkeys(METHODS[name].package for name in methods)
    about = {"threads": threads(), "versions": {package: version(package) for package in packages}}
    runs, failed = [], 0
    for name in sets:
        image = SETS[name] in (mnist, digits)
        for seed in range(asked.seeds):
            for method in methods:
                if method == "aecli-conv" and not image:
                    continue
                measures = apart(name, method, seed, asked.adbench)
                if measures is None:
                    failed += 1
                    continue
                runs.append({"set": name, "method": method, "seed": seed} | measures)
                said = "  ".join(f"{k} {written(k, measures[k])}" for k in MEASURES if measures[k] is not None)
                print(f"{name:8} {method:12} seed {seed}  {said}", flush=True)
                asked.output.write_text(json.dumps(about | {"runs": runs}, indent=1) + "\n")
    report(runs)
    if failed:
        raise SystemExit(f"{failed} runs failed")


if __name__ == "__main__":
    main()
