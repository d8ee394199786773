"""Pixel space: any network wrapped so that RGB 0–255 goes in and logits come out at input size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpsweep.errors import GpsweepError, listing, unknown

CHANNELS = {"RGB": 3, "BGR": 3, "L": 1}
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
LOGITS = ("out", "logits")  # what torchvision and transformers call them


class PixelNet(nn.Module):
    """A network whose input is RGB 0–255 and whose logits leave at input size.

    ``z = net((reorder(x) · scale − mean) / std)``, evaluated as one multiply-add ``x · gain + bias``.

    Args:
        net: the raw network; it stays reachable as ``.net``.
        mean: one value a channel, in the network's order, after ``scale``; one number serves all channels.
        std: like ``mean``; no zeros.
        scale: what grey levels are multiplied with first, ``1 / 255`` for networks trained on 0–1.
        channels: what the network was trained on: ``RGB``, ``BGR`` or ``L`` (luma, one channel).
        output: key or index of the logits where the network returns a dict or tuple; None: the usual one.
        divisor: the input is padded, at right and bottom, to a multiple of it, and the logits are cropped.
        aliases: alias of a layer → module path in the raw network.

    Attributes:
        layer_aliases: every module path of the raw network, and every alias → the path inside this wrapper.
        fill: the RGB 0–255 colour ``(3,)`` that normalises to zero.

    Raises:
        GpsweepError: a value does not fit; the message names its ``model.*`` key.
    """

    gain: Tensor
    bias: Tensor
    luma: Tensor
    fill: Tensor

    def __init__(
        self,
        net: nn.Module,
        *,
        mean: Sequence[float] | float = 0.0,
        std: Sequence[float] | float = 1.0,
        scale: float = 1 / 255,
        channels: str = "RGB",
        output: str | int | None = None,
        divisor: int = 1,
        aliases: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        if channels not in CHANNELS:
            raise unknown("model.channels", channels, CHANNELS)
        if isinstance(divisor, bool) or not isinstance(divisor, int) or divisor < 1:
            raise GpsweepError(f"model.divisor={divisor}: expected a whole number from 1 up.")
        factor = _numbers("model.scale", scale, count=1, nonzero=True)
        means = _numbers("model.mean", mean, count=CHANNELS[channels])
        stds = _numbers("model.std", std, count=CHANNELS[channels], nonzero=True)
        self.net = net
        self.channels = channels
        self.output = output
        self.divisor = divisor
        self.layer_aliases = _layer_aliases(net, aliases or {})
        fill = (means / factor).expand(3)
        # Not persistent: the wrapper has no weights, so a state dict holds the network's alone.
        self.register_buffer("gain", (factor / stds).float().view(1, -1, 1, 1), persistent=False)
        self.register_buffer("bias", (-means / stds).float().view(1, -1, 1, 1), persistent=False)
        self.register_buffer("luma", torch.tensor(LUMA).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("fill", (fill.flip(0) if channels == "BGR" else fill).float(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of RGB images.

        Args:
            x: ``(N, 3, H, W)``, RGB, float, grey levels 0–255; left as it is, in either memory format.

        Returns:
            ``(N, C, H, W)``, or ``(N, C)`` from a classifier.
        """
        height, width = x.shape[-2:]
        inside = self._padded(self._normalised(x))
        logits = _logits(self.net(inside), self.output)
        if logits.ndim == 2:
            return logits
        if logits.shape[-2:] != inside.shape[-2:]:
            logits = F.interpolate(logits, size=inside.shape[-2:], mode="bilinear", align_corners=False)
        return logits[..., :height, :width]

    def _normalised(self, x: Tensor) -> Tensor:
        if self.channels == "L":
            x = (x * self.luma).sum(1, keepdim=True)
        elif self.channels == "BGR":
            x = x.flip(1)
        return torch.addcmul(self.bias, x, self.gain)

    def _padded(self, x: Tensor) -> Tensor:
        bottom, right = (-size % self.divisor for size in x.shape[-2:])
        return F.pad(x, (0, right, 0, bottom)) if bottom or right else x


def _numbers(key: str, value: Any, *, count: int, nonzero: bool = False) -> Tensor:
    """Check numbers of the configuration; ``(count,)`` in double precision."""
    listed = isinstance(value, Sequence) and not isinstance(value, str)
    values = list(value) if listed else [value] * count
    if any(isinstance(v, bool) or not isinstance(v, int | float) or not isfinite(v) for v in values):
        raise GpsweepError(f"{key}={value}: expected finite numbers.")
    if len(values) != count:
        raise GpsweepError(f"{key}={value}: expected one value a channel, {count}, came {len(values)}.")
    if nonzero and 0 in values:
        raise GpsweepError(f"{key}={value}: must not be 0.")
    return torch.tensor(values, dtype=torch.float64)


def _layer_aliases(net: nn.Module, aliases: Mapping[str, str]) -> dict[str, str]:
    """Map what users write, the raw network's paths and the model's aliases, to paths inside the wrapper."""
    paths = {name: f"net.{name}" for name, _ in net.named_modules() if name}
    for alias, path in aliases.items():
        if path not in paths:
            raise unknown(f"model.aliases.{alias}", path, paths)
        if alias == "input" or paths.get(alias, paths[path]) != paths[path]:
            raise GpsweepError(f"model.aliases.{alias}={path}: {alias} already names something else.")
    return paths | {alias: paths[path] for alias, path in aliases.items()}


def _logits(out: Any, output: str | int | None) -> Tensor:
    """Pick the logits from whatever the network returned."""
    logits = _picked(out, output)
    if not isinstance(logits, Tensor) or logits.ndim not in (2, 4):
        came = f"a tensor {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
        raise GpsweepError(
            f"model.output={_word(output)}: expected logits (N, C, H, W) or (N, C), came {came}{_there(out)}."
        )
    return logits


def _picked(out: Any, output: str | int | None) -> Any:
    if isinstance(out, Tensor) and output is None:
        return out
    if isinstance(out, Mapping):
        entries: dict[Any, Any] = dict(out)
    elif isinstance(out, tuple | list):
        entries = dict(enumerate(out)) | dict(zip(getattr(out, "_fields", ()), out, strict=False))
    else:
        raise GpsweepError(
            f"model.output={_word(output)}: expected a tensor, dict or tuple of the network, came "
            f"{type(out).__name__}; where it returns the logits alone, model.output=null."
        )
    if output is None:
        tensors = {id(value): value for value in entries.values() if isinstance(value, Tensor)}
        usual = [entries[name] for name in LOGITS if isinstance(entries.get(name), Tensor)]
        found = usual[:1] or (list(tensors.values()) if len(tensors) == 1 else [])
        if not found:
            raise GpsweepError(f"model.output=null: which one holds the logits? Name it{_there(out)}.")
        return found[0]
    last = len(out) if isinstance(out, tuple | list) else 0
    key = output + last if isinstance(output, int) and -last <= output < 0 else output
    if key not in entries:
        raise GpsweepError(f"model.output={output}: not in what the network returns{_there(out)}.")
    return entries[key]


def _there(out: Any) -> str:
    if isinstance(out, Mapping):
        return f"; its keys: {listing([_described(k, v) for k, v in out.items()])}"
    if isinstance(out, tuple | list):
        return f"; its indices: {listing([_described(k, v) for k, v in enumerate(out)])}"
    return ""


def _described(key: object, value: object) -> str:
    return f"{key} {tuple(value.shape)}" if isinstance(value, Tensor) else f"{key} ({type(value).__name__})"


def _word(output: str | int | None) -> str:
    return "null" if output is None else str(output)
