"""The checkpoint: one safetensors file that holds the weights, the scaler, and all that using them takes.

Its metadata has one key, `aecli`: sorted JSON, because several keys would be written in random order.
The header is read with the standard library alone.
"""

import contextlib
import dataclasses
import json
import math
import os
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from aecli import __version__, files
from aecli.config import Config, History, ModelConfig, Results, Schema, TrainConfig, UnknownFieldError
from aecli.data.places import Place, Where
from aecli.errors import CheckpointError, UsageError
from aecli.model.layers import tensor_shapes

if TYPE_CHECKING:
    import numpy as np

    from aecli.model.scaler import Scaler

FORMAT = 2  # open until 1.0: fields may be added that have a default
MAX_HEADER_BYTES = 100_000_000  # the format's own limit
SCALERS = ("full-scale", "standard", "minmax", "robust", "quantile", "common", "none")
PRECISION = "holes.precision"  # see model/holes.py
MIXTURE = ("mixture.weights", "mixture.means", "mixture.factors")  # see model/mixture.py
SCORE = "score."  # begins the names of what scoring.py fits
DEFAULT_ALPHA = 0.01
KNOTS = 256  # of scaler.knots, in each column
DTYPES = {"F16": "<f2", "F32": "<f4", "F64": "<f8"}


@dataclass(frozen=True)
class Origin(Config):
    """By what the rows of a run are known again, and in what units some of them were cut off as held-out rows.

    `rows` is the digest of all rows that the cut was made of, `test` that of the rows which were given as held-out
    ones, None where none were: see data/digest.py. The cut took `block` rows together, 1 where all were in memory.
    """

    rows: str
    test: str | None = None
    block: int = 1


