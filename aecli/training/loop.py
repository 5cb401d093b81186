"""The training loop. It does not depend on images, files or the command line."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from aecli.config import FROM_MODEL, History, ModelConfig, TrainConfig, prefixes
from aecli.errors import DataError, TrainingError, UsageError
from aecli.model.module import Autoencoder
from aecli.recipes import VECTORS
from aecli.training import objectives, optim
from aecli.training.dictionary import Dictionary
from aecli.training.group import ALONE, Group
from aecli.training.neighbours import Pairs, together
from aecli.training.rows import Rows, shifts
from aecli.training.step import Backprop

Array = np.ndarray[Any, Any]
DIVERGED = "lower --lr, or check the data for extreme values"
REPORT_SECONDS = 0.2
HIDDEN = 0.7  # the largest share of a row's values to hide, if rows have holes; each row's share is random


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a run: `step` of `steps` in total, the losses so far, `epoch_done` at the end of each epoch.

    `lr` is the learning rate of the last step. `seconds` cover training only, in all sessions of the run.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    validation_loss: float | None
    test_loss: float | None
    lr: float
    seconds: float
    rows_per_second: float
    epoch_done: bool


class Trainer:
    """A training run. It trains a model in place, on the device of the model and the rows.

    `validation_rows` decide when to stop early and which weights are the best; `test_rows` are only reported on.
    If the processes of a `group` train together, the rows are this process's share, and a batch is split among the
    processes. Losses cover all processes, and all hold equal weights after each step. Random numbers depend on the step
    and the rank, so that the state of one process is enough to resume the run.
    """

    def __init__(
        self,
        model: Autoencoder,
        config: TrainConfig,
        rows: Rows,
        validation_rows: Rows | None = None,
        test_rows: Rows | None = None,
        image_shape: tuple[int, ...] | None = None,
        group: Group = ALONE,
    ) -> None:
        self.model = model
        self.config = config
        self.group = group
        self.rows, self.validation_rows, self.test_rows = rows, validation_rows, test_rows
        count = int(group.sum_(torch.tensor(len(rows))))
        self.batch_size = min(config.batch_size, count)
        if self.batch_size < group.count:
            raise UsageError(
                f"{group.count} processes cannot share a batch of {self.batch_size} row{'s' * (self.batch_size > 1)}",
                hint="raise --batch-size" if count >= group.count else "start fewer processes",
            )
        self._own = group.shares(self.batch_size)[group.rank]
        # The rows at the end of a permutation that fill no batch are left out; the next epoch has another order.
        self.steps_per_epoch = int(group.least_(torch.tensor(len(rows) // self._own)))
        if not self.steps_per_epoch:
            raise DataError(
                f"{count:,} rows are too few for batches of {self.batch_size:,} among {group.count} processes",
                hint="lower --batch-size, or start fewer processes",
            )
        self.steps = config.epochs * self.steps_per_epoch
        self.optimizer = optim.build(model.parameters(), config, group)
        self._pairs = self._found(config.neighbours, count) if config.neighbours else None
        self._variance = 0.0 if self._pairs is None else self._mean(self._pairs.variance)
        seen = self._own * (1 if self._pairs is None else 2)
        self._scaled = torch.empty(seen, rows.inputs, device=rows.device)  # unused if rows are already scaled
        self.generator = torch.Generator(rows.device).manual_seed(config.seed)
        self._dictionary = Dictionary(model, count, group) if model.config.is_dictionary else None
        self._backprop = Backprop(
            model,
            self.batch_size,
            loss=config.loss,
            bottleneck=self._bottleneck(),
            objective=self._objective(),
            pairs=self._pairs is not None,
            bf16=config.precision == "bf16",
            group=group,
        )
        self._flat = torch.empty(0 if group.is_alone else 1 + sum(g.numel() for g in self.optimizer.all_gradients))
        self._flat = self._flat.to(rows.device)
        self.losses = torch.zeros(self.steps_per_epoch, device=rows.device)
        self.history = History()
        self.step_in_epoch = 0
        self._left_out = 0  # steps left out of an epoch that was ended early
        self.seconds = 0.0  # of training only
        self._shifts = (
            shifts(image_shape, config.augment_shift).to(rows.device) if image_shape and config.augment_shift else None
        )
        self._best: dict[str, Tensor] = {}

    def _found(self, neighbours: int, count: int) -> Pairs:
        """Return pairs of neighbours among this process's rows, with fewer neighbours than among all `count`."""
        if not self.group.is_alone:
            among, among_all = together(len(self.rows)), together(count)
            neighbours = max(1, round(neighbours * among / among_all))
        return Pairs(self.rows, neighbours, self.config.seed)

    def _mean(self, value: float) -> float:
        """Return the mean of a value over all processes."""
        if self.group.is_alone:
            return value
        return float(self.group.sum_(torch.tensor(value, dtype=torch.float64))) / self.group.count

    def _bottleneck(self) -> objectives.Bottleneck | None:
        if self.config.nested:
            return objectives.Nested(self.model.config.latent_dim)
        return self._dictionary or objectives.bottleneck(self.model.config, self.generator)

    def _objective(self) -> objectives.Objective | None:
        if self.config.recipe == VECTORS:
            widths = prefixes(self.model.config.latent_dim) if self.config.nested else ()
            return objectives.Likeness((self.model.config.latent_dim, *widths))
        return objectives.objective(self.model.config, self.config, self._variance)

    def run(
        self,
        on_progress: Callable[[Progress], None],
        after_step: Callable[[], None] = lambda: None,
        on_search: Callable[[float], None] = lambda _: None,
    ) -> History:
        """Train to the end. `on_progress` is called several times a second and at the end of each epoch.

        `after_step` is called whenever `state` is enough to resume the run. If it raises, the run ends. `on_search` is
        called with the share of the rows whose neighbours are found, if there are many rows to search.
        Raises TrainingError if the loss is no longer a finite number.
        """

        def searched(share: float) -> None:
            on_search(share)
            after_step()

        if self._pairs is not None:
            self._pairs.search(searched)
        while not self.is_done:
            self._train_epoch(on_progress, after_step)
            self._end_epoch(on_progress)
            after_step()
        return self.end()

    @property
    def is_done(self) -> bool:
        """Whether the run is at its end."""
        return len(self.history.loss) >= self.config.epochs or self._out_of_patience()

    def end(self, on_progress: Callable[[Progress], None] = lambda _: None) -> History:
        """End the run now: the current epoch ends with its last step, and the model gets the best weights."""
        if self.step_in_epoch:
            self._end_epoch(on_progress)
        if self._best:
            self.model.load_state_dict(self._best)
        return self.history

    def state(self) -> tuple[dict[str, Array], dict[str, Any]]:
        """Return the complete state of a run between two steps, as arrays and plain JSON values."""
        tensors = {name: value.detach().cpu().numpy() for name, value in self._state().items()}
        tensors["losses"] = self.losses[: self.step_in_epoch].cpu().numpy()
        return tensors, {"step": self.step_in_epoch, "history": self.history.to_json(), "seconds": self.seconds}

    def restore(self, tensors: Mapping[str, Array], position: Mapping[str, Any]) -> None:
        """Restore a `state`. Raises ValueError if it is the state of another run, and then changes nothing."""
        before = self.history, self.step_in_epoch, self.seconds, self._best
        try:
            self._restore(tensors, position)
        except Exception:
            self.history, self.step_in_epoch, self.seconds, self._best = before
            raise

    def _restore(self, tensors: Mapping[str, Array], position: Mapping[str, Any]) -> None:
        self.history = History.from_json(position["history"])
        self.step_in_epoch, self.seconds = int(position["step"]), float(position["seconds"])
        if self.history.validation_loss:
            self._best = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        expected = self._state() | {"losses": self.losses[: self.step_in_epoch]}
        if tensors.keys() != expected.keys():
            raise ValueError(f"its tensors are not those of this run: {', '.join(tensors.keys() ^ expected.keys())}")
        found = {name: torch.from_numpy(array.copy()) for name, array in tensors.items()}
        for name, tensor in expected.items():
            if found[name].shape != tensor.shape or found[name].dtype != tensor.dtype:
                raise ValueError(f"{name} is {found[name].dtype} {tuple(found[name].shape)}")
        self.generator.set_state(found["generator"])
        with torch.no_grad():
            for name, tensor in expected.items():
                tensor.copy_(found[name])

    def _state(self) -> dict[str, Tensor]:
        """Return the tensors of `state`. They share the run's memory, except the state of the generator."""
        return {
            **{f"model.{name}": tensor for name, tensor in self.model.state_dict().items()},
            **{f"best.{name}": tensor for name, tensor in self._best.items()},
            **{f"optimizer.{i}": tensor for i, tensor in enumerate(self.optimizer.state())},
            **({} if self._dictionary is None else {"idle": self._dictionary.idle}),
            "generator": self.generator.get_state(),
        }

    def _train_epoch(self, on_progress: Callable[[Progress], None], after_step: Callable[[], None]) -> None:
        reported = time.perf_counter()
        started = reported - self.seconds
        steps_before = len(self.history.loss) * self.steps_per_epoch
        batches = (self._pairs or self.rows).shuffled(self._own, self._epoch_seed())
        is_trained = self.config.init == FROM_MODEL  # the first steps of a new network would spoil its weights
        for i, batch in islice(enumerate(batches), self.step_in_epoch, self.steps_per_epoch):
            self._backprop.begin(1.0 if is_trained else (steps_before + i + 1) / self.steps)
            if not self.group.is_alone:
                self.generator.manual_seed(self._seed_of(len(self.history.loss), 1 + i))
            self.losses[i] = self._summed(self.differentiate(batch))
            self._update(optim.learning_rate(self.config, steps_before + i, self.steps))
            self.step_in_epoch = i + 1
            now = time.perf_counter()
            self.seconds = now - started
            if now - reported > REPORT_SECONDS and i + 1 < self.steps_per_epoch:
                reported = now
                on_progress(self._progress(self._mean_loss(i + 1)))  # waits for the device
            if i + 1 < self.steps_per_epoch:
                after_step()
        self._mean_loss(self.steps_per_epoch)
        self.seconds = time.perf_counter() - started

    def _summed(self, loss: Tensor) -> Tensor:
        """Replace the gradients by their sums over all processes, and return the sum of the losses."""
        if self.group.is_alone:
            return loss
        gradients = self.optimizer.all_gradients
        torch.cat([loss.view(1), *(each.view(-1) for each in gradients)], out=self._flat)
        self.group.sum_(self._flat)
        loss, *sums = torch.split(self._flat, [1, *(each.numel() for each in gradients)])
        torch._foreach_copy_([each.view(-1) for each in gradients], sums)
        return loss[0]

    def _update(self, lr: float) -> None:
        """Take a step along the gradients. The atoms of a dictionary only turn."""
        if self._dictionary is not None:
            self._dictionary.keep_gradient_across()
        self.optimizer.step(lr)
        if self._dictionary is not None:
            self._dictionary.restore_lengths()

    def differentiate(self, unscaled: Tensor) -> Tensor:
        """Return the loss of one unscaled batch, a scalar. The gradients are written to the parameters."""
        batch = self.rows.scaled(unscaled, self._shift(), out=self._scaled)  # (B, E)
        batch, there = self.rows.filled(batch)
        seen = batch if there is None else self.rows.hidden(batch, self._hiding())
        if self.config.noise:
            noise = torch.randn(batch.shape, generator=self.generator, device=batch.device)
            seen = seen + self.config.noise * noise
        return self._backprop(seen, batch[: self._own], None if there is None else there[: self._own])

    def _hiding(self) -> Tensor:
        """Return which values (B, E) to hide from the model, as if they were holes: it learns to fill them."""
        widths = self.rows.scaler.schema.widths
        rows = (len(self._scaled), 1), (len(self._scaled), len(widths))
        share, drawn = (torch.rand(shape, generator=self.generator, device=self.rows.device) for shape in rows)
        hide = drawn < share * HIDDEN
        if len(widths) == self.rows.inputs:
            return hide
        return hide.repeat_interleave(torch.tensor(widths, device=hide.device), 1, output_size=self.rows.inputs)

    def _shift(self) -> Tensor | None:
        if self._shifts is None:
            return None
        place = torch.randint(len(self._shifts), (1,), generator=self.generator, device=self._shifts.device)
        return self._shifts.index_select(0, place)[0]

    def _epoch_seed(self) -> int:
        return self._seed_of(len(self.history.loss))

    def _seed_of(self, epoch: int, step: int = 0) -> int:
        """Return a seed of this process for the order of an epoch, or for a step of it, counted from 1."""
        entropy = (self.config.seed, epoch) if self.group.is_alone else (self.config.seed, epoch, step, self.group.rank)
        words = np.random.SeedSequence(entropy).generate_state(1, np.uint64)
        return int(words[0] >> 1)

    def _end_epoch(self, on_progress: Callable[[Progress], None]) -> None:
        loss = self._mean_loss(self.step_in_epoch)
        self._check_weights()
        losses = [self.history.loss, self.history.validation_loss, self.history.test_loss]
        losses[0] += (loss,)
        for i, rows in enumerate((self.validation_rows, self.test_rows), 1):
            losses[i] += () if rows is None else (minimised(self.model, rows, self.config, self.group),)
        self.history = History(*losses)
        self._left_out, self.step_in_epoch = self.steps_per_epoch - self.step_in_epoch, 0
        if self.validation_rows is not None and self._epochs_since_best() == 0:
            self._best = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        on_progress(self._progress(loss))

    def _epochs_since_best(self) -> int:
        losses = self.history.validation_loss
        return len(losses) - 1 - losses.index(min(losses)) if losses else 0

    def _out_of_patience(self) -> bool:
        return self.validation_rows is not None and self._epochs_since_best() >= self.config.patience > 0

    def _progress(self, loss: float) -> Progress:
        epochs = len(self.history.loss)
        step = epochs * self.steps_per_epoch + self.step_in_epoch - self._left_out
        return Progress(
            epoch=epochs + (self.step_in_epoch > 0),
            epochs=self.config.epochs,
            step=step,
            steps=self.steps,
            loss=loss,
            validation_loss=self.history.validation_loss[-1] if self.history.validation_loss else None,
            test_loss=self.history.test_loss[-1] if self.history.test_loss else None,
            lr=optim.learning_rate(self.config, step - 1, self.steps),
            seconds=self.seconds,
            rows_per_second=step * self.batch_size / self.seconds,
            epoch_done=self.step_in_epoch == 0,
        )

    def _check_weights(self) -> None:
        """Raise TrainingError if a weight is not a finite number after the epoch's last step."""
        for name, tensor in self.model.state_dict().items():
            if not bool(torch.isfinite(tensor).all()):
                raise TrainingError(
                    f"{name} is no longer finite after epoch {len(self.history.loss) + 1}", hint=DIVERGED
                )

    def _mean_loss(self, steps: int) -> float:
        """Return the mean loss of the epoch's first steps. Raises TrainingError if one is not a finite number."""
        losses = self.losses[:steps]
        finite = torch.isfinite(losses)
        if not bool(finite.all()):
            first = int(finite.int().argmin())
            step = len(self.history.loss) * self.steps_per_epoch + first + 1
            raise TrainingError(
                f"the loss became {float(losses[first])} at epoch {len(self.history.loss) + 1}, step {step}",
                hint=DIVERGED,
            )
        return float(losses.mean())


