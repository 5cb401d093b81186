"""The guide keeps its word: the shell lines of each topic run, in their order, in a real shell."""

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import elsewhere
import pytest

from aecli.cli import completion

TOPICS = sorted(completion.GUIDE.glob("*.md"))


@pytest.mark.parametrize("topic", TOPICS, ids=lambda path: path.stem)
def test_every_shell_line_of_a_topic_runs(topic, shell, tmp_path, request):
    env = {}
    if topic.stem == "places":
        env = request.getfixturevalue("s3_variables")
        elsewhere.Objects(os.environ | env, "my-bucket")
    assert shell(topic.read_text(), tmp_path, env)


def test_a_topic_is_plain_markdown_in_a_pipe(run):
    for topic in TOPICS:
        done = run("guide", topic.stem)
        assert (done.code, done.out, done.err) == (0, topic.read_text(), "")


def test_without_a_topic_the_topics_are_listed(run):
    done = run("guide")
    assert (done.code, done.err) == (0, "")
    assert [line.split()[:3] for line in done.out.splitlines()] == [["aecli", "guide", path.stem] for path in TOPICS]
    assert "aecli guide tables     Tables: train on your own rows, and use the model on later ones\n" in done.out


def test_an_unknown_topic_names_the_one_that_was_meant(run):
    done = run("guide", "tabels")
    assert (done.code, done.out, done.err) == (2, "", "error: there is no topic 'tabels'\nhint: did you mean tables?\n")
    names = ", ".join(path.stem for path in TOPICS)
    assert run("guide", "x").err == f"error: there is no topic 'x'\nhint: the topics are {names}\n"


@pytest.mark.parametrize(("pager", "marked"), [("cat", ""), ("sed s/^/@/", "@"), ("", ""), ("no-such-pager", "")])
def test_a_topic_is_rendered_on_a_terminal_and_goes_through_the_pager(pager, marked):
    screen, terminal = pty.openpty()
    command = [sys.executable, "-m", "aecli", "guide", "tables"]
    env = os.environ | {"PAGER": pager, "TERM": "xterm", "COLUMNS": "80"}
    with subprocess.Popen(command, stdout=terminal, env=env) as program:
        os.close(terminal)
        shown = b""
        try:
            while part := os.read(screen, 65536):
                shown += part
        except OSError:  # Linux's word for the end
            pass
    os.close(screen)
    assert program.returncode == 0
    lines = re.sub(r"\x1b\[[\d;]*m", "", shown.decode()).splitlines()
    assert any(re.fullmatch(rf"{marked}\s*Kinds of columns\s*", line) for line in lines)
    assert all(len(line) <= 81 and not line.startswith(f"{marked}##") for line in lines)


def test_the_readme_names_the_guide():
    assert "`aecli guide" in (Path(__file__).parents[1] / "README.md").read_text()
