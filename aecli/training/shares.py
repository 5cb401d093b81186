"""Training with several processes: rank 0 reads the data, makes every choice and distributes the rows.

The others `follow` it: each gets its share of the rows and trains. At the end rank 0 alone evaluates and saves.
"""

import platform
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from aecli.config import ModelConfig, TrainConfig
from aecli.data.gather import MEMORY_BYTES, NO_ROOM
from aecli.data.part import FileRows, Part
from aecli.errors import AecliError, DataError
from aecli.model import device as devices
from aecli.model.module import Autoencoder
from aecli.model.scaler import Scaler
from aecli.training import loop
from aecli.training.group import Group
from aecli.training.rows import Rows

Array = np.ndarray[Any, Any]
SENT_BYTES = 1 << 26  # at a time


@dataclass(frozen=True)
class Work:
    """Everything that a process needs to train with others, except its rows and the state to resume from.

    `device` is the kind of device of all processes. `weights` are the initial weights; `holes` is True if the rows of
    any process have holes, `finish` with --finish.
    """

    device: str
    model: ModelConfig
    config: TrainConfig
    scaler: Scaler
    image_shape: tuple[int, ...] | None
    weights: dict[str, Array]
    holes: bool
    finish: bool


@dataclass(frozen=True)
class Posted:
    """How rows (N, D) are sent: `counts` rows to each process, at most `step` at a time."""

    dtype: np.dtype[Any]
    width: int
    counts: tuple[int, ...]
    step: int


def dealt(group: Group, work: Work, parts: list[Part | None], where: torch.device) -> loop.Trainer:
    """Return the trainer of rank 0, and distribute the training, validation and held-out rows to all processes."""
    group.send(work)
    own = [_deal(group, part, work.config.seed, work.config.batch_size) for part in parts]
    return _trainer(group, work, own, where)


def begin(group: Group, trainer: loop.Trainer) -> None:
    """Send the others the state from which the run starts. They no longer wait for instructions."""
    if group.awaits:
        group.send(trainer.state())
        group.awaits = False


def follow(group: Group, device: str, scratch: Path | None) -> None:
    """Train as rank 0 instructs, to the end. Rows that do not fit in memory are kept in an unnamed file in `scratch`.

    Raises PeerError if another process has ended, AecliError if this one has another kind of device than the first,
    DataError if the rows cannot be read or kept here, and the errors of training that `fit` raises.
    """
    where, work = devices.pick(device), group.receive()
    if work is None:
        return
    if where.type != work.device:
        raise AecliError(
            f"{platform.node()} trains on {where.type}, and the first process on {work.device}",
            hint="--device cpu trains on CPUs alone",
        )
    with (
        devices.threads_for(where, loop.multiplications(work.model, work.config)),
        devices.memory_for(where, f"batches of {work.config.batch_size:,}"),
    ):
        made = _trainer(group, work, [_take(group, scratch) for _ in range(3)], where)
        if (state := group.receive()) is None:
            return
        made.restore(*state)
        if work.finish:
            made.end()
        else:
            made.run(lambda _: None)


def _trainer(group: Group, work: Work, parts: list[Part | None], where: torch.device) -> loop.Trainer:
    training, validation, held_out = (
        None if part is None else Rows(part, work.scaler, where, holes=work.holes or None) for part in parts
    )
    assert training is not None  # noqa: S101, for the type checker
    model = Autoencoder(work.model)
    model.load_state_dict({name: torch.tensor(weights) for name, weights in work.weights.items()})
    model.to(where)
    return loop.Trainer(model, work.config, training, validation, held_out, work.image_shape, group)


def _deal(group: Group, part: Part | None, seed: int, batch_size: int) -> Part | None:
    """Distribute rows at random, and return those of rank 0. Each process reads a file with a name itself.

    A process's share of the rows is as large as its share of a batch.
    """
    if part is None:
        group.send(None)
        return None
    blocks = np.arange(len(part)) if part.blocks is None else part.blocks
    order = np.random.default_rng((seed, group.count)).permutation(len(blocks))
    owner = np.arange(len(blocks)) % min(batch_size, max(1, len(part))) % group.count
    shares = [blocks[np.sort(order[owner == rank])] for rank in range(group.count)]
    if isinstance(part.x, FileRows) and part.blocks is not None and part.x.path is not None:
        group.send((part.x, shares))
        return Part(part.x, shares[0])
    width, row_bytes = part.x.shape[1], part.x.shape[1] * part.x.itemsize
    size = 1 if part.blocks is None else part.block_rows
    step = max(1, SENT_BYTES // (row_bytes * size))  # rows, or blocks
    counts = tuple(len(each) if part.blocks is None else len(Part(part.x, each)) for each in shares)
    group.send(Posted(part.x.dtype, width, counts, step * size))
    x = part.x[:] if part.blocks is None else None
    for rank, places in enumerate(shares[1:], 1):
        for start in range(0, len(places), step):
            some = places[start : start + step]
            group.post(np.ascontiguousarray(part.gather(some) if x is None else x[some]), rank)
    return Part(part.x, shares[0]) if x is None else Part(x[shares[0]])


def _take(group: Group, scratch: Path | None) -> Part | None:
    """Return the rows of this process. Raises DataError if they cannot be read or kept on this machine."""
    dealt = group.receive()
    if dealt is None:
        return None
    if not isinstance(dealt, Posted):
        file, blocks = dealt
        return Part(file, blocks[group.rank])
    count = dealt.counts[group.rank]
    received = _received(group, dealt, count)
    if count * dealt.width * dealt.dtype.itemsize <= MEMORY_BYTES:
        return Part(np.concatenate([np.empty((0, dealt.width), dealt.dtype), *received]))
    folder = scratch or Path(tempfile.gettempdir())
    try:
        unnamed: Any = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115, it is gone when nobody reads it any more
        for x in received:
            unnamed.write(x.data)
        unnamed.flush()
    except OSError as error:
        raise DataError(
            f"{folder} on {platform.node()}: no room for the rows of this process, too many for memory "
            f"({error.strerror})",
            hint=NO_ROOM,
        ) from error
    part = Part(FileRows("rows of this process", unnamed, 0, dealt.dtype, (count, dealt.width)))
    return Part(part.x, np.arange(-(-count // part.block_rows)))


def _received(group: Group, dealt: Posted, count: int) -> Iterator[Array]:
    for start in range(0, count, dealt.step):
        yield group.fetch(np.empty((min(dealt.step, count - start), dealt.width), dealt.dtype))
