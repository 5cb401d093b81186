"""The one file: self-describing, checked before it is believed, the same for the same run."""

import json
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch

from aecli.errors import CheckpointError
from aecli.inference import Model
from aecli.model import checkpoint


def parts(path):
    """Split a safetensors file into header and data."""
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def write(path, header, data):
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def test_plain_safetensors_opens_it_as_a_state_dict(digits_model):
    tensors = safetensors.torch.load_file(digits_model)
    assert [name for name in sorted(tensors) if name.startswith("encoder")] == [
        f"encoder.{i}.{kind}" for i in (0, 2) for kind in ("bias", "weight")
    ]
    assert tensors["encoder.0.weight"].shape == (256, 64)
    assert tensors["decoder.2.weight"].shape == (64, 256)
    gelu = torch.nn.GELU(approximate="tanh")
    encoder = torch.nn.Sequential(torch.nn.Linear(64, 256), gelu, torch.nn.Linear(256, 5))
    encoder.load_state_dict({n.removeprefix("encoder."): t for n, t in tensors.items() if n.startswith("encoder")})
    rows = torch.arange(128.0).reshape(2, 64) % 17
    with torch.no_grad():
        expected = encoder(rows / 16).numpy()
    assert Model.load(digits_model).embed(rows.numpy()) == pytest.approx(expected, abs=1e-4)


def test_its_metadata_is_one_key_of_sorted_json(digits_model):
    header, _ = parts(digits_model)
    assert list(header["__metadata__"]) == ["aecli"]
    text = header["__metadata__"]["aecli"]
    assert text == json.dumps(json.loads(text), sort_keys=True, ensure_ascii=False)
    assert json.loads(text) == checkpoint.read(digits_model).to_json(compact=True)


def test_saving_what_was_loaded_gives_the_same_bytes(digits_model):
    checkpoint.save(Path("again.safetensors"), *checkpoint.load(digits_model))
    assert Path("again.safetensors").read_bytes() == digits_model.read_bytes()
    assert [path.name for path in Path.cwd().iterdir()] == ["again.safetensors"]


def test_a_save_that_fails_leaves_the_old_file_and_no_other(digits_model, monkeypatch):
    Path("model.safetensors").write_bytes(b"the old one")

    def refuse(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", refuse)
    with pytest.raises(Exception, match=r"model.safetensors: cannot be written .No space left on device"):
        checkpoint.save(Path("model.safetensors"), *checkpoint.load(digits_model))
    assert {path.name: path.read_bytes() for path in Path.cwd().iterdir()} == {"model.safetensors": b"the old one"}


WRITER = """
import sys
from pathlib import Path
from aecli.model import checkpoint
contents = checkpoint.load(Path(sys.argv[1]))
print(flush=True)
for _ in range(60):
    checkpoint.save(Path("shared.safetensors"), *contents)
"""


def test_two_writers_of_one_checkpoint_and_a_reader_see_whole_files_alone(digits_model, run):
    assert run("train", "--hidden-dims", "8", "--epochs", "1", "-o", "other.safetensors").code == 0
    originals = [Path("other.safetensors"), digits_model]
    shared = Path("shared.safetensors")
    shared.write_bytes(digits_model.read_bytes())
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE) for path in originals
    ]
    for writer in writers:
        writer.stdout.read(1)
    seen = set()
    while any(writer.poll() is None for writer in writers):
        loaded = checkpoint.load(shared)
        seen.add(checkpoint.dumps(*loaded))
    for writer in writers:
        writer.stdout.close()
        assert writer.returncode == 0
    assert seen == {path.read_bytes() for path in originals}
    assert sorted(path.name for path in Path().iterdir()) == ["other.safetensors", "shared.safetensors"]


def test_a_new_checkpoint_has_the_permissions_of_any_new_file(digits_model):
    Path("other").touch()
    checkpoint.save(Path("model.safetensors"), *checkpoint.load(digits_model))
    assert Path("model.safetensors").stat().st_mode == Path("other").stat().st_mode


def damage_metadata(header, data, **changes):
    metadata = json.loads(header["__metadata__"]["aecli"])
    for name, value in changes.items():
        node = metadata
        *path, last = name.split("__")
        for step in path:
            node = node[step]
        node[last] = value
    header["__metadata__"]["aecli"] = json.dumps(metadata)
    return header, data


def rename(header, data):
    header["encoder.9.weight"] = header.pop("encoder.0.weight")
    return header, data


