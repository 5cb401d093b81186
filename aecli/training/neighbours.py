"""Training rows and their nearest neighbours in batches. A map keeps them together.

Shape letters: N rows, E inputs of the model, B rows per batch, k neighbours per row.
"""

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aecli.data.part import Part
from aecli.metrics import CHUNK_VALUES, PCA_MAX, Moments, Pca, scaled
from aecli.model.scaler import Scaler
from aecli.recipes import TOGETHER
from aecli.training.rows import Rows

Array = np.ndarray[Any, Any]
COMPONENTS = 50  # principal components for distances: the others are mostly noise, and take time
SAME_LENGTH = 1e-3  # lengths may differ by this share, because vectors may have been rounded to 16 bits
SAMPLE_VALUES, BLOCK_VALUES = 1 << 25, 1 << 22  # values in a sample, and in rows prepared together: bounds memory
QUERIES, GROUP = 512, 64  # rows at a time; the k nearest are in the k groups with the best nearest rows


class Pairs:
    """Batches of training rows, each row with a random one of its nearest neighbours.

    The k neighbours of each row are searched among at most TOGETHER random rows; in a mapped file, again in each
    window. Rows are compared in the model's units, but vectors of one length without scaling, so that the angle between
    them decides. If rows have many values and no holes, their principal components are compared. `variance` is the sum
    of the values' variances.
    """

    def __init__(self, rows: Rows, neighbours: int, seed: int) -> None:
        self._rows, self._neighbours = rows, neighbours
        most = max(COMPONENTS, min(TOGETHER if rows.inputs <= PCA_MAX else PCA_MAX, SAMPLE_VALUES // rows.inputs))
        sample = Part(rows.part.sample(most, np.random.default_rng(seed)))
        self._holes = rows.scaler.holes(sample.x[:]) is not None
        moments = Moments(rows.inputs)
        for chunk in sample.chunks(CHUNK_VALUES):
            moments.add(scaled(chunk, rows.scaler))
        self.variance = float(moments.variance.sum())
        self._as_they_are = not self._holes and rows.scaler.schema.all_numbers and _of_one_length(sample.x[:])
        self._pca = None
        if not self._holes and rows.inputs > COMPONENTS:
            scaler = Scaler.fit("none", sample, rows.scaler.schema) if self._as_they_are else rows.scaler
            pca = Pca(sample, scaler, COMPONENTS)
            mean, basis = (torch.from_numpy(each.astype(np.float32)) for each in (pca.mean, pca.basis))
            self._pca = mean.to(rows.device), basis.to(rows.device)
        self._seed = seed
        self._on_search: Callable[[float], None] = lambda _: None

    @cached_property
    def graph(self) -> Tensor | None:
        """Each row's neighbours (N, k), as int32 to save memory; None for a mapped file."""
        rows = self._rows.resident
        return None if rows is None else self._nearest(rows, self._seed)

    def search(self, on_search: Callable[[float], None]) -> None:
        """Search for the neighbours of rows in memory, unless they are already found.

        If there are several groups of rows, `on_search` is called before each group with the share of the rows that is
        done; for a mapped file, in each window.
        """
        self._on_search = on_search
        _ = self.graph

    def shuffled(self, batch_size: int, seed: int) -> Iterator[Tensor]:
        """Yield batches (2 B, D), unscaled: B rows, each at most once per epoch, and a neighbour of each."""
        generator = torch.Generator(self._rows.device).manual_seed(seed)
        rest: Tensor | None = None
        for some in self._rows.windows(seed):
            window = some.to(self._rows.device)
            graph = self._nearest(window, seed) if self.graph is None else self.graph
            count, choice = graph.shape
            order = torch.randperm(count, generator=generator, device=graph.device)
            drawn = torch.randint(choice, (count,), generator=generator, device=graph.device)
            pairs = torch.stack([order, graph[order, drawn].long()])  # (2, M)
            if self.graph is not None:
                for start in range(0, count - batch_size + 1, batch_size):
                    yield window.index_select(0, pairs[:, start : start + batch_size].flatten())
                return
            both = window[pairs] if rest is None else torch.cat([rest, window[pairs]], dim=1)  # (2, M, D)
            end = both.shape[1] // batch_size * batch_size
            for start in range(0, end, batch_size):
                yield both[:, start : start + batch_size].flatten(0, 1)
            rest = both[:, end:]

    def _nearest(self, rows: Tensor, seed: int) -> Tensor:
        """Return the indices of each row's nearest neighbours (N, k) among unscaled rows (N, D)."""
        count = len(rows)
        generator = torch.Generator(rows.device).manual_seed(seed)
        order = torch.randperm(count, generator=generator, device=rows.device)
        together = torch.tensor_split(order, -(-count // TOGETHER))
        k = max(1, min(self._neighbours, min(map(len, together)) - 1))
        graph = torch.empty(count, k, dtype=torch.int32, device=rows.device)
        some = max(1, BLOCK_VALUES // self._rows.inputs)
        for done, chunk in enumerate(together):
            if len(together) > 1:
                self._on_search(done / len(together))
            blocks = [self._compared(rows.index_select(0, places)) for places in torch.split(chunk, some)]
            x = torch.cat([block for block, _ in blocks])
            there = torch.cat([known for _, known in blocks if known is not None]) if self._holes else None
            graph[chunk] = chunk[nearest(x, k, there)].int()
        return graph

    def _compared(self, unscaled: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return unscaled rows (N, D) in the form to compare, and which values are present, if rows have holes."""
        x, there = self._rows.filled(self._rows.scaled(unscaled))
        if self._as_they_are:
            x = torch.from_numpy(self._rows.scaler.inverse(x.cpu().numpy()).astype(np.float32)).to(x.device)
        if self._pca is not None:
            x = (x - self._pca[0]) @ self._pca[1]
        return x, there


def together(rows: int) -> float:
    """Return the average number of rows among which a row's neighbours are searched."""
    return rows / max(1, -(-rows // TOGETHER))


def _of_one_length(x: Array) -> bool:
    """Return whether rows (N, D) of floats are vectors of one length, such as text embeddings."""
    lengths = np.linalg.norm(x.astype(np.float64), axis=1) if x.dtype.kind == "f" else np.zeros(1)
    return bool(lengths.min() > 0 and np.ptp(lengths) <= SAME_LENGTH * lengths.max())


def nearest(x: Tensor, k: int, there: Tensor | None = None) -> Tensor:
    """Return the indices (N, k) of the k rows nearest to each row of x (N, E); for a single row, its own index.

    For rows with holes, the values that are `there` (N, E) in both rows are compared, and the distance is scaled up to
    all values. Rows that share no value are the farthest.
    """
    count = len(x)
    if count == 1:
        return torch.zeros(1, 1, dtype=torch.int64, device=x.device)
    groups = -(-count // GROUP)
    found = torch.empty(count, k, dtype=torch.int64, device=x.device)
    x = x - x.mean(0, dtype=torch.float64).float()  # products of large values would hide small distances
    length = x.square().sum(1)
    known = None if there is None else there.float()
    values = x if known is None else x * known
    for start in range(0, count, QUERIES):
        queries = values[start : start + QUERIES]
        near = torch.full((len(queries), groups * GROUP), -torch.inf, device=x.device)
        if known is None:
            torch.addmm(-length, queries, x.T, alpha=2, out=near[:, :count])
        else:
            of_queries = known[start : start + QUERIES]
            far = queries.square() @ known.T + of_queries @ values.square().T - 2 * (queries @ values.T)
            near[:, :count] = -far / (of_queries @ known.T)
        near[:, :count].nan_to_num_(nan=torch.finfo(near.dtype).min)  # still nearer than the row itself and the padding
        here = torch.arange(len(queries), device=x.device)
        near[here, start + here] = -torch.inf
        grouped = near.view(len(queries), groups, GROUP)
        best = grouped.amax(2).topk(min(k, groups), dim=1).indices  # (Q, g)
        inside = grouped.gather(1, best[:, :, None].expand(-1, -1, GROUP)).flatten(1).topk(k, dim=1).indices
        found[start : start + QUERIES] = best.gather(1, inside // GROUP) * GROUP + inside % GROUP
    return found
