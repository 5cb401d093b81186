"""The guide keeps its word: the shell lines of each topic run, in their order, in a real shell."""

import json
import os
import pty
import re
import shutil
import subprocess
import sys
from pathlib import Path

import elsewhere
import numpy as np
import pytest

from aecli.cli import completion

TOPICS = sorted(completion.GUIDE.glob("*.md"))
ELSEWHERE = "pipelines", "python"  # which tests of their own run
PIPELINES = (completion.GUIDE / "pipelines.md").read_text()


@pytest.fixture(scope="module")
def piped(tmp_path_factory, shell):
    """The shell lines of `aecli guide pipelines`. Where there is no jq, its line is left out."""
    folder = tmp_path_factory.mktemp("pipelines")
    without = "" if shutil.which("jq") else r"^jq .*\n|^```text\nwine-7.*?^```$"
    text = re.sub(without, "", PIPELINES, flags=re.MULTILINE | re.DOTALL) if without else PIPELINES
    return folder, shell(text, folder)


def output_of(outputs, start):
    return next(output for line, output in outputs.items() if line.startswith(start))


@pytest.mark.parametrize("topic", [path for path in TOPICS if path.stem not in ELSEWHERE], ids=lambda path: path.stem)
def test_every_shell_line_of_a_topic_runs(topic, shell, tmp_path, request):
    if topic.stem == "machines" and shutil.which("parallel") is None:
        pytest.skip("GNU parallel is not installed")
    env = {}
    if topic.stem == "places":
        env = request.getfixturevalue("s3_variables")
        elsewhere.Objects(os.environ | env, "my-bucket")
    given = {}
    if "\naecli train\n" in topic.read_text():
        given["aecli train"], folder = request.getfixturevalue("digits_run")
        shutil.copy(folder / "digits.safetensors", tmp_path)
    assert shell(topic.read_text(), tmp_path, env, given)


def test_the_scripts_of_pipelines_do_what_they_say(piped):
    folder, outputs = piped
    rows = (folder / "joined.csv").read_text().splitlines()
    assert rows[0].startswith("id,alcohol,")
    assert rows[0].endswith(",target,z0,z1,z2,mse")
    assert [row.split(",")[0] for row in rows[1:]] == [f"w{i:03}" for i in range(1, 179)]
    odd = [line.split() for line in output_of(outputs, "awk -F, 'NR > 1 { print $NF").splitlines()]
    mse = {row.split(",")[0]: float(row.split(",")[-1]) for row in rows[1:]}
    assert [name for _, name in odd] == sorted(mse, key=mse.get, reverse=True)[:5]
    codes = (folder / "all.csv").read_text().splitlines()  # of the parts, in order, under one header
    assert codes[0] == "target,z0,z1,z2"
    in_parts = [[float(z) for z in code.split(",")[1:]] for code in codes[1:]]
    at_once = [[float(z) for z in row.split(",")[-4:-1]] for row in rows[1:]]
    np.testing.assert_allclose(in_parts, at_once, atol=1e-5, rtol=0)  # in a part, a row has another place
    assert json.loads((folder / "run.json").read_text())["seed"] == 7


def test_the_keys_of_each_json_object_are_those_in_the_table(piped, run):
    table = PIPELINES[PIPELINES.index("| the keys of its object |") :].partition("\n\n")[0]
    keys = {
        name: [key for key in re.findall(r"`(\w+)`", listed) if key != "null"]
        for name, listed in re.findall(r"^\| (?:its )?`(\w+)(?: --json)?` \| (.*) \|$", table, re.MULTILINE)
    }
    folder, _ = piped
    made = json.loads((folder / "run.json").read_text())
    info = json.loads((folder / "info.json").read_text())
    assert keys["train"] == list(made)
    assert keys["info"] == list(info)
    for part in ("model", "results", "history"):
        assert keys[part] == list(info[part])
    assert info["train"]["epochs"] == made["epochs"] == len(info["history"]["loss"])
    assert {name: made[name] for name in ("train_mse", "test_mse", "pca_mse", "rows")}.items() <= info[
        "results"
    ].items()
    qualities = re.findall(r"`(\w+)`", re.search(r"of `evaluate` have (.*?)\. Each of", PIPELINES, re.DOTALL)[1])
    found = json.loads(run("evaluate", folder / "wine-7.safetensors", folder / "wine.csv", "-q", "--json").out)
    assert keys["evaluate"] == list(found)
    for part in ("model", "pca", "original"):
        assert qualities == list(found[part])
    scored = run("score", folder / "wine-7.safetensors", folder / "wine.csv", "-q", "--json")
    assert keys["score"] == [*json.loads(scored.out), "p", "columns"]
    drawn = run("plot", folder / "wine-7.safetensors", "--kind", "history", "-q", "--json")
    assert keys["plot"] == list(json.loads(drawn.out))


def test_each_job_of_a_slurm_array_has_its_share(tmp_path):
    machines = (completion.GUIDE / "machines.md").read_text()
    (script,) = re.findall(r"^```bash\n([^`]*AECLI_SHARD[^`]*)^```$", machines, re.MULTILINE)
    (tmp_path / "aecli").write_text('#!/bin/sh\necho "$AECLI_SHARD"\n')
    (tmp_path / "aecli").chmod(0o755)
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "16"}
    assert subprocess.check_output(["bash", "-c", script], env=env) == b"3/16\n"


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
