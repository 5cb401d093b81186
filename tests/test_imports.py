"""What imports what: down only, and nothing heavy on the way to --help."""

import ast
import os
import re
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

import aecli
from aecli.cli.deferred import deferred

PACKAGE = Path(aecli.__file__).parent
# Each level may import those after it, and its own.
LEVELS = [
    {"cli", "__main__", "sklearn"},
    {"figures"},
    {"training"},
    {"inference", "rebuilding", "anomalies"},
    {"metrics", "evaluation", "scoring", "explaining", "drift", "search", "strangest", "export"},
    {"model"},
    {"data"},
    {"recipes"},
    {"files", "config", "options"},
    {"errors", "pipeline"},
]
TORCH_MAY = {
    "training/dictionary",
    "training/run",
    "training/choose",
    "training/group",
    "training/shares",
    "training/folds",
    "training/scored",
    "training/start",
    "training/loop",
    "training/rows",
    "training/neighbours",
    "training/step",
    "training/objectives",
    "training/optim",
    "model/module",
    "model/convolution",
    "model/device",
    "model/wrapped",
}
HEAVY = {
    "torch",
    "torch._dynamo",
    "torchvision",
    "numpy",
    "matplotlib",
    "sklearn",
    "pyarrow",
    "scipy",
    "PIL",
    "safetensors",
    "pandas",
    "onnx",
    "polars",
}
NOT_FOR_HELP = {"markdown_it", "pygments", "attr", "pydantic"}  # what Typer imports for what help does not need


def modules():
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        yield parts[0], path


def imported(path):
    """Yield what a module imports when it runs: not what it names for the type checker alone."""
    tree = ast.parse(path.read_text())
    tree.body = [
        node for node in tree.body if not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test))
    ]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{name.name}" for name in node.names)


def test_imports_go_down_only():
    level = {name: i for i, names in enumerate(LEVELS) for name in names}
    for name, path in modules():
        if name == "__init__":
            continue
        for target in imported(path):
            inside = target.split(".")[1] if target.startswith("aecli.") else None
            if inside in level:
                assert level[name] <= level[inside], f"{path.name} imports {target}"


def test_every_module_has_a_level():
    levels = set().union(*LEVELS)
    assert {name for name, _ in modules()} - {"__init__"} == levels


def test_torch_is_imported_only_where_it_computes():
    found = {
        path.relative_to(PACKAGE).with_suffix("").as_posix()
        for _, path in modules()
        for target in imported(path)
        if target.split(".")[0] == "torch"
    }
    assert found == TORCH_MAY


def test_matplotlib_is_imported_by_figures_alone():
    found = {name for name, path in modules() for target in imported(path) if target.split(".")[0] == "matplotlib"}
    assert found == {"figures"}


