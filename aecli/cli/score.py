"""aecli score."""

import dataclasses
import functools
import json
import math
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

import aecli
from aecli.cli import console, flags, options, parts, progress, rows, tables
from aecli.errors import DataError, UsageError
from aecli.options import RUN, Applying, Reading

if TYPE_CHECKING:
    from aecli.cli.parts import Shown
    from aecli.data.sinks import Sink
    from aecli.data.source import Source
    from aecli.drift import Drift, Verdict
    from aecli.inference import Scored

FOUND = 3  # the exit code of --exit-code if there is an anomaly

Alpha = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=1,
        metavar="P",
        help="The highest p of an anomaly. About this share of rows like the training rows count as anomalies.",
        show_default="0.01, or the smallest p that the model can give",
    ),
]
OnlyAnomalies = Annotated[
    bool, typer.Option("--only-anomalies", help="Write only the anomalies, each with its row number in the column row.")
]
Top = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Write only the N strangest rows, the strangest first, each with its row number in the column row.",
        show_default=False,
    ),
]
TopFeatures = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Append worst1, value1, expected1, share1, worst2, ...: the N columns that make the row strange, their "
        "values, the values that the model expects, and their shares of the strangeness.",
        show_default=False,
    ),
]
ExitCode = Annotated[
    bool,
    typer.Option("--exit-code", help=f"Exit with {FOUND} if there is an anomaly.", rich_help_panel=RUN),
]
Json = Annotated[
    bool,
    typer.Option(
        "--json",
        help="Print one JSON object on stdout: the numbers of rows and anomalies, and more. Rows are written only to "
        "--output.",
        rich_help_panel=RUN,
    ),
]


@flags.spread
def score(
    ctx: typer.Context,
    model: options.Model,
    reading: Reading,
    applying: Applying,
    data: options.Data = None,
    output: options.OutputOrParts = None,
    form: options.Format = None,
    label: options.CarryLabel = True,
    header: options.Header = True,
    alpha: Alpha = None,
    only_anomalies: OnlyAnomalies = False,
    top: Top = None,
    top_features: TopFeatures = None,
    line_buffered: options.LineBuffered = False,
    device: options.Device = "cpu",
    data_dir: options.DataDir = None,
    force: options.ReplaceParts = False,
    shard: options.Shard = None,
    exit_code: ExitCode = False,
    as_json: Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Find the rows that do not fit: write how strange each row is, as CSV on stdout.

    $ aecli score table.safetensors table.csv --top 10 --top-features 3

    $ aecli score table.safetensors new.csv --only-anomalies --exit-code > anomalies.csv

    Kept columns and the label come first, then score, p and anomaly. There is one
    row per input row, in input order.

    p is the share of training rows that are as strange or stranger. An anomaly is
    a row whose p is at most --alpha.
    """
    _check(output, top, line_buffered=line_buffered, as_json=as_json)
    as_parts = parts.are_wanted(ctx)
    rows.check_data(model, data)
    from aecli import anomalies
    from aecli.drift import Drift

    loaded = aecli.load(model, device=device)
    level = _level(loaded, alpha, quiet=quiet)
    applying = dataclasses.replace(applying, line_buffered=line_buffered)
    numbered, most = only_anomalies or top is not None, level if only_anomalies else math.inf
    drift = Drift(loaded, level)

    def answer(source: "Source", sink: "Sink | None", shown: "Shown") -> None:
        how: dict[str, Any] = {"label": label, "numbered": numbered}
        answers = anomalies.Answers(loaded, source, level, top_features or 0, applying.keep, **how)
        outputs = shown(loaded.scored(source, live=line_buffered), source)
        for found in anomalies.judged(_counted(outputs, drift), top, most):
            if sink is not None:
                sink.write(answers.of(found, nulls=sink.has_nulls, mixes=sink.mixes))
                if line_buffered:
                    sink.flush()

    if as_parts:
        parts.write(ctx, loaded, (reading, applying), answer, force=force, shard=shard)
        _judge(drift, "the data", quiet=quiet)
        return
    source = rows.open_rows(loaded, data, reading, applying, data_dir=data_dir, quiet=quiet)
    shown = functools.partial(progress.shown, output=output, quiet=quiet)
    if as_json and output is None:
        answer(source, None, shown)
    else:
        with tables.open_output(output, form, header=header, inputs=(str(model), *(data or ())), quiet=quiet) as sink:
            answer(source, sink, shown)
    rows.say_notes(source, quiet=quiet)
    verdict = _judge(drift, source.name, quiet=quiet)
    if as_json:
        console.result(json.dumps({"checkpoint": str(model), "data": source.name, **_facts(loaded, drift, verdict)}))
    if exit_code and not drift.rows:
        raise DataError(
            f"{source.name}: no row has a score, so --exit-code cannot say whether there are anomalies",
            hint="check that the data is still being written; without --exit-code this is not an error",
        )
    if exit_code and drift.anomalies:
        sys.exit(FOUND)


def _check(output: str | None, top: int | None, *, line_buffered: bool, as_json: bool) -> None:
    """Refuse options that contradict each other."""
    if top is not None and line_buffered:
        raise UsageError(
            "--top reads all rows before it writes one, and --line-buffered answers each row as it arrives",
            hint="leave one of them out; --only-anomalies works with both",
        )
    if as_json and output == "-":
        raise UsageError("--json and -o - both want stdout", hint="write the rows to a file: -o scores.csv")


def _counted(outputs: "Iterator[Scored]", drift: "Drift") -> "Iterator[Scored]":
    """Yield the rows, after counting them."""
    for out in outputs:
        drift.add(out.batch.x, out.p)
        yield out


def _level(loaded: "aecli.Model", asked: float | None, *, quiet: bool) -> float:
    """Return the highest p of an anomaly. If few training rows set it, announce it."""
    from aecli import anomalies
    from aecli.model.checkpoint import smallest

    found, scoring = anomalies.level(loaded, asked), loaded.scoring
    if asked is None and found == scoring.least_p:
        calibrated = console.counted(len(scoring.calibration), "training row")
        least = smallest(found)
        console.say(f"only {calibrated} calibrate the scores: a row is an anomaly at p <= {least}", quiet=quiet)
    return found


def _judge(drift: "Drift", name: str, *, quiet: bool) -> "Verdict | None":
    """Return whether rows differ from the training rows. If they do, announce in which columns."""
    verdict = drift.verdict()
    if verdict is None:
        return None
    usual = f"{drift.expected:,.0f}" if drift.expected >= 10 else f"{drift.expected:.2g}"
    most = f", most in {'column' if len(verdict.columns) == 1 else 'columns'} {', '.join(verdict.columns)}"
    console.say(
        f"{drift.anomalies:,} of {drift.rows:,} rows are anomalies, and about {usual} were expected: {name} "
        f"differs from the training data{most if verdict.columns else ''}: is it time to train again?",
        quiet=quiet,
    )
    return verdict


def _facts(loaded: "aecli.Model", drift: "Drift", verdict: "Verdict | None") -> dict[str, Any]:
    return {
        "rows": drift.rows,
        "anomalies": drift.anomalies,
        "alpha": drift.alpha,
        "expected": drift.expected,
        "least_p": loaded.scoring.least_p,
        "calibration_rows": len(loaded.scoring.calibration),
        "drift": None if verdict is None else {"p": verdict.p, "columns": list(verdict.columns)},
    }
