"""The built-in sets: scikit-learn's digits, and MNIST and its relatives through torchvision.

If a set's IDX files are in the data folder, they are read directly. torchvision is imported only to download.
"""

import contextlib
import gzip
import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aecli.data.formats import SPLITS
from aecli.data.idx import read_idx
from aecli.data.source import ArraySource
from aecli.errors import DataError

DIGITS_TRAIN_ROWS = 1437  # scikit-learn's own order: the writers of the last 360 images are different


@dataclass(frozen=True)
class TorchvisionSet:
    """A torchvision set: its class, the constructor's arguments by split, and the IDX files by split."""

    cls: str
    arguments: dict[str, dict[str, Any]]
    files: dict[str, tuple[str, str]]  # (images, labels)
    transposed: bool = False


def _mnist_like(cls: str) -> TorchvisionSet:
    return TorchvisionSet(
        cls,
        {"train": {"train": True}, "test": {"train": False}},
        {
            "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
            "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
        },
    )


TORCHVISION = {
    "mnist": _mnist_like("MNIST"),
    "fashion-mnist": _mnist_like("FashionMNIST"),
    "kmnist": _mnist_like("KMNIST"),
    "qmnist": TorchvisionSet(
        "QMNIST",
        {"train": {"what": "train"}, "test": {"what": "test"}},
        {split: (f"qmnist-{split}-images-idx3-ubyte", f"qmnist-{split}-labels-idx2-int") for split in SPLITS},
    ),
    "emnist": TorchvisionSet(
        "EMNIST",
        {"train": {"split": "balanced", "train": True}, "test": {"split": "balanced", "train": False}},
        {
            split: (f"emnist-balanced-{split}-images-idx3-ubyte", f"emnist-balanced-{split}-labels-idx1-ubyte")
            for split in SPLITS
        },
        transposed=True,
    ),
}


def open_builtin(name: str, split: str, data_dir: Path | None, announce: Callable[[str], None]) -> ArraySource:
    """Open the `split` ("train" or "test") of a built-in set, and download it into `data_dir` if it is missing.

    Without a `data_dir`, that is a folder in the user's cache.
    `announce` is called with one sentence before a download begins.
    Raises DataError if the set is not available, or its files are damaged.
    """
    title = f"{name}:{split}"
    if name == "digits":
        values = _digits()
        rows = slice(DIGITS_TRAIN_ROWS) if split == "train" else slice(DIGITS_TRAIN_ROWS, None)
        pixels, targets = values[rows, :64].astype(np.uint8), values[rows, 64]  # 0..16
        return ArraySource(title, pixels, targets, image_shape=(8, 8), full_scale=16.0, label="label")
    known = TORCHVISION[name]
    if data_dir is None:
        import platformdirs

        data_dir = platformdirs.user_cache_path("aecli")
    folder = data_dir / known.cls / "raw"
    wanted = known.files[split]
    if not all(_find(folder, file) for file in wanted):
        announce(f"downloading {name} into {folder}")
        _download(name, known, split, folder)
    images, targets = (read_idx(_found(folder, file)) for file in wanted)
    if images.ndim != 3 or len(images) != len(targets):
        raise DataError(
            f"{folder}: {title} needs one label per image, and its files have shapes {images.shape} and {targets.shape}"
        )
    if known.transposed:
        images = np.ascontiguousarray(images.transpose(0, 2, 1))
    targets = targets.reshape(len(targets), -1)[:, 0]  # QMNIST's labels have eight columns, the class first
    return ArraySource(title, images, targets, image_shape=images.shape[1:], full_scale=255.0, label="label")


def _digits() -> np.ndarray[Any, Any]:
    """Return scikit-learn's digits (1797, 65), the label last, from its own file: scikit-learn itself loads slowly."""
    found = importlib.util.find_spec("sklearn")
    for folder in (found and found.submodule_search_locations) or ():
        path = Path(folder, "datasets", "data", "digits.csv.gz")
        if path.is_file():
            text = gzip.decompress(path.read_bytes()).decode()
            return np.fromstring(text.strip().replace("\n", ","), np.int64, sep=",").reshape(-1, 65)
    from sklearn.datasets import load_digits

    images, targets = load_digits(return_X_y=True)
    return np.column_stack([images, targets]).astype(np.int64)


def _find(folder: Path, file: str) -> Path | None:
    """Return the path of the file, plain if there is one, else gzipped."""
    return next((path for path in (folder / file, folder / f"{file}.gz") if path.is_file()), None)


def _found(folder: Path, file: str) -> Path:
    if path := _find(folder, file):
        return path
    raise DataError(f"{folder}: {file} is missing, though the download reported no error")


def _download(name: str, known: TorchvisionSet, split: str, folder: Path) -> None:
    """Download a set through torchvision into a temporary folder beside `folder`, then move whole files into place."""
    import tempfile

    import torchvision

    dataset = getattr(torchvision.datasets, known.cls)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (
            tempfile.TemporaryDirectory(prefix=".download-", dir=folder.parent) as scratch,
            Path(os.devnull).open("w") as nowhere,
            contextlib.redirect_stdout(nowhere),  # torchvision prints progress
            contextlib.redirect_stderr(nowhere),
        ):
            dataset(scratch, download=True, **known.arguments[split])
            for path in (Path(scratch) / known.cls / "raw").iterdir():
                if path.is_file():
                    path.replace(folder / path.name)
    except (OSError, RuntimeError, ValueError, EOFError) as error:
        reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        raise DataError(
            f"{name} is not in {folder}, and could not be downloaded ({reason})",
            hint=f"connect to the network, name another folder with --data-dir, or put {known.files[split][0]}.gz and "
            f"{known.files[split][1]}.gz there yourself",
        ) from error
