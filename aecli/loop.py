"""The training loop. Nothing in it knows about images, files or the command line."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from aecli import optim
from aecli.config import History, TrainConfig
from aecli.errors import TrainingError
from aecli.model import Autoencoder
from aecli.scaler import FULL_SCALE, Scaler

Array = np.ndarray[Any, Any]
EVALUATION_VALUES = 1 << 22  # values of x in one evaluation batch: bounds what the layers' outputs take
REPORT_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is: `step` of `steps` in all, mean squared errors so far, `epoch_done` at the end of each epoch."""

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    test_loss: float | None
    rows_per_second: float
    epoch_done: bool


class Rows:
    """Rows (N, D) resident on a device, in the model's units once taken. Until then 8-bit pixels stay 8 bits wide."""

    def __init__(self, x: Array, scaler: Scaler, device: torch.device) -> None:
        self._divisor = float(scaler.scale[0]) if x.dtype == np.uint8 and scaler.kind == FULL_SCALE else None
        values = x if self._divisor else scaler.transform(x)
        self.x = torch.tensor(values, device=device)
        self.device = device

    def __len__(self) -> int:
        return len(self.x)

    def mean(self) -> Tensor:
        """Give the mean row, float32, (D,)."""
        total = self.x.sum(0, dtype=torch.float64) / len(self.x)
        return (total / (self._divisor or 1)).float()

    def take(self, rows: Tensor | slice) -> Tensor:
        """Give the rows at these places as float32, (B, D)."""
        taken = self.x[rows] if isinstance(rows, slice) else self.x.index_select(0, rows)
        return taken.float().div_(self._divisor) if self._divisor else taken


def run(
    model: Autoencoder,
    config: TrainConfig,
    rows: Rows,
    test_rows: Rows | None,
    on_progress: Callable[[Progress], None],
) -> History:
    """Train a model in place, on the device where it and the rows are; `test_rows` are only ever reported on.

    `on_progress` is called several times a second and at the end of each epoch.
    Raises TrainingError where the loss is no longer a finite number.
    """
    device = rows.device
    generator = torch.Generator(device).manual_seed(config.seed)
    batch_size = min(config.batch_size, len(rows))
    steps_per_epoch = len(rows) // batch_size  # the rest of a permutation is left: the next one mixes it in
    steps = config.epochs * steps_per_epoch
    optimizer = optim.build(model.parameters(), config)
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16")
    losses = torch.zeros(steps_per_epoch, device=device)
    history = History()
    training_seconds = 0.0
    for epoch in range(1, config.epochs + 1):
        started = reported = time.perf_counter()
        steps_before = (epoch - 1) * steps_per_epoch
        order = torch.randperm(len(rows), generator=generator, device=device)
        for i in range(steps_per_epoch):
            batch = rows.take(order[i * batch_size : (i + 1) * batch_size])  # (B, D)
            seen = batch
            if config.noise:
                seen = batch + config.noise * torch.randn(batch.shape, generator=generator, device=device)
            with autocast:
                recon = model(seen)  # (B, D)
            loss = functional.mse_loss(recon.float(), batch)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step(optim.learning_rate(config, steps_before + i, steps))
            losses[i] = loss.detach()
            now = time.perf_counter()
            if now - reported > REPORT_SECONDS and i + 1 < steps_per_epoch:
                reported = now
                mean = _mean(losses[: i + 1], epoch, steps_before)  # waits for the device
                speed = (steps_before + i + 1) * batch_size / (training_seconds + time.perf_counter() - started)
                test_loss = history.test_loss[-1] if history.test_loss else None
                step = steps_before + i + 1
                on_progress(Progress(epoch, config.epochs, step, steps, mean, test_loss, speed, epoch_done=False))
        mean = _mean(losses, epoch, steps_before)
        training_seconds += time.perf_counter() - started
        test_loss = None if test_rows is None else evaluate(model, test_rows)
        history = History((*history.loss, mean), history.test_loss + (() if test_loss is None else (test_loss,)))
        step = epoch * steps_per_epoch
        speed = step * batch_size / training_seconds
        on_progress(Progress(epoch, config.epochs, step, steps, mean, test_loss, speed, epoch_done=True))
    return history


def evaluate(model: Autoencoder, rows: Rows) -> float:
    """Give the mean squared error over all the rows, in the model's units, computed in fp32."""
    total = torch.zeros((), dtype=torch.float64, device=rows.device)
    step = max(1, EVALUATION_VALUES // rows.x.shape[1])
    with torch.no_grad():
        for start in range(0, len(rows), step):
            batch = rows.take(slice(start, start + step))
            total += functional.mse_loss(model(batch), batch, reduction="sum")
    return float(total) / rows.x.numel()


def _mean(losses: Tensor, epoch: int, steps_before: int) -> float:
    finite = torch.isfinite(losses)
    if not bool(finite.all()):
        first = int(finite.int().argmin())
        raise TrainingError(
            f"the loss became {float(losses[first])} at epoch {epoch}, step {steps_before + first + 1}",
            hint="lower --lr, or look for extreme values in the data",
        )
    return float(losses.mean())
