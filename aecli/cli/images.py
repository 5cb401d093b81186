"""The images that reconstruct and decode write: one to a file, or all to a folder."""

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from aecli.cli import rows
from aecli.data.formats import IMAGES
from aecli.data.places import Place, Where, place
from aecli.errors import DataError, UsageError

if TYPE_CHECKING:
    from aecli.inference import Decoded, Model


def are_wanted(loaded: "Model", output: str | None, given: Sequence[str]) -> bool:
    """Return whether an output is an image or a folder of images.

    Raises UsageError for `given` flags of tables, and for an output that may mean a folder or a table.
    """
    if output is None or output == "-":
        return False
    path = place(output)
    if isinstance(path, Place):
        path.check_writable(folder=output.endswith("/"))
    if output.endswith("/") or path.is_dir():
        if given:
            raise UsageError(
                f"a folder is for images, and {_for_tables(given)}",
                hint="name a file, such as rebuilt.csv",
            )
        return True
    if "--format" in given:
        return False
    if not path.suffix and loaded.schema.image_shape is not None:
        raise UsageError(
            f"{output}: neither a folder nor a name with a known file extension",
            hint=f"images go to a folder, -o {shlex.quote(output + '/')}; tables to a file, "
            f"-o {shlex.quote(output + '.csv')}",
        )
    is_image = path.suffix.lower() in IMAGES
    if is_image and given:
        raise UsageError(f"{output} is an image, and {_for_tables(given)}", hint="leave that out, or name a .csv")
    return is_image


def _for_tables(given: Sequence[str]) -> str:
    return f"{' and '.join(given)} {'is' if len(given) == 1 else 'are'} for tables"


def write(
    loaded: "Model",
    outputs: "Iterator[Decoded]",
    path: Where,
    *,
    named: str,
    inputs: Sequence[str],
    roots: Sequence[Path] | None = None,
    originals: Sequence[str] = (),
    quiet: bool,
) -> None:
    """Write the images of `outputs` to a file or a folder. Messages call the images `named`.

    In a folder each image keeps its path relative to one of the `roots`, by default one of the `inputs`. No image gets
    the path of another one of the `originals`.
    Raises DataError if the model rebuilds tables.
    """
    from aecli.data import image_sinks

    shape = loaded.schema.image_shape
    if shape is None:
        raise DataError(f"{path}: {loaded.name} rebuilds tables, not images", hint="name a file, such as rebuilt.csv")
    replaced = path.is_file()
    if path.suffix.lower() in IMAGES and not path.is_dir():
        _write_one(loaded, outputs, path, named, inputs)
    else:
        with image_sinks.to_images(path, [place(word) for word in inputs], roots, originals) as sink:
            for out in outputs:
                sink.write(out.recon.reshape(-1, *shape), loaded.schema, out.batch.kept)
    rows.say_written(path, replaced=replaced, quiet=quiet)


def _write_one(loaded: "Model", outputs: "Iterator[Decoded]", path: Where, named: str, inputs: Sequence[str]) -> None:
    """Write the only image. Raises DataError if there is not exactly one."""
    from aecli import files
    from aecli.data import image_sinks

    rows.check_output(path, loaded.name, *inputs)
    rows.keep_checkpoint(path)
    first, count = None, 0
    for out in outputs:
        first = out.recon[:1] if first is None or not len(first) else first
        count += len(out.recon)
    if first is None or count != 1:
        raise DataError(f"{path} is one image, and {named} {count:,}", hint=f"name a folder: -o {path.stem}/")
    ending = image_sinks.image_ending(path, loaded.schema)
    if ending != path.suffix.lower():
        what = f"{loaded.schema.dtype or 'uint8'}{' with alpha' * image_sinks.has_alpha(loaded.schema)}"
        raise DataError(f"{path}: {path.suffix} cannot hold images of {what}", hint=f"-o {path.with_suffix(ending)}")
    with files.replacing(path) as stream:
        image_sinks.write_image(stream, first.reshape(loaded.schema.image_shape), loaded.schema, ending)
