"""Anomalies in tables: aecli's scores beside those of PyOD's detectors and of scikit-learn's isolation forest.

python -m tests.bench.score --adbench FOLDER [--tables 6_cardio,45_wine] [--seeds 3] [--methods KNN,aecli]

FOLDER holds the .npz files of ADBench: rows `X` (N, D), and `y`, which is 1 for an anomaly. Needs pyod; a method that
is not installed is left out. Of a table at most 4,000 rows are taken, by chance, for each seed others.

Two protocols: `normals` trains on half of the normal rows and tests on all other rows; `contaminated` trains on all
rows and tests the same rows, where PyOD gives the scores that it has for its training rows. No method sees a label.
All have their defaults, on the CPU, with the threads that the environment gives. aecli gets the rows as they are, the
others with the mean 0 and the variance 1 of the training rows in each column.

Each run is a process of its own, ended after --limit seconds. `fit` are the seconds of fitting, in which PyOD also
scores the training rows. Not in them are imports, and the compiling of ECOD and AutoEncoder: both first fit and score
40 rows. `AUC` is the area under the ROC curve, `AP` the average precision, both of test rows and times 100. Against
each contender aecli wins or loses a table where the means of AUC over the seeds that both have differ by more than
0.5. `false alarms` are the shares of normal test rows that aecli calls anomalies at 1, 5 and 10 %, in the mean and in
the worst run. `developed` are the tables on which aecli's score was developed. Where training rows have no variance in
some direction, PyOD's PCA may score every row infinity: its AUC is 50 then.

Runs that are in --output already are not run again: after a change of a method, name another file. The tables at the
end are of all runs in it.
"""

import argparse
import importlib.util
import json
import multiprocessing
import os
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

MOST_ROWS, WARM = 4_000, 40
TIE = 0.5
ALPHAS = (0.01, 0.05, 0.1)
PROTOCOLS = ("normals", "contaminated")
OURS = "aecli"
DEVELOPED = {
    "7_Cardiotocography",
    "15_Hepatitis",
    "25_musk",
    "27_PageBlocks",
    "29_Pima",
    "33_skin",
    "37_Stamps",
    "41_Waveform",
    "45_wine",
    "CV_by_ViT__MVTec-AD_hazelnut",
    "NLP_by_BERT__20news_3",
}
GROUPS = {
    "all tables": lambda _: True,
    "developed tables": lambda table: table in DEVELOPED,
    "other tables": lambda table: table not in DEVELOPED,
}


@dataclass
class Rows:
    """Training and test rows (N, D), which test rows are anomalies (N,), and whether both are the same rows."""

    train: np.ndarray
    test: np.ndarray
    anomalies: np.ndarray
    same: bool

    def scaled(self):
        """Return training and test rows with the mean 0 and the variance 1 of the training rows in each column."""
        mean, spread = self.train.mean(axis=0, dtype=np.float64), self.train.std(axis=0, dtype=np.float64)
        return tuple((rows - mean) / np.where(spread > 0, spread, 1) for rows in (self.train, self.test))