def widen(header, data):
    header["encoder.0.weight"]["shape"] = [64, 256]
    return header, data


def shares(header, data, value):
    start, end = header["mixture.weights"]["data_offsets"]
    return data[:start] + struct.pack("<f", value) * ((end - start) // 4) + data[end:]


DAMAGE = {
    "a tensor of another name": (rename, "tensor encoder.0.weight is missing"),
    "a tensor of another shape": (widen, r"encoder.0.weight is F32 \(64, 256\), and F32 \(256, 64\) was expected"),
    "a shape of fractions": (
        lambda h, d: (h | {"encoder.0.bias": h["encoder.0.bias"] | {"shape": [256.0]}}, d),
        r"encoder.0.bias is F32 \(256.0,\)",
    ),
    "a tensor without a shape": (lambda h, d: (h | {"encoder.0.bias": 3}, d), "tensor encoder.0.bias is None None"),
    "a tensor at another place": (
        lambda h, d: (h | {"encoder.0.bias": h["encoder.0.bias"] | {"data_offsets": [0, 4]}}, d),
        "is not at its place in the file",
    ),
    "an unknown scaler": (
        lambda h, d: damage_metadata(h, d, scaler="bogus"),
        "scaler, data, source, fingerprint, mixture or versions",
    ),
    "a mixture of none": (lambda h, d: damage_metadata(h, d, mixture=0), "mixture or versions is of the wrong type"),
    "a mixture of more": (
        lambda h, d: damage_metadata(h, d, mixture=99),
        r"mixture.weights is F32 \(\d+,\), and F32 \(99,",
    ),
    "a mixture without a number": (
        lambda h, d: damage_metadata(h, d, mixture=None),
        "tensor mixture.factors is not part of the model",
    ),
    "shares below nothing": (lambda h, d: (h, shares(h, d, -1)), "mixture.weights are not positive shares"),
    "an unknown schedule": (lambda h, d: damage_metadata(h, d, train__schedule="x"), "schedule is x"),
    "metadata that is null": (lambda h, d: (h | {"__metadata__": None}, d), "not an aecli checkpoint"),
    "cut short": (lambda h, d: (h, d[:-1]), "bytes expected"),
    "too long": (lambda h, d: (h, d + b"\0"), "bytes expected"),
    "no metadata": (lambda h, d: ({k: v for k, v in h.items() if k != "__metadata__"}, d), "not an aecli checkpoint"),
    "metadata that is no JSON": (lambda h, d: (h | {"__metadata__": {"aecli": "{"}}, d), "not an aecli checkpoint"),
    "metadata that is no object": (lambda h, d: (h | {"__metadata__": {"aecli": "[]"}}, d), "not those of an aecli"),
    "a width of text": (lambda h, d: damage_metadata(h, d, model__latent_dim="5"), "ModelConfig.latent_dim is '5'"),
    "10^12 parameters": (lambda h, d: damage_metadata(h, d, model__hidden_dims=[10**6, 10**6]), "damaged checkpoint"),
    "an unknown activation": (lambda h, d: damage_metadata(h, d, model__activation="magic"), "activation is magic"),
    "an unknown field": (
        lambda h, d: damage_metadata(h, d, model__extra=1, versions__aecli="9.9"),
        "written by aecli 9.9, and this is",
    ),
    "another width in the schema": (lambda h, d: damage_metadata(h, d, schema__inputs=65), "damaged checkpoint"),
    "NaN weights": (lambda h, d: (h, b"\xff" * 8 + d[8:]), "holds NaN or infinity"),
}


@pytest.mark.parametrize(("change", "says"), DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_file_is_refused_with_what_is_wrong(digits_model, change, says):
    write(Path("bad.safetensors"), *change(*parts(digits_model)))
    with pytest.raises(CheckpointError, match=says):
        checkpoint.load(Path("bad.safetensors"))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 8,
        b"\xff" * 8,
        b"\x02" + b"\0" * 7 + b"{}",
        b"\x02" + b"\0" * 7 + b"[]",
        b"\x64" + b"\0" * 7 + b"{}",
    ],
    ids=["empty", "no header", "an endless header", "an empty header", "a list", "a header cut short"],
)
def test_a_file_that_is_no_safetensors_file_is_refused(data):
    Path("bad.safetensors").write_bytes(data)
    with pytest.raises(CheckpointError, match=r"not a safetensors file|not an aecli checkpoint"):
        checkpoint.read(Path("bad.safetensors"))
