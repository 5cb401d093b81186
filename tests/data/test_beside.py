"""A column of another table, matched with rows by their paths or their numbers."""

from pathlib import Path

import pytest

from aecli.data.beside import Beside, split
from aecli.errors import DataError


def table(*lines, name="labels.csv"):
    Path(name).write_text("".join(f"{line}\n" for line in lines))
    return name


def refused(call):
    """Return an error's message and its hint."""
    with pytest.raises(DataError) as found:
        call()
    return found.value.message, found.value.hint


def test_a_file_and_a_column_are_split_at_the_last_colon_after_a_file():
    Path("a:b").mkdir()
    table("kind", "x", name="a:b/c:d.csv")
    assert split("a:b/c:d.csv:kind") == (Path("a:b/c:d.csv"), "kind")
    assert split("a:b/c:d.csv:a:b") == (Path("a:b/c:d.csv"), "a:b")
    assert split("time:of day") is None
    assert split("kind") is None
    assert refused(lambda: split("no.csv:kind")) == ("no.csv: no such file", None)


def test_rows_without_paths_are_matched_by_number():
    beside = Beside(table("kind,n", "x,1", ",2", "z,3") + ":kind")
    assert (beside.column, beside.path) == ("kind", Path("labels.csv"))
    assert [beside.labels(None, range(2)).tolist(), beside.labels(None, range(2, 3)).tolist()] == [["x", None], ["z"]]
    beside.check()
    assert beside.notes() == []


@pytest.mark.parametrize(("asked", "found"), [(2, "2"), (4, "more")])
def test_another_number_of_rows_is_an_error(asked, found):
    beside = Beside(table("kind", "x", "y", "z") + ":kind")

    def ask():
        beside.labels(None, range(asked))
        beside.check()

    assert refused(ask) == (f"labels.csv has 3 rows, and the data has {found}: rows are matched by number", None)


def test_images_without_a_column_of_paths_are_told_of_it():
    beside = Beside(table("kind", "x") + ":kind")
    hint = refused(lambda: beside.labels(["a.png", "b.png"], range(2)))[1]
    assert hint == "add a column 'path' with the images' paths"


def test_paths_are_the_same_or_one_is_the_end_of_the_other():
    lines = ("cats/1.png,a", "./dogs/1.png,b", "/data/birds/1.png,c", "/x/cats/1.png,d")
    beside = Beside(table("path,kind", *lines) + ":kind")
    asked = ["cats/1.png", "/long/dogs/1.png", "birds/1.png", "fish/1.png", "/x/cats/1.png"]
    assert beside.labels(asked[:2], range(2)).tolist() == ["a", "b"]
    assert beside.labels(asked[2:], range(2, 5)).tolist() == ["c", None, "d"]
    assert beside.how == "matched by path"
    beside.check()
    assert beside.notes() == ["labels.csv has no row for 1 of the 5 paths: they have no kind"]


def test_a_row_that_may_be_that_of_several_images_is_an_error():
    beside = Beside(table("path,kind", "1.png,x", "2.png,y") + ":kind")
    assert beside.labels(["a/2.png", "a/2.png"], range(2)).tolist() == ["y", "y"]  # two pages of one file
    assert refused(lambda: beside.labels(["a/1.png", "b/1.png"], range(2, 4))) == (
        "labels.csv: its row with path '1.png' may belong to a/1.png or to b/1.png",
        "write longer paths, so that each image has a row of its own",
    )


PATHS = ["p/m2.png", "p/m1.png", "p/m3.png"]


@pytest.mark.parametrize("cells", [["m1.png", "m2.png"], ["m1", "m2"], ["x/p/m1.png", "x/p/m2.png"]])
def test_a_column_of_the_images_names_is_found(cells):
    lines = [f"{i},{cell},{kind},left" for i, (cell, kind) in enumerate(zip(cells, "ab", strict=True))]
    beside = Beside(table("id,filename,kind,side", *lines) + ":kind")
    assert beside.labels(PATHS, range(3)).tolist() == ["b", "a", None]
    assert beside.how == "matched by filename"