def load(path, protocol, seed):
    """Return the rows of a run: some of the table, in an order by chance."""
    with np.load(path) as found:
        x, anomalies = found["X"], found["y"] == 1
    rng = np.random.default_rng(seed)
    some = rng.permutation(len(x))[:MOST_ROWS]
    x, anomalies = x[some], anomalies[some]
    if protocol == "contaminated":
        return Rows(x, x, anomalies, same=True)
    normal = np.flatnonzero(~anomalies)  # in an order by chance, as the rows are
    train = normal[: len(normal) // 2]
    test = np.setdiff1d(np.arange(len(x)), train)
    return Rows(x[train], x[test], anomalies[test], same=False)


@dataclass
class Fitted:
    """What scores the test rows (N,), and what gives the shares of false alarms at ALPHAS of the scores of others."""

    score: Callable
    alarms: Callable | None = None


def pyod(module, name, *, seeded=False, **settings):
    """Return the method: a detector of PyOD."""

    def run(rows, seed):
        kind = getattr(importlib.import_module(f"pyod.models.{module}"), name)
        x, x_test = rows.scaled()
        started = time.perf_counter()
        fitted = kind(**settings, **({"random_state": seed} if seeded else {})).fit(x)
        seconds = time.perf_counter() - started
        return seconds, Fitted(lambda: fitted.decision_scores_ if rows.same else fitted.decision_function(x_test))

    return run


def forest(rows, seed):
    from sklearn.ensemble import IsolationForest

    x, x_test = rows.scaled()
    started = time.perf_counter()
    fitted = IsolationForest(random_state=seed).fit(x)
    seconds = time.perf_counter() - started
    return seconds, Fitted(lambda: -fitted.score_samples(x_test))


def aecli(rows, seed):
    from aecli.training.fit import fit

    started = time.perf_counter()
    model = fit(rows.train, seed=seed, device="cpu")
    seconds = time.perf_counter() - started

    def alarms(scores):
        p, least = model.scoring.p(scores), model.scoring.least_p
        return [float((p <= max(alpha, least)).mean()) for alpha in ALPHAS]

    return seconds, Fitted(lambda: model.score(rows.test), alarms)


@dataclass
class Method:
    """How rows are scored. `modules` are imported before; `compiled` tells that the first run compiles."""

    run: Callable
    package: str
    modules: tuple[str, ...]
    compiled: bool = False


def of_pyod(module, name, *modules, compiled=False, **settings):
    run = pyod(module, name, **settings)
    return Method(run, "pyod", ("pyod", f"pyod.models.{module}", *modules), compiled)


METHODS = {
    OURS: Method(aecli, "torch", ("torch", "aecli.training.fit", "aecli.training.run")),
    "KNN": of_pyod("knn", "KNN"),
    "LOF": of_pyod("lof", "LOF"),
    "IForest": of_pyod("iforest", "IForest", seeded=True),
    "ECOD": of_pyod("ecod", "ECOD", compiled=True),
    "PCA": of_pyod("pca", "PCA", seeded=True),
    "AutoEncoder": of_pyod(
        "auto_encoder", "AutoEncoder", "torch._inductor", compiled=True, seeded=True, device="cpu", verbose=0
    ),
    "sklearn": Method(forest, "scikit-learn", ("sklearn.ensemble",)),
}


def measured(path, protocol, seed, name):
    """Return the measures of one run, in this process. Raises ValueError where a score is no number."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    method, rows = METHODS[name], load(path, protocol, seed)
    np.random.seed(seed)  # noqa: NPY002, the generator that others may take
    if method.compiled:
        few = slice(WARM)
        method.run(Rows(rows.train[few], rows.test[few], rows.anomalies[few], rows.same), seed)[1].score()
    seconds, fitted = method.run(rows, seed)
    scores = np.asarray(fitted.score())
    if (lost := int(np.isnan(scores).sum())) > 0:
        raise ValueError(f"{lost} of {len(scores)} scores are NaN")
    ranked = np.nan_to_num(scores.astype(np.float64))  # infinity is the largest
    normal = scores[~rows.anomalies]
    return {
        "fit": seconds,
        "auc": 100 * float(roc_auc_score(rows.anomalies, ranked)),
        "ap": 100 * float(average_precision_score(rows.anomalies, ranked)),
        "alarms": None if rows.same or fitted.alarms is None else fitted.alarms(normal),
    }


def apart(limit, *run):
    """Return the measures of one run, in a process of its own, or a sentence that tells how it failed."""
    context = multiprocessing.get_context("fork")  # what is imported here need not be again
    receives, sends = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(sends, *run))
    process.start()
    sends.close()
    try:
        return receives.recv() if receives.poll(limit) else f"ended after {limit} s"
    except EOFError:
        return "ended without a word"
    finally:
        process.kill()
        process.join()


def _child(sends, *run):
    warnings.simplefilter("ignore")
    try:
        sends.send(measured(*run))
    except Exception as error:  # noqa: BLE001, of whatever package: it is said
        sends.send(f"{type(error).__name__}: {error}")


def chosen(names, known, missing):
    """Return the names that are asked for, without those that are `missing`, which is said."""
    for name in names:
        if name not in known:
            raise SystemExit(f"{name!r} is none of {', '.join(known)}")
        if name in missing:
            print(f"{name} is left out: {missing[name]}")
    return [name for name in names if name not in missing]


def means(runs, key, method, seeds=None):
    """Return the mean over the seeds of a measure, of each table that the method has runs of."""
    values = {}
    for run in runs:
        if run["method"] == method and (seeds is None or (run["table"], run["seed"]) in seeds):
            values.setdefault(run["table"], []).append(run[key])
    return {table: statistics.mean(of) for table, of in values.items()}


def against(runs, method):
    """Return how many tables aecli wins, ties and loses against a method, and by how much AUC it is better."""

    def seeds(name):
        return {(run["table"], run["seed"]) for run in runs if run["method"] == name}

    both = seeds(OURS) & seeds(method)
    own, other = means(runs, "auc", OURS, both), means(runs, "auc", method, both)
    better = [own[table] - other[table] for table in own]
    if not better:
        return None
    wins, losses = sum(b > TIE for b in better), sum(b < -TIE for b in better)
    return f"{wins:4} {len(better) - wins - losses:4} {losses:6} {statistics.mean(better):+8.1f}"


def report(runs):
    """Print for each protocol and group of tables a line for each method, and the false alarms; then AUC by table."""
    methods = [name for name in METHODS if any(run["method"] == name for run in runs)]
    for protocol in PROTOCOLS:
        for group, holds in GROUPS.items():
            own = [run for run in runs if run["protocol"] == protocol and holds(run["table"])]
            if not own:
                continue
            print(f"\n{protocol}, {group}")
            print(f"{'method':12} tables  mean AUC  median AUC  mean AP   fit s  aecli: wins ties losses by mean")
            for method in methods:
                auc, ap, fit = (means(own, key, method) for key in ("auc", "ap", "fit"))
                if not auc:
                    continue
                mean, median, seconds = statistics.mean(auc.values()), statistics.median(auc.values()), fit.values()
                line = f"{method:12} {len(auc):6} {mean:9.1f} {median:11.1f} {statistics.mean(ap.values()):8.1f}"
                beside = None if method == OURS else against(own, method)
                print(f"{line} {statistics.mean(seconds):7.2f}" + (f" {beside:>31}" if beside else ""))
            alarms = [run["alarms"] for run in own if run["alarms"] is not None]
            if alarms:
                shares = zip(ALPHAS, np.mean(alarms, axis=0), np.max(alarms, axis=0), strict=True)
                said = (f"{mean:.1%} at {alpha:.0%} (at most {most:.1%})" for alpha, mean, most in shares)
                print("false alarms of aecli: " + ", ".join(said))
    for protocol in PROTOCOLS:
        own = [run for run in runs if run["protocol"] == protocol]
        by_method = [means(own, "auc", method) for method in methods]
        print(f"\nAUC, {protocol:23} " + " ".join(f"{method:>11}" for method in methods))
        for table in sorted({run["table"] for run in own}):
            cells = (f"{auc[table]:11.1f}" if table in auc else f"{'-':>11}" for auc in by_method)
            print(f"{table:28} " + " ".join(cells))


def write(path, found):
    """Write a JSON file that is whole whenever this ends."""
    part = path.with_name(f"{path.name}.part")
    part.write_text(json.dumps(found, indent=1) + "\n")
    part.replace(path)


def main():
    """Run every method on every table; print each run, then tables, and write a JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--adbench", type=Path, metavar="FOLDER", required=True)
    parser.add_argument("--tables", help="names of files, without .npz")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--limit", type=float, default=300, metavar="SECONDS")
    parser.add_argument("--output", type=Path, default=Path("score.json"))
    asked = parser.parse_args()
    paths = {path.stem: path for path in sorted(asked.adbench.glob("*.npz"))}
    tables = chosen(asked.tables.split(",") if asked.tables else list(paths), paths, {})
    installed = {name: importlib.util.find_spec(of.modules[0].partition(".")[0]) for name, of in METHODS.items()}
    absent = {name: f"{METHODS[name].package} is not installed" for name, spec in installed.items() if spec is None}
    methods = chosen(asked.methods.split(","), METHODS, absent)
    for module in ("sklearn.metrics", *(module for name in methods for module in METHODS[name].modules)):
        importlib.import_module(module)
    threads = int(os.environ.get("OMP_NUM_THREADS") or len(os.sched_getaffinity(0)))
    before = json.loads(asked.output.read_text()) if asked.output.exists() else {"runs": [], "versions": {}}
    packages = {METHODS[name].package for name in methods} | {"numpy", "scikit-learn"}
    versions = before["versions"] | {package: version(package) for package in sorted(packages)}
    about, runs = {"threads": threads, "versions": versions}, before["runs"]
    done = {(run["table"], run["protocol"], run["seed"], run["method"]) for run in runs}
    wanted = [(t, p, s, m) for s in range(asked.seeds) for t in tables for p in PROTOCOLS for m in methods]
    failed = 0
    for run in wanted:
        if run in done:
            continue
        table, protocol, seed, method = run
        found = apart(asked.limit, paths[table], protocol, seed, method)
        told = f"{table:28} {protocol:12} seed {seed}  {method:12}"
        if isinstance(found, str):
            failed += 1
            print(f"{told} failed: {found}", flush=True)
            continue
        print(f"{told} AUC {found['auc']:5.1f}  AP {found['ap']:5.1f}  fit {found['fit']:.2f} s", flush=True)
        runs.append({"table": table, "protocol": protocol, "seed": seed, "method": method} | found)
        write(asked.output, about | {"runs": runs})
    report(runs)
    if failed:
        raise SystemExit(f"{failed} runs failed")


if __name__ == "__main__":
    main()
