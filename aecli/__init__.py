"""Train autoencoders and put them to work from the shell.

    model = aecli.load("digits.safetensors")
    z = model.embed(rows)            # (N, D) -> (N, K)
    recon = model.reconstruct(rows)  # (N, D) -> (N, D)

Importing the package loads nothing heavy; `load` imports NumPy, and torch for another device than the CPU.
"""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aecli.inference import Model

__all__ = ["__version__", "load"]
__version__ = "0.1.0"


def load(path: str | Path, *, device: str = "cpu") -> "Model":
    """Load a trained model from its checkpoint, onto a device (cpu, cuda, cuda:N, mps, or auto).

    Raises aecli.errors.CheckpointError where the file is no checkpoint that can be used.
    """
    from aecli.inference import Model

    return Model(path, device_name=device)
