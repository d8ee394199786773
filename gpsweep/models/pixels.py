"""Pixel space: any network wrapped so that RGB 0–255 goes in and logits come out at input size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpsweep.errors import GpsweepError, unknown
from gpsweep.logits import pick

CHANNELS = {"RGB": 3, "BGR": 3, "L": 1}
LARGEST = 4096  # divisor, to which the smallest of images is padded
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


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
        sigmoid: whether the network gives one logit z, for a sigmoid; as logits of two classes it is (0, z),
            whose softmax is (1 − σ(z), σ(z)).
        divisor: the input is padded, at right and bottom, to a multiple of it, and the logits are cropped.
        aliases: alias of a layer → module path in the raw network.

    Attributes:
        layer_aliases: every module path of the raw network, and every alias → the path inside this wrapper.
        fill: the RGB 0–255 colour ``(3,)`` that normalises to zero.

    Raises:
        GpsweepError: a value does not fit; the message names its ``model.*`` key.
    """

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
        sigmoid: bool = False,
        divisor: int = 1,
        aliases: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        if channels not in CHANNELS:
            raise unknown("model.channels", channels, CHANNELS)
        if isinstance(divisor, bool) or not isinstance(divisor, int) or not 1 <= divisor <= LARGEST:
            raise GpsweepError(f"model.divisor={divisor}: expected a whole number from 1 to {LARGEST}.")
        factor = _numbers("model.scale", scale, count=1, nonzero=True)
        means = _numbers("model.mean", mean, count=CHANNELS[channels])
        stds = _numbers("model.std", std, count=CHANNELS[channels], nonzero=True)
        self.net = net
        self.output = output
        self.sigmoid = sigmoid
        self.layer_aliases = _layer_aliases(net, aliases or {})
        fill = (means / factor).expand(3)
        if not all(each.float().isfinite().all() for each in (factor / stds, means / stds, fill)):
            raise GpsweepError(
                f"model.scale={scale}, model.mean={mean}, model.std={std}: expected numbers by which grey "
                "levels become finite ones"
            )
        # Not persistent: the wrapper has no weights, so a state dict holds the network's alone.
        self.register_buffer("fill", (fill.flip(0) if channels == "BGR" else fill).float(), persistent=False)
        self.preprocess = Preprocess(factor / stds, -means / stds, channels=channels, divisor=divisor)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of RGB images.

        Args:
            x: ``(N, 3, H, W)``, RGB, float, grey levels 0–255; left as it is, in either memory format.

        Returns:
            ``(N, C, H, W)``, or ``(N, C)`` from a classifier.

        Raises:
            GpsweepError: if ``x`` has another shape, or the logits are not found.
        """
        if x.dim() != 4 or x.shape[1] != 3:
            raise GpsweepError(f"x: expected images (N, 3, H, W), RGB, came a tensor {tuple(x.shape)}")
        height, width = x.shape[-2:]
        inside = self.preprocess(x)
        logits = pick(self.net(inside), self.output, dims=(1, 2, 3, 4) if self.sigmoid else (2, 4))
        if self.sigmoid:
            logits = _of_two_classes(logits)
        if logits.ndim == 2:
            return logits
        if logits.shape[-2:] != inside.shape[-2:]:
            logits = F.interpolate(logits, size=inside.shape[-2:], mode="bilinear", align_corners=False)
        return logits[..., :height, :width]

    def extra_repr(self) -> str:
        """Name what else a run's identity must know, see :func:`gpsweep.identity.structure`."""
        return f"output={self.output}, sigmoid={self.sigmoid}"


class Preprocess(nn.Module):
    """What a network is given: ``reorder(x) · gain + bias``, padded with zeros at right and bottom.

    A module of its own, so that passes replayed from an inner layer do without it.

    Args:
        gain: a factor for each channel, in the network's order.
        bias: like ``gain``, what is added.
        channels: a name of :data:`CHANNELS`, see :class:`PixelNet`.
        divisor: both sides become a multiple of it.
    """

    gain: Tensor
    bias: Tensor
    luma: Tensor

    def __init__(self, gain: Tensor, bias: Tensor, *, channels: str, divisor: int) -> None:
        super().__init__()
        self.channels = channels
        self.divisor = divisor
        self.register_buffer("gain", gain.float().view(1, -1, 1, 1), persistent=False)
        self.register_buffer("bias", bias.float().view(1, -1, 1, 1), persistent=False)
        self.register_buffer("luma", torch.tensor(LUMA).view(1, 3, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return what the network is given of images ``(N, 3, H, W)``, RGB, grey levels 0–255."""
        if self.channels == "L":
            x = (x * self.luma).sum(1, keepdim=True)
        elif self.channels == "BGR":
            x = x.flip(1)
        gain, bias = self.gain, self.bias
        if x.device.type == "cpu" and x.is_contiguous(memory_format=torch.channels_last):
            # A row of pixels at once: loops over three channels take several times as long.
            gain, bias = (each.expand(-1, -1, 1, x.shape[-1]) for each in (gain, bias))
            gain, bias = (each.contiguous(memory_format=torch.channels_last) for each in (gain, bias))
        x = torch.addcmul(bias, x, gain)
        bottom, right = (-size % self.divisor for size in x.shape[-2:])
        return F.pad(x, (0, right, 0, bottom)) if bottom or right else x

    def extra_repr(self) -> str:
        """Name what no buffer tells."""
        return f"channels={self.channels}, divisor={self.divisor}"


def _of_two_classes(logit: Tensor) -> Tensor:
    """Return one logit ``(N, …)`` or ``(N, 1, …)`` as those of two classes ``(N, 2, …)``."""
    single = logit.unsqueeze(1) if logit.ndim in (1, 3) else logit
    if single.shape[1] != 1:
        raise GpsweepError(
            f"model.sigmoid=true: expected one output channel, came logits {tuple(logit.shape)}"
        )
    return torch.cat([torch.zeros_like(single), single], 1)


def _numbers(key: str, value: Any, *, count: int, nonzero: bool = False) -> Tensor:
    """Check numbers of the configuration; ``(count,)`` in double precision."""
    value = value.tolist() if hasattr(value, "tolist") else value  # of NumPy or PyTorch
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
    # A module that stands in several places goes by each of their names, and runs by the first.
    first = {module: name for name, module in net.named_modules()}
    everywhere = net.named_modules(remove_duplicate=False)
    paths = {name: f"net.{first[module]}" for name, module in everywhere if name and first[module]}
    for alias, path in aliases.items():
        if path not in paths:
            raise unknown(f"model.aliases.{alias}", path, paths)
        if alias == "input" or paths.get(alias, paths[path]) != paths[path]:
            raise GpsweepError(f"model.aliases.{alias}={path}: {alias} already names something else.")
    return paths | {alias: paths[path] for alias, path in aliases.items()}
