"""Training rows as shuffled batches on a device, and the shifts of images."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aecli.data.part import BLOCK_BYTES, Part
from aecli.model.scaler import FULL_SCALE, Scaler

Array = np.ndarray[Any, Any]
# The values of x in a batch without gradients. They fit in a CPU's cache, together with the outputs of the layers.
CACHED_VALUES, MAX_VALUES = 1 << 17, 1 << 20
FEW_ROWS = 64  # with fewer rows per batch the weights would be read too often
SMALL = (np.uint8, np.float16)  # no value of these types is too large for a scaler
WINDOW_BYTES = 1 << 26  # of a mapped file, for rows that are shuffled together


class Rows:
    """Training rows as batches in the model's units, float32 (B, E), on a device.

    Values of a SMALL type, of 8 or 16 bits, keep it until they are scaled. The rows of an array in memory are on the
    device. The rows of a mapped file are read one window of random blocks at a time, and shuffled within the window.
    Holes are NaN until `filled`. `holes` is False if there are none; if it is not given, the rows are checked.
    """

    def __init__(self, part: Part, scaler: Scaler, device: torch.device, *, holes: bool | None = None) -> None:
        self.part, self.scaler, self.device = part, scaler, device
        self.inputs = scaler.inputs
        least = CACHED_VALUES if device.type == "cpu" else MAX_VALUES
        self._values = min(MAX_VALUES, max(least, FEW_ROWS * self.inputs))
        quick = part.x.dtype == np.uint8 and scaler.kind == FULL_SCALE and not scaler.shift.any()
        self._divisor = float(scaler.scale[0]) if quick else None
        self._affine: tuple[Tensor, Tensor] | None = None
        if (
            not quick and part.x.dtype in SMALL and scaler.knots is None and device.type != "mps"
        ):  # which has no float64
            self._affine = torch.from_numpy(scaler.shift).to(device), torch.from_numpy(scaler.scale).to(device)
        self.resident = self._tensor(part.x[:]).to(device) if part.blocks is None else None
        if holes is None:
            holes = part.x.dtype.kind == "f" and (self.resident is None or bool(self.resident.isnan().any()))
        self.holes = holes
        self._filling = (
            torch.from_numpy(scaler.filling).to(device) if self.holes and scaler.filling is not None else None
        )

    def __len__(self) -> int:
        return len(self.part)

    def mean(self) -> Tensor:
        """Return the mean row, float32, (E,)."""
        batches = (self.filled(batch)[0] for batch in self.batches())
        total = sum((batch.sum(0, dtype=torch.float64) for batch in batches), torch.zeros(()))
        return (total / len(self)).float()

    def sample(self, count: int, rng: np.random.Generator) -> Tensor:
        """Return `count` random rows, or all if there are fewer, in the model's units, with their holes filled."""
        return self.filled(self.scaled(self._tensor(self.part.sample(count, rng)).to(self.device)))[0]

    def batches(self) -> Iterator[Tensor]:
        """Yield all rows in order, in the model's units."""
        if self.resident is not None:
            yield from map(self.scaled, torch.split(self.resident, max(1, self._values // self.inputs)))
        else:
            yield from (self.scaled(self._tensor(x).to(self.device)) for x in self.part.chunks(self._values))

    def shuffled(self, batch_size: int, seed: int) -> Iterator[Tensor]:
        """Yield whole batches of rows, unscaled, each row at most once, in an order that the seed decides."""
        if self.resident is not None:
            generator = torch.Generator(self.device).manual_seed(seed)
            order = torch.randperm(len(self), generator=generator, device=self.device)
            for i in range(len(self) // batch_size):
                yield self.resident.index_select(0, order[i * batch_size : (i + 1) * batch_size])
            return
        rest = None
        for window in self.windows(seed):
            rows = window if rest is None else torch.cat([rest, window])
            whole = len(rows) // batch_size * batch_size
            yield from torch.split(rows[:whole].to(self.device), batch_size) if whole else ()
            rest = rows[whole:]

    def scaled(self, batch: Tensor, columns: Tensor | None = None, *, out: Tensor | None = None) -> Tensor:
        """Return a batch in the model's units, from the values at `columns` (E,); in `out` if it is scaled."""
        if columns is not None:
            batch = batch.index_select(1, columns)
        if self._affine is not None:  # exactly the scaler's result
            limit = self.scaler.farthest
            made = ((batch.double() - self._affine[0]) / self._affine[1]).float().clamp_(-limit, limit)
            return made if out is None else out.copy_(made)
        if self._divisor is None:
            return batch
        return (batch.float() if out is None else out.copy_(batch)).div_(self._divisor)

    def filled(self, batch: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return a scaled batch with its holes filled, and which of its values (B, E) are present; None if all are."""
        if not self.holes:
            return batch, None
        there = ~batch.isnan()
        return self.hidden(batch, ~there), there

    def hidden(self, batch: Tensor, hide: Tensor) -> Tensor:
        """Return a scaled batch with the values (B, E) to `hide` replaced as holes are."""
        return batch if self._filling is None else torch.where(hide, self._filling, batch)

    def windows(self, seed: int) -> Iterator[Tensor]:
        """Yield all rows, unscaled. The rows of a mapped file come in windows, in an order that the seed decides."""
        if self.resident is not None:
            yield self.resident
            return
        rng, blocks = np.random.default_rng(seed), self.part.blocks
        assert blocks is not None  # noqa: S101, for the type checker: only mapped rows have windows
        order = blocks[rng.permutation(len(blocks))]
        most = max(1, WINDOW_BYTES // BLOCK_BYTES)
        for together in np.array_split(
            order, -(-len(order) // most)
        ):  # equal windows, because one of a single row has no pairs
            x = self.part.gather(together)
            yield self._tensor(x[rng.permutation(len(x))])

    def _tensor(self, x: Array) -> Tensor:
        as_they_are = self._divisor is not None or self._affine is not None
        values = x if as_they_are else self.scaler.transform(x, training=True)
        if not values.flags.writeable:  # a tensor that shares its memory could be written to
            values = values.copy()
        return torch.from_numpy(values)


def shifts(image_shape: tuple[int, ...], pixels: int) -> Tensor:
    """Return the source index of each value in the shifted image, for all S shifts by up to `pixels`: (S, D).

    New pixels at an edge repeat the edge.
    """
    height, width, channels = (*image_shape, 1)[:3]
    values = torch.arange(height * width * channels).reshape(height, width, channels)
    steps = range(-pixels, pixels + 1)
    down, right = ([(torch.arange(size) + step).clamp(0, size - 1) for step in steps] for size in (height, width))
    return torch.stack([values[rows][:, columns].flatten() for rows in down for columns in right])
