"""aecli score."""

import dataclasses
import functools
import json
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

import aecli
from aecli import rebuilding
from aecli.cli import console, flags, judged, options, parts, progress, rows, tables
from aecli.errors import DataError, UsageError
from aecli.options import RUN, Applying, Reading

if TYPE_CHECKING:
    from aecli.cli.parts import Shown
    from aecli.data.sinks import Sink
    from aecli.data.source import Source
    from aecli.drift import Drift, Verdict
    from aecli.inference import Scored
    from aecli.strangest import Judged

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
    from aecli.drift import Drift

    loaded = aecli.load(model, device=device)
    level = _level(loaded, alpha, quiet=quiet)
    applying = dataclasses.replace(applying, line_buffered=line_buffered)
    numbered, reasons = only_anomalies or top is not None, min(top_features or 0, loaded.schema.inputs)
    drift = Drift(loaded, level)

    def answer(source: "Source", sink: "Sink | None", shown: "Shown") -> None:
        answers = _Answers(loaded, source, level, reasons, applying.keep, label=label, numbered=numbered)
        outputs = shown(loaded.scored(source, live=line_buffered), source)
        for found in _written(outputs, drift, top, only_anomalies=only_anomalies):
            if sink is not None:
                sink.write(answers.of(found, sink))
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


def _written(
    outputs: "Iterator[Scored]", drift: "Drift", top: int | None, *, only_anomalies: bool
) -> "Iterator[Judged]":
    """Count all rows, and yield the rows to write: as they arrive, or with `top` the strangest at the end."""
    from aecli.strangest import Judged, Strangest

    strangest = None if top is None else Strangest(top)
    for out in outputs:
        drift.add(out.batch.x, out.p)
        found = Judged(out.batch, out.score, out.p)
        if only_anomalies:
            found = found[found.p <= drift.alpha]
        if strangest is None:
            yield found
        else:
            strangest.add(found)
    if strangest is not None:
        yield strangest.rows()


class _Answers:
    """The columns of the output: carried ones, the score, and the reasons for it."""

    def __init__(
        self,
        loaded: "aecli.Model",
        source: "Source",
        level: float,
        reasons: int,
        keep: Sequence[str],
        *,
        label: bool,
        numbered: bool,
    ) -> None:
        """Raise DataError if a carried column has a name that the output needs."""
        self._loaded, self._source, self._level, self._reasons = loaded, source, level, reasons
        self._numbered = numbered
        self._places = rebuilding.order(loaded.schema, turned=source.turned)
        names = [f"{what}{i + 1}" for i in range(reasons) for what in ("worst", "value", "expected", "share")]
        beside = [*["row"] * numbered, "score", "p", "anomaly", *names]
        self._carried = tables.Carried(source, keep, label=label, beside=beside)

    def of(self, found: "Judged", sink: "Sink") -> dict[str, Any]:
        """Return the columns of rows by name. Rows that could not be read have empty cells."""
        batch, columns = found.batch, dict[str, Any]()
        if self._numbered and batch.numbers is not None:
            columns["row"] = batch.numbers + 1
        columns |= {"score": found.score, "p": found.p, "anomaly": (found.p <= self._level).astype("int64")}
        if self._reasons:
            columns |= tables.reasons(batch.x, self._loaded, self._reasons, self._places, self._source.units)
        return self._carried.of(batch) | rebuilding.emptied(columns, batch.blank if sink.has_nulls else None)


def _level(loaded: "aecli.Model", asked: float | None, *, quiet: bool) -> float:
    """Return the highest p of an anomaly. Raises DataError if --alpha is smaller than any p."""
    scoring = loaded.scoring
    least = judged.smallest(scoring.least_p)
    calibrated = console.counted(len(scoring.calibration), "training row")
    if asked is None:
        if scoring.alpha == scoring.least_p:
            console.say(f"only {calibrated} calibrate the scores: a row is an anomaly at p <= {least}", quiet=quiet)
        return scoring.alpha
    if asked < scoring.least_p:
        raise DataError(
            f"--alpha is {asked:g}, and {loaded.name} gives no p below {least}: {calibrated} calibrate its scores",
            hint=f"--alpha {least} is the smallest; a model trained on more rows allows a smaller one",
        )
    return asked


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
