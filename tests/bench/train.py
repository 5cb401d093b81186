"""Time to quality on MNIST, 64 values a row: every contender in turn, in one process, on this machine.

AECLI_DATA_DIR=... python -m tests.bench.train [--seeds 3] [--only aecli] [--output train.json]

The dense network is 784-256-128-64 and back, that of convolutions aecli's default, 784-conv16-conv32-64. Imports are
left out of the seconds; reading the data, building the model and measuring the test error are in.
"""

import argparse
import gzip
import itertools
import json
import os
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # as the program has it

import numpy as np
import torch
import torch._dynamo  # what torch.optim imports when it is first used
import torchvision
from sklearn.decomposition import PCA
from torch import nn

from aecli.cli.train import keep_freed_memory
from aecli.config import Schema
from aecli.data.idx import read_idx
from aecli.data.opening import open_source
from aecli.data.part import Part
from aecli.model import checkpoint, device
from aecli.model.layers import decoder_layers, encoder_layers
from aecli.model.module import Autoencoder
from aecli.model.scaler import Scaler
from aecli.options import FitOptions
from aecli.recipes import resolve
from aecli.training import loop
from aecli.training.fit import fit
from aecli.training.rows import Rows

SPLITS = ("train", "test")
RAW = Path(os.environ["AECLI_DATA_DIR"]) / "MNIST" / "raw"
BF16 = device.has_bf16(torch.device("cpu"))
TUTORIAL_EPOCHS = 50
TIGHT_EPOCHS = 47  # the shortest one-cycle schedule that ends at 0.0030
DENSE = {"hidden_dims": (256, 128)}
QUICK = {"epochs": 4, "lr": 0.015}  # the shortest schedule of the dense network that ends below it


def network(activation):
    """Give 784-256-128-64 and its mirror, a sigmoid at the end, with PyTorch's own first weights."""
    widths = [784, 256, 128, 64, 128, 256, 784]
    layers = [part for a, b in itertools.pairwise(widths) for part in (nn.Linear(a, b), activation())]
    layers[5:6] = []  # the bottleneck is linear
    return nn.Sequential(*layers[:-1], nn.Sigmoid())


def test_error(model, x):
    with torch.inference_mode():
        return float(nn.functional.mse_loss(model(x), x))


def tutorial(seed, folder):
    """Train as tutorials do: DataLoader, ToTensor, Adam at its defaults, batches of 256."""
    torch.manual_seed(seed)
    splits = [
        torchvision.datasets.MNIST(folder, train=train, transform=torchvision.transforms.ToTensor())
        for train in (True, False)
    ]
    loader = torch.utils.data.DataLoader(splits[0], batch_size=256, shuffle=True)
    model = network(nn.ReLU)
    optimizer = torch.optim.Adam(model.parameters())
    started, epochs = time.perf_counter(), []
    for _ in range(TUTORIAL_EPOCHS):
        for images, _labels in loader:
            x = images.view(len(images), -1)
            loss = nn.functional.mse_loss(model(x), x)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        epochs.append(time.perf_counter() - started)
        started = time.perf_counter()
    return test_error(model, splits[1].data.view(-1, 784).float() / 255), statistics.median(epochs)


