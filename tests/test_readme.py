"""The README keeps its word: its shell lines run, in their order, in a real shell, and print what it shows."""

import re
import shutil
from pathlib import Path

import pytest
import terminal
from conftest import without_numbers

import aecli
from aecli.cli import completion

README = Path(__file__).parents[1] / "README.md"
TEXT = README.read_text()


@pytest.fixture(scope="module")
def toured(tmp_path_factory, digits_run, shell):
    """The shell lines in a folder of their own: (folder, line -> output). The first line was run by `digits_run`."""
    folder = tmp_path_factory.mktemp("tour")
    done, its_folder = digits_run
    shutil.copy(its_folder / "digits.safetensors", folder)
    short = TEXT.replace("--label target --latent-dim 3 -q", "--label target --latent-dim 3 --epochs 2 -q")
    return folder, shell(short, folder, given={"aecli train": done})


def test_every_line_of_the_tour_runs(toured):
    folder, outputs = toured
    assert len(outputs) >= 7
    assert (folder / "digits-reconstruction.png").exists()
    assert (folder / "codes.csv").read_text().startswith("target,z0,z1,z2\n")


def test_the_terminal_shows_what_the_program_prints(toured, digits_run):
    folder, _ = toured
    commands = [line[2:] for line in terminal.text_of(terminal.PICTURE.read_text()) if line.startswith("$ ")]
    assert commands == list(terminal.COMMANDS)
    pictured = "\n".join(terminal.text_of(terminal.PICTURE.read_text()))
    said = [line for line in digits_run[0].err.splitlines() if not line.startswith(("epoch", "calibrating"))]
    printed = [line for command in terminal.COMMANDS[1:] for line in terminal.text_shown(command, folder)]
    for line in [*said, *printed]:
        assert shape(line) in shape(pictured)
    assert re.search(r"^epoch 48/48 ━+ 768/768 loss \S+ held-out \S+ \S+ rows/s *00:00$", pictured, re.MULTILINE)


def shape(text):
    return without_numbers(text).replace(" ", "")


def test_the_python_lines_run(toured, monkeypatch):
    folder, _ = toured
    code = re.search(r"^```python\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)[1]
    names = {}
    monkeypatch.chdir(folder)
    exec(code.replace("latent_dim=3)", "latent_dim=3, epochs=2)"), names)
    assert names["z"].shape == (1797, 5)
    assert names["recon"].shape == (1797, 64)


def test_every_command_topic_and_format_is_named():
    from typer.main import get_command

    from aecli.cli import build
    from aecli.data.formats import NAMES
    from aecli.data.sinks import FORMATS

    for command in get_command(build()).commands:
        assert f"aecli {command}" in TEXT
    for topic in completion.GUIDE.glob("*.md"):
        assert f"[{topic.stem}](aecli/guide/{topic.name})" in TEXT
    formats = (completion.GUIDE / "formats.md").read_text()
    for name in NAMES:
        assert f"`{name}`" in formats
    for form in FORMATS:
        assert f"`.{form}`" in formats


def test_the_pictures_are_there():
    pictures = [*re.findall(r"!\[[^]]*\]\(([^)]*)\)", TEXT), *re.findall(r'<img src="([^"]*)"', TEXT)]
    assert len(pictures) > 5
    for picture in pictures:
        assert (README.parent / picture).is_file(), picture


def test_the_version_is_that_of_the_package():
    assert re.fullmatch(r"\d+\.\d+\.\d+", aecli.__version__)
