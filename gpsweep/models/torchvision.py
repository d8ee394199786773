"""torchvision's segmentation and classification networks."""

from __future__ import annotations

import re
from typing import Any

from torch import Tensor, nn
from torchvision import models
from torchvision.models import WeightsEnum

from gpsweep.errors import GpsweepError, unknown
from gpsweep.models.download import explained

PUBLISHED = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12])\.")  # in the files, for norm1, conv2, …
DRAWN = ("googlenet", "inception_v3")  # they warn, and take seconds to draw weights, unless told not to

ASSUMED = (
    "transform_input=true, as torchvision's own weights want; trained from scratch: "
    "+model.net.transform_input=false"
)


def torchvision(*, arch: str, classes: int, weights: str | None = None, **options: Any) -> nn.Module:
    """Build a segmentation or classification network, without its auxiliary head.

    Its ``pretrained_cfg`` says the mean and std that torchvision's weights for this architecture want, and
    what else was assumed of a checkpoint.

    Args:
        arch: a name of ``torchvision.models.list_models()``, such as ``fcn_resnet50`` or ``resnet18``.
        classes: output channels.
        weights: a name of the architecture's weights, such as ``DEFAULT``; null downloads nothing.
        options: passed on to the architecture: ``dropout``, …

    Raises:
        GpsweepError: an unknown name, weights of other classes, or weights that do not come.
    """
    segmentation = models.list_models(module=models.segmentation)
    names = segmentation + models.list_models(module=models)
    if arch not in names:
        raise unknown("model.arch", arch, names)
    offered = models.get_model_weights(arch)
    chosen = _weights(offered, weights, classes)
    if arch in segmentation:
        options = {"weights_backbone": None} | options
    assumed = arch in DRAWN and chosen is None and "transform_input" not in options
    if arch in DRAWN:
        # torchvision sets transform_input for its own weights alone, which a checkpoint may hold as well.
        options = {"init_weights": False, "transform_input": True} | options
    with explained(weights):
        net: nn.Module = models.get_model(arch, weights=chosen, num_classes=classes, **options)
    if getattr(net, "aux_classifier", None) is not None and not options.get("aux_loss"):
        net._modules["aux_classifier"] = None  # it serves training alone
    if isinstance(net, models.DenseNet):
        net.register_load_state_dict_pre_hook(_rename)
    preset = (chosen or next(iter(offered))).transforms()
    stated = {"mean": preset.mean, "std": preset.std}
    vars(net)["pretrained_cfg"] = stated | ({"assumed": ASSUMED} if assumed else {})
    return net


def _rename(net: nn.Module, state: dict[str, Tensor], *_: Any) -> None:
    """Give the weights that torchvision publishes for DenseNets the names that its networks have today."""
    for name in list(state):
        state[PUBLISHED.sub(r"\1\2.", name)] = state.pop(name)


def _weights(offered: type[WeightsEnum], name: str | None, classes: int) -> WeightsEnum | None:
    if name is None:
        return None
    if name not in offered.__members__:
        raise unknown("model.weights", name, offered.__members__)
    weights = offered[name]
    count = len(weights.meta["categories"])
    if count != classes:
        raise GpsweepError(f"model.weights={name}: has {count} classes, but model.classes={classes}.")
    return weights
