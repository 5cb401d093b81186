"""Sparse codes beside the TopK autoencoder of Gao et al. 2024, arXiv:2406.04093: what both rebuild of held-out rows.

AECLI_DATA_DIR=... python -m tests.bench.sparse --adbench FOLDER [--sets cifar10 codes mnist] [--seeds 3]

Both see the same rows less their mean, over one spread, and take as many steps of batches of one size, in fp32, with
as many active values of a code 4 times as wide as a row. TopK is written from the paper: b_pre in encoder and decoder,
from the mean; random atoms of length 1, the encoder tied to them and scaled; atoms brought to length 1 after each
step, and the gradient along them removed; an auxiliary loss on dead latents, as in the authors' code; Adam with the
paper's epsilon, a clipped gradient, and an average of the weights. Its rate and whether that falls to 0 are chosen on
validation rows, with the first seed. Ours is what the recipe says. Sets: ResNet18's features of CIFAR10, in ADBench;
codes of 256 values that a model makes of MNIST; MNIST's pixels. A latent is dead that is active on none of 10,000
training rows.
"""

import argparse
import gzip
import json
import os
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from aecli.config import Schema
from aecli.data.part import Part
from aecli.model.module import Autoencoder
from aecli.model.scaler import Scaler
from aecli.options import FitOptions
from aecli.recipes import resolve
from aecli.training.loop import Trainer
from aecli.training.rows import Rows
from aecli.training.start import first_weights

CHOICES = ((3e-3, True), (1e-2, True), (3e-2, True), (1e-2, False))  # rates, and whether they fall to 0
SHARE, AVERAGED, LARGEST_NORM, WARMUP = 1 / 32, 0.999, 1.0, 0.05
CUT, DEAD_ROWS = (0.8, 0.9), 10_000


class TopK(nn.Module):
    """The autoencoder of the paper: z = TopK(W_enc (x - b_pre) + b_enc), recon = W_dec z + b_pre."""

    def __init__(self, x, latent_dim, active):
        super().__init__()
        directions = torch.randn(x.shape[1], latent_dim)
        self.active = active
        self.decoder = nn.Parameter(directions / directions.norm(dim=0))  # (D, K)
        self.pre = nn.Parameter(x.mean(0))
        self.bias = nn.Parameter(torch.zeros(latent_dim))
        self.encoder = nn.Parameter(self.decoder.detach().T.clone())  # (K, D)
        with torch.no_grad():
            some = x[:2048]
            recon = self.decode(self.encode(some)) - self.pre
            self.encoder.mul_((some - self.pre).norm() / recon.norm())

    def before(self, x):
        return (x - self.pre) @ self.encoder.T + self.bias

    @staticmethod
    def largest(h, count):
        values, places = h.topk(count, dim=1)
        return torch.zeros_like(h).scatter(1, places, values.relu())

    def encode(self, x):
        return self.largest(self.before(x), self.active)

    def decode(self, z):
        return z @ self.decoder.T + self.pre


def top_k(x, latent_dim, active, *, batch_size, epochs, rate, falling, seed):
    """Train as the paper does."""
    torch.manual_seed(seed)
    model = TopK(x, latent_dim, active)
    average = {name: weights.detach().clone() for name, weights in model.named_parameters()}
    adam = torch.optim.Adam(model.parameters(), lr=rate, betas=(0.9, 0.999), eps=6.25e-10)
    steps_per_epoch = len(x) // batch_size
    steps, step, idle = epochs * steps_per_epoch, 0, torch.zeros(latent_dim)
    patience, of_dead = min(len(x), 10_000), 2 ** round(np.log2(x.shape[1] / 2))
    spread = (x - x.mean(0)).square().mean()
    for _ in range(epochs):
        order = torch.randperm(len(x))
        for i in range(steps_per_epoch):
            batch = x[order[i * batch_size : (i + 1) * batch_size]]
            h = model.before(batch)
            z = model.largest(h, active)
            recon = model.decode(z)
            loss = (recon - batch).square().mean() / spread
            idle += batch_size
            idle[(z != 0).any(0)] = 0
            if (dead := idle >= patience).any():
                left = (batch - recon).detach()
                of_them = model.largest(h.masked_fill(~dead, -torch.inf), min(of_dead, int(dead.sum())))
                aside = (of_them @ model.decoder.T - left).square().mean() / left.square().mean()
                loss = loss + SHARE * aside.nan_to_num(0)
            adam.zero_grad()
            loss.backward()
            with torch.no_grad():
                gradient = model.decoder.grad
                gradient -= model.decoder * (gradient * model.decoder).sum(0)
                nn.utils.clip_grad_norm_(model.parameters(), LARGEST_NORM)
                step += 1
                warm = min(1.0, step / (WARMUP * steps))
                adam.param_groups[0]["lr"] = rate * warm * ((1 - step / steps) if falling else 1)
                adam.step()
                model.decoder /= model.decoder.norm(dim=0)
                kept = min(AVERAGED, step / (step + 10))
                for name, weights in model.named_parameters():
                    average[name].lerp_(weights, 1 - kept)
    if not falling:
        model.load_state_dict(average)
    return model


