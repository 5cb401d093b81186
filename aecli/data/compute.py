"""The functions of pyarrow.compute, loaded on first use: loading takes as long as reading a table."""

from typing import Any


def __getattr__(name: str) -> Any:
    import pyarrow.compute

    return getattr(pyarrow.compute, name)
