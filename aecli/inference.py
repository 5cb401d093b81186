"""A trained model at work: arrays in and out, or a source streamed through it batch by batch."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from aecli import checkpoint, device
from aecli.config import Schema
from aecli.data.source import Batch, Source, check_finite
from aecli.errors import DataError
from aecli.model import Autoencoder

Array = np.ndarray[Any, Any]
BATCH_VALUES = 1 << 22  # values of x in one batch: bounds the memory that wide rows take
MAX_BATCH_ROWS = 4096
MIN_BATCH_ROWS = 32  # kernels for very few rows round otherwise: fewer are padded


@dataclass(frozen=True, slots=True)
class Output:
    """What the model makes of a batch: `z` (N, K), `recon` (N, D) in raw units, `mse` (N,) in the model's units."""

    batch: Batch
    z: Array
    recon: Array | None = None
    mse: Array | None = None


class Model:
    """A trained autoencoder. Rows go in and come out in raw units, those of the data it was trained on."""

    def __init__(self, path: str | Path, *, device_name: str = "cpu") -> None:
        """Load a checkpoint.

        Raises CheckpointError where the file is none, AecliError where there is no such device.
        """
        self.path = Path(path)
        self.checkpoint, tensors, self.scaler = checkpoint.load(self.path)
        self._device = device.pick(device_name)
        self._net = Autoencoder(self.checkpoint.model)
        self._net.load_state_dict({name: torch.tensor(tensor) for name, tensor in tensors.items()})
        self._net.to(self._device).eval()
        inputs = self.checkpoint.model.inputs
        self._batch_rows = min(MAX_BATCH_ROWS, max(MIN_BATCH_ROWS, BATCH_VALUES // inputs))

    @property
    def schema(self) -> Schema:
        """What one row is."""
        return self.checkpoint.schema

    def embed(self, rows: Any) -> Array:
        """Give the latent rows, (N, K) float32, of rows (N, D), or of images (N, H, W) or (N, H, W, C).

        Raises DataError where the rows are of another width, or hold NaN or infinity.
        """
        return self._run(self._rows(rows), recon=False, mse=False).z

    def reconstruct(self, rows: Any) -> Array:
        """Give the rebuilt rows, float32 and in the shape of `rows`: (N, D), (N, H, W) or (N, H, W, C).

        Raises DataError where the rows are of another width, or hold NaN or infinity.
        """
        recon = self._run(self._rows(rows), recon=True, mse=False).recon
        assert recon is not None  # noqa: S101
        return recon.reshape(np.shape(rows))

    def errors(self, rows: Any) -> Array:
        """Give each row's mean squared reconstruction error (N,), in the model's units.

        Raises DataError where the rows are of another width, or hold NaN or infinity.
        """
        mse = self._run(self._rows(rows), recon=False, mse=True).mse
        assert mse is not None  # noqa: S101
        return mse

    def decode(self, z: Any) -> Array:
        """Give the rows (N, D), in raw units, that latent rows (N, K) stand for.

        Raises DataError where the latent rows are of another width.
        """
        latent = np.asarray(z, np.float32)
        if latent.ndim != 2 or latent.shape[1] != self.checkpoint.model.latent_dim:
            raise DataError(f"latent rows of shape {latent.shape}, and (N, {self.checkpoint.model.latent_dim}) expected")
        with torch.inference_mode():
            return self.scaler.inverse(self._net.decode(torch.tensor(latent, device=self._device)).cpu().numpy())

    def stream(self, source: Source, *, recon: bool = False, mse: bool = False) -> Iterator[Output]:
        """Yield what the model makes of each batch of a source, in input order; `recon` and `mse` only if asked for."""
        for batch in source.batches():
            yield self._run(batch, recon=recon, mse=mse)

    def _rows(self, rows: Any) -> Batch:
        x = np.asarray(rows)
        if x.ndim < 2 or x[0].size != self.schema.inputs:
            raise DataError(f"rows of shape {x.shape}, and (N, {self.schema.inputs}) was expected")
        x = x.reshape(len(x), -1)
        check_finite(x, "rows", self.schema, 0)
        return Batch(x)

    def _run(self, batch: Batch, *, recon: bool, mse: bool) -> Output:
        parts = [
            self._compute(batch.x[start : start + self._batch_rows], recon=recon, mse=mse)
            for start in range(0, len(batch.x), self._batch_rows)
        ]
        z, rebuilt, errors = (None if column[0] is None else np.concatenate(column) for column in zip(*parts, strict=True))
        assert z is not None  # noqa: S101
        return Output(batch, z, rebuilt, errors)

    def _compute(self, raw: Array, *, recon: bool, mse: bool) -> tuple[Array, Array | None, Array | None]:
        rows = len(raw)
        scaled = np.zeros((max(rows, MIN_BATCH_ROWS), raw.shape[1]), np.float32)
        scaled[:rows] = self.scaler.transform(raw)
        with torch.inference_mode():
            x = torch.from_numpy(scaled).to(self._device)  # (N, D)
            z = self._net.encode(x)  # (N, K)
            if not recon and not mse:
                return z[:rows].cpu().numpy(), None, None
            rebuilt = self._net.decode(z)  # (N, D)
            errors = (rebuilt - x).square().mean(dim=1)[:rows].cpu().numpy() if mse else None  # (N,)
            raw_units = self.scaler.inverse(rebuilt[:rows].cpu().numpy()) if recon else None
            return z[:rows].cpu().numpy(), raw_units, errors