@dataclass(frozen=True)
class Scoring(Config):
    """How much a checkpoint holds to score rows with: `axes`, `codes` of training rows, and `calibration` scores.

    See scoring.py. Codes can be decoded to rows that are like those trained on.
    """

    axes: int
    codes: int
    calibration: int

    def __post_init__(self) -> None:
        """Raise ValueError for what no score has."""
        if min(self.axes, self.codes, self.calibration) < 0 or not (self.axes and self.calibration):
            raise ValueError("a score has no axes or no calibration rows")

    @property
    def least_p(self) -> float:
        """The smallest p that a row can have: 1/(n + 1), of n calibration rows."""
        return 1 / (self.calibration + 1)

    @property
    def alpha(self) -> float:
        """Up to which p a row is an anomaly where nothing is said: 0.01, or the smallest p where that is more."""
        return max(DEFAULT_ALPHA, self.least_p)


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint says of itself. `data` is the built-in set that it was trained on, None for any other data.

    `format` is that of the file it was read from. `source` is the data's name without its place. Equal data and options
    have equal fingerprints: SHA-256 in hexadecimal digits; a run that was ended before its end has none. `origin` is
    None in files of older versions. `mixture` is the number of Gaussians that were fitted to the training codes, and
    `score` what rows are scored with; each None where none were fitted, as in files of older versions.
    """

    model: ModelConfig
    train: TrainConfig
    schema: Schema
    scaler: str
    data: str | None
    results: Results
    history: History
    versions: Mapping[str, str]
    format: int = FORMAT
    source: str | None = None
    fingerprint: str | None = None
    origin: Origin | None = None
    mixture: int | None = None
    score: Scoring | None = None

    def to_json(self, *, compact: bool = False) -> dict[str, Any]:
        """Return the metadata as plain JSON values; `compact` ones lack what is at its default."""
        fields = [field for field in dataclasses.fields(self) if field.name != "format"]
        values: dict[str, Any] = {"format": self.format}
        values |= {f.name: v for f in fields if (v := getattr(self, f.name)) != f.default or not compact}
        return {
            name: value.to_json(compact=compact) if isinstance(value, Config) else value
            for name, value in values.items()
        }

    @classmethod
    def from_json(cls, value: Any) -> "Checkpoint":
        """Read what `to_json` returned, or an older version's did.

        Raises ValueError or UsageError for anything else.
        """
        fields = dataclasses.fields(cls)
        names = {field.name for field in fields}
        required = {"format", *(field.name for field in fields if field.default is dataclasses.MISSING)}
        if not isinstance(value, dict) or not required <= set(value):
            raise ValueError("its fields are not those of an aecli checkpoint")
        if unknown := sorted(set(value) - names):
            raise UnknownFieldError(f"it has a field {unknown[0]!r}, which is unknown")
        if value["format"] == 1:
            value = _from_format_1(value)
        scaler, data, versions = value["scaler"], value["data"], value["versions"]
        source, fingerprint = value.get("source"), value.get("fingerprint")
        mixture = value.get("mixture")
        texts = all(isinstance(text, str | None) for text in (data, source, fingerprint))
        counted = mixture is None or (type(mixture) is int and mixture >= 1)
        if not (scaler in SCALERS and texts and counted and isinstance(versions, dict)):
            raise ValueError("scaler, data, source, fingerprint, mixture or versions is of the wrong type")
        checkpoint = cls(
            model=ModelConfig.from_json(value["model"]),
            train=TrainConfig.from_json(value["train"]),
            schema=Schema.from_json(value["schema"]),
            scaler=scaler,
            data=data,
            results=Results.from_json(value["results"]),
            history=History.from_json(value["history"]),
            versions={str(name): str(version) for name, version in versions.items()},
            format=value["format"],
            source=source,
            fingerprint=fingerprint,
            origin=None if value.get("origin") is None else Origin.from_json(value["origin"]),
            mixture=mixture,
            score=None if value.get("score") is None else Scoring.from_json(value["score"]),
        )
        if (inputs := sum(checkpoint.schema.widths)) != checkpoint.model.inputs:
            raise ValueError(f"its schema makes {inputs} inputs, its model has {checkpoint.model.inputs}")
        return checkpoint


def _from_format_1(value: dict[str, Any]) -> dict[str, Any]:
    """Return the metadata that aecli 0.1 wrote as format 2 has it: what is said of columns is said column by column.

    Raises ValueError where it is not what 0.1 wrote.
    """
    schema = dict(value["schema"]) if isinstance(value["schema"], dict) else {}
    names, kinds, categories = (schema.pop(name, None) for name in ("features", "kinds", "categories"))
    inputs = schema.get("inputs")
    if type(inputs) is not int or any(
        not isinstance(entries, list) or len(entries) != inputs
        for entries in (names, kinds, categories)
        if entries is not None
    ):
        raise ValueError("its schema is not one of format 1")
    if names or kinds:
        schema["columns"] = [
            {"name": name, "kind": kind, "categories": values}
            for name, kind, values in zip(
                names or [None] * inputs, kinds or ["number"] * inputs, categories or [[]] * inputs, strict=True
            )
        ]
    return value | {"schema": schema}


def save(path: Where, checkpoint: Checkpoint, tensors: "Mapping[str, np.ndarray[Any, Any]]", scaler: "Scaler") -> None:
    """Write the checkpoint: atomically, so that a reader finds the old file or the new one, whole.

    `tensors` is the model's state dict as float32 arrays. Equal contents give equal bytes.
    """
    with files.replacing(path) as stream:
        stream.write(dumps(checkpoint, tensors, scaler))


def dumps(checkpoint: Checkpoint, tensors: "Mapping[str, np.ndarray[Any, Any]]", scaler: "Scaler") -> bytes:
    """Return the checkpoint's bytes."""
    import safetensors.numpy

    made = dataclasses.replace(checkpoint, format=FORMAT)
    metadata = {"aecli": json.dumps(made.to_json(compact=True), sort_keys=True, ensure_ascii=False, allow_nan=False)}
    everything = {**tensors, "scaler.shift": scaler.shift, "scaler.scale": scaler.scale}
    everything |= {} if scaler.fill is None else {"scaler.fill": scaler.fill}
    everything |= {} if scaler.knots is None else {"scaler.knots": scaler.knots}
    data: bytes = safetensors.numpy.save(everything, metadata)
    return data


def read(path: Where) -> Checkpoint:
    """Read what the checkpoint says of itself, from its header alone; the tensors' names and shapes are checked.

    Raises CheckpointError where the file is missing, no checkpoint, damaged, or of a newer format.
    """
    with opened(path) as file:
        return _read(path, file)[0]


