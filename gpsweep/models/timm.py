"""timm's classifiers."""

from __future__ import annotations

from typing import Any

from timm import create_model, get_pretrained_cfg, is_model, list_models, list_pretrained
from torch import nn

from gpsweep.errors import GpsweepError, unknown
from gpsweep.models.download import explained

DEFAULT = "DEFAULT"


def timm(*, arch: str, classes: int, weights: str | None = None, **options: Any) -> nn.Module:
    """Build a classifier; its ``pretrained_cfg`` says the mean and std that it wants.

    Args:
        arch: a name of ``timm.list_models()``, such as ``resnet18``; a tag may follow after a dot.
        classes: output channels.
        weights: a tag of its weights, such as ``a1_in1k``, or ``DEFAULT``; null downloads nothing.
        options: passed on to the architecture: ``img_size``, ``in_chans``, …

    Raises:
        GpsweepError: an unknown name, weights of other classes, or weights that do not come.
    """
    if not is_model(arch):
        raise unknown("model.arch", arch, list_models())
    name = arch if weights is None else _tagged(arch, weights, classes)
    with explained(weights):
        net = create_model(name, pretrained=weights is not None, num_classes=classes, **options)
    return net


def _tagged(arch: str, weights: str, classes: int) -> str:
    """Name the architecture with the tag of its weights, whose classes must be those asked for."""
    base = arch.partition(".")[0]
    tags = [name.partition(".")[2] for name in list_pretrained(f"{base}.*")]
    if weights not in (DEFAULT, *tags):
        raise unknown("model.weights", weights, [DEFAULT, *tags])
    name = arch if weights == DEFAULT else f"{base}.{weights}"
    stated = get_pretrained_cfg(name)
    count = stated.num_classes if stated else None
    if count != classes:
        # timm itself would put a random head in place of the trained one.
        raise GpsweepError(f"model.weights={weights}: has {count} classes, but model.classes={classes}.")
    return name
