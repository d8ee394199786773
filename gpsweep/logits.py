"""Where a network's logits are, when it returns more than one tensor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from torch import Tensor

from gpsweep.errors import GpsweepError, listing

USUAL = ("out", "logits")  # what torchvision and transformers call them


def pick(out: Any, output: str | int | None = None, *, dims: Sequence[int] = ()) -> Tensor:
    """Return the logits of what a network returned.

    Args:
        out: a tensor, or a mapping, tuple, list or dataclass that holds tensors.
        output: key or index of the logits; None: the tensor itself, ``out`` or ``logits``, or the only one.
        dims: how many dimensions logits may have; any if empty.

    Raises:
        GpsweepError: if there is no such tensor, or several and ``output`` does not say which.
    """
    logits = _picked(out, output)
    if not isinstance(logits, Tensor) or (dims and logits.ndim not in dims):
        came = f"a tensor {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
        raise GpsweepError(
            f"model.output={_word(output)}: expected logits (N, C, H, W) or (N, C), came {came}{_there(out)}."
        )
    return logits


def _picked(out: Any, output: str | int | None) -> Any:
    if isinstance(out, Tensor) and output is None:
        return out
    out = _as_mapping(out)
    if isinstance(out, Mapping):
        entries: dict[Any, Any] = dict(out)
    elif isinstance(out, tuple | list):
        entries = dict(enumerate(out)) | dict(zip(getattr(out, "_fields", ()), out, strict=False))
    else:
        advice = "" if output is None else "; where it returns the logits alone, model.output=null"
        raise GpsweepError(
            f"model.output={_word(output)}: expected a tensor, dict, tuple or dataclass of the network, came "
            f"{type(out).__name__}{advice}."
        )
    if output is None:
        tensors = {id(value): value for value in entries.values() if isinstance(value, Tensor)}
        usual = [entries[name] for name in USUAL if isinstance(entries.get(name), Tensor)]
        found = usual[:1] or (list(tensors.values()) if len(tensors) == 1 else [])
        if not found:
            raise GpsweepError(f"model.output=null: which one holds the logits? Name it{_there(out)}.")
        return found[0]
    last = len(out) if isinstance(out, tuple | list) else 0
    key = output + last if isinstance(output, int) and -last <= output < 0 else output
    if key not in entries:
        raise GpsweepError(f"model.output={output}: not in what the network returns{_there(out)}.")
    return entries[key]


def _as_mapping(out: Any) -> Any:
    if is_dataclass(out) and not isinstance(out, Mapping | type):
        return {each.name: getattr(out, each.name) for each in fields(out)}
    return out


def _there(out: Any) -> str:
    out = _as_mapping(out)
    if isinstance(out, Mapping):
        return f"; its keys: {listing([_described(k, v) for k, v in out.items()])}"
    if isinstance(out, tuple | list):
        return f"; its indices: {listing([_described(k, v) for k, v in enumerate(out)])}"
    return ""


def _described(key: object, value: object) -> str:
    return f"{key} {tuple(value.shape)}" if isinstance(value, Tensor) else f"{key} ({type(value).__name__})"


def _word(output: str | int | None) -> str:
    return "null" if output is None else str(output)
