"""How tables are written: found by itself, said by options, remembered by a model."""

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from aecli.config import Column, Dialect, Schema
from aecli.data import cells as cells_of
from aecli.data import csv, records
from aecli.data.encoding import encoding_that_fits
from aecli.data.jsonl import JsonLinesTable
from aecli.data.opening import open_source
from aecli.data.stream import Stream
from aecli.errors import DataError, UsageError
from aecli.options import Columns, Reading

CASES = Path(__file__).parent.parent / "cases" / "tables"
CLEAN = [[13.865, 28.164, 1016.584, 3.0], [7.706, 15.436, 718.021, 3.0], [10.321, 20.512, 1467.674, 3.0]]
NO_HEADER = (
    "no header: the first line is a row (13.865, 28.164, 1016.584, 3), and the columns are called x0 to x3 "
    "(--input-header reads it as their names)"
)


def case(name, *, exclude=(), features=(), schema=None, **reading):
    """Read a case as training does, or for a model: the values, the source, and what was said."""
    said = []
    source = open_source(
        str(CASES / name),
        columns=Columns(exclude=exclude, features=features, missing="mean"),
        reading=Reading(**reading),
        schema=schema,
        announce=said.append,
    )
    batches = list(source.batches())
    return np.concatenate([batch.x for batch in batches]), source, said


def table(text, schema=None, *, live=False, said=None, **reading):
    data = text if isinstance(text, bytes) else text.encode()
    announce = (said if said is not None else []).append
    return csv.CsvTable(Stream("data", io.BytesIO(data)), Reading(**reading), schema, live=live, announce=announce)


def model(*names, **fields):
    return Schema(len(names), tuple(Column(name) for name in names), **fields)


def remembered(source):
    return replace(source.schema, dialect=source._table.dialect)


READ = {
    "delimiters/comma_space.csv": ({}, "abcd"),
    "delimiters/multispace.dat": ({"input_format": "csv"}, "abcd"),
    "delimiters/pipe.csv": ({}, "abcd"),
    "delimiters/semicolon.csv": ({}, "abcd"),
    "delimiters/semicolon_nohead.csv": ({}, ["x0", "x1", "x2", "x3"]),
    "delimiters/sepline.csv": ({}, "abcd"),
    "delimiters/trailing.csv": ({}, "abcd"),
    "csv-dialect/comment_mid.csv": ({}, "abcd"),
    "csv-dialect/comment_top.csv": ({}, "abcd"),
    "csv-dialect/hash_header.csv": ({}, "abcd"),
    "csv-dialect/space_after_quote.csv": ({}, "abcd"),
    "encodings/bom_semicolon_crlf_de.csv": ({"decimal": ","}, "abcd"),
    "encodings/cr.csv": ({}, "abcd"),
    "encodings/cp1252.csv": ({"encoding": "cp1252", "exclude": ("stadt",)}, ["größe", "höhe", "länge", "preis€"]),
    "encodings/utf16.csv": ({"exclude": ("stadt",)}, ["größe", "höhe", "länge", "preis"]),
    "locale-numbers/de_semicolon.csv": ({"decimal": ","}, "abcd"),
    "headers/none.csv": ({}, ["x0", "x1", "x2", "x3"]),
    "headers/numeric_names_float.csv": ({}, ["400.5", "401.0", "401.5", "402.0"]),
    "headers/spaces.csv": ({}, ["a", "b c", "d, e", "Label"]),
    "headers/empty_names.csv": ({}, ["a", "column2", "c", "column4"]),
    "headers/dup.csv": ({}, ["a", "b", "a_2", "b_2"]),
    "na-spellings/m999.csv": ({}, "abcd"),
}


@pytest.mark.parametrize("name", READ)
def test_a_table_is_the_same_however_it_is_written_and_read_again_without_options(name):
    options, names = READ[name]
    x, source, _ = case(name, **options)
    assert source.schema.names == tuple(names)
    assert x.shape == (60, 4)
    assert x[:3].tolist() == CLEAN
    again, _, said = case(name, schema=remembered(source), input_format=options.get("input_format"))
    np.testing.assert_array_equal(again, x)
    assert [each for each in said if "comments" not in each] == []


