"""aecli evaluate."""

import dataclasses
import json
from typing import TYPE_CHECKING, Annotated

import typer

import aecli
from aecli.cli import completion, console, flags, options, rows
from aecli.options import Applying, Matching, Reading

if TYPE_CHECKING:
    from aecli.evaluation import Evaluation

NAMES, WIDTH = 18, 8  # the widths of the columns: names of metrics, values
TELLS = {  # the meaning of each metric, short enough for a table 80 columns wide
    "mse": "error in scaled units; 0 best",
    "explained_variance": "share of the variance; to 1",
    "active_values": "code values that are not 0",
    "dead_latents": "share that is 0 in all rows",
    "trustworthiness": "near codes are near rows; to 1",
    "continuity": "near rows are near codes; to 1",
    "knn_recall": "nearest rows that stay nearest",
    "rank_correlation": "far stays far; -1 to 1",
    "knn_accuracy": "labels found by 15 neighbours",
    "silhouette": "labels lie apart; -1 to 1",
}


LABEL = "--label"
Label = Annotated[
    str | None,
    typer.Option(
        LABEL,
        metavar="COLUMN",
        help="The labels: a column of DATA, or FILE:COLUMN, a column of another table. If DATA is images, the rows of "
        "that table are matched by a column of paths or names, else by number.",
        show_default="the labels of the training data",
        autocompletion=completion.columns,
    ),
]


@flags.spread
def evaluate(
    model: options.Model,
    reading: Reading,
    matching: Matching,
    data: options.Data = None,
    label: Label = None,
    device: options.Device = "cpu",
    data_dir: options.DataDir = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure how good a model and its embedding are, compared to PCA: a table on stdout.

    $ aecli evaluate digits.safetensors digits

    PCA has as many values as the model, and is fitted to DATA itself, which favours it.

    If DATA has labels, the table also shows how well the 15 nearest neighbours
    predict them, among the codes and among the rows themselves.

    If rows are vectors, a second table shows the recall@10 of a search by cosine
    among short codes: the share of the 10 most similar rows that are among the 10
    most similar codes.

    The model's errors cover all rows. With more than 5,000 rows, all other
    metrics use a random sample.
    """
    rows.check_data(model, data)
    from aecli.data.beside import split
    from aecli.data.labels import Labels

    aside = None if label is None or split(label) else (LABEL, label)
    applying = Applying(**vars(matching), aside=aside)
    if matching.bad_rows == "blank":  # a row without values cannot be judged
        applying = dataclasses.replace(applying, bad_rows="skip")
    loaded = aecli.load(model, device=device)
    source = rows.open_rows(loaded, data, reading, applying, data_dir=data_dir, quiet=quiet)
    found = loaded.evaluate(source, None if label is None else Labels(source, label, LABEL))
    for sentence in (*source.notes(), *found.notes):
        console.say(sentence, quiet=quiet)
    if as_json:
        console.result(json.dumps({"checkpoint": str(model), "data": source.name, **found.to_json()}))
    else:
        console.result(_table(found))


def _table(found: "Evaluation") -> str:
    """Return one row per metric that has a value: its name, its values, and its meaning."""
    columns = {"model": found.model, "PCA": found.pca, "rows": found.original}
    values = {name: quality.to_json() for name, quality in columns.items()}
    shown = {name: each for name, each in values.items() if any(value is not None for value in each.values())}
    lines = ["".join([f"{'metric':<{NAMES}}", *(f"  {name:>{WIDTH}}" for name in shown)])]
    for metric, tells in TELLS.items():
        if any(each[metric] is not None for each in shown.values()):
            cells = "".join(f"  {_cell(metric, each[metric]):>{WIDTH}}" for each in shown.values())
            lines.append(f"{metric:<{NAMES}}{cells}  {tells}")
    return "\n".join([*lines, *_codes(found)])


def _codes(found: "Evaluation") -> list[str]:
    """Return the second table, with one row per way to shorten rows, or nothing if it has no rows."""
    if not found.codes:
        return []
    columns = {"values": "values", "bytes": "bytes", "mse": "mse", "recall@10": "recall_at_10"}
    rows = [{name: getattr(code, field) for name, field in columns.items()} for code in found.codes]
    shown = [name for name in columns if any(row[name] is not None for row in rows)]
    lines = ["", f"{'code':<16}" + "".join(f"  {name:>9}" for name in shown)]
    for code, row in zip(found.codes, rows, strict=True):
        cells = [
            f"{value:,}" if type(value) is int else _cell(name, value) for name, value in row.items() if name in shown
        ]
        lines.append(f"{code.name:<16}" + "".join(f"  {cell:>9}" for cell in cells))
    return lines


def _cell(metric: str, value: float | None) -> str:
    """Write a value: an error with four digits, others with three decimals, and one that is too wide as 1.2e+05."""
    if value is None:
        return "-"
    text = f"{value:.4g}" if metric == "mse" else f"{value:.3f}"
    return text if len(text) <= WIDTH else f"{value:.1e}"
