"""What imports what: down only, and nothing heavy on the way to --help."""

import ast
import os
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
    {"inference", "rebuilding"},
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


def heavy_modules_after(argv, heavy=HEAVY, **env):
    """Run a command line in a process of its own: what heavy it has imported, as one line."""
    code = f"""
import sys
sys.argv = ["aecli", *{argv!r}]
from aecli.cli import main
try:
    main()
except SystemExit:
    pass
print(*sorted({heavy!r} & set(sys.modules)), sep=",")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, text=True, env=os.environ | env
    )
    return done.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    "argv",
    [
        ["--help"],
        ["--version"],
        ["train", "--help"],
        ["embed", "-h"],
        ["trian"],
        ["train", "--epohcs", "3"],
        ["train", "--epochs", "none"],
        ["train", "--device", "gpu"],
        ["train", "--json", "-o", "-"],
        ["train", "-"],
        ["plot", "m.safetensors", "--json", "-o", "-"],
        ["embed"],
        ["score", "m.safetensors", "x.csv", "--top", "3", "--line-buffered"],
        ["score", "m.safetensors", "x.csv", "--json", "-o", "-"],
        ["decode", "m.safetensors"],
        ["decode", "m.safetensors", "--samples", "2", "--between", "1", "2"],
        ["info"],
        ["completion", "zsh"],
        ["export", "m.safetensors", "-o", "m.pt"],
    ],
    ids=" ".join,
)
def test_help_and_usage_errors_load_nothing_heavy(argv):
    assert heavy_modules_after(argv) == ""


@pytest.mark.parametrize("argv", [[], ["--help"], ["train", "-h"], ["trian"], ["train", "--epohcs", "3"]], ids=" ".join)
def test_help_loads_neither_a_markdown_parser_nor_pygments_nor_pydantic(argv):
    assert heavy_modules_after(argv, NOT_FOR_HELP) == ""


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


def test_info_loads_nothing_heavy(digits_model):
    assert heavy_modules_after(["info", str(digits_model)]) == ""
    assert heavy_modules_after(["info", str(digits_model), "--json"]) == ""


@pytest.mark.parametrize("command", ["embed", "reconstruct", "score", "evaluate"])
def test_data_that_is_missing_loads_nothing_heavy(command, iris_model):
    assert heavy_modules_after([command, str(iris_model)]) == ""
    assert heavy_modules_after([command, "no.safetensors"]) == ""


@pytest.mark.parametrize(
    "line", ["aecli ", "aecli train --la", "aecli train --recipe cl", "aecli embed ", "aecli train iris.csv --label "]
)
@pytest.mark.usefixtures("iris_csv")
def test_a_tab_press_loads_nothing_heavy(line):
    assert heavy_modules_after([], _AECLI_COMPLETE=line) == ""


def test_codes_are_decoded_and_drawn_without_torch(iris_model):
    Path("codes.csv").write_text("z0,z1\n1,2\n")
    assert set(heavy_modules_after(["decode", str(iris_model), "codes.csv", "-o", "out.csv"]).split(",")) == {
        "numpy",
        "pyarrow",
    }
    argv = ["decode", str(iris_model), "--samples", "3", "-o", "out.csv"]
    assert set(heavy_modules_after(argv).split(",")) == {"numpy", "pyarrow"}


@pytest.mark.parametrize("command", ["embed", "reconstruct"])
def test_rows_are_embedded_and_rebuilt_without_torch(command, iris_model, iris_csv):
    argv = [command, str(iris_model), str(iris_csv), "-o", "out.csv", "--error"]
    assert set(heavy_modules_after(argv).split(",")) == {"numpy", "pyarrow"}


def test_a_model_is_exported_without_torch(iris_model):
    assert heavy_modules_after(["export", str(iris_model), "-o", "m.onnx"]) == "numpy,onnx"


def test_rows_are_scored_without_torch(iris_model, iris_csv):
    argv = ["score", str(iris_model), str(iris_csv), "-o", "out.csv", "--top-features", "2", "--top", "9"]
    assert set(heavy_modules_after(argv).split(",")) == {"numpy", "pyarrow"}


def test_the_digits_are_read_without_scikit_learn(digits_model):
    argv = ["embed", str(digits_model), "digits", "-o", "out.csv"]
    assert set(heavy_modules_after(argv).split(",")) == {"numpy", "pyarrow"}


def test_the_digits_are_judged_with_numpy_alone(digits_model):
    assert heavy_modules_after(["evaluate", str(digits_model), "digits", "-q"]) == "numpy"


def test_a_table_is_trained_on_without_pandas_whose_import_would_lose_a_ctrl_c(iris_csv):
    argv = ["train", str(iris_csv), "--label", "species", "--epochs", "1", "--latent-dim", "2", "-q", "--device", "cpu"]
    assert set(heavy_modules_after(argv).split(",")) == {"torch", "numpy", "safetensors", "pyarrow"}


@pytest.mark.parametrize("optimizer", ["muon", "adam"])
def test_training_loads_neither_pytorchs_compiler_nor_torchvision(optimizer, idx):
    Path("rows.idx").write_bytes(idx(np.arange(600, dtype=np.uint8).reshape(100, 6)))
    argv = ["train", "rows.idx", "--epochs", "1", "--latent-dim", "2", "--optimizer", optimizer, "-q"]
    assert set(heavy_modules_after(argv).split(",")) == {"torch", "numpy", "safetensors"}
    assert Path("rows.safetensors").exists()


@pytest.mark.parametrize("word", ["embed", "score"])
def test_files_here_load_nothing_of_what_reaches_places_elsewhere(word, iris_model, iris_csv):
    elsewhere = {"aecli.data.buckets", "aecli.data.http", "pyarrow.fs", "pyarrow._s3fs", "http.client", "ssl"}
    assert heavy_modules_after([word, str(iris_model), str(iris_csv), "-o", "out.csv"], elsewhere) == ""


def test_importing_the_package_loads_nothing_heavy():
    code = f"import sys, aecli; print(*sorted({HEAVY | {'typer', 'rich'}!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.strip() == ""
