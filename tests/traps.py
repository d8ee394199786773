"""Pickles that run code, by which it is seen whether whoever reads them lets it run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Runs:
    """Unpickled, it calls a function."""

    def __init__(self, call: Callable[..., Any], *arguments: Any) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call, self.arguments
