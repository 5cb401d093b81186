"""The guide to Python keeps its word: its blocks run in their order, and the words that they print are those shown."""

import re
import subprocess
import sys
from pathlib import Path

from aecli.cli import completion

TEXT = (completion.GUIDE / "python.md").read_text()
NUMBER = re.compile(r"-?\d+\.\d+")  # its last digits depend on the machine


def test_the_blocks_run_and_print_what_is_shown(capsys):
    names = {}
    blocks = re.findall(r"^```(\w+)\n(.*?)^```\n*(?:^```text\n(.*?)^```)?", TEXT, re.DOTALL | re.MULTILINE)
    assert {language for language, *_ in blocks} == {"python", "sh"}
    for language, block, shown in blocks:
        if language == "python":
            exec(block, names)
            assert NUMBER.sub("0.0", capsys.readouterr().out).split() == NUMBER.sub("0.0", shown).split(), block
        else:
            line = block.strip().replace("aecli", f"{sys.executable} -m aecli", 1)
            done = subprocess.run(["bash", "-c", line], capture_output=True, check=False, text=True)
            assert done.returncode == 0, done.stderr
    assert Path("wine.safetensors").exists()
