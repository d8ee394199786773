"""Where a network's logits are, when it returns more than one tensor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from gpsweep.errors import GpsweepError

USUAL = ("out", "logits")


def pick(output: Any, key: str | int | None = None) -> Tensor:
    """Return the logits of a network's output.

    Args:
        output: a tensor, or a mapping, tuple, list or object of tensors.
        key: its key, attribute or index of the logits; None: the tensor itself, ``out`` or ``logits``, or
            the only tensor there is.

    Raises:
        GpsweepError: if there is no such tensor, or several and ``key`` does not say which.
    """
    if key is None and isinstance(output, Tensor):
        return output
    parts = _parts(output)
    if key is not None and isinstance(output, Tensor):
        raise GpsweepError(f"model.output={key}: the network returns a tensor, so there is nothing to pick")
    tensors = {name: part for name, part in parts.items() if isinstance(part, Tensor)}
    if key is None:
        usual = [name for name in USUAL if name in tensors] or (list(tensors) if len(tensors) == 1 else [])
        if usual:
            return tensors[usual[0]]
    elif str(key) in tensors:
        return tensors[str(key)]
    what = "no tensor" if key is None else f"no tensor {key!r}"
    choices = ", ".join(tensors) or "none"
    asked = "null" if key is None else key
    if key is None and tensors:
        what = "several tensors"
    raise GpsweepError(
        f"model.output={asked}: expected the key or index of the logits; the network's "
        f"{type(output).__name__} has {what}, its tensors are: {choices}"
    )


def _parts(output: Any) -> dict[str, Any]:
    if isinstance(output, Mapping):
        return {str(name): part for name, part in output.items()}
    if isinstance(output, (tuple, list)):
        names = getattr(output, "_fields", None) or range(len(output))
        return {str(name): part for name, part in zip(names, output, strict=True)}
    return dict(vars(output)) if hasattr(output, "__dict__") else {}
