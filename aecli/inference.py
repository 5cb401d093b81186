"""Apply a trained model: to arrays, or to a source that is streamed through it batch by batch.

On the CPU, NumPy computes; torch is imported only for other devices.
"""

import dataclasses
import math
import shlex
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from aecli import rebuilding
from aecli.config import Schema, prefixes
from aecli.data import frames, units
from aecli.data.arrays import array_source, places
from aecli.data.codes import Codes, open_codes
from aecli.data.opening import open_source
from aecli.data.places import Where, place
from aecli.data.source import ArraySource, Batch, Source, check_finite, resized
from aecli.data.units import Units
from aecli.errors import AecliError, DataError, UsageError
from aecli.model import checkpoint, holes
from aecli.model.checkpoint import Checkpoint
from aecli.model.mixture import MAX_LATENT, Mixture
from aecli.model.scaler import Scaler
from aecli.options import Applying, Decoding, Matching, Reading, grouped
from aecli.pipeline import ahead, spread
from aecli.scoring import LEAST_ROWS, Score

if TYPE_CHECKING:
    import pyarrow as pa

    from aecli.evaluation import Evaluation
    from aecli.model.module import OnDevice
    from aecli.model.network import Network
    from aecli.model.wrapped import WrappedAutoencoder

Array = np.ndarray[Any, Any]
T = TypeVar("T")
BATCH_VALUES = 1 << 20  # values of x in one batch: bounds the memory for wide rows
MAX_BATCH_ROWS = 1024
MAX_BLOCK_ROWS = 256  # the outputs of layers of usual width fit in a core's cache
MIN_BLOCK_ROWS = 32
OPENING = ("data_dir", "force", "announce")  # the options of `open` that belong to no group
AHEAD = 2  # batches that wait between reading, computing and writing


@dataclass(frozen=True, slots=True)
class Encoded:
    """A batch and its latent rows `z` (N, K). Results for a row that could not be read are NaN."""

    batch: Batch
    z: Array


@dataclass(frozen=True, slots=True)
class Decoded(Encoded):
    """Also the decoded rows `recon` (N, D), in raw units."""

    recon: Array


@dataclass(frozen=True, slots=True)
class Rebuilt(Decoded):
    """Also the mean squared errors `mse` (N,) of the rebuilt rows, in the model's units.

    `squares` (N, E) are the squared errors of the model's inputs, and `mse` is their mean. A hole counts in neither:
    its squared error is 0, and the mean is over the inputs that are `there` (N, E), None if all are.
    """

    mse: Array
    squares: Array
    there: Array | None = None

    def in_units(self, own: Units | None) -> "Rebuilt":
        """Return the rows and the rebuilt rows in their `own` units; None if these are the model's."""
        if own is None:
            return self
        batch = dataclasses.replace(self.batch, x=own.to_rows(self.batch.x))
        return dataclasses.replace(self, batch=batch, recon=own.to_rows(self.recon))


@dataclass(frozen=True, slots=True)
class Scored(Rebuilt):
    """Also the `score` of rows (N,) in nats, and `p` (N,), the share of training rows that are as strange or stranger.

    The defaults are only for the type checker.
    """

    score: Array = dataclasses.field(default_factory=lambda: np.zeros(0))
    p: Array = dataclasses.field(default_factory=lambda: np.zeros(0))


