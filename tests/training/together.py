"""What `test_group` has torchrun start: each step of several processes beside that of one, and rows dealt out."""

import json
import os
import tempfile
from pathlib import Path

import numpy as np
import torch

from aecli.config import ModelConfig, Schema
from aecli.data.part import FileRows, Part
from aecli.model.module import Autoencoder
from aecli.model.scaler import Scaler
from aecli.options import FitOptions
from aecli.recipes import resolve
from aecli.training import group as groups
from aecli.training import objectives, optim, shares
from aecli.training.dictionary import Dictionary
from aecli.training.loop import Trainer
from aecli.training.rows import Rows
from aecli.training.step import Backprop

optim.DEALT = 9  # small matrices are dealt out, too
ROWS, INPUTS = 23, 12  # which two processes cannot share evenly
CASES = {
    "mean squared error": {},
    "values that are missing": {"holes": True},
    "neighbours": {"pairs": True, "objective": lambda: objectives.Neighbours(3.0)},
    "likeness": {"objective": lambda: objectives.Likeness((4, 2))},
    "a dictionary": {"dictionary": True},
}


def gradients(name, group, steps):
    case = CASES[name]
    torch.manual_seed(0)
    config = ModelConfig(INPUTS, (9,), 4)
    if case.get("dictionary"):
        config = ModelConfig(INPUTS, (), 40, bottleneck="sparse", active=3)
    model = Autoencoder(config)
    optimizer = optim.Muon(model.parameters(), weight_decay=0.1, group=group)
    shares = group.shares(ROWS)
    first = sum(shares[: group.rank])
    own = slice(first, first + shares[group.rank])
    bottleneck = Dictionary(model, 30, group) if case.get("dictionary") else None
    backprop = Backprop(
        model,
        ROWS,
        bottleneck=bottleneck,
        pairs=case.get("pairs", False),
        objective=case["objective"]() if "objective" in case else None,
        group=group,
    )
    for _ in range(steps):
        x, near = torch.rand(2, ROWS, INPUTS)
        there = torch.rand(ROWS, INPUTS) < 0.7 if case.get("holes") else None
        seen = torch.cat([x[own], near[own]]) if case.get("pairs") else x[own]
        backprop.begin(0.5)
        loss = backprop(seen, x[own], None if there is None else there[own])
        for each in [loss, *optimizer.all_gradients]:
            group.sum_(each)
        found = [parameter.grad.clone() for parameter in model.parameters()]
        if steps > 1:
            optimizer.step(0.02)
    weights = [parameter.detach().clone() for parameter in model.parameters()]
    return [loss.view(1), *found], weights


def apart(some, others):
    return max(float((a - b).abs().max() / max(1, b.abs().max())) for a, b in zip(some, others, strict=True))


def dealt(group):
    """Deal out rows in memory, in a file with a name and in one without.

    Returns whether each row came to one process, as many to each as it takes of a batch of five; and whether the file
    with a name was opened by all.
    """
    x = np.arange(300_000, dtype=np.float32).reshape(-1, 3)
    files = Path(f"rows-{group.rank}.bin").open("wb+"), tempfile.TemporaryFile()  # noqa: SIM115, they end with the process
    for file in files:
        file.write(x.data)
        file.flush()
    in_files = [FileRows("rows", file, 0, x.dtype, x.shape) for file in files]
    wholes = [Part(x), *(Part(each, np.arange(-(-len(x) // Part(each).block_rows))) for each in in_files)]
    shares.MEMORY_BYTES = 1000
    found = []
    for part in wholes:
        own = shares._deal(group, part, 7, 5) if group.rank == 0 else shares._take(group, None)
        values = np.concatenate(list(own.chunks(1 << 16)))
        count = group.sum_(torch.tensor([len(values), len(own), values[:, 0].astype(np.float64).sum()]))
        is_whole = count.tolist() == [len(x), len(x), x[:, 0].astype(np.float64).sum()]
        found.append(is_whole and len(own) < len(x))
        if part.blocks is None:
            found[-1] &= len(own) == len(x) // 5 * (3, 2)[group.rank]
        else:
            found[-1] &= (own.x.path is not None) == (part.x.path is not None)
    return found


def trained(group, **options):
    """Train on shares of rows that differ: how far the weights of the processes are apart, and whether losses are."""
    x = np.random.default_rng(group.rank).random((60 - group.rank, INPUTS), np.float32) * (1 + group.rank)
    asked = FitOptions(epochs=2, batch_size=16, noise=0.1, precision="fp32", **options)
    model_config, config = resolve(asked, INPUTS, 119, bounded=False)
    rows = Rows(Part(x), Scaler.fit("none", Part(x), Schema(INPUTS)), torch.device("cpu"))
    torch.manual_seed(0)  # the same first weights
    trainer = Trainer(Autoencoder(model_config), config, rows, test_rows=rows, group=group)
    history = trainer.run(lambda _: None)
    values = torch.cat([weights.flatten() for weights in trainer.model.state_dict().values()])
    values = torch.cat([values.double(), torch.tensor([*history.loss, *history.test_loss], dtype=torch.float64)])
    least, most = group.least_(values.clone()), -group.least_(-values)
    return float((most - least).abs().max())


rank, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
with groups.joined(rank, count, "cpu") as group:
    differences = {}
    for name in CASES:
        one_step = [gradients(name, each, 1)[0] for each in (group, groups.ALONE)]
        many = [gradients(name, each, 20)[1] for each in (group, groups.ALONE)]
        differences[name] = apart(*one_step), apart(*many)
    whole = dealt(group)
    equal = [trained(group, hidden_dims=(12,), latent_dim=4), trained(group, bottleneck="sparse", latent_dim=24)]
    group.awaits = False  # nobody follows
if rank == 0:
    print(json.dumps([differences, whole, equal]))