def multiplications(model: ModelConfig, config: TrainConfig) -> float:
    """Return a lower bound on the multiplications of a step with dense layers; infinity for convolutions."""
    return math.inf if model.channels else config.batch_size * model.parameters


def evaluate(model: Autoencoder, rows: Rows, first: int | None = None, group: Group = ALONE) -> float:
    """Return the mean squared error of all values that are not holes, in the model's units, in fp32.

    Rows are rebuilt from the `first` values of their codes, or from all. The mean covers all processes of a group.
    """
    total, count = torch.zeros((), dtype=torch.float64, device=rows.device), len(rows) * rows.inputs
    with torch.no_grad():
        for unfilled in rows.batches():
            batch, there = rows.filled(unfilled)
            z = model.encode(batch)
            z[:, first or z.shape[1] :] = 0
            recon = model.decode(z)
            if there is not None:
                recon = torch.where(there, recon, batch)
                count -= int(there.numel() - there.sum())
            total += functional.mse_loss(recon, batch, reduction="sum")
    return _over(total, count, group)


def minimised(model: Autoencoder, rows: Rows, config: TrainConfig, group: Group = ALONE) -> float:
    """Return the training loss of all rows: a mean over all values that are not holes, in fp32.

    The mean covers all processes of a group. The random draws of a bottleneck are the same every time. Nested codes are
    used whole. For cross-entropy, values of rows outside the training set are clipped to [0, 1].
    """
    objective = objectives.objective(model.config, config)
    if config.loss == "mse" and objective is None:
        return evaluate(model, rows, group=group)
    loss = objectives.LOSSES[config.loss]
    bottleneck = objectives.bottleneck(model.config, torch.Generator(rows.device).manual_seed(config.seed))
    decoder = model.decoder[:-1] if loss.of_logits else model.decoder
    total, count = torch.zeros((), dtype=torch.float64, device=rows.device), len(rows) * rows.inputs
    with torch.no_grad():
        for unfilled in rows.batches():
            batch, there = rows.filled(unfilled)
            h = model.encoder(batch)
            recon = decoder(h if bottleneck is None else bottleneck.forward(h))
            total += loss.of(recon, batch.clamp(0, 1) if loss.of_logits else batch, there, None)[0]
            total += 0 if objective is None else loss.scale * objective(h, batch)[0]
            count -= 0 if there is None else int(there.numel() - there.sum())
    return _over(total, count, group)