def _read(path: Where, file: BinaryIO) -> tuple[Checkpoint, dict[str, Any], int]:
    """Read and check the header of an open file: what it says, where the tensors lie, and from which byte on."""
    header, data_start = read_header(path, file)
    said = header.pop("__metadata__", {})
    try:
        metadata = json.loads(said["aecli"])
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        if isinstance(said, dict) and "aecli-resume" in said:
            raise CheckpointError(
                f"{path}: a saved run, and no checkpoint yet", hint=shlex.join(["aecli", "info", str(path)])
            ) from error
        raise CheckpointError(
            f"{path}: a safetensors file, but no aecli checkpoint: its metadata has no readable key 'aecli'"
        ) from error
    found = metadata.get("format") if isinstance(metadata, dict) else None
    if isinstance(found, int) and found > FORMAT:
        raise CheckpointError(
            f"{path}: written in checkpoint format {found}, and this aecli reads up to format {FORMAT}",
            hint="upgrade aecli: pip install --upgrade aecli",
        )
    try:
        checkpoint = Checkpoint.from_json(metadata)
    except UnknownFieldError as error:
        versions = metadata.get("versions")
        by = versions.get("aecli") if isinstance(versions, dict) else None
        raise CheckpointError(
            f"{path}: written by aecli {by}, and this is {__version__}: {error}",
            hint="upgrade aecli: pip install --upgrade aecli",
        ) from error
    except (ValueError, UsageError) as error:
        raise CheckpointError(f"{path}: a damaged checkpoint: {error}") from error
    _check_tensors(path, header, data_start, os.fstat(file.fileno()).st_size, checkpoint)
    return checkpoint, header, data_start


def load(path: Where) -> "tuple[Checkpoint, dict[str, np.ndarray[Any, Any]], Scaler]":
    """Read a checkpoint whole: what it says of itself, the model's state dict as float32 arrays, and its scaler.

    Raises CheckpointError as `read` does, and where a weight is not a finite number.
    """
    import numpy as np

    from aecli.model.scaler import Scaler

    tensors = {}
    with opened(path) as file:  # once: another file may take its name at any moment
        checkpoint, header, data_start = _read(path, file)
        for name, entry in header.items():
            file.seek(data_start + entry["data_offsets"][0])
            tensor = np.fromfile(file, DTYPES[entry["dtype"]], math.prod(entry["shape"]))
            if tensor.size != math.prod(entry["shape"]):
                raise CheckpointError(f"{path}: became shorter while it was read")
            tensors[name] = tensor.reshape(entry["shape"])
    for name, tensor in tensors.items():
        if not np.isfinite(tensor).all():
            raise CheckpointError(f"{path}: a damaged checkpoint: {name} holds NaN or infinity")
    knots = tensors.pop("scaler.knots", None)
    if knots is not None and (np.diff(knots) < 0).any():
        raise CheckpointError(f"{path}: a damaged checkpoint: scaler.knots are not in ascending order")
    if MIXTURE[0] in tensors and not (tensors[MIXTURE[0]].min() >= 0 < tensors[MIXTURE[0]].sum()):
        raise CheckpointError(f"{path}: a damaged checkpoint: {MIXTURE[0]} are no shares of a whole")
    shift, scale, fill = tensors.pop("scaler.shift"), tensors.pop("scaler.scale"), tensors.pop("scaler.fill", None)
    scaler = Scaler(checkpoint.scaler, shift, scale, fill, checkpoint.schema, knots)
    return checkpoint, tensors, scaler


def weights(tensors: "Mapping[str, np.ndarray[Any, Any]]") -> "dict[str, np.ndarray[Any, Any]]":
    """Return the state dict of the network alone, of all tensors of a model."""
    others = (PRECISION, *MIXTURE)
    return {name: tensor for name, tensor in tensors.items() if name not in others and not name.startswith(SCORE)}


def is_checkpoint(path: Where) -> bool:
    """Return whether the file is a safetensors file with aecli's metadata, of whatever format version."""
    try:
        with opened(path) as file:
            metadata = read_header(path, file)[0].get("__metadata__")
            return isinstance(metadata, dict) and "aecli" in metadata
    except CheckpointError:
        return False


@contextlib.contextmanager
def opened(path: Where) -> Iterator[BinaryIO]:
    """Open a file to read, elsewhere a copy of it. Raises CheckpointError where that cannot be done."""
    try:
        if isinstance(path, Place):
            yield path.copy()
            return
        with path.open("rb") as file:
            yield file
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file", hint="aecli train writes one") from error
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})") from error