NOTES = {
    "headers/none.csv": [NO_HEADER],
    "headers/spectra.csv": [
        "the first line is read as the columns' names: 400, 410, 420, 430, 440, 450, ... "
        "(--no-input-header reads it as a row)"
    ],
    "headers/dup.csv": ["columns with an empty or repeated name are now called a_2, b_2"],
    "headers/empty_names.csv": ["columns with an empty or repeated name are now called column2, column4"],
    "csv-dialect/comment_mid.csv": [
        "lines that begin with '#' and do not have 4 cells are left out as comments, such as '# recalibrated'"
    ],
    "csv-dialect/comment_top.csv": [
        "lines that begin with '#' and do not have 4 cells are left out as comments, such as '# exported by sensor 12'"
    ],
    "locale-numbers/de_mixed_thousands.csv": [
        "column 'umsatz' holds 2.457 beside 615: if the point groups thousands, add --thousands ."
    ],
    "delimiters/semicolon.csv": [],
    "na-spellings/dash.csv": [],
}


@pytest.mark.parametrize("name", NOTES)
def test_a_guess_is_said_once(name):
    assert case(name)[2] == NOTES[name]


def test_numbers_are_a_header_where_they_are_of_one_step_and_no_row_is():
    assert case("headers/spectra.csv")[0].shape == (40, 20)
    x, source, _ = case("headers/country_years.csv", exclude=("country",))
    assert x.shape == (40, 4)
    again, _, said = case("headers/country_years.csv", schema=remembered(source))
    assert again.tolist() == x.tolist()
    assert said == []
    ramps = "".join(f"{i},{i + 1},{i + 2},{i + 3},{i + 4}\n" for i in range(9))
    for rows in (ramps, "1,2\n4,9\n7,3\n", "1,2,3\n9,1,4\n8,8,2\n", "0,1\n1,0\n0,1\n"):
        assert not table(rows).named
        assert table(rows).peek().num_rows == rows.count("\n")
    assert table("5,6,7,8\n1,2,2,9\n", input_header=False).peek().num_rows == 2
    assert table("1.5,2\n3,4\n", input_header=True).columns == ["1.5", "2"]


@pytest.mark.parametrize("first", ["$1.50,$2", "2024-01-01,red", '"1,016","2,003"', "true,no"])
def test_a_row_is_no_header_where_the_next_ones_are_like_it(first):
    rows = f"{first}\n" + first.replace("1", "3").replace("2", "5") + f"\n{first}\n"
    assert not table(rows).named


def test_names_are_compared_after_unicode_nfc():
    _, source, _ = case("headers/nfc.csv", features=("*",))
    assert case("headers/nfd.csv", schema=remembered(source))[0].shape == (40, 3)


def test_a_header_alone_is_an_error_in_training_and_no_rows_for_a_model():
    with pytest.raises(DataError, match="no rows to read, only a header"):
        case("headers/onlyheader.csv")
    for text in ("a,b\n", "", "b,a"):
        empty = table(text, model("a", "b"))
        assert set(empty.columns) == {"a", "b"}
        assert [len(piece.columns[0]) for piece in empty.pieces([("a", "number"), ("b", "number")])] == [0]


@pytest.mark.parametrize("name", ["dash", "q", "None", "backslashN", "space", "div0"])
def test_usual_spellings_are_holes_in_numbers(name):
    x, _, _ = case(f"na-spellings/{name}.csv")
    assert np.isnan(x).sum(axis=0).tolist() == [0, 3, 0, 0]


def test_named_values_are_holes_by_value():
    assert np.isnan(case("na-spellings/m999.csv", na=("-999",))[0]).sum() == 3
    assert np.isnan(case("na-spellings/below.csv", na=("<0.01",))[0]).sum() == 3
    piece = next(table("a,b\n-999,7\n-999.0,9\n1,5\n", na=("-999", "7")).pieces([("a", "number"), ("b", "number")]))
    assert [column.to_pylist() for column in piece.columns] == [[None, None, 1], [None, 9, 5]]


def test_in_text_a_spelling_of_nothing_is_text():
    wanted = [("k", "category"), ("k", "text"), ("a", "number")]
    piece = next(table("a,k\n1,None\n2,\n-,x\n", na=("x",)).pieces(wanted))
    assert [column.to_pylist() for column in piece.columns] == [["None", "", None], ["None", "", "x"], [1, 2, None]]


