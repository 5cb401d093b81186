"""The checkpoint: one safetensors file with the weights, the scaler, and everything needed to use them.

Its metadata has one key, `aecli`: sorted JSON, because several keys would be written in random order.
The header is read with only the standard library.
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

FORMAT = 2  # until version 1.0, fields with a default may be added
MAX_HEADER_BYTES = 100_000_000  # the format's own limit
SCALERS = ("full-scale", "standard", "minmax", "robust", "quantile", "common", "none")
PRECISION = "holes.precision"  # see model/holes.py
MIXTURE = ("mixture.weights", "mixture.means", "mixture.factors")  # see model/mixture.py
SCORE = "score."  # the prefix of the tensors that scoring.py fits
DEFAULT_ALPHA = 0.01
KNOTS = 256  # knots per column in scaler.knots
DTYPES = {"F16": "<f2", "F32": "<f4", "F64": "<f8"}


@dataclass(frozen=True)
class Origin(Config):
    """The identity of a run's rows, and the unit in which some of them were held out.

    `rows` is the digest of all rows before the held-out ones were split off, `test` the digest of the rows given as
    held-out rows, None if there were none: see data/digest.py. Rows were split off in blocks of `block` rows, 1 if all
    rows were in memory.
    """

    rows: str
    test: str | None = None
    block: int = 1


@dataclass(frozen=True)
class Scoring(Config):
    """The sizes of what a checkpoint stores for scoring: `axes`, `codes` of training rows, and `calibration` scores.

    See scoring.py. The codes can be decoded to rows that resemble training rows.
    """

    axes: int
    codes: int
    calibration: int

    def __post_init__(self) -> None:
        """Raise ValueError for sizes that no score can have."""
        if min(self.axes, self.codes, self.calibration) < 0 or not (self.axes and self.calibration):
            raise ValueError("a score has no axes or no calibration rows")

    @property
    def least_p(self) -> float:
        """The smallest p that a row can have: 1/(n + 1) for n calibration rows."""
        return 1 / (self.calibration + 1)

    @property
    def alpha(self) -> float:
        """The default p at or below which a row is an anomaly: 0.01, or the smallest possible p if that is larger."""
        return max(DEFAULT_ALPHA, self.least_p)


def smallest(p: float) -> str:
    """Write a p above 0 with at most three digits, rounded up, so that it is not below the model's smallest p."""
    scale = 10.0 ** (2 - math.floor(math.log10(p)))
    return f"{math.ceil(p * scale) / scale:g}"


@dataclass(frozen=True)
class Checkpoint:
    """The metadata of a checkpoint. `data` is the built-in set that the model was trained on, None for other data.

    `format` is the version of the file format. `source` is the name of the data without its folder. Runs with equal
    data and options have equal fingerprints, SHA-256 in hexadecimal; a run that was ended early has none. `origin` is
    None in files of older versions. `mixture` is the number of Gaussians fitted to the training codes, and `score` the
    sizes of what scores rows; each is None if it was not fitted, as in files of older versions.
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
        """Return the metadata as plain JSON values; `compact` leaves out fields with their default value."""
        fields = [field for field in dataclasses.fields(self) if field.name != "format"]
        values: dict[str, Any] = {"format": self.format}
        values |= {f.name: v for f in fields if (v := getattr(self, f.name)) != f.default or not compact}
        return {
            name: value.to_json(compact=compact) if isinstance(value, Config) else value
            for name, value in values.items()
        }

    @classmethod
    def from_json(cls, value: Any) -> "Checkpoint":
        """Read what `to_json` of this or an older version returned.

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
    """Return the metadata of aecli 0.1 in format 2, which describes columns one by one.

    Raises ValueError if it is not what 0.1 wrote.
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
    """Write the checkpoint atomically: a reader finds either the old file or the new one, complete.

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
    """Read a checkpoint's metadata from its header; the tensors' names and shapes are checked, not their values.

    Raises CheckpointError if the file is missing, not a checkpoint, damaged, or of a newer format.
    """
    with opened(path) as file:
        return _read(path, file)[0]


