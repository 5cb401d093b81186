"""Completion, asked for as the scripts in completions/ ask, and once in a real bash."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main

from aecli.cli import app

SCRIPTS = Path(__file__).parents[1] / "completions"
COMMANDS = typer.main.get_command(app).commands
ASK = {  # how each script passes the line typed so far
    "aecli.bash": lambda line: {
        "_AECLI_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(line.count(" ")),
    },
    "_aecli": lambda line: {
        "_AECLI_COMPLETE": "complete_fish",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        "_TYPER_COMPLETE_ARGS": line,
    },
    "aecli.fish": lambda line: {
        "_AECLI_COMPLETE": "complete_fish",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        "_TYPER_COMPLETE_ARGS": line,
    },
    "aecli.ps1": lambda line: {
        "_AECLI_COMPLETE": "complete_powershell",
        "_TYPER_COMPLETE_ARGS": line,
        "_TYPER_COMPLETE_WORD_TO_COMPLETE": line.split(" ")[-1],
    },
}


def complete(script, line):
    asked = ASK[script](line)
    text = (SCRIPTS / script).read_text()
    assert all(name in text for name in asked), f"{script} does not ask with {', '.join(asked)}"
    assert asked["_AECLI_COMPLETE"] in text
    code = "import sys; sys.argv = ['aecli']; from aecli.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | asked, capture_output=True, check=False, text=True
    )
    return {re.split(r"\t|:::", line)[0] for line in done.stdout.splitlines()}


@pytest.mark.parametrize("script", ASK)
def test_every_command_is_completed(script):
    assert complete(script, "aecli ") >= set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("script", ASK)
def test_every_option_of_a_command_is_completed(script, command):
    options = {name for option in COMMANDS[command].params for name in option.opts if name.startswith("--")}
    assert options
    assert complete(script, f"aecli {command} --") >= options


def test_there_is_a_script_for_each_shell_and_no_other_file():
    assert {path.name for path in SCRIPTS.iterdir()} == set(ASK)


@pytest.fixture
def bash(tmp_path):
    """Type a line and TAB in a real bash, through its own completion function: the answers, sorted."""
    if shutil.which("bash") is None:
        pytest.skip("there is no bash")
    program = tmp_path / "bin" / "aecli"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m aecli "$@"\n')
    program.chmod(0o755)

    def tab(*words):
        script = f"""
source {SCRIPTS / "aecli.bash"}
complete -p aecli > /dev/null
COMP_WORDS=({" ".join(f"'{word}'" for word in words)})
COMP_CWORD={len(words) - 1}
_aecli aecli
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
        env = os.environ | {"PATH": f"{program.parent}:{os.environ['PATH']}"}
        done = subprocess.run(["bash", "-eu", "-c", script], env=env, capture_output=True, check=True, text=True)
        return sorted(done.stdout.split())

    return tab


def test_bash_completes_a_command_an_option_and_a_choice(bash):
    assert bash("aecli", "re") == ["reconstruct"]
    assert bash("aecli", "train", "--la") == ["--label", "--latent-dim"]
    assert bash("aecli", "train", "--recipe", "cl") == ["classic", "classic-2d"]
