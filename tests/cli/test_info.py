import json
import re

from aecli.model import checkpoint


def test_what_a_checkpoint_holds_is_told(run, digits_model):
    done = run("info", digits_model)
    assert (done.code, done.err) == (0, "")
    facts = dict(line.split("  ", 1) for line in done.out.splitlines() if not line.startswith(" "))
    facts = {name.strip(): value.strip() for name, value in facts.items()}
    assert facts["network"] == "64-256-5, mirrored; 35,909 parameters"
    assert facts["a row"] == "an image of 8 × 8 pixels"
    assert facts["trained on"] == "digits, 1,437 rows"
    assert facts["MSE, held-out"].endswith("on 360 rows; PCA 0.0344742")


def test_the_columns_of_a_table_are_told(run, iris_model):
    out = run("info", iris_model).out
    for line in ("a row +4 columns", "label +species", r"  sepal length \(cm\) +number, \d.* to \d.*"):
        assert re.search(f"^{line}$", out, re.MULTILINE), out


def test_json_is_the_whole_of_the_metadata(run, digits_model):
    facts = json.loads(run("info", digits_model, "--json").out)
    assert facts == {"checkpoint": str(digits_model)} | checkpoint.read(digits_model).to_json()