def read_header(path: Where, file: BinaryIO) -> tuple[dict[str, Any], int]:
    """Read a safetensors header, its length as 8 bytes, little-endian, then JSON; and give where the data starts."""
    length = int.from_bytes(file.read(8), "little")
    if not 2 <= length <= min(MAX_HEADER_BYTES, os.fstat(file.fileno()).st_size - 8):
        raise CheckpointError(f"{path}: not a safetensors file", hint="aecli train writes one")
    try:
        header = json.loads(file.read(length))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not a safetensors file", hint="aecli train writes one") from error
    if not isinstance(header, dict):
        raise CheckpointError(f"{path}: not a safetensors file, its header is no JSON object")
    return header, 8 + length


def _expected(header: Mapping[str, Any], checkpoint: Checkpoint) -> dict[str, tuple[str, tuple[tuple[int, ...], ...]]]:
    """Return the type of each tensor that the file has to hold, and the shapes that it may be of."""
    inputs = checkpoint.model.inputs
    expected: dict[str, tuple[str, tuple[tuple[int, ...], ...]]] = {
        name: ("F32", (shape,)) for name, shape in tensor_shapes(checkpoint.model).items()
    }
    expected |= dict.fromkeys(("scaler.shift", "scaler.scale"), ("F64", ((inputs,), (1,))))
    if "scaler.fill" in header or checkpoint.schema.missing == "mean":  # pixels may lack it, and what 0.1 wrote
        expected["scaler.fill"] = ("F64", ((inputs,),))
    if PRECISION in header:
        expected[PRECISION] = ("F32", ((inputs, inputs),))
    if (count := checkpoint.mixture) is not None:
        values = checkpoint.model.latent_dim
        shapes: Any = ((count,), (count, values), (count, values * (values + 1) // 2))
        expected |= {name: ("F32", (shape,)) for name, shape in zip(MIXTURE, shapes, strict=True)}
    if (score := checkpoint.score) is not None:
        latent = checkpoint.model.latent_dim
        both = inputs + latent
        shapes_of = {
            "code_scale": (latent,),
            "error_scale": (inputs,),
            "centre": (both,),
            "axes": (score.axes, both),
            "weights": (score.axes,),
            "rest": (1,),
            "codes": (score.codes, latent),
            "usual": (2, 2),
            "calibration": (score.calibration,),
            "mean": (inputs,),
            "spread": (inputs,),
            "low": (inputs,),
            "high": (inputs,),
        }
        types = {"codes": "F16"}
        expected |= {f"{SCORE}{name}": (types.get(name, "F32"), (shape,)) for name, shape in shapes_of.items()}
    if checkpoint.scaler == "quantile":
        expected["scaler.knots"] = ("F64", ((inputs, KNOTS),))
    return expected


def _check_tensors(path: Where, header: Mapping[str, Any], data_start: int, size: int, checkpoint: Checkpoint) -> None:
    """Check every tensor's name, type, shape and place in the file before anything is allocated."""
    expected = _expected(header, checkpoint)
    for name in sorted(header.keys() ^ expected.keys()):
        what = "is missing" if name in expected else "is not part of the model that it describes"
        raise CheckpointError(f"{path}: a damaged checkpoint: tensor {name} {what}")
    places: list[tuple[Any, int, str]] = []
    for name, (dtype, shapes) in expected.items():
        entry = header[name] if isinstance(header[name], dict) else {}
        shape = tuple(entry["shape"]) if isinstance(entry.get("shape"), list) else None
        if entry.get("dtype") != dtype or shape not in shapes or any(type(size) is not int for size in shape):
            raise CheckpointError(
                f"{path}: a damaged checkpoint: tensor {name} is {entry.get('dtype')} {shape}, "
                f"and {dtype} {shapes[0]} was expected"
            )
        places.append((entry.get("data_offsets"), math.prod(shape) * int(DTYPES[dtype][-1]), name))
    end = 0
    for offsets, taken, name in sorted(places, key=_offset):
        if offsets != [end, end + taken] or any(type(offset) is not int for offset in offsets):
            raise CheckpointError(f"{path}: a damaged checkpoint: tensor {name} is not at its place in the file")
        end += taken
    if size != data_start + end:
        raise CheckpointError(f"{path}: a damaged checkpoint: {data_start + end:,} bytes expected, {size:,} found")


def _offset(place: tuple[Any, int, str]) -> int:
    """Return where a tensor is said to start, -1 where that is no offset."""
    offsets = place[0]
    return offsets[0] if isinstance(offsets, list) and offsets and type(offsets[0]) is int else -1