@pytest.mark.parametrize(("names", "cells"), [(["1", "10", "2"], "2 1 10"), (["001", "010", "002"], "2 1 10")])
def test_a_column_of_whole_numbers_may_be_the_images_names(names, cells):
    two, one, ten = cells.split()
    paths = [f"p/{name}.png" for name in names]
    beside = Beside(table("id,kind,size", f"{two},b,1", f"{one},a,1", f"{ten},c,2") + ":kind")
    assert (beside.labels(paths, range(3)).tolist(), beside.how) == (["a", "c", "b"], "matched by id")


def test_whole_numbers_that_are_not_all_different_are_no_names_and_texts_come_before_numbers():
    paths = ["p/1.png", "p/2.png"]
    beside = Beside(table("size,kind", "1,a", "2,b", "2,c") + ":kind")
    beside.meet(paths)
    assert beside.how == "by row number"
    beside = Beside(table("size,file,kind", "1,2.png,b", "2,1.png,a") + ":kind")
    assert (beside.labels(paths, range(2)).tolist(), beside.how) == (["a", "b"], "matched by file")


def test_whole_numbers_that_may_count_otherwise_than_the_names_are_an_error():
    paths = ["p/1.png", "p/2.png", "p/3.png"]
    beside = Beside(table("id,kind", "0,a", "1,b", "2,c") + ":kind")
    assert refused(lambda: beside.meet(paths)) == (
        "labels.csv: its column 'id' names 2 of the 3 images",
        "if it names the images, rename it to 'path'; if not, remove it",
    )
    beside = Beside(table(",kind", "0,a", "1,b", "2,c") + ":kind")  # an index, as pandas writes it
    assert (beside.labels(paths, range(3)).tolist(), beside.how) == (["a", "b", "c"], "by row number")


def test_two_columns_of_the_images_names_are_an_error_and_none_means_numbers():
    beside = Beside(table("image,file,kind", "m1,m1.png,a", "m2,m2.png,b") + ":kind")
    assert refused(lambda: beside.meet(PATHS)) == (
        "labels.csv: several columns may be the images' paths: 'image', 'file'",
        "rename the right one to 'path'",
    )
    beside = Beside(table("text,kind", "u,a", "v,b", "w,c") + ":kind")
    assert (beside.labels(PATHS, range(3)).tolist(), beside.how) == (["a", "b", "c"], "by row number")


def test_a_path_that_may_be_one_of_several_is_an_error():
    beside = Beside(table("path,kind", "a/1.png,x", "b/1.png,y", "a/2.png,x", "b/2.png,x") + ":kind")
    assert beside.labels(["2.png"], range(1)).tolist() == ["x"]  # whichever it is
    assert refused(lambda: beside.labels(["1.png"], range(1, 2))) == (
        "labels.csv: its column 'path' has several rows with different values that may be 1.png",
        "write longer paths, or write each path once",
    )


def test_paths_of_other_files_are_an_error():
    beside = Beside(table("path,kind", "a/1.png,x") + ":kind")
    beside.labels(["b/1.png"], range(1))
    assert refused(beside.check) == (
        "labels.csv: its column 'path' matches none of the 1 paths of the data",
        "one path must end with the other; it has a/1.png",
    )


def test_a_column_that_is_not_there_is_an_error_that_names_the_near_one():
    name = table("kind,size", "x,1")
    assert refused(lambda: Beside(f"{name}:knd")) == (
        "labels.csv: no column 'knd'",
        "did you mean labels.csv:kind?",
    )
    assert refused(lambda: Beside(f"{name}:zzz"))[1] == "its columns are 'kind', 'size'"


@pytest.mark.parametrize("ending", ["parquet", "jsonl"])
def test_any_format_of_a_table_is_read(ending):
    import pandas as pd

    frame = pd.DataFrame({"path": ["a.png", "b.png"], "n": [1, 2], "tags": [["x"], ["y", "z"]]})
    if ending == "parquet":
        frame.to_parquet("t.parquet")
    else:
        frame.to_json("t.jsonl", orient="records", lines=True)
    assert Beside(f"t.{ending}:n").labels(["b.png", "a.png"], range(2)).tolist() == [2, 1]
    assert Beside(f"t.{ending}:tags").labels(None, range(2)).tolist() == ["['x']", "['y', 'z']"]


def test_an_array_is_no_table():
    import numpy as np

    np.save("x.npy", np.zeros((2, 2)))
    assert refused(lambda: Beside("x.npy:kind"))[0] == "x.npy: not a table, and a file with a table was expected"
