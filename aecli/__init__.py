"""Train autoencoders and put them to work from the shell.

    model = aecli.fit("wine.csv", label="target", latent_dim=3)  # or an array, a data frame, "mnist"
    z = model.embed("wine.csv")                                  # (N, 3)
    model.save("wine.safetensors")

    model = aecli.load("digits.safetensors")
    z = model.embed(rows)            # (N, D) -> (N, K)
    recon = model.reconstruct(rows)  # (N, D) -> (N, D)
    same = model.decode(z)           # (N, K) -> (N, D)
    new = model.sample(20, seed=1)   # (20, D): decoded draws
    odd = model.anomalies(rows)      # {"score": (N,), "p": (N,), "anomaly": (N,)}
    found = model.evaluate(rows)     # found.model.mse, found.pca.mse, ...
    module = model.torch()           # a torch.nn.Module, raw units in and out

A data frame of pandas or polars gives a data frame. `aecli.sklearn.Autoencoder` is the scikit-learn estimator.

The command line uses only these. Importing the package loads nothing heavy; `load` imports NumPy, and torch for a
device other than the CPU; `fit` imports torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aecli.data.places import Where
    from aecli.evaluation import Evaluation as Evaluation
    from aecli.inference import Model as Model
    from aecli.training.fit import fit as fit

__all__ = ["Evaluation", "Model", "__version__", "fit", "load"]
__version__ = "1.0.0"
_HOMES = {"Evaluation": "aecli.evaluation", "Model": "aecli.inference", "fit": "aecli.training.fit"}


def load(path: "str | Where", *, device: str = "cpu") -> "Model":
    """Return a trained model from its checkpoint, on a device (cpu, cuda, cuda:N, mps, or auto).

    Raises aecli.errors.CheckpointError if the file is not a usable checkpoint.
    """
    from aecli.inference import Model

    return Model.load(path, device=device)


def __getattr__(name: str) -> Any:
    """Import `Evaluation`, `Model` or `fit` on first use."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
