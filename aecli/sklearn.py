"""The autoencoder as a scikit-learn transformer, for pipelines and grid searches: see `Autoencoder`."""

from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_array, check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from aecli.inference import Model
from aecli.training.fit import fit

Array = np.ndarray[Any, Any]
OPTIONS = (
    "latent_dim",
    "recipe",
    "hidden_dims",
    "bottleneck",
    "active",
    "nested",
    "activation",
    "scale",
    "missing",
    "loss",
    "beta",
    "noise",
    "epochs",
    "batch_size",
    "lr",
    "optimizer",
    "patience",
    "device",
)


class Autoencoder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """An autoencoder for rows of numbers X (N, D). `transform` returns their codes (N, K).

        codes = Autoencoder(latent_dim=3).fit_transform(X)

    The parameters are the options of `aecli train` and the keywords of `aecli.fit`; None leaves a choice to the same
    rules. No rows are held out, because `score` and cross-validation judge the model. `random_state` is the seed; None
    means 0. With `missing="mean"` NaN is an empty cell, as in `aecli train --missing mean`; without it NaN is an error.
    After `fit`, `model_` is the `aecli.Model`. `model_.save("model.safetensors")` writes a checkpoint for the commands,
    with the names of the columns if X was a data frame.
    """

    def __init__(
        self,
        latent_dim: int | None = None,
        *,
        recipe: str | None = None,
        hidden_dims: tuple[int, ...] | None = None,
        bottleneck: str | None = None,
        active: int | None = None,
        nested: bool = False,
        activation: str | None = None,
        scale: str | None = None,
        missing: str | None = None,
        loss: str | None = None,
        beta: float | None = None,
        noise: float | None = None,
        epochs: int | None = None,
        batch_size: int | None = None,
        lr: float | None = None,
        optimizer: str | None = None,
        patience: int | None = None,
        device: str = "auto",
        random_state: Any = None,
    ) -> None:
        self.latent_dim = latent_dim
        self.recipe = recipe
        self.hidden_dims = hidden_dims
        self.bottleneck = bottleneck
        self.active = active
        self.nested = nested
        self.activation = activation
        self.scale = scale
        self.missing = missing
        self.loss = loss
        self.beta = beta
        self.noise = noise
        self.epochs = epochs
        self.batch_size = batch_size
        self.lr = lr
        self.optimizer = optimizer
        self.patience = patience
        self.device = device
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> Self:  # noqa: N803, ARG002
        """Train on rows X (N, D); y is ignored.

        Raises ValueError if X is not an array of numbers, AecliError as `aecli.fit` does.
        """
        x = self._validated(X, ensure_min_samples=2, ensure_min_features=2)
        seed = 0 if self.random_state is None else self.random_state
        if not isinstance(seed, int | np.integer):
            seed = check_random_state(seed).randint(2**31 - 1)
        options = {name: getattr(self, name) for name in OPTIONS}
        rows: Any = x
        if hasattr(self, "feature_names_in_"):
            import pyarrow as pa

            names = self.feature_names_in_.tolist()
            rows, options["features"] = pa.table(dict(zip(names, x.T, strict=True))), names
        self.model_: Model = fit(rows, seed=int(seed), holdout=0, **options)
        return self

    def transform(self, X: Any) -> Any:  # noqa: N803
        """Return the codes (N, K), float32, of rows X (N, D)."""
        return self._model.embed(self._validated(X, reset=False))

    def inverse_transform(self, Z: Any) -> Array:  # noqa: N803
        """Return the rows (N, D) decoded from codes Z (N, K), in the units of X."""
        found: Array = self._model.decode(check_array(Z, dtype=np.float32))
        return found

    def score_samples(self, X: Any) -> Array:  # noqa: N803
        """Return how normal each row is (N,), the negative score of `aecli score`: higher is more normal.

        Raises DataError if the model was trained on fewer than 10 rows.
        """
        found: Array = -self._model.score(self._validated(X, reset=False))
        return found

    def score(self, X: Any, y: Any = None) -> float:  # noqa: N803, ARG002
        """Return the negative mean squared reconstruction error of rows, in the model's units: higher is better."""
        return -float(np.mean(self._model.errors(self._validated(X, reset=False))))

    @property
    def _model(self) -> Model:
        check_is_fitted(self)
        return self.model_

    @property
    def _n_features_out(self) -> int:
        return self.model_.checkpoint.model.latent_dim

    def _validated(self, x: Any, **checks: Any) -> Array:
        finite = "allow-nan" if self.missing is not None else True
        found: Array = validate_data(self, x, dtype=(np.float64, np.float32), ensure_all_finite=finite, **checks)
        return found

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self.missing is not None
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags
