"""A variational autoencoder of MNIST beside that of PyTorch's examples: the negative ELBO on the test images, in nats.

AECLI_DATA_DIR=... python -m tests.bench.variational [--seeds 3] [--epochs 15] [--output variational.json]

Both are 784-400-20-400-784, with grey pixels as probabilities, the cross-entropy summed, beta 1 and one sample. The
example's is trained as the example does: DataLoader, ToTensor, ReLU, batches of 128, Adam at 0.001, 10 epochs. Imports
are left out of the seconds.
"""

import argparse
import gzip
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # as the program has it

import torch
import torch._dynamo  # what torch.optim imports when it is first used
import torchvision
from torch import nn
from torch.nn import functional

from aecli.cli.train import keep_freed_memory
from aecli.data.opening import open_source
from aecli.model.module import Autoencoder
from aecli.training.fit import fit

RAW = Path(os.environ["AECLI_DATA_DIR"]) / "MNIST" / "raw"


class Example(nn.Module):
    """The network of the example: one hidden layer of 400, a head for the means and one for the log variances."""

    def __init__(self):
        super().__init__()
        self.hidden, self.mean, self.log_variance = nn.Linear(784, 400), nn.Linear(400, 20), nn.Linear(400, 20)
        self.back = nn.Sequential(nn.Linear(20, 400), nn.ReLU(), nn.Linear(400, 784), nn.Sigmoid())

    def encode(self, x):
        h = functional.relu(self.hidden(x))
        return self.mean(h), self.log_variance(h)

    def decode(self, z):
        return self.back(z)


class Ours:
    """What aecli has trained."""

    def __init__(self, fitted):
        self.network = Autoencoder(fitted.checkpoint.model)
        names = self.network.state_dict()
        self.network.load_state_dict({name: torch.from_numpy(fitted.tensors[name]) for name in names})

    def encode(self, x):
        return self.network.encoder(x).chunk(2, dim=1)

    def decode(self, z):
        return self.network.decode(z)


def negative_elbo(model, x):
    """Give the sum over rows of the cross-entropy of one sample and of the divergence from N(0, I)."""
    mean, log_variance = model.encode(x)
    z = mean + torch.randn_like(mean) * (log_variance / 2).exp()
    nats = functional.binary_cross_entropy(model.decode(z), x, reduction="sum")
    return nats - 0.5 * torch.sum(1 + log_variance - mean**2 - log_variance.exp())


def example(seed, folder):
    """Train as PyTorch's example does."""
    torch.manual_seed(seed)
    images = torchvision.datasets.MNIST(folder, transform=torchvision.transforms.ToTensor())
    loader = torch.utils.data.DataLoader(images, batch_size=128, shuffle=True)
    model = Example()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(10):
        for batch, _labels in loader:
            optimizer.zero_grad()
            negative_elbo(model, batch.view(-1, 784)).backward()
            optimizer.step()
    return model


def ours(epochs, **asked):
    """Give a contender: aecli with these settings."""

    def run(seed, _folder):
        training, test = (open_source([f"mnist:{split}"], data_dir=RAW.parent.parent) for split in ("train", "test"))
        settings = {"bottleneck": "variational", "latent_dim": 20, "epochs": epochs, "device": "cpu"} | asked
        return Ours(fit(training, test=test, seed=seed, **settings))

    return run


def main():
    """Run both in turn; print a table and write a JSON file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--output", type=Path, default=Path("variational.json"))
    arguments = parser.parse_args()
    keep_freed_memory()  # as the program has it
    contenders = {
        "PyTorch's example, 10 epochs": example,
        f"aecli, {arguments.epochs} epochs": ours(arguments.epochs, hidden_dims=(400,)),
    }
    found = {"threads": torch.get_num_threads(), "contenders": {name: [] for name in contenders}}
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "MNIST" / "raw"
        raw.mkdir(parents=True)
        for archive in RAW.glob("*.gz"):
            (raw / archive.stem).write_bytes(gzip.decompress(archive.read_bytes()))
        x = torchvision.datasets.MNIST(folder, train=False).data.view(-1, 784).float() / 255
        for seed in range(arguments.seeds):
            for name, contender in contenders.items():
                started = time.perf_counter()
                model = contender(seed, folder)
                seconds = time.perf_counter() - started
                torch.manual_seed(seed)
                with torch.no_grad():
                    nats = float(negative_elbo(model, x)) / len(x)
                found["contenders"][name].append({"seed": seed, "negative_elbo": nats, "seconds": seconds})
                print(f"seed {seed}  {name:32} {nats:.2f} nats  {seconds:7.1f} s", flush=True)
    print()
    for name, runs in found["contenders"].items():
        nats, seconds = ([run[key] for run in runs] for key in ("negative_elbo", "seconds"))
        print(f"{name:32} {min(nats):.2f} to {max(nats):.2f} nats  median {statistics.median(seconds):.1f} s")
    arguments.output.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
