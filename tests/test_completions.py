"""Completion: what the program answers, and what a TAB makes of it in the real shells."""

import fcntl
import os
import pty
import re
import select
import shutil
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
import typer.main

from aecli.cli import COMMANDS, build, completion
from aecli.data.images import endings

SCRIPTS = Path(__file__).parents[1] / "completions"
PROGRAM = typer.main.get_command(build())
HEADER = "sepal length (cm),sepal width (cm),kind\n"
NAMES = ["digits", "mnist", "fashion-mnist", "kmnist", "qmnist", "emnist"]


@pytest.fixture(autouse=True)
def _files():
    """A folder with what one has lying around."""
    for folder in ("shards", "two words", ".hidden"):
        Path(folder).mkdir()
    rows = HEADER + "5,3,setosa\n"
    for name in ("my data.csv", "a:b.csv", "it's.csv", "pay$.csv", "x=y.csv", "shards/part-1.csv", "two words/c:d.csv"):
        Path(name).write_text(rows)
    Path("rows.tsv").write_text("a\tb c\n1\t2\n")
    Path("log.jsonl").write_text('{"time": 1, "level": 2}\n{"time": 3, "level": 4}\n')
    Path("plain.csv").write_text("1.5,2,3\n4,5,6\n")
    for name in (
        "model.safetensors",
        "-m.safetensors",
        "notes.txt",
        "line\nbreak.csv",
        "t10k-images-idx3-ubyte.gz",
        "stopped.safetensors.resume",
    ):
        Path(name).touch()


def words(line):
    return [word for word, _ in completion.answers(PROGRAM, line)]


FOLDERS = ["shards/", "two words/"]
TABLES = ["a:b.csv", "it's.csv", "log.jsonl", "my data.csv", "pay$.csv", "plain.csv", "rows.tsv"]
READ = sorted([*FOLDERS, *TABLES, "t10k-images-idx3-ubyte.gz", "x=y.csv"])
ANSWERS = {
    "aecli embed s3://bucket/": [],
    "aecli train -o s3://bucket/m": [],
    "aecli train https://host/rows.csv --label ": [],
    "aecli ": list(COMMANDS),
    "aecli guide ": [path.stem for path in sorted(completion.GUIDE.glob("*.md"))],
    "aecli guide ta": ["tables"],
    "aecli completion ": ["bash", "zsh", "fish", "powershell"],
    "aecli --": ["--version", "--help"],
    "aecli embed ": ["./-m.safetensors", "model.safetensors", *FOLDERS],
    "aecli embed -- -": ["-m.safetensors"],
    "aecli embed .": [".hidden/"],
    "aecli train ": [*NAMES, *READ],
    "aecli train mnist": ["mnist", "mnist:train", "mnist:test"],
    "aecli embed model.safetensors fashion-mnist:t": ["fashion-mnist:train", "fashion-mnist:test"],
    "aecli train digits m": [],  # a built-in set must be the only data
    "aecli train plain.csv m": ["my data.csv"],
    "aecli train shards/": ["shards/part-1.csv"],
    "aecli train nowhere/": [],
    "aecli train 'my": ["my data.csv"],
    'aecli train "my': ["my data.csv"],
    "aecli train my\\ d": ["my data.csv"],
    "aecli train my\\ data.csv --label ": ["sepal length (cm)", "sepal width (cm)", "kind"],
    "aecli train --label=k 'my data.csv' --exclude 'sepal w": ["sepal width (cm)"],
    "aecli train a:b.csv --label=k": ["--label=kind"],
    "aecli train rows.tsv --categorical ": ["a", "b c"],
    "aecli train plain.csv --features ": ["x0", "x1", "x2"],
    "aecli train plain.csv --input-header --features ": ["1.5", "2", "3"],
    "aecli train my\\ data.csv --delimiter ';' --label ": [HEADER.strip()],
    "aecli embed model.safetensors log.jsonl --keep ": ["time", "level"],
    "aecli reconstruct --keep k": [],  # no table is named yet
    "aecli embed model.safetensors nowhere.csv --keep ": [],
    "aecli plot model.safetensors my\\ data.csv --colour k": ["kind"],
    "aecli evaluate model.safetensors my\\ data.csv --label k": ["kind"],
    "aecli train --recipe cl": ["classic", "classic-2d"],
    "aecli train --activation s": ["silu", "sigmoid"],
    "aecli train --loss ": ["mse", "bce", "huber"],
    "aecli train --bottleneck ": ["none", "variational", "sparse"],
    "aecli train --active ": [],
    "aecli embed model.safetensors --format p": ["parquet"],
    "aecli embed model.safetensors --dtype ": ["float32", "float16"],
    "aecli embed --as-vector mod": ["model.safetensors"],  # its value comes after a =
    "aecli embed --as-vector=": [],
    "aecli plot model.safetensors --kind h": ["history"],
    "aecli decode ": ["./-m.safetensors", "model.safetensors", *FOLDERS],
    "aecli decode model.safetensors ": READ,
    "aecli decode model.safetensors log.jsonl --keep ": ["time", "level"],
    "aecli decode model.safetensors --between 1 2 pl": ["plain.csv"],
    "aecli train --device c": ["cpu", "cuda"],
    "aecli train --data-dir ": FOLDERS,
    "aecli train -qo no": ["notes.txt"],
    "aecli train --epochs ": [],
    "aecli train --epochs 5 --epo": [],  # it was given
    "aecli train --exclude kind --excl": ["--exclude"],  # it may be given again
    "aecli info ": ["./-m.safetensors", "model.safetensors", *FOLDERS[:1], "stopped.safetensors.resume", *FOLDERS[1:]],
    "aecli info model.safetensors ": ["--json", "--help"],  # no argument is left to be given
    "aecli export ": ["./-m.safetensors", "model.safetensors", *FOLDERS],
    "aecli export model.safetensors --part ": ["all", "encoder", "decoder"],
    "aecli trian ": [],
}