def heavy_modules_after(*lines, heavy=HEAVY):
    """Run command lines, each in a process of its own: what heavy each of them has imported, as text.

    The processes are forks of one that has imported the command line alone. TAB before a line completes it.
    """
    code = f"""
import os, sys
from aecli.cli import main
for words in {[line if line.startswith("TAB ") else line.split() for line in lines]!r}:
    sys.stdout.flush()
    if not os.fork():
        if isinstance(words, str):
            os.environ["_AECLI_COMPLETE"], words = words.removeprefix("TAB "), []
        sys.argv = ["aecli", *words]
        try:
            main()
        except SystemExit:
            pass
        print("heavy:", *sorted({heavy!r} & set(sys.modules)), flush=True)
        os._exit(0)
    os.wait()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    found = re.findall("^heavy: ?(.*)$", done.stdout, re.MULTILINE)
    return dict(zip(lines, found, strict=True))


USAGE = [
    "--help",
    "--version",
    "train --help",
    "embed -h",
    "trian",
    "train --epohcs 3",
    "train --epochs none",
    "train --device gpu",
    "train --json -o -",
    "train -",
    "plot m.safetensors --json -o -",
    "embed",
    "score m.safetensors x.csv --top 3 --line-buffered",
    "score m.safetensors x.csv --json -o -",
    "decode m.safetensors",
    "decode m.safetensors --samples 2 --between 1 2",
    "info",
    "completion zsh",
    "export m.safetensors -o m.pt",
]


def test_help_and_usage_errors_load_nothing_heavy():
    assert heavy_modules_after(*USAGE) == dict.fromkeys(USAGE, "")


def test_help_loads_neither_a_markdown_parser_nor_pygments_nor_pydantic():
    lines = ["", "--help", "train -h", "trian", "train --epohcs 3"]
    assert heavy_modules_after(*lines, heavy=NOT_FOR_HELP) == dict.fromkeys(lines, "")


@pytest.mark.parametrize("argv", [["--help"], ["train", "--help"]], ids=" ".join)
def test_help_is_the_same_as_with_everything_loaded(argv):
    code = "import rich.markdown, rich.traceback; from aecli import cli; cli.build()(prog_name='aecli')"
    shown, whole = (
        subprocess.run(
            [sys.executable, *how, *argv], capture_output=True, check=True, env=os.environ | {"FORCE_COLOR": "1"}
        ).stdout
        for how in (["-m", "aecli"], ["-c", code])
    )
    assert shown == whole
    assert b"Show this message" in shown


USES = {
    "called": lambda named: named().word,
    "looked into": lambda named: named.word,
    "inherited from": lambda named: types.new_class("Heir", (named,))().word,
    "asked about": lambda named: "loaded" * (not isinstance(0, named)),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_a_deferred_class_loads_its_module_when_it_is_used_and_not_before(monkeypatch, use):
    Path("late.py").write_text("class Named:\n    word = 'loaded'\n")
    monkeypatch.syspath_prepend(Path.cwd())
    for used_at_once in (True, False):
        with deferred("late"):
            from late import Named

            assert Named | None
            assert None | Named
            assert not used_at_once or use(Named) == "loaded"
        assert ("late" in sys.modules) == used_at_once
        assert use(Named) == "loaded"
        assert sys.modules.pop("late").Named.word == "loaded"


@pytest.mark.usefixtures("iris_csv")
def test_what_is_done_before_any_work_loads_nothing_heavy(digits_model, iris_model):
    lines = [f"info {digits_model}", f"info {digits_model} --json"]
    lines += [
        f"{command} {model}"
        for command in ("embed", "reconstruct", "score", "evaluate")
        for model in (iris_model, "no.safetensors")
    ]
    lines += [f"TAB aecli {typed}" for typed in ("", "train --la", "train --recipe cl", "embed ")]
    lines += ["TAB aecli train iris.csv --label "]
    assert heavy_modules_after(*lines) == dict.fromkeys(lines, "")


def test_models_are_applied_without_torch(digits_model, iris_model, iris_csv):
    Path("codes.csv").write_text("z0,z1\n1,2\n")
    lines = [
        f"decode {iris_model} codes.csv -o codes-decoded.csv",
        f"decode {iris_model} --samples 3 -o sampled.csv",
        f"embed {iris_model} {iris_csv} -o embedded.csv --error",
        f"reconstruct {iris_model} {iris_csv} -o rebuilt.csv --error",
        f"score {iris_model} {iris_csv} -o scores.csv --top-features 2 --top 9",
        f"embed {digits_model} digits -o digits.csv",  # without scikit-learn
    ]
    assert heavy_modules_after(*lines) == dict.fromkeys(lines, "numpy pyarrow")
    assert len(list(Path().glob("*.csv"))) == 8
    judged = f"evaluate {digits_model} digits -q"
    assert heavy_modules_after(judged) == {judged: "numpy"}


def test_training_loads_neither_pandas_whose_import_would_lose_a_ctrl_c_nor_the_compiler_nor_torchvision(iris_csv, idx):
    Path("rows.idx").write_bytes(idx(np.arange(600, dtype=np.uint8).reshape(100, 6)))
    quick = "--epochs 1 --latent-dim 2 -q --device cpu"
    table = f"train {iris_csv} --label species {quick}"
    arrays = [f"train rows.idx --optimizer {optimizer} {quick}" for optimizer in ("muon", "adam")]
    of_arrays = dict.fromkeys(arrays, "numpy safetensors torch")
    assert heavy_modules_after(table, *arrays) == {table: "numpy pyarrow safetensors torch"} | of_arrays
    assert Path("iris.safetensors").exists()
    assert Path("rows.safetensors").exists()


def test_files_here_load_nothing_of_what_reaches_places_elsewhere(iris_model, iris_csv):
    elsewhere = {"aecli.data.buckets", "aecli.data.http", "pyarrow.fs", "pyarrow._s3fs", "http.client", "ssl"}
    lines = [f"{command} {iris_model} {iris_csv} -o {command}.csv" for command in ("embed", "score")]
    assert heavy_modules_after(*lines, heavy=elsewhere) == dict.fromkeys(lines, "")


def test_importing_the_package_loads_nothing_heavy():
    code = f"import sys, aecli; print(*sorted({HEAVY | {'typer', 'rich'}!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.strip() == ""