class Model:
    """A trained autoencoder. Rows go in and come out in raw units, the units of the training data."""

    def __init__(
        self,
        made: Checkpoint,
        tensors: dict[str, Array],
        scaler: Scaler,
        *,
        path: Where | None = None,
        device: str = "cpu",
    ) -> None:
        """Create a model from the contents of a checkpoint: see `aecli.load` and `aecli.fit`.

        Raises AecliError if there is no such device.
        """
        self.checkpoint, self.tensors, self.scaler, self.path = made, tensors, scaler, path
        self._scoring = Score.from_tensors(tensors)
        self._net = self._network(device, checkpoint.weights(tensors))
        rows = max(MIN_BLOCK_ROWS, BATCH_VALUES // self.checkpoint.model.inputs)
        self._batch_rows, self._block_rows = min(MAX_BATCH_ROWS, rows), min(MAX_BLOCK_ROWS, rows)

    @classmethod
    def load(cls, path: str | Where, *, device: str = "cpu") -> "Model":
        """Return the model in a checkpoint.

        Raises CheckpointError if the file is not a checkpoint, AecliError if there is no such device.
        """
        where = place(path)
        return cls(*checkpoint.load(where), path=where, device=device)

    def __repr__(self) -> str:
        made = self.checkpoint
        return f"<aecli.Model {made.model.layers}, {made.train.recipe}{'' if self.path is None else f', {self.path}'}>"

    def save(self, path: str | Where) -> None:
        """Write the checkpoint atomically: a reader finds the old file or the complete new one.

        Raises AecliError if it cannot be written.
        """
        where = place(path)
        checkpoint.save(where, self.checkpoint, self.tensors, self.scaler)
        self.path = where

    def to_bytes(self) -> bytes:
        """Return the checkpoint's bytes. Equal models have equal bytes."""
        return checkpoint.dumps(self.checkpoint, self.tensors, self.scaler)

    def to_onnx(self, part: str = "all") -> bytes:
        """Return the model as an ONNX file, or its part `encoder` or `decoder`: see `export.to_onnx`.

        Raises AecliError if the package onnx is not installed, or the weights are too large for an ONNX file.
        """
        from aecli.export import to_onnx

        return to_onnx(self.checkpoint, self.tensors, self.scaler, part).data

    @property
    def name(self) -> str:
        """The name of the model in messages."""
        return "the model" if self.path is None else str(self.path)

    def _network(self, device: str, tensors: dict[str, Array]) -> "Network | OnDevice":
        """Return the network: in NumPy on the CPU, in PyTorch on other devices."""
        if device != "cpu":
            from aecli.model import device as devices
            from aecli.model.module import OnDevice

            found = devices.pick(device)
            if found.type != "cpu":
                return OnDevice(self.checkpoint.model, tensors, found)
        from aecli.model.network import Network

        return Network(self.checkpoint.model, tensors)

    @property
    def schema(self) -> Schema:
        """The meaning of a row."""
        return self.checkpoint.schema

    def open(
        self,
        data: Any,
        *,
        data_dir: Path | None = None,
        force: bool = False,
        announce: Callable[[str], None] = lambda _: None,
        **options: Any,
    ) -> Source:
        """Open rows for this model, to stream through it with `encoded` or `rebuilt`.

        `data` is the same as for `aecli.fit`; the name of a built-in set alone means its test split. `options` are the
        fields of `options.Reading` and `options.Applying`. With `force`, a file that may be a decompression bomb is
        read.
        Raises DataError if there is no such data, or if it does not fit the model.
        """
        reading, applying = grouped(options, Reading, Applying)
        asked = {"reading": reading, "applying": applying, "data_dir": data_dir, "force": force, "announce": announce}
        source = open_source(data, split="test", schema=self.schema, trained_on=self.checkpoint.source, **asked)
        source.filled_with, source.bad_rows, source.further = self._filled_with, applying.bad_rows, applying.further
        source.units = self._units(reading.input_range)
        return source

    def _units(self, given: tuple[float, float] | None) -> Units | None:
        """Return the conversion of pixels with the given values of black and white, None if they are the model's.

        Raises DataError if the model is not for images.
        """
        if given is None:
            return None
        if self.schema.image_shape is None or self.schema.full_scale is None:
            raise DataError(f"--input-range is for images, and {self.name} is not for images", hint="leave it out")
        return Units(given, (self.schema.black, self.schema.full_scale))

    @property
    def _filled_with(self) -> str | None:
        """The word for the values that fill holes, None if the model accepts no holes."""
        return None if self.scaler.filling is None else self.scaler.middle

    def embed(self, rows: Any, **options: Any) -> Any:
        """Return the latent rows, (N, K) float32, of rows (N, D), or of images (N, H, W), (N, H, W, C) or (N, C, H, W).

        One image, without N, gives one row.
        Rows may also be anything that `open` accepts. The columns of a data frame are matched by name if the model
        knows names. A frame of pandas or polars returns a frame of the same library, with columns z0, z1, ... and the
        rows' index.
        NaN is a hole, and is replaced by the column's mean over the training rows. `options` are the options of `open`
        that are about reading rows: unknown="ignore", bad_rows="blank", or input_range, the values of black and white
        pixels, if they differ from those of the training rows.
        Raises DataError if the rows have another width, shape or range, or hold infinity, or if columns are missing.
        """
        outputs = self._outputs(self._source(rows, options), self._encode)
        z, numbers = self._collected(((out.z, out.batch) for out in outputs), self.checkpoint.model.latent_dim)
        if not frames.is_frame(rows):
            return z
        return frames.new_frame(frames.chosen(rows, numbers), {f"z{i}": values for i, values in enumerate(z.T)})

    def embed_batches(
        self, batches: "Iterable[pa.RecordBatch]", *, as_vector: str | None = None, **options: Any
    ) -> "pa.RecordBatchReader":
        """Return the latent rows of record batches as record batches, for engines such as Spark, Ray and DuckDB.

        `batches` is an iterable of record batches with one schema, or any object with an Arrow stream: a table, a
        reader, a query of DuckDB. It is read as needed. The columns are those of `aecli embed`: the kept ones, then z0,
        z1, ..., float32; for sparse codes the lists index and value; with `as_vector` one column of this name.
        `options` are the options of `open`, such as keep=["id"] and bad_rows="blank". Rows count from 1 in the first
        batch. If no batch has rows, the result is one batch without rows; if there is no batch, there is no result.
        Raises DataError as `embed` does.
        """
        from aecli.data import batches as arrow
        from aecli.data.codes import code_columns, code_names

        model = self.checkpoint.model
        names = code_names(model, as_vector)
        if (reader := arrow.reader_of(batches)) is None:
            return arrow.without_batches(names)
        source = self.open(reader, **options)
        outputs = map(self._encode, resized(self._in_units(source), self._batch_rows))  # an engine has its own threads
        return arrow.joined((out.batch, code_columns(out.z, model.active, as_vector)) for out in outputs)

    def reconstruct(self, rows: Any, **options: Any) -> Any:
        """Return the rebuilt rows in raw units: (N, D), or the shape of an array of images.

        They are float32, or float64 if a column needs more digits, such as milliseconds since 1970. With an
        `input_range` they are in its units. A frame of pandas or polars returns a frame of the columns that the model
        learnt: numbers as floats, others in their own type. `options` are those of `embed`.
        Raises DataError as `embed` does.
        """
        source = self._source(rows, options)
        outputs = (out.in_units(source.units) for out in self._outputs(source, self._rebuild))
        if frames.is_frame(rows):
            kept = [Decoded(out.batch, out.z, out.recon) for out in outputs]
            _, numbers = self._collected((out.z, out.batch) for out in kept)
            return frames.frame_like(frames.chosen(rows, numbers), rebuilding.source_columns(kept, self, source))
        given = self._as_given(self._joined([out.recon for out in outputs], self.schema.inputs), source)
        if not _is_array(rows):
            return given
        shape = np.shape(rows)
        return given.reshape(shape if given.size == math.prod(shape) else (len(given), *shape[1:]))

    def fill_holes(self, rows: Any) -> Any:
        """Return rows (N, D) in raw units, with the values that the model expects in their holes.

        A frame of pandas or polars returns a frame with all of its columns.
        Raises DataError as `embed` does.
        """
        if frames.is_frame(rows):
            source = self.open(rows, keep_all=True)
            return frames.with_columns(rows, rebuilding.holed_columns(self.filled(source), self, source))
        source = self._source(rows)
        parts = [np.where(np.isnan(out.batch.x), out.recon, out.batch.x) for out in self.filled(source)]
        return self._as_given(self._joined(parts, self.schema.inputs), source)

    def errors(self, rows: Any, **options: Any) -> Any:
        """Return each row's mean squared reconstruction error (N,), in the model's units. Holes do not count.

        A frame of pandas or polars returns a series of the same library, with the rows' index. `options` are those of
        `embed`.
        Raises DataError as `embed` does.
        """
        outputs = self._outputs(self._source(rows, options), self._rebuild)
        mse, numbers = self._collected((out.mse, out.batch) for out in outputs)
        return frames.series(frames.chosen(rows, numbers), "mse", mse) if frames.is_frame(rows) else mse

    def score(self, rows: Any, **options: Any) -> Any:
        """Return the score of each row (N,), how strange it is, in nats: see scoring.py. `anomalies` also returns p.

        A frame of pandas or polars returns a series of the same library, with the rows' index. `options` are those of
        `embed`.
        Raises DataError as `embed` and `scoring` do.
        """
        outputs = self._outputs(self._source(rows, options), self._score)
        scores, numbers = self._collected((out.score, out.batch) for out in outputs)
        return frames.series(frames.chosen(rows, numbers), "score", scores) if frames.is_frame(rows) else scores

    def anomalies(
        self, rows: Any, *, top: int | None = None, alpha: float | None = None, top_features: int = 0, **options: Any
    ) -> Any:
        """Return what `aecli score` writes: columns score, p and anomaly, one row for each of the rows.

        `top` gives only so many rows, the strangest first, each with its number, from 1, in a first column row. `alpha`
        is the highest p of an anomaly. `top_features` adds worst1, value1, expected1, share1, worst2, ...: the columns
        that make a row strange. `options` are the options of `open`, such as unknown="ignore"; kept columns come first.
        A frame of pandas or polars returns a frame of the same library, with the rows' index. Others return NumPy
        arrays (N,) by name. The values of numbers are numbers, those of other columns texts; in a frame of polars, a
        column with both holds texts.
        Raises DataError as `embed` and `scoring` do, and if the model gives no p as small as `alpha`.
        """
        from aecli import anomalies
        from aecli.strangest import together

        level, keep = anomalies.level(self, alpha), options.get("keep") or ()
        source, keep = self._opened(rows, options), (keep,) if isinstance(keep, str) else keep
        answers = anomalies.Answers(self, source, level, top_features, keep, numbered=top is not None)
        found = together([*anomalies.judged(self._outputs(source, self._score), top)])
        columns = answers.of(found, mixes=not frames.is_polars(rows))
        return frames.as_given(rows, columns, found.batch.numbers)

    @property
    def prefixes(self) -> tuple[int, ...]:
        """The numbers of first latent values that are a code by themselves, empty if codes are not nested."""
        return prefixes(self.checkpoint.model.latent_dim) if self.checkpoint.train.nested else ()

    @property
    def can_score(self) -> bool:
        """Whether the model can score rows."""
        return self._scoring is not None

    @property
    def scoring(self) -> Score:
        """The score of the model. Raises DataError if it has none."""
        if self._scoring is None:
            data = self.checkpoint.source or self.checkpoint.data or "DATA"
            few = 0 < self.checkpoint.results.rows < LEAST_ROWS
            raise DataError(
                f"{self.name} cannot score rows: "
                + (
                    f"it was trained on {self.checkpoint.results.rows} rows, and {LEAST_ROWS} are needed"
                    if few
                    else f"aecli {self.checkpoint.versions.get('aecli', '0.1')} that wrote it fitted no score"
                ),
                hint="train on more rows" if few else f"train it again: aecli train {shlex.quote(data)}",
            )
        return self._scoring

    def evaluate(self, rows: Any, labels: Any = None) -> "Evaluation":
        """Return how good the model and its embedding are on rows, compared to PCA: see `evaluation.Evaluation`.

        Rows are the same as for `embed`, or the result of `open`. `labels` (N,) are the labels of the rows, if the data
        does not have them, or `data.labels.Labels` of the result of `open`.
        Raises DataError as `embed` does, and if there are no rows, or another number of labels.
        """
        from aecli.data.labels import Labels
        from aecli.evaluation import evaluate

        source = rows if isinstance(rows, Source) else self._source(rows)
        source.blanks = False  # a row without any value cannot be judged
        own = labels if labels is None or isinstance(labels, Labels) else np.asarray(labels)
        return evaluate(self, self.rebuilt(source), source.name, own)

    def _source(self, rows: Any, options: Mapping[str, Any] = MappingProxyType({})) -> Source:
        """Return rows as a source. Raises UsageError for an option that only a result with more columns can respect."""
        grouped({name: value for name, value in options.items() if name not in OPENING}, Reading, Matching)
        return self._opened(rows, options)

    def _opened(self, rows: Any, options: Mapping[str, Any]) -> Source:
        """Return rows as a source: an array as it is, unless there are `options`; everything else opened."""
        if not _is_array(rows) or options.keys() - {"input_range"}:
            return self.open(rows, **options)
        x = np.asarray(rows)
        inputs, image = self.schema.inputs, self.schema.image_shape
        is_one = image is not None and x.ndim == len(image) and x.size == inputs
        if x.ndim < 2 or x.dtype.kind not in "uifb" or not (is_one or math.prod(x.shape[1:]) == inputs):
            raise DataError(f"rows of {x.dtype}, {x.shape}, and numbers (N, {inputs}) were expected")
        source = array_source("rows", x, None, schema=self.schema)
        check_finite(source.x[:], "rows", self.schema, 0, holes=self._filled_with is not None)
        source.filled_with = self._filled_with
        (reading,) = grouped(options, Reading)
        source.units = self._units(reading.input_range)
        return source

    def _outputs(self, source: Source, compute: Callable[[Batch], T]) -> Iterator[T]:
        """Yield the outputs for a source. An array is computed in this thread, because starting others takes longer."""
        if isinstance(source, ArraySource):
            return map(compute, resized(self._in_units(source), self._batch_rows))
        return self._streamed(source, compute, live=False)

    @staticmethod
    def _joined(parts: list[Array], *width: int) -> Array:
        return np.concatenate(parts) if parts else np.zeros((0, *width), np.float32)

    def _collected(self, parts: Iterable[tuple[Array, Batch]], *width: int) -> tuple[Array, Array]:
        """Return the results of batches joined, and the positions (N,) of their rows in the source."""
        found, numbers = list[Array](), list[Array]()
        for values, batch in parts:
            found.append(values)
            assert batch.numbers is not None  # noqa: S101, for the type checker: a source numbers its rows
            numbers.append(batch.numbers)
        return self._joined(found, *width), np.concatenate([np.arange(0), *numbers])

    def _as_given(self, recon: Array, source: Source) -> Array:
        """Return rows (N, D) with the values in the order of the source."""
        if not source.turned or self.schema.image_shape is None:
            return recon
        return np.ascontiguousarray(recon[:, places(self.schema.image_shape)])

    def decode(self, z: Any) -> Any:
        """Return the rows (N, D) decoded from latent rows (N, K), in raw units; images as flat rows of (H, W, C).

        Latent rows may also be anything that `open_codes` accepts. The columns z0, z1, ... of a data frame are matched
        by name. A frame of pandas or polars returns a frame of the columns that the model learnt. Nested codes may be
        cut to their first half or quarter.
        Raises DataError if the latent rows have another width, or hold NaN or infinity.
        """
        if frames.is_frame(z):
            return frames.new_frame(z, rebuilding.source_columns(self.decoded(self.open_codes(z).batches()), self))
        if not _is_array(z):
            return self._joined([out.recon for out in self.decoded(self.open_codes(z).batches())], self.schema.inputs)
        with np.errstate(over="ignore"):
            latent = np.asarray(z, np.float32)
        values = self.checkpoint.model.latent_dim
        if latent.ndim == 2 and latent.shape[1] in self.prefixes:
            latent = np.pad(latent, ((0, 0), (0, values - latent.shape[1])))
        if latent.ndim != 2 or latent.shape[1] != values:
            raise DataError(f"latent rows of shape {latent.shape}, and (N, {values}) expected")
        if len(wrong := np.flatnonzero(~np.isfinite(latent).all(axis=1))):
            raise DataError(f"latent row {wrong[0] + 1} holds NaN, infinity or a value that is too large")
        return self._decode(Batch(latent)).recon

    def torch(self) -> "WrappedAutoencoder":
        """Return the model as a torch.nn.Module on the CPU, with a copy of the weights.

        Its `encode`, `decode` and `forward` take and return tensors in raw units, and are differentiable: see
        model/wrapped.py.
        """
        try:
            from aecli.model.wrapped import WrappedAutoencoder
        except ModuleNotFoundError as error:
            raise AecliError(
                "a torch module needs the package torch, which is not installed", hint="pip install torch"
            ) from error

        return WrappedAutoencoder(self.checkpoint.model, checkpoint.weights(self.tensors), self.scaler)

    def open_codes(self, data: Any, *, announce: Callable[[str], None] = lambda _: None, **options: Any) -> Codes:
        """Open latent rows, to stream through the model with `decoded`.

        `data` are files, "-" for standard input, a data frame or an array: tables with columns z0, z1, ..., which are
        matched by name, or with lists, as `aecli embed` writes them, or arrays (N, K). Nested codes may be cut to their
        first half or quarter. `options` are the fields of `options.Decoding`.
        Raises DataError if there is no such data, or if its latent rows have another width.
        """
        (asked,) = grouped(options, Decoding)
        return open_codes(data, self.checkpoint.model.latent_dim, asked, announce, shorter=self.prefixes)

    def sample(self, n: int, seed: int = 0) -> Array:
        """Return new rows (n, D), in raw units: decoded draws from a mixture of Gaussians fitted to the training codes.

        For a variational model the draws are from N(0, I).

        Equal seeds give equal rows. A larger `n` adds rows after the same first ones.
        Raises DataError as `draws` does.
        """
        return self._joined([out.recon for out in self.sampled(n, seed)], self.schema.inputs)

    def draws(self, n: int, seed: int = 0) -> Iterator[Array]:
        """Yield n draws from the mixture, for a variational model from N(0, I): latent rows (N, K) in batches.

        Raises DataError if the model has no mixture.
        """
        if n < 1:
            raise UsageError(f"{n} draws were asked for, and at least 1 was expected")
        model = self.checkpoint.model
        if model.bottleneck == "variational":
            return Mixture.standard(model.latent_dim).draws(n, seed)
        found = Mixture.from_tensors(self.tensors)
        if found is None:
            values = model.latent_dim
            if values > MAX_LATENT:
                raise DataError(
                    f"{self.name} has {values:,} latent values, and draws are possible up to {MAX_LATENT}",
                    hint=f"train with --latent-dim {MAX_LATENT} or fewer",
                )
            raise DataError(
                f"{self.name} cannot draw rows: it was written by an earlier version of aecli", hint="train it again"
            )
        draws = found.draws(n, seed)
        if model.active is None:
            return draws
        from aecli.model.network import sparse

        return (sparse(z, model.active) for z in draws)

    def sampled(self, n: int, seed: int = 0) -> Iterator[Decoded]:
        """Yield n draws with their decoded rows, like `decoded`. Raises DataError as `draws` does."""
        return self.decoded(Batch(z) for z in self.draws(n, seed))

    def decoded(self, batches: Iterator[Batch], *, live: bool = False) -> Iterator[Decoded]:
        """Yield batches of latent rows with their decoded rows, computed in blocks of one size, like `encoded`."""
        return self._spread(batches, self._decode, live=live)

    def encode(self, x: Array) -> Array:
        """Return the latent rows (N, K) of rows (N, D), which must fit the model. Their holes are filled."""
        return self._encode(Batch(x)).z

    def encoded(self, source: Source, *, live: bool = False) -> Iterator[Encoded]:
        """Yield the rows of a source with their latent rows, in input order.

        All rows are computed in blocks of one size, so that a row's result is the same to the last bit, however the
        source is split into batches. Reading and computing continue while the caller is busy. A `live` source is
        answered at once.
        """
        return self._streamed(source, self._encode, live=live)

    def rebuilt(self, source: Source, *, live: bool = False) -> Iterator[Rebuilt]:
        """Yield the rows of a source with their latent rows, their rebuilt rows and their errors, like `encoded`.

        Pixels are in the model's units, even if they came in others: see `Rebuilt.in_units`.
        """
        return self._streamed(source, self._rebuild, live=live)

    def scored(self, source: Source, *, live: bool = False) -> Iterator[Scored]:
        """Yield the rows of a source like `rebuilt`, with their scores. Raises DataError as `scoring` does."""
        _ = self.scoring
        return self._streamed(source, self._score, live=live)

    def filled(self, source: Source, *, live: bool = False) -> Iterator[Rebuilt]:
        """Yield the rows of a source like `rebuilt`, with the expected values in their holes: see model/holes.py."""
        return self._streamed(source, self._fill, live=live)

    def _streamed(self, source: Source, compute: Callable[..., T], *, live: bool) -> Iterator[T]:
        return self._spread(self._in_units(source), compute, live=live)

    def _spread(self, batches: Iterator[Batch], compute: Callable[..., T], *, live: bool) -> Iterator[T]:
        if live:
            return (compute(batch, live=True) for batch in batches)
        return ahead(spread(compute, ahead(resized(batches, self._batch_rows), AHEAD), self._net.workers), AHEAD)

    def _in_units(self, source: Source) -> Generator[Batch, None, None]:
        """Yield the rows of a source in the model's units. Raises DataError for pixels of other units."""
        low, high = math.inf, -math.inf
        for batch in source.batches():
            if source.units is not None:
                yield dataclasses.replace(batch, x=source.units.to_model(batch.x))
                continue
            if (found := units.check(batch.x, self.schema, source.name)) is not None:
                low, high = min(low, found[0]), max(high, found[1])
                source.doubt = units.doubt(low, high, self.schema)
            yield batch

    def _encode(self, batch: Batch, *, live: bool = False) -> Encoded:
        parts = []
        for raw in self._blocks(batch.x):
            x = self._padded(self.scaler.transform(raw), live=live)  # (N, E)
            parts.append(self._net.encode(x)[: len(raw)])  # (N, K)
        return Encoded(batch, _blanked(np.concatenate(parts), batch))

    def rebuilt_inputs(self, x: Array) -> tuple[Array, Array]:
        """Return the codes (N, K) of rows (N, E) in the model's units, and the rebuilt rows (N, E)."""
        blocks = self._blocks(x)
        z = np.concatenate([self._net.encode(self._padded(block, live=True))[: len(block)] for block in blocks])
        return z, self.decoded_inputs(z)

    def decoded_inputs(self, z: Array) -> Array:
        """Return the rows (N, E) decoded from codes (N, K), in the model's units."""
        blocks = self._blocks(z)
        return np.concatenate([self._net.decode(self._padded(block, live=True))[: len(block)] for block in blocks])

    def _decode(self, batch: Batch, *, live: bool = False) -> Decoded:
        z = batch.x.astype(np.float32, copy=False)
        parts = [self._net.decode(self._padded(block, live=live))[: len(block)] for block in self._blocks(z)]
        with np.errstate(all="ignore"):  # an extreme code gives infinity or NaN without a warning
            recon = self.scaler.inverse(np.concatenate(parts))
        return Decoded(batch, z, _blanked(recon, batch))

    def _fill(self, batch: Batch, *, live: bool = False) -> Rebuilt:
        return self._rebuild(batch, live=live, filling=True)

    def _score(self, batch: Batch, *, live: bool = False) -> Scored:
        score, signs = self.scoring, list[Array]()
        out = self._rebuild(batch, live=live, signs=signs)
        scores = score.scores(np.concatenate(signs))
        p = score.p(scores)
        if out.there is not None:  # a row without any value has no score
            scores[~out.there.any(axis=1)] = p[~out.there.any(axis=1)] = np.nan
        values = {field.name: getattr(out, field.name) for field in dataclasses.fields(out)}
        return Scored(**values, score=_blanked(scores, batch), p=_blanked(p, batch))

    def _rebuild(
        self, batch: Batch, *, live: bool = False, filling: bool = False, signs: list[Array] | None = None
    ) -> Rebuilt:
        """Return a rebuilt batch. Append the signs of its rows to `signs`, if it is given."""
        parts = []
        for raw in self._blocks(batch.x):
            x = self._padded(self.scaler.transform(raw), live=live)  # (N, E)
            z = self._net.encode(x)  # (N, K)
            recon = self._net.decode(z)  # (N, E)
            with np.errstate(all="ignore"):  # extreme weights give infinity or NaN without a warning
                errors = recon - x  # (N, E)
                squares = np.square(errors)
                mse = squares.mean(axis=1)  # (N,)
                empty = self.scaler.holes(raw)
                if signs is not None:
                    there = None if empty is None else ~self._padded(empty, live=live)
                    signs.append(self.scoring.signs(x, z, errors, there)[: len(raw)])
                if filling and empty is not None:
                    recon = holes.fill(x, recon, self._padded(empty, live=live), self.tensors.get(checkpoint.PRECISION))
                parts.append(tuple(values[: len(raw)] for values in (z, self.scaler.inverse(recon), mse, squares)))
        z, recon, mse, squares = (np.concatenate(column) for column in zip(*parts, strict=True))
        if (lost := np.isnan(mse)).any():  # infinity less infinity
            squares[lost] = np.nan_to_num(squares[lost], nan=np.inf, posinf=np.inf)
            mse[lost] = np.inf
        there = None
        if (empty := self.scaler.holes(batch.x)) is not None:
            there, holed = ~empty, empty.any(axis=1)
            squares[empty] = 0
            with np.errstate(all="ignore"):  # a row without any value has no error: NaN
                mse[holed] = squares[holed].sum(axis=1) / there[holed].sum(axis=1)
        z, recon, mse, squares = (_blanked(values, batch) for values in (z, recon, mse, squares))
        return Rebuilt(batch, z, recon, mse, squares, there)

    def _blocks(self, x: Array) -> Iterator[Array]:
        """Return rows in blocks that are computed together. No rows are one empty block."""
        return (x[start : start + self._block_rows] for start in range(0, max(1, len(x)), self._block_rows))

    def _padded(self, x: Array, *, live: bool = False) -> Array:
        """Return a block with rows of zeros appended if it is short.

        The last bits of a product depend on the number of rows, and on a row's position among them.
        """
        missing = (MIN_BLOCK_ROWS if live else self._block_rows) - len(x)
        return np.concatenate([x, np.zeros((missing, x.shape[1]), x.dtype)]) if missing > 0 else x


def _blanked(values: Array, batch: Batch) -> Array:
    """Return values with NaN for the rows that could not be read."""
    if batch.blank is not None:
        values = values.astype(np.float64) if values.dtype.kind == "i" else values  # only the indices of categories are
        values[batch.blank] = np.nan
    return values


def _is_array(rows: Any) -> bool:
    """Return whether rows are an array or nested lists of numbers. Frames, paths and names must be opened."""
    if isinstance(rows, list | tuple) and rows and all(isinstance(each, str | Path) for each in rows):
        return False
    return not (isinstance(rows, str | Path | Source) or hasattr(rows, "columns") or hasattr(rows, "schema"))
