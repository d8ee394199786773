"""Segmentation networks of segmentation_models_pytorch: any architecture on any encoder."""

from __future__ import annotations

from typing import Any, cast

import segmentation_models_pytorch
from segmentation_models_pytorch.encoders import encoders, get_preprocessing_params
from timm import get_pretrained_cfg, is_model, list_models
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import nn

from gpsweep.errors import GpsweepError, unknown
from gpsweep.models.download import explained

UNIVERSAL = "tu-"  # the prefix of timm's networks as encoders


def smp(*, arch: str, encoder: str, classes: int, weights: str | None = None, **options: Any) -> nn.Module:
    """Build a segmentation network, its logits at input size.

    Its ``pretrained_cfg`` says the mean and std that its encoder wants: of timm's as timm states them, of
    others as their weights do, and ImageNet's where ``weights`` is null.

    Args:
        arch: the architecture's class name, such as ``Unet``; upper or lower case.
        encoder: a name of ``smp.encoders.get_encoder_names()``, or ``tu-`` and a timm network.
        classes: output channels.
        weights: the encoder's pretrained weights, such as ``imagenet``; null downloads nothing.
        options: passed on to the architecture: ``decoder_channels``, ``in_channels``, …

    Raises:
        GpsweepError: an unknown name, or weights that do not come.
    """
    architectures = segmentation_models_pytorch.MODEL_ARCHITECTURES_MAPPING
    if arch.lower() not in architectures:
        raise unknown("model.arch", arch, [kind.__name__ for kind in architectures.values()])
    _check_encoder(encoder)
    _check_weights(encoder, weights)
    with explained(weights):
        net = segmentation_models_pytorch.create_model(
            arch,
            encoder_name=encoder,
            # timm's own tag is part of the encoder's name, so that here it is yes or no.
            encoder_weights=weights and (True if encoder.startswith(UNIVERSAL) else weights),
            classes=classes,
            **options,
        )
        vars(net)["pretrained_cfg"] = _statistics(encoder, weights)
    return cast(nn.Module, net)


def _statistics(encoder: str, weights: str | None) -> dict[str, list[float]]:
    """Return the mean and std that an encoder wants."""
    stated: dict[str, Any] = {"mean": IMAGENET_DEFAULT_MEAN, "std": IMAGENET_DEFAULT_STD}
    if encoder.startswith(UNIVERSAL):
        cfg = get_pretrained_cfg(encoder.removeprefix(UNIVERSAL))
        stated = vars(cfg) if cfg else stated
    elif weights is not None:
        # Of its own encoders smp keeps them beside the weights alone, which have just been fetched.
        stated = get_preprocessing_params(encoder, weights)
    return {name: list(stated[name]) for name in ("mean", "std")}


def _check_encoder(encoder: str) -> None:
    if encoder.startswith(UNIVERSAL):
        if not is_model(encoder.removeprefix(UNIVERSAL)):
            raise unknown("model.encoder", encoder, [UNIVERSAL + name for name in list_models()])
    elif encoder not in encoders:
        raise unknown("model.encoder", encoder, encoders)


def _check_weights(encoder: str, weights: str | None) -> None:
    if weights is None or encoder not in encoders:
        return
    offered = list(encoders[encoder]["pretrained_settings"])
    if not offered:
        raise GpsweepError(f"model.weights={weights}: encoder {encoder} has none; leave it null.")
    if weights not in offered:
        raise unknown("model.weights", weights, offered)
