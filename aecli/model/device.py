"""The device that torch computes on, and its precision."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from aecli.errors import AecliError, TrainingError

FEW_MULTIPLICATIONS = 1 << 24  # per step; up to here, two threads are no faster than one


def pick(name: str) -> torch.device:
    """Return the device that `name` (auto, cpu, cuda, cuda:N, mps) means; auto means CUDA if PyTorch finds it.

    Raises AecliError if there is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        found = torch.cuda.device_count()
        raise AecliError(
            f"--device {name}: PyTorch {torch.__version__} finds {found or 'no'} CUDA device{'s' if found > 1 else ''}",
            hint="--device auto uses a GPU if there is one; nvidia-smi says whether the driver runs",
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise AecliError(
            f"--device mps: PyTorch {torch.__version__} finds no Apple GPU",
            hint="--device auto uses a GPU if there is one",
        )
    return device


def describe(device: torch.device) -> str:
    """Return the maker's name of the device: "NVIDIA H200", "CPU, 2 threads"."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "cpu":
        threads = torch.get_num_threads()
        return f"CPU, {threads} thread{'s' if threads > 1 else ''}"
    return "Apple GPU (mps)"


@contextmanager
def threads_for(device: torch.device, multiplications: float) -> Iterator[None]:
    """Use one thread inside the block, if a step has so few multiplications that more threads save no time.

    Threads wait for one another at each product. On a machine that also does other work, that takes ten times as long.
    """
    before = torch.get_num_threads()
    if device.type != "cpu" or before == 1 or multiplications > FEW_MULTIPLICATIONS:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def memory_for(device: torch.device, what: str) -> Iterator[None]:
    """Raise TrainingError, which names `what` is in memory, where the device's is too little for what is inside."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise TrainingError(
            f"{describe(device)} has too little memory for {what}",
            hint="lower --batch-size, or train with --device cpu",
        ) from error


def has_bf16(device: torch.device) -> bool:
    """Return whether the device multiplies bf16 matrices in hardware: emulation is far slower than fp32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        found = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
        return bool(found.get("avx512_bf16") or found.get("amx_bf16") or found.get("bf16"))
    return False