@pytest.mark.parametrize(("line", "expected"), ANSWERS.items(), ids=ANSWERS)
def test_a_line_is_answered(line, expected):
    assert words(line) == expected


@pytest.mark.parametrize("command", PROGRAM.commands)
def test_every_option_of_a_command_is_answered(command):
    options = {name for each in PROGRAM.commands[command].params for name in each.opts if name.startswith("--")}
    assert options or command in ("guide", "completion")
    assert set(words(f"aecli {command} --")) == options | {
        name for each in PROGRAM.commands[command].params for name in each.secondary_opts
    } | {"--help"}


def test_a_home_folder_is_looked_into_and_stays_a_tilde(monkeypatch):
    monkeypatch.setenv("HOME", str(Path.cwd()))
    assert words("aecli train ~/sha") == ["~/shards/"]
    assert words("aecli train ~/shards/part-1.csv --label k") == ["kind"]


def test_one_line_of_a_table_is_read_and_no_more():
    os.mkfifo("pipe.csv")  # opening it would wait for ever
    assert words("aecli train pipe.csv --label ") == []
    Path("cut.csv.gz").write_bytes(b"\x1f\x8b")
    assert words("aecli train cut.csv.gz --label ") == []
    Path("bad.csv").write_bytes(b"a,b\n\xff\xff")
    assert words("aecli train bad.csv --label ") == ["a", "b"]


def test_the_images_that_are_offered_can_be_read():
    assert set(completion.IMAGES) <= endings()


def test_a_tab_loads_nothing_heavy():
    code = """
import sys
from aecli.cli import main
try:
    main()
finally:
    print(*sorted({"torch", "numpy", "pyarrow", "matplotlib", "sklearn", "pydantic", "markdown_it"} & set(sys.modules)))
"""
    env = os.environ | {completion.VARIABLE: "aecli train my\\ data.csv --label k"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, check=True, text=True)
    assert done.stdout == "kind\t\n\n"


def test_the_program_prints_each_script_and_the_folder_of_the_sources_holds_them(run):
    printed = {name: run("completion", shell) for shell, name in completion.SCRIPTS.items()}
    assert {(done.code, done.err) for done in printed.values()} == {(0, "")}
    assert {path.name: path.read_text() for path in SCRIPTS.iterdir()} == {
        name: done.out for name, done in printed.items()
    }
    assert all(completion.VARIABLE in done.out for done in printed.values())


def test_a_shell_without_a_script_is_wrong_usage(run):
    done = run("completion")
    assert (done.code, done.out, done.err) == (
        2,
        "",
        "error: missing argument 'SHELL': bash, zsh, fish, powershell\n"
        "hint: aecli completion --help shows what it takes\n",
    )
    done = run("completion", "fsh")
    assert (done.code, done.out, done.err) == (
        2,
        "",
        "error: invalid value for 'SHELL': 'fsh' is not one of bash, zsh, fish, powershell\nhint: did you mean fish?\n",
    )


@pytest.fixture
def environment(tmp_path_factory):
    """An environment in which a shell finds `aecli`, and nothing of the user's."""
    home = tmp_path_factory.mktemp("home")
    program = home / "bin" / "aecli"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m aecli "$@"\n')
    program.chmod(0o755)
    path = f"{program.parent}:{os.environ['PATH']}"
    return os.environ | {"PATH": path, "HOME": str(home), "TERM": "dumb", "HISTFILE": "/dev/null", "PS1": "$ "}


