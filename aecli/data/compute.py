"""What pyarrow.compute holds, loaded when it is first used: it takes as long to load as a table takes to be read."""

from typing import Any


def __getattr__(name: str) -> Any:
    import pyarrow.compute

    return getattr(pyarrow.compute, name)
