"""A short form of `python -m tests.torture`."""

import pytest
import torture


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("torture")


@pytest.fixture(scope="module")
def models(folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return torture.originals()


@pytest.mark.parametrize("form", torture.FORMATS)
def test_a_damaged_file_is_read_or_refused_and_nothing_else(form, folder, models, monkeypatch):
    monkeypatch.chdir(folder)
    codes, failures = torture.tried(form, models[form], count=50, seed=1)
    assert failures == []
    assert sum(codes) == 50
