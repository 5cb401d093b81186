"""The options of `aecli.options` as flags. Nothing heavy is imported here, because --help and TAB load this module."""

import dataclasses
import functools
import inspect
import math
import re
from collections.abc import Callable
from types import NoneType
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer

from aecli.cli import completion
from aecli.options import FitOptions, Option, hints


def parse_delimiter(text: str) -> str:
    r"""Check that the text is one character. A tab may be typed as \t."""
    text = text.replace("\\t", "\t")
    if len(text) != 1 or text in '"\r\n' or not text.isascii():
        raise typer.BadParameter(f"{text!r} is not a single character such as ;")
    return text


def parse_dims(text: str) -> tuple[int, ...]:
    """Read "256,128" as (256, 128), and an empty text as no layer."""
    if isinstance(text, tuple):
        return text
    try:
        dims = tuple(int(width) for width in text.split(",")) if text.strip() else ()
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a list of widths such as 256,128") from None
    if any(width < 1 for width in dims):
        raise typer.BadParameter(f"{text!r} has a width below 1")
    return dims


def parse_above_0(text: str) -> float:
    """Read a finite number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise typer.BadParameter(f"{text} is not a number above 0")
    return number


def parse_size(text: str) -> tuple[int, int]:
    """Read "64x48" as (64, 48), and "28" as (28, 28): width and height in pixels."""
    if isinstance(text, tuple):
        return text
    found = re.fullmatch(r"(\d{1,5})(?:[x×](\d{1,5}))?", text)
    size = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    if min(size) < 1:
        raise typer.BadParameter(f"{text!r} is not a size such as 28 or 64x48")
    return size


def parse_shape(text: str) -> tuple[int, ...]:
    """Read "28x28" as (28, 28), "32x24x3" as (32, 24, 3), and "3x32x24", with the channels first, as (3, 32, 24)."""
    if isinstance(text, tuple):
        return text
    found = re.fullmatch(r"(\d{1,5})[x×](\d{1,5})(?:[x×](\d{1,5}))?", text)
    shape = tuple(int(size) for size in found.groups() if size) if found else ()
    if not shape or min(shape) < 1 or (len(shape) == 3 and not {shape[0], shape[2]} & {1, 3, 4}):
        raise typer.BadParameter(f"{text!r} is not a shape such as 28x28, 32x32x3 or 3x32x32")
    return shape


def parse_range(text: str) -> tuple[float, float]:
    """Read "0,1" as (0.0, 1.0)."""
    if isinstance(text, tuple):
        return text
    try:
        low, high = (float(each) for each in text.split(","))
    except ValueError:
        low = high = 0.0
    if not (low < high and abs(low) + abs(high) < float("inf")):
        raise typer.BadParameter(f"{text!r} is not a range such as 0,1 or -1,1")
    return low, high


PARSERS: dict[str, Callable[[str], Any]] = {
    "hidden_dims": parse_dims,
    "channels": parse_dims,
    "lr": parse_above_0,
    "beta": parse_above_0,
    "image_size": parse_size,
    "image_shape": parse_shape,
    "input_range": parse_range,
    "delimiter": parse_delimiter,
}


def spread(command: Callable[..., None]) -> Callable[..., None]:
    """Return the command with each parameter of an option class replaced by one flag per option of the class.

    So an option is declared once, in its class, and the command gets an object of the class.
    """
    wanted = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {name: hint for name, hint in wanted.items() if dataclasses.is_dataclass(hint)}
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(command).parameters.values():
        if parameter.name in groups:
            parameters += _flags(groups[parameter.name])
        else:
            parameters.append(parameter.replace(annotation=wanted[parameter.name]))

    @functools.wraps(command)
    def called(**given: Any) -> None:
        made = {}
        for name, group in groups.items():
            values = {field: given.pop(field) for field, (_, option) in hints(group).items() if option is not None}
            made[name] = group(**{key: tuple(v) if isinstance(v, list) else v for key, v in values.items()})
        command(**given, **made)

    called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    called.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return called


def _flags(group: type[Any]) -> list[inspect.Parameter]:
    """Return the flags of a class of options, as parameters that Typer reads."""
    kinds = hints(group)
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            default=list(field.default) if isinstance(field.default, tuple) else field.default,
            annotation=_flag(field.name, kinds[field.name][0], option),
        )
        for field in dataclasses.fields(group)
        if (option := kinds[field.name][1]) is not None
    ]


def _flag(name: str, kind: Any, option: Option) -> Any:
    """Return the annotation from which Typer makes an option's flag."""
    flag = name.replace("_", "-")
    names = {bool: [f"--{flag}"], bool | None: [f"--{flag}/--no-{flag}"]}.get(kind, [])
    parser = PARSERS.get(name)
    plain = next((each for each in get_args(kind) if each is not NoneType), kind) if _may_be_none(kind) else kind
    if parser is not None:
        kind = Any
    elif get_origin(plain) is tuple:
        kind = list[str]
    info = typer.Option(
        *names,
        help=option.help,
        metavar=option.metavar or None,
        show_default=option.default or _by_recipe(name) or True,
        min=option.low,
        max=option.high,
        parser=parser,
        autocompletion=completion.columns if option.columns else None,
        rich_help_panel=option.panel,
    )
    return Annotated[kind, info]


def _may_be_none(kind: Any) -> bool:
    return NoneType in get_args(kind)


@functools.cache
def _rules() -> dict[str, str]:
    """Return examples of the modern recipe's rules, for options whose default depends on the rows."""
    from aecli.recipes import resolve

    mnist, digits = (
        resolve(FitOptions(), inputs, rows, bounded=True)[1] for inputs, rows in ((784, 60_000), (64, 1437))
    )
    return {
        name: f"by the number of rows: {getattr(mnist, name)} for mnist, {getattr(digits, name)} for digits"
        for name in ("epochs", "batch_size")
    }


def _by_recipe(name: str) -> str | None:
    """Return the modern recipe's default for an option, None if the recipe does not set it."""
    if not hasattr(FitOptions, name):
        return None
    from aecli.recipes import RECIPES

    value = getattr(RECIPES["modern"], name)
    if name in ("recipe", "seed") or value is None:
        return _rules().get(name)
    return (
        ",".join(map(str, value))
        if isinstance(value, tuple)
        else f"{value:g}"
        if isinstance(value, float)
        else str(value)
    )