def ours(x, seed, **asked):
    """Train what the recipe says, without the scores and the reports around it."""
    options = FitOptions(seed=seed, scale="none", precision="fp32", **asked)
    config, train = resolve(options, x.shape[1], len(x), bounded=False)
    part = Part(x.numpy())
    rows, model = Rows(part, Scaler.fit("none", part, Schema(x.shape[1])), x.device), Autoencoder(config)
    first_weights(model, train, None, rows)
    Trainer(model, train, rows).run(lambda _: None)
    return model


def pixels():
    raw = Path(os.environ["AECLI_DATA_DIR"]) / "MNIST" / "raw" / "train-images-idx3-ubyte.gz"
    return (
        np.frombuffer(gzip.decompress(raw.read_bytes()), np.uint8, offset=16).reshape(-1, 784).astype(np.float32) / 255
    )


def codes():
    x = torch.from_numpy(pixels())
    model = ours(x, 0, latent_dim=256, hidden_dims=(256,), batch_size=256, epochs=2)
    with torch.no_grad():
        return model.encode(x).numpy()


def features(folder):
    with np.load(folder / "CV_by_ResNet18__CIFAR10_4.npz") as file:
        return file["X"].astype(np.float32)


def cut(x):
    """Return training, validation and held-out rows, less the mean of the training rows, over one spread."""
    x = x[np.random.default_rng(0).permutation(len(x))]
    ends = [round(share * len(x)) for share in CUT]
    x = (x - x[: ends[0]].mean(0)) / x[: ends[0]].std()
    return [torch.from_numpy(part.copy()) for part in np.split(x, ends)]


@torch.no_grad()
def explained(model, x):
    """Return the explained variance of rows: 1 less the squared error over their variance."""
    recon = torch.cat([model.decode(model.encode(part)) for part in torch.split(x, 1024)])
    return 1 - float((recon - x).square().sum() / (x - x.mean(0)).square().sum())


@torch.no_grad()
def dead(model, x):
    """Return the share of latents that are active on none of the rows."""
    used = [(model.encode(part) != 0).any(0) for part in torch.split(x[:DEAD_ROWS], 1024)]
    return 1 - float(torch.stack(used).any(0).float().mean())


def main():
    """Run both on each set in turn; print a table and write a JSON file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--adbench", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", default=["cifar10", "codes", "mnist"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path("sparse.json"))
    arguments = parser.parse_args()
    sets = {  # rows, active values, epochs of batches of 256
        "cifar10": (lambda: features(arguments.adbench), 32, 12),
        "codes": (codes, 16, 2),
        "mnist": (lambda: pixels()[:6000], 32, 8),
    }
    found = []
    for name in arguments.sets:
        make, active, epochs = sets[name]
        training, validation, held_out = cut(make())
        width = 4 * training.shape[1]

        def of_gao(seed, rate, falling, x=training, width=width, active=active, epochs=epochs):
            return top_k(x, width, active, batch_size=256, epochs=epochs, rate=rate, falling=falling, seed=seed)

        def of_ours(seed, x=training, width=width, active=active, epochs=epochs):
            return ours(x, seed, bottleneck="sparse", latent_dim=width, active=active, batch_size=256, epochs=epochs)

        tried = {choice: explained(of_gao(0, *choice), validation) for choice in CHOICES}
        best = max(tried, key=tried.get)
        print(
            name, "TopK on validation rows:", {choice: round(value, 4) for choice, value in tried.items()}, flush=True
        )
        for who, train in (("ours", of_ours), ("Gao TopK", lambda seed, best=best: of_gao(seed, *best))):
            for seed in range(arguments.seeds):
                started = time.perf_counter()
                model = train(seed)
                seconds = time.perf_counter() - started
                run = {"set": name, "who": who, "seed": seed, "explained": explained(model, held_out)}
                found.append(run | {"dead": dead(model, training), "seconds": seconds})
                print(found[-1], flush=True)
    arguments.output.write_text(json.dumps(found, indent=1) + "\n")
    for name in arguments.sets:
        for who in ("ours", "Gao TopK"):
            runs = [run for run in found if (run["set"], run["who"]) == (name, who)]
            values, shares, seconds = ([run[key] for run in runs] for key in ("explained", "dead", "seconds"))
            print(
                f"{name:10} {who:10} {min(values):.4f} to {max(values):.4f}  "
                f"dead at most {max(shares):.1%}  median {statistics.median(seconds):.1f} s"
            )


if __name__ == "__main__":
    main()