def test_thousands_are_groups_of_three_digits():
    assert case("locale-numbers/us_thousand.csv", thousands=",")[0][0].tolist() == [13.86, 28.16, 1016583.95, 3]
    x, _, said = case("locale-numbers/de_mixed_thousands.csv", thousands=".")
    assert (x[0].tolist(), said) == ([2457, 245], [])
    cells = ["1.016,5", "950", "1.016.000", "1.01", "10.16,5", "-2.000", "-", "1e3"]
    piece = next(table("a;b\n" + "".join(f"{c};1\n" for c in cells), thousands=".").pieces([("a", "number")]))
    assert piece.columns[0].to_pylist() == [1016.5, 950, 1016000, None, None, -2000, None, 1000]
    assert list(piece.bad) == [3, 4]


def test_a_preamble_is_left_out_and_said():
    x, source, said = case("csv-dialect/worldbank_preamble.csv", exclude=("Country*",), features=("*",))
    assert x[:2].tolist() == [[0, 0, 0.5], [1.5, 2, 1.5]]
    assert source.schema.features == ("1960", "1961", "1962")
    assert said == [
        "the table begins in line 5: the 4 lines above it are left out (--skip-rows 4 does the same, "
        "--skip-rows 0 reads all)"
    ]
    for skip_rows in (4, None):
        again, _, said = case("csv-dialect/worldbank_preamble.csv", schema=remembered(source), skip_rows=skip_rows)
        assert (again.tolist(), said) == (x.tolist(), [])
    cleaned = table("1962,1961,1960\n1,2,3\n", remembered(source))
    assert next(cleaned.pieces([("1960", "number")])).columns[0].to_pylist() == [3]