def _read(path: Where, file: BinaryIO) -> tuple[Checkpoint, dict[str, Any], int]:
    """Read and check the header of an open file: its metadata, its tensors, and the byte where data starts."""
    header, data_start = read_header(path, file)
    said = header.pop("__metadata__", {})
    try:
        metadata = json.loads(said["aecli"])
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        if isinstance(said, dict) and "aecli-resume" in said:
            raise CheckpointError(
                f"{path}: a saved run, not yet a checkpoint", hint=shlex.join(["aecli", "info", str(path)])
            ) from error
        raise CheckpointError(
            f"{path}: a safetensors file, but not an aecli checkpoint: its metadata has no readable key 'aecli'"
        ) from error
    found = metadata.get("format") if isinstance(metadata, dict) else None
    if isinstance(found, int) and found > FORMAT:
        raise CheckpointError(
            f"{path}: written in checkpoint format {found}, and this version of aecli reads up to format {FORMAT}",
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
    """Read a whole checkpoint: its metadata, the model's state dict as float32 arrays, and its scaler.

    Raises CheckpointError as `read` does, and if a weight is not a finite number.
    """
    import numpy as np

    from aecli.model.scaler import Scaler

    tensors = {}
    with opened(path) as file:  # opened only once: another file may get its name at any moment
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
        raise CheckpointError(f"{path}: a damaged checkpoint: {MIXTURE[0]} are not positive shares")
    shift, scale, fill = tensors.pop("scaler.shift"), tensors.pop("scaler.scale"), tensors.pop("scaler.fill", None)
    scaler = Scaler(checkpoint.scaler, shift, scale, fill, checkpoint.schema, knots)
    return checkpoint, tensors, scaler


def weights(tensors: "Mapping[str, np.ndarray[Any, Any]]") -> "dict[str, np.ndarray[Any, Any]]":
    """Return the network's state dict, out of all tensors of a model."""
    others = (PRECISION, *MIXTURE)
    return {name: tensor for name, tensor in tensors.items() if name not in others and not name.startswith(SCORE)}


def is_checkpoint(path: Where) -> bool:
    """Return whether the file is a safetensors file with aecli's metadata, of any format version."""
    try:
        with opened(path) as file:
            metadata = read_header(path, file)[0].get("__metadata__")
            return isinstance(metadata, dict) and "aecli" in metadata
    except CheckpointError:
        return False


@contextlib.contextmanager
def opened(path: Where) -> Iterator[BinaryIO]:
    """Open a file for reading, or a copy of a remote file. Raises CheckpointError if that fails."""
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
    """Return a safetensors header (8 bytes of length, little-endian, then JSON), and the byte where data starts."""
    length = int.from_bytes(file.read(8), "little")
    if not 2 <= length <= min(MAX_HEADER_BYTES, os.fstat(file.fileno()).st_size - 8):
        raise CheckpointError(f"{path}: not a safetensors file", hint="aecli train writes one")
    try:
        header = json.loads(file.read(length))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not a safetensors file", hint="aecli train writes one") from error
    if not isinstance(header, dict):
        raise CheckpointError(f"{path}: not a safetensors file: its header is not a JSON object")
    return header, 8 + length


def _expected(header: Mapping[str, Any], checkpoint: Checkpoint) -> dict[str, tuple[str, tuple[tuple[int, ...], ...]]]:
    """Return the type of each tensor that the file must hold, and its possible shapes."""
    inputs = checkpoint.model.inputs
    expected: dict[str, tuple[str, tuple[tuple[int, ...], ...]]] = {
        name: ("F32", (shape,)) for name, shape in tensor_shapes(checkpoint.model).items()
    }
    expected |= dict.fromkeys(("scaler.shift", "scaler.scale"), ("F64", ((inputs,), (1,))))
    if "scaler.fill" in header or checkpoint.schema.missing == "mean":  # pixels and files of version 0.1 may lack it
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
    """Check every tensor's name, type, shape and place in the file before memory is allocated."""
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
    """Return the offset where a tensor starts, -1 if that is not a valid offset."""
    offsets = place[0]
    return offsets[0] if isinstance(offsets, list) and offsets and type(offsets[0]) is int else -1
