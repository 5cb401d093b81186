"""What is installed: the wheel and the sources hold what they need; a light install applies models without torch."""

import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import aecli
from aecli.cli import completion, console

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
MAX_BYTES = 300e6


def listed():
    """The packages of the light install, as the guide's Dockerfile installs them."""
    guide = (completion.GUIDE / "install.md").read_text()
    return set(re.search(r"^RUN pip install (?:--\S+ )*(.*)$", guide, re.MULTILINE)[1].split())


def closure(names):
    """What pip installs for these names: name -> distribution."""
    found, wanted = {}, [Requirement(name) for name in names]
    while wanted:
        each = wanted.pop()
        if each.name.lower() not in found and (each.marker is None or each.marker.evaluate({"extra": ""})):
            found[each.name.lower()] = distribution(each.name)
            wanted += map(Requirement, found[each.name.lower()].requires or ())
    return found


@pytest.fixture(scope="module")
def light(tmp_path_factory):
    """Run the program where nothing is installed but what the guide's Dockerfile installs."""
    site = tmp_path_factory.mktemp("site")
    (site / "aecli").symlink_to(Path(aecli.__file__).parent)
    for each in closure(listed()).values():
        for name in {file.parts[0] for file in each.files} - {"..", "__pycache__"}:
            (site / name).symlink_to(each.locate_file(name))

    def run(*argv):
        return subprocess.run(
            [sys.executable, "-S", "-m", "aecli", *map(str, argv)],  # -S: without what is installed here
            env=os.environ | {"PYTHONPATH": str(site)}, capture_output=True, check=False, text=True,
        )  # fmt: skip

    return run


def test_the_light_install_lacks_what_the_program_can_name_and_nothing_else():
    needed = {Requirement(each).name for each in PROJECT["dependencies"]}
    assert listed() == needed - set(console.PACKAGES.values())
    assert set(console.PACKAGES.values()) <= needed


def test_the_light_install_is_below_300_megabytes():
    files = (file for each in closure(listed()).values() for file in each.files)
    assert sum(file.locate().stat().st_size for file in files if file.locate().is_file()) < MAX_BYTES


def test_a_light_install_applies_a_model_as_a_full_one_does(light, run, iris_model, iris_csv):
    for argv in (
        ["embed", iris_model, iris_csv],
        ["score", iris_model, iris_csv, "--top-features", "2"],
        ["reconstruct", iris_model, iris_csv, "--error"],
        ["decode", iris_model, "--samples", "3"],
        ["evaluate", iris_model, iris_csv],
        ["info", iris_model],
        ["guide", "install"],
        ["completion", "bash"],
        ["--help"],
    ):
        done = light(*argv)
        assert (done.returncode, done.stdout, done.stderr) == ((full := run(*argv)).code, full.out, full.err), argv
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("argv", "package"),
    [
        (["train", "iris.csv", "--label", "species"], "torch"),
        (["embed", "{}", "iris.csv", "--device", "cuda"], "torch"),
        (["plot", "{}", "iris.csv"], "matplotlib"),
        (["embed", "{}", "digits"], "scikit-learn"),
        (["embed", "{}", "image.png"], "pillow"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else value,
)
@pytest.mark.usefixtures("iris_csv")
def test_what_a_light_install_lacks_is_named(light, iris_model, argv, package):
    Path("image.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    done = light(*(word.format(iris_model) for word in argv))
    assert (done.returncode, done.stdout, done.stderr) == (
        1,
        "",
        f"error: this needs {package}, which is not installed\nhint: pip install {package}\n",
    )


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The wheel and the archive of the sources, as they are published."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", str(folder)], cwd=ROOT, capture_output=True, check=True
    )
    name = f"aecli-{aecli.__version__}"
    return folder / f"{name}-py3-none-any.whl", folder / f"{name}.tar.gz"


def files_of(*folders):
    found = {path.relative_to(ROOT).as_posix() for folder in folders for path in (ROOT / folder).rglob("*")}
    return {name for name in found if (ROOT / name).is_file() and "/__pycache__/" not in name}


def test_the_wheel_holds_the_package_whole(built):
    with zipfile.ZipFile(built[0]) as wheel:
        names = wheel.namelist()
        described = {name.partition("/")[2]: wheel.read(name).decode() for name in names if ".dist-info/" in name}
    assert {name for name in names if ".dist-info/" not in name} == files_of("aecli")
    assert described["entry_points.txt"] == "[console_scripts]\naecli = aecli.__main__:main\n"
    assert described["licenses/LICENSE"] == (ROOT / "LICENSE").read_text()
    assert f"\nVersion: {aecli.__version__}\n" in described["METADATA"]
    assert described["METADATA"].endswith(f"\n\n{(ROOT / 'README.md').read_text()}")


def test_the_sources_hold_what_the_tests_need(built):
    with tarfile.open(built[1]) as sources:
        names = {name.partition("/")[2] for name in sources.getnames()}
    at_the_top = {"pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE", ".gitignore"}
    assert names == files_of("aecli", "tests", "completions", ".github") | at_the_top | {"PKG-INFO"}