def tight(seed, _folder):
    """Train with the best loop that one writes by hand around Adam: resident rows, fused, one cycle."""
    torch.manual_seed(seed)
    x, x_test = (torch.from_numpy(read_idx(RAW / f"{name}-images-idx3-ubyte.gz")) for name in ("train", "t10k"))
    x, model = x.view(-1, 784), network(lambda: nn.GELU(approximate="tanh"))
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    steps = TIGHT_EPOCHS * (len(x) // 256)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=6e-3, total_steps=steps)
    for _ in range(TIGHT_EPOCHS):
        order = torch.randperm(len(x))
        for i in range(len(x) // 256):
            batch = x[order[i * 256 : i * 256 + 256]].float() / 255
            with torch.autocast("cpu", torch.bfloat16, enabled=BF16):
                recon = model(batch)
            nn.functional.mse_loss(recon.float(), batch).backward()
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
    return test_error(model, x_test.view(-1, 784).float() / 255), None


def ours(**asked):
    """Give a contender: aecli with these settings."""

    def run(seed, _folder):
        folder = RAW.parent.parent
        source, test_source = (open_source([f"mnist:{split}"], data_dir=folder) for split in SPLITS)
        fitted = fit(source, test=test_source, seed=seed, device="cpu", **asked)
        checkpoint.dumps(fitted.checkpoint, fitted.tensors, fitted.scaler)
        return fitted.checkpoint.results.test_mse, None

    return run


def pca(_seed, _folder):
    x, x_test = (
        read_idx(RAW / f"{name}-images-idx3-ubyte.gz").reshape(-1, 784).astype(np.float32) / 255
        for name in ("train", "t10k")
    )
    fitted = PCA(64).fit(x)
    return float(np.square(fitted.inverse_transform(fitted.transform(x_test)) - x_test).mean()), None


def median_ms(work, repeats=100):
    """Time some work: the median over many repeats, in milliseconds."""
    for _ in range(10):
        work()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return 1000 * statistics.median(times)


def products(config, batch_size, dtype):
    """Give the work of a step's matrix products alone: forward, the weights' gradients, the inputs' gradients."""
    weights = [w.detach().to(dtype) for w in Autoencoder(config).parameters() if w.ndim == 2]
    inputs = [torch.rand(batch_size, w.shape[1]).to(dtype) for w in weights]
    gradients = [torch.rand(batch_size, w.shape[0]).to(dtype) for w in weights]

    def work():
        for i, (w, x, g) in enumerate(zip(weights, inputs, gradients, strict=True)):
            x @ w.T
            g.T @ x
            if i:
                g @ w

    return work


def convolutions(config, batch_size, dtype, memory_format):
    """Give the work of a step's convolutions alone, as PyTorch has them: forward and backward."""
    layers = [layer for layer in (*encoder_layers(config), *decoder_layers(config)) if layer.convolution]
    calls = []
    for i, layer in enumerate(layers):
        at, shape = layer.convolution, layer.shapes[0]
        height, width, channels = at.images[0]
        x = torch.rand(batch_size, channels, height, width, dtype=dtype).contiguous(memory_format=memory_format)
        weight = torch.rand(shape, dtype=dtype, requires_grad=True)
        call = nn.functional.conv_transpose2d if at.transposed else nn.functional.conv2d
        y = call(x.requires_grad_(i > 0), weight, stride=at.stride, padding=at.padding)
        calls.append((call, x, weight, at, torch.rand_like(y)))

    def work():
        for call, x, weight, at, gradient in calls:
            call(x, weight, stride=at.stride, padding=at.padding).backward(gradient)

    return work


def floors(config, batch_size, dtype):
    """Give the works that a step cannot do without, by what they are called; of one kind the quicker counts."""
    if not config.channels:
        return [products(config, batch_size, dtype)]
    formats = torch.contiguous_format, torch.channels_last
    return [convolutions(config, batch_size, dtype, memory_format) for memory_format in formats]


def step_parts(**asked):
    """Time the parts of one step of the default recipe, in milliseconds, at each precision that the machine has."""
    model_config, config = resolve(FitOptions("modern", **asked), 784, 60_000, bounded=True, image_shape=(28, 28))
    pixels = torch.randint(0, 256, (config.batch_size, 784), dtype=torch.uint8)
    part = Part(pixels.numpy())
    rows = Rows(part, Scaler.fit("standard", part, Schema(784, full_scale=255.0)), torch.device("cpu"))
    parts = {}
    for precision in ["fp32", "bf16"] if BF16 else ["fp32"]:
        model = Autoencoder(model_config)
        trainer = loop.Trainer(model, replace(config, precision=precision), rows)
        trainer.differentiate(pixels)

        def optimizer_step(trainer=trainer):
            trainer.optimizer.step(1e-6)

        def passes(trainer=trainer):
            trainer.differentiate(pixels)

        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        timed = (passes, optimizer_step, *floors(model_config, config.batch_size, dtype))
        rounds = [[median_ms(work) for work in timed] for _ in range(5)]  # in turn: a slow spell slows them all
        both, update, *least = (min(column) for column in zip(*rounds, strict=True))
        parts[precision] = {"floor": min(least), "forward and backward": both, "optimizer": update}
    return parts


def main():
    """Run every contender; print a table and write a JSON file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", default="", help="the contenders whose names have this in them")
    parser.add_argument("--output", type=Path, default=Path("train.json"))
    arguments = parser.parse_args()
    keep_freed_memory()  # as the program has it
    contenders = {
        f"tutorial, {TUTORIAL_EPOCHS} epochs": tutorial,
        f"tight Adam loop, {TIGHT_EPOCHS} epochs": tight,
        "aecli, dense, {epochs} epochs, lr {lr}".format(**QUICK): ours(**DENSE, **QUICK),
        "aecli, dense": ours(**DENSE),
        "aecli, convolutions, 4 epochs": ours(epochs=4),
        "aecli, convolutions, the default": ours(),
        "PCA, 64 components": pca,
    }
    contenders = {name: contender for name, contender in contenders.items() if arguments.only in name}
    steps = {"dense": step_parts(**DENSE), "convolutions": step_parts()}
    found = {"threads": torch.get_num_threads(), "bf16": BF16, "contenders": {}, "step": steps}
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "MNIST" / "raw"
        raw.mkdir(parents=True)
        for archive in RAW.glob("*.gz"):
            (raw / archive.stem).write_bytes(gzip.decompress(archive.read_bytes()))
        for seed in range(arguments.seeds):
            for name, contender in contenders.items():
                started = time.perf_counter()
                error, epoch_seconds = contender(seed, folder)
                run = {"seed": seed, "test_mse": error, "seconds": time.perf_counter() - started}
                run |= {"epoch_seconds": epoch_seconds} if epoch_seconds else {}
                found["contenders"].setdefault(name, []).append(run)
                print(f"seed {seed}  {name:36} test MSE {error:.5f}  {run['seconds']:7.1f} s", flush=True)
    _report(found)
    arguments.output.write_text(json.dumps(found, indent=1) + "\n")


def _report(found):
    seconds = {name: statistics.median(run["seconds"] for run in runs) for name, runs in found["contenders"].items()}
    print()
    least = min(seconds.values())
    for name, runs in found["contenders"].items():
        errors = [run["test_mse"] for run in runs]
        print(
            f"{name:36} test MSE {min(errors):.5f} to {max(errors):.5f}  median {seconds[name]:7.1f} s, "
            f"{seconds[name] / least:.1f} times the quickest"
        )
    for network, precisions in found["step"].items():
        for precision, part in precisions.items():
            floor, both, update = part.values()
            what = "products" if network == "dense" else "PyTorch's convolutions alone"
            print(
                f"{network}, a step in {precision}: {what} {floor:.2f} ms, forward and backward {both:.2f} "
                f"({both / floor:.2f} times them), optimizer {update:.2f} ({update / both:.2f} times these)"
            )


if __name__ == "__main__":
    main()