def _over(total: Tensor, count: int, group: Group) -> float:
    """Return a total divided by a count, both summed over all processes."""
    total, counts = (group.sum_(each) for each in (total, torch.tensor(count, device=total.device)))
    return float(total) / max(1, int(counts))


def divergences(model: Autoencoder, rows: Rows) -> tuple[float, ...]:
    """Return the KL divergence of each latent value from N(0, 1) in nats, a mean over rows, of a variational model."""
    total = torch.zeros(model.config.latent_dim, dtype=torch.float64, device=rows.device)
    with torch.no_grad():
        for batch in rows.batches():
            total += objectives.divergence(model.encoder(rows.filled(batch)[0])).sum(0)
    return tuple((total / len(rows)).tolist())


def used(model: Autoencoder, rows: Rows) -> int:
    """Return how many latent values are not 0 for all rows."""
    found = torch.zeros(model.config.latent_dim, dtype=torch.bool, device=rows.device)
    with torch.no_grad():
        for batch in rows.batches():
            found |= (model.encode(rows.filled(batch)[0]) != 0).any(0)
    return int(found.sum())


def error_products(model: Autoencoder, rows: Rows) -> tuple[Array, Array]:
    """Return the sums over rows of the products of all pairs of errors, and the numbers of summands, both (E, E)."""
    products, counts = (np.zeros((rows.inputs, rows.inputs)) for _ in range(2))
    with torch.no_grad():
        for unfilled in rows.batches():
            batch, there = rows.filled(unfilled)
            errors = (model(batch) - batch).cpu().numpy().astype(np.float64)
            counted = np.ones_like(errors) if there is None else there.cpu().numpy().astype(np.float64)
            errors *= counted
            products += errors.T @ errors
            counts += counted.T @ counted
    return products, counts