ERRORS = {
    "csv-dialect/sql_footer.csv": (
        "row 61 (line 62) has 1 cell, and 4 were expected: '(60 rows affected)'",
        "remove the line: sed 62d {path} | aecli train - -o MODEL.safetensors",
    ),
    "csv-dialect/units_row.csv": (
        "line 2 holds no number, and the lines below do: 'm,kg,EUR,count'",
        "remove the line: sed 2d {path} | aecli train - -o MODEL.safetensors",
    ),
    "encodings/cp1252.csv": (
        "line 1 is not UTF-8: b'stadt,gr\\xf6\\xdfe,h\\xf6he,l\\xe4nge,preis\\x80'",
        "--encoding cp1252 reads 'größe' there",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_lines_that_are_no_rows_are_shown_with_their_number(name):
    message, hint = ERRORS[name]
    with pytest.raises(DataError) as raised:
        case(name)
    path = CASES / name
    assert raised.value.message == f"{path}: {message}"
    assert raised.value.hint == hint.format(path=path)


def test_a_comment_is_a_line_of_another_width_or_what_the_option_says():
    said = []
    text = "colour,a\n#ff8800,1\n# a note\nred,2\n"
    wanted = [("colour", "text"), ("a", "number")]
    columns = next(table(text, said=said).pieces(wanted)).columns
    assert [column.to_pylist() for column in columns] == [["#ff8800", "red"], [1, 2]]
    assert said == [
        "line 2 begins with '#' and is read as a row, because it has 2 cells (--comment '#' leaves such lines out)",
        "lines that begin with '#' and do not have 2 cells are left out as comments, such as '# a note'",
    ]
    assert next(table(text, comment="#").pieces(wanted)).columns[0].to_pylist() == ["red"]


def test_options_of_now_go_before_the_model_and_the_model_before_what_is_found():
    schema = model("a", "b", dialect=Dialect(delimiter=";", decimal=","))
    wanted = [("a", "number"), ("b", "number")]
    for text, options in (
        ("b;a\n2;1,5\n", {}),
        ("b|a\n2|1.5\n", {"decimal": "."}),
        ("1,5;2\n", {}),
        ("b,a\n2,1.5\n", {"decimal": "."}),
    ):
        piece = next(
            table(text, schema, **options).pieces(wanted if "a" in text else [("x0", "number"), ("x1", "number")])
        )
        assert [column.to_pylist() for column in piece.columns] == [[1.5], [2]]


def test_a_live_row_is_answered_before_the_next_comes():
    class Slow(io.BytesIO):
        def read1(self, _):
            line = self.readline()
            assert line, "more was read than was needed"
            return line

    for first, wanted in ((b"b,a\n", ["a", "b"]), (b"", ["x0", "x1"])):
        stream = Stream("data", Slow(first + b"10,20\n3,4\n"))
        pieces = csv.CsvTable(stream, schema=model("a", "b"), live=True).pieces([(name, "number") for name in wanted])
        assert next(pieces).columns[0].to_pylist() == ([20] if first else [10])


BAD = {  # the line, the cell it keeps, and what is said of it
    "blank": (b"", "", " has no value at all"),
    "delimiters alone": (b",-,", "", " has no value at all"),
    "few": (b"1,2", None, " has 2 cells, and 3 were expected: '1,2'"),
    "many": (b"1,2,3,4", None, " has 4 cells, and 3 were expected: '1,2,3,4'"),
    "text": (b"1,two,x", "x", ", column 'b' holds 'two', and the cells of this feature must be numbers"),
    "bytes": (b"1,2,\xff\xfe", None, ", column 'k' is not UTF-8: b'\\xff\\xfe'"),
}


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("block", [9, 4 << 20])
def test_a_bad_row_is_told_and_the_others_come(monkeypatch, kind, block):
    monkeypatch.setattr(records, "BLOCK_BYTES", block)
    line, kept, message = BAD[kind]
    text = b"a,b,k\n1,2,x\n" + b'3,4,"y\ny"\n' * 30 + line + b"\n5,6,z\n\n"
    wanted = [("a", "number"), ("b", "number"), ("k", "text")]
    rows, bad = [], {}
    for piece in table(text, model("a", "b")).pieces(wanted):
        bad |= {piece.row + place: error for place, error in piece.bad.items()}
        rows += zip(*(column.to_pylist() for column in piece.columns), strict=True)
    assert rows == [(1, 2, "x"), *[(3, 4, "y\ny")] * 30, (None, None, kept), (5, 6, "z")]
    line_named = " (line 63)" if message.startswith(" has") else ""
    assert {row: error.message for row, error in bad.items()} == {31: f"data: row 32{line_named}{message}"}


def test_bad_rows_of_json_lines_are_told_and_the_others_come():
    lines = ['{"a":1,"k":"x"}', "{}", "no", "[1]", '{"a":"two"}', '{"a":null,"k":"y"}', '{"a":3}']
    rows = JsonLinesTable(Stream("data", io.BytesIO("".join(f"{line}\n" for line in lines).encode())))
    piece = next(rows.pieces([("a", "number"), ("k", "text")]))
    assert [column.to_pylist() for column in piece.columns] == [[1, *[None] * 5, 3], ["x", *[None] * 4, "y", None]]
    assert [error.message for error in piece.bad.values()] == [
        "data: row 2 has no value at all: '{}'",
        "data: row 3 is not JSON: 'no'",
        "data: row 4 is [1], and an object was expected",
        "data: row 5, column 'a' holds 'two', and the values of this feature must be numbers",
    ]


@pytest.mark.parametrize("cell", ["two", [1], {"b": 1}, True])
@pytest.mark.parametrize("place", [0, 2])
def test_a_value_of_another_type_is_the_bad_row_of_json_lines_and_not_those_beside_it(place, cell):
    cells: list[object] = [1, 2.5, 3, None, 4]
    cells[place] = cell
    lines = "".join(json.dumps({"a": each, "k": "x"}) + "\n" for each in cells)
    piece = next(JsonLinesTable(Stream("data", io.BytesIO(lines.encode()))).pieces([("a", "number"), ("k", "text")]))
    assert piece.columns[0].to_pylist() == [None if i == place else each for i, each in enumerate(cells)]
    assert list(piece.bad) == [place]


@pytest.mark.parametrize(
    ("cells", "formats"),
    [
        (["31.12.2024", "01.02.2023"], ["%d.%m.%Y"]),
        (["12/31/2024", "1/2/2023"], ["%m/%d/%Y"]),
        (["31/12/2024 10:00", "01/02/2023 09:30"], ["%d/%m/%Y %H:%M"]),
        (["01/02/2024", "03/04/2024"], ["%d/%m/%Y", "%m/%d/%Y"]),
        (["2024/01/31", "-"], ["%Y/%m/%d"]),
        (["1.5", "2.5"], []),
        (["red"], []),
        ([], []),
    ],
)
def test_the_formats_that_fit_all_dates(cells, formats):
    assert cells_of.date_formats(cells) == formats


def test_dates_are_read_where_one_format_fits_or_is_said():
    found = table("a;d\n1;31.12.2024\n2;01.02.2024\n-;-\n")
    assert str(found.peek().schema.field("d").type) == "date32[day]"
    assert found.dialect.date_format == "%d.%m.%Y"
    text = "a,d\n1,1/2/2024\n2,3/4/24\n"
    assert str(table(text).peek().schema.field("d").type) == "string"
    piece = next(table(text, date_format="%m/%d/%Y").pieces([("d", "date")]))
    assert [str(cell) for cell in piece.columns[0]] == ["2024-01-02 00:00:00", "None"]
    assert piece.bad[1].message == "data: row 2, column 'd' holds '3/4/24', and the cells of this feature must be dates"


@pytest.mark.parametrize(
    ("cells", "delimiter", "how", "option"),
    [
        (["1,016,583.95", "733"], ",", "thousands", "--thousands ,"),
        (["13,865", "1016,584"], ";", "decimal", "--decimal ,"),
        (["13,865", "7,706"], ";", "decimal", "--decimal ,"),
        (["13,865", "7,706"], ",", "thousands", "--thousands ,"),
        (["1.016.583,95", "733"], ";", "thousands", "--thousands . --decimal ,"),
        (["1'016", "12"], ",", "thousands", '--thousands "\'"'),
        (["$13.86", "$7.71"], ",", "currency", None),
        (["(2.29)", "1.5"], ",", "brackets", None),
        (["13.86 kg", "1.5 kg"], ",", "unit", None),
        (["5%", "1.5%"], ",", "percent", None),
        (["<0.01", "1.5", "2"], ",", "below", "--na '<0.01'"),
        (["red", "1"], ",", None, None),
        (["1", "2", "-"], ",", None, None),
    ],
)
def test_what_keeps_cells_from_being_numbers(cells, delimiter, how, option):
    near = cells_of.near_number(cells, delimiter)
    assert (near and near.how, near and near.option) == (how, option)


def test_times_of_day_are_told():
    assert cells_of.is_time(["13:45", "7:00:01", "-"])
    assert not cells_of.is_time(["13:45", "25:00"])
    assert not cells_of.is_time(["-"])


@pytest.mark.parametrize(
    ("encoding", "words"),
    [
        ("cp1252", "größe,Köln,preis€"),
        ("cp1250", "gęstość,Łódź,Kraków"),
        ("cp1251", "город,Москва,Казань"),
        ("koi8-r", "город,Москва,Казань"),
        ("cp1253", "πόλη,Αθήνα,Πάτρα"),
        ("cp1254", "şehir,İstanbul,Ağrı"),
        ("shift_jis", "都市,東京,大阪"),
        ("gb18030", "城市,北京,上海"),
        ("euc-kr", "도시,서울,부산"),
    ],
)
def test_the_encoding_that_fits_is_suggested(encoding, words):
    assert encoding_that_fits(words.encode(encoding)) == (encoding, words.split(",")[0])


def test_a_byte_that_the_encoding_does_not_have_makes_a_bad_row():
    piece = next(table(b"a,k\n1,\xe4\n2,\x81\n", encoding="cp1252").pieces([("a", "number"), ("k", "text")]))
    assert piece.columns[1].to_pylist() == ["ä", None]
    assert piece.bad[1].message.startswith("data: row 2, column 'k' is not CP1252: ")


@pytest.mark.parametrize("options", [{"delimiter": ";;"}, {"thousands": ",", "decimal": ","}, {"encoding": "klingon"}])
def test_options_that_make_no_sense_are_refused(options):
    with pytest.raises(UsageError):
        table("a,b\n1,2\n", **options)
