"""A short form of `python -m tests.torture`."""

import pytest
import torture

ALIKE = ("csv.xz", "csv.bz2", "arrows")  # which the long form tries


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("torture")


@pytest.fixture(scope="module")
def models(folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return torture.originals()


@pytest.mark.parametrize("form", [form for form in torture.FORMATS if form not in ALIKE])
def test_a_damaged_file_is_read_or_refused_and_nothing_else(form, folder, models, monkeypatch):
    monkeypatch.chdir(folder)
    codes, failures = torture.tried(form, models[form], count=30, seed=1)
    assert failures == []
    assert sum(codes) == 30