# What is typed before TAB is pressed (^), and the arguments that the shell then has.
TYPED = {
    "aecli rec^": ["aecli", "reconstruct"],
    "aecli train digi^ --lab^ x": ["aecli", "train", "digits", "--label", "x"],
    "aecli train mnist:te^": ["aecli", "train", "mnist:test"],
    "aecli train my^": ["aecli", "train", "my data.csv"],
    'aecli train "my^': ["aecli", "train", "my data.csv"],
    "aecli train my^--label k^": ["aecli", "train", "my data.csv", "--label", "kind"],
    "aecli train my^--label=sepal\\ l^": ["aecli", "train", "my data.csv", "--label=sepal length (cm)"],
    "aecli train a^": ["aecli", "train", "a:b.csv"],
    "aecli train a:^": ["aecli", "train", "a:b.csv"],
    "aecli train tw^c^": ["aecli", "train", "two words/c:d.csv"],
    "aecli train it^pay^x=^": ["aecli", "train", "it's.csv", "pay$.csv", "x=y.csv"],
    "aecli embed mod^sha^pa^--kee^k^": [
        "aecli", "embed", "model.safetensors", "shards/part-1.csv", "--keep", "kind",
    ],
    "aecli embed -- -^": ["aecli", "embed", "--", "-m.safetensors"],
    "aecli embed mod^ < my^": ["aecli", "embed", "model.safetensors"],
}  # fmt: skip
SHELLS = {
    "bash": (
        ["bash", "--norc", "--noprofile", "-i"],
        "bind 'set enable-bracketed-paste off'; source {}/aecli.bash",
    ),
    "zsh": (
        ["zsh", "-f", "-i"],
        "source {}/_aecli",  # as at the end of ~/.zshrc
    ),
}


@pytest.mark.parametrize("shell", SHELLS)
def test_tab_completes_in_a_real_shell(shell, environment):
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell}")
    command, setup = SHELLS[shell]
    screen, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 200, 0, 0))
    process = subprocess.Popen(
        command, stdin=terminal, stdout=terminal, stderr=terminal, env=environment, start_new_session=True
    )
    os.close(terminal)

    def typed(text, until):
        """Type and give what the screen showed until it showed `until`."""
        os.write(screen, text.encode())
        shown, end = "", time.monotonic() + 30
        while until not in shown and time.monotonic() < end and select.select([screen], [], [], 30)[0]:
            shown += os.read(screen, 65536).decode()
        return shown

    try:
        typed(f"{setup.format(SCRIPTS)}\nargs() {{ printf '[%s]' \"$@\" D'O'NE; echo; }}\nargs\n", "[DONE]")
        for line, expected in TYPED.items():
            shown = typed(line.replace("^", "\t") + "\x01args \n", "[DONE]")  # ^A goes to the line's beginning
            printed = next(each for each in shown.splitlines() if each.endswith("[DONE]"))
            assert re.findall(r"\[(.*?)\]", printed) == [*expected, "DONE"], line
    finally:
        process.kill()
        process.wait()
        os.close(screen)


def test_tab_completes_in_a_real_fish(environment):
    if shutil.which("fish") is None:
        pytest.skip("there is no fish")
    lines = {
        "aecli inf": ["info\tShow the contents of a checkpoint, or the progress of a stopped run."],
        "aecli train mnist:": ["mnist:test\ta built-in set", "mnist:train\ta built-in set"],
        "aecli train my": ["my\\ data.csv"],
        'aecli train "my': ['"my data.csv"'],
        "aecli train my\\ data.csv --label=sepal\\ l": ["--label=sepal\\ length\\ \\(cm\\)"],
        "aecli train a:": ["a:b.csv"],
        "A=1 aecli train two\\ words/": ["two\\ words/c:d.csv"],
        "aecli train it": ["it\\'s.csv"],
        "aecli embed -- -": ["-m.safetensors"],
        "aecli embed model.safetensors < my": ["my\\ data.csv"],
        "aecli train --epochs ": [],
    }  # fmt: skip
    script = "source $argv[1]/aecli.fish\nfor line in $argv[2..]\n    complete --escape -C $line\n    echo DONE\nend\n"
    done = subprocess.run(
        ["fish", "--no-config", "-c", script, str(SCRIPTS), *lines],
        env=environment, capture_output=True, check=True, text=True,
    )  # fmt: skip
    answers = [answer.splitlines() for answer in done.stdout.split("DONE\n")[:-1]]
    assert dict(zip(lines, answers, strict=True)) == lines
