"""The processes that train one model together, and their communication.

`torchrun` starts them. All hold the same weights, and each has its own share of the rows. Each computes the gradients
of its share of a batch, the gradients are summed over all processes, and all take the same step.
Source: Li et al. 2020, arXiv:2006.15704, for gradients that are summed in one flat buffer.
"""

import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aecli.errors import AecliError, PeerError, UsageError
from aecli.model import device as devices

Array = np.ndarray[Any, Any]
JOINING = timedelta(minutes=10)  # to find one another: torchrun starts all at once
PATIENCE = timedelta(days=7)  # the others wait for rank 0 to read the data; if a process is lost, the wait ends
FAILED = "failed"  # a key in the store that all processes share


class Group:
    """The `count` processes that train together; this one has the `rank`. A single process sends nothing.

    All methods that send or receive raise PeerError if another process has ended.
    """

    def __init__(self, rank: int = 0, count: int = 1, store: Any = None) -> None:
        self.rank, self.count = rank, count
        self.awaits = count > 1  # whether the others wait for instructions from rank 0
        self._store = store

    @property
    def is_alone(self) -> bool:
        """Whether this process trains alone."""
        return self.count == 1

    def shares(self, batch_size: int) -> list[int]:
        """Return how many rows of a batch each process gets."""
        return [batch_size // self.count + (rank < batch_size % self.count) for rank in range(self.count)]

    def sum_(self, x: Tensor) -> Tensor:
        """Replace a tensor's values by their sums over all processes, and return it."""
        return self._reduced(x, "SUM")

    def least_(self, x: Tensor) -> Tensor:
        """Replace a tensor's values by their minima over all processes, and return it."""
        return self._reduced(x, "MIN")

    def gathered(self, x: Tensor, counts: Sequence[int]) -> Tensor:
        """Return the rows (B, ...) of all processes, ordered by rank. `counts` are their numbers of rows."""
        padded = x.new_zeros(max(counts), *x.shape[1:])
        padded[: len(x)] = x
        found = [torch.empty_like(padded) for _ in counts]
        with _peers():
            torch.distributed.all_gather(found, padded)
        return torch.cat([rows[:count] for rows, count in zip(found, counts, strict=True)])

    def send(self, what: object) -> None:
        """Send an object to all other processes, which call `receive`."""
        if not self.is_alone:
            self._broadcast(what)

    def receive(self) -> Any:
        """Return the object that rank 0 sends."""
        return self._broadcast(None)

    def post(self, x: Array, rank: int) -> None:
        """Send an array to one process, which calls `fetch` with an array of the same shape and type."""
        with _peers():
            torch.distributed.send(_bytes(x), rank)

    def fetch(self, x: Array) -> Array:
        """Fill an array with the one that rank 0 posts, and return it."""
        with _peers():
            torch.distributed.recv(_bytes(x), 0)
        return x

    def is_first_to_fail(self) -> bool:
        """Record that this process fails, and return whether it is the first to fail. The first one reports why."""
        return bool(self._store.add(FAILED, 1) == 1)

    def _reduced(self, x: Tensor, how: str) -> Tensor:
        if not self.is_alone:
            with _peers():
                torch.distributed.all_reduce(x, getattr(torch.distributed.ReduceOp, how))
        return x

    def _broadcast(self, what: object) -> Any:
        held = [what]
        with _peers():
            torch.distributed.broadcast_object_list(held, src=0, device=torch.device("cpu"))
        return held[0]


ALONE = Group()


def device_of(local_rank: int, device: str) -> str:
    """Return the device of a process, given the `device` of `fit`: each process on a machine gets its own GPU.

    Raises AecliError if there is no GPU for it.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise UsageError(
            f"--device {device} is one device, and torchrun starts several processes",
            hint="--device cuda gives each process a GPU, --device cpu none",
        )
    if device != "cpu" and (found := torch.cuda.device_count()):
        if local_rank >= found:
            raise AecliError(
                f"torchrun started more than {found} process{'es' * (found > 1)} on {platform.node()}, and PyTorch "
                f"finds {found} CUDA device{'s' * (found > 1)} there",
                hint=f"torchrun --nproc-per-node {found}, or --device cpu",
            )
        torch.cuda.set_device(local_rank)
        device = f"cuda:{local_rank}"
    devices.pick(device)
    return device


@contextmanager
def joined(rank: int, count: int, device: str) -> Iterator[Group]:
    """Join the `count` processes that `torchrun` started, and yield their group. This process has the `rank`.

    `device` is as for `fit`. Raises AecliError if the others cannot be reached.
    """
    from torch import distributed
    from torch.distributed.rendezvous import rendezvous

    try:
        store, *_ = next(iter(rendezvous("env://", rank, count, timeout=JOINING)))
        backend = "cpu:gloo,cuda:nccl" if device != "cpu" and torch.cuda.is_available() else "gloo"
        distributed.init_process_group(backend, store=store, rank=rank, world_size=count, timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise AecliError(f"the other processes of this run cannot be reached: {error}") from error
    group = Group(rank, count, store)
    yield group  # not in a `finally`: after an error, the others notice when this process ends
    if rank == 0 and group.awaits:
        group.send(None)  # there is nothing to do for the others
    distributed.destroy_process_group()


@contextmanager
def _peers() -> Iterator[None]:
    """Turn PyTorch's error for a lost process into PeerError."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise PeerError("another process of this run has ended") from error


def _bytes(x: Array) -> Tensor:
    return torch.from_numpy(x.reshape(-1).view(np.uint8))
