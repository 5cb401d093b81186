"""Defer imports until they are used: Typer imports much that aecli never uses."""

import contextlib
import importlib
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


@contextlib.contextmanager
def deferred(*names: str) -> Iterator[None]:
    """Replace modules by stand-ins until the block ends. Importing a class from a stand-in costs nothing.

    The class loads its module when it is first used, inside the block or later.
    """
    stand_ins = {name: Module(name) for name in names if name not in sys.modules}
    sys.modules.update(stand_ins)
    try:
        yield
    finally:
        for name, stand_in in stand_ins.items():
            if sys.modules.get(name) is stand_in:
                del sys.modules[name]


@contextlib.contextmanager
def absent(name: str) -> Iterator[None]:
    """Make the import of a module that is not loaded fail until the block ends, for packages that can do without it."""
    finder = _Absent(name)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


class _Absent:
    """A finder and loader of one module: the module is found, but its import fails."""

    def __init__(self, name: str) -> None:
        self._name = name

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:  # noqa: ARG002, as is asked
        return ModuleSpec(fullname, self) if fullname == self._name else None  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> None:
        raise ModuleNotFoundError(f"{spec.name} is not for this program", name=spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Do nothing: no module is created."""


class Module(ModuleType):
    """A stand-in for a module that is not loaded. Any class of it is a stand-in, too."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # the import system asks whether it is a package
            raise AttributeError(name)
        return Class(self.__name__, name)


class Class:
    """A stand-in for a class, which loads the class's module on first use. A name in an annotation is not a use."""

    def __init__(self, module: str, name: str) -> None:
        self._of = module, name

    def _load(self) -> Any:
        module, name = self._of
        if isinstance(sys.modules.get(module), Module):
            del sys.modules[module]
        return getattr(importlib.import_module(module), name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._load()(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._load(), name)

    def __instancecheck__(self, instance: Any) -> bool:
        return isinstance(instance, self._load())

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[Any]:
        return (self._load(),)

    def __or__(self, other: Any) -> Any:
        return self

    __ror__ = __or__
