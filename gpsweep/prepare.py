"""One sample through the network before all others: do network, data and layers fit?"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from omegaconf import DictConfig

from gpsweep.data.base import SEGMENTATION, Source
from gpsweep.data.batch import Batch, batch_of
from gpsweep.engine import MemoryFormat, curve
from gpsweep.errors import GpsweepError, listing
from gpsweep.failures import failures_named, in_a_format_it_bears
from gpsweep.models.pixels import PixelNet
from gpsweep.parts import Parts

LOW, HIGH = 0.05, 0.95  # below and above which some of a trained network's probabilities are
ROUNDED = 1e-3  # of the spread of logits; by more a pass does not differ from the same one


def prepare(cfg: DictConfig, parts: Parts) -> dict[str, Any]:
    """Check on one sample that network, data and layers fit, and find a memory format the network bears.

    The sample is tried on the CPU, in 32 bits for another device: a CPU may be slow in fewer, or lack them.

    Args:
        cfg: the configuration.
        parts: what it names; the network comes to the CPU, and its weights into the memory format.

    Returns:
        options of :func:`gpsweep.counting.count`.

    Raises:
        GpsweepError: if they do not fit.
    """
    check_weights(cfg.model)
    # What is drawn after a run is prepared once more, and the run has left the network on its device.
    net, source, layers, class_map = parts.net.cpu(), parts.source, parts.grid.layer, parts.class_map
    options = {
        "seed": cfg.seed,
        "random_unit": cfg.random_unit,
        "layer_scale": cfg.layer_scale,
        "clip": (0.0, 255.0) if cfg.clip else None,
        "precision": cfg.precision.forward,
        "gradient_precision": cfg.precision.gradient,
        "points_per_forward": cfg.points_per_forward,
        "memory_format": cfg.memory_format,
        "class_map": class_map,
    }
    on_cpu = parts.trainer.strategy.root_device.type == "cpu"
    tried = {} if on_cpu else {"precision": "32", "gradient_precision": "32"}
    check_statistics(net)
    sample = batch_of(source, [0])
    z, options["memory_format"] = first_logits(net, sample, layers, options | tried)
    stated = 2 if net.sigmoid else cfg.model.classes
    check_logits(z, source, sample["image"], class_map=class_map, stated=stated)
    lost = [name for n, name in enumerate(source.classes) if class_map is not None and n not in class_map]
    if lost:
        warnings.warn(
            f"model.class_map: no class of the network stands for {listing(lost)}; they score 0", stacklevel=2
        )
    parts.refinement.check(net, sample, layers, options | tried)
    return {**options, "refinement": parts.refinement, "guides": parts.guides}


def check_weights(model: DictConfig) -> None:
    """Warn where weights are random: the user's own network may bring its own, ours do not."""
    if model.checkpoint is not None:
        return
    target = str(model.net if isinstance(model.net, str) else model.net.get("_target_"))
    brought = None if target.startswith("gpsweep.models.") else "its own"
    if model.get("weights", brought) is None:
        warnings.warn("model.checkpoint=null: the network's weights are random", stacklevel=2)
    elif model.get("encoder") is not None:
        warnings.warn("model.checkpoint=null: all weights but the encoder's are random", stacklevel=2)


def first_logits(
    net: PixelNet, sample: Batch, layers: Sequence[str], options: dict[str, Any]
) -> tuple[torch.Tensor, MemoryFormat]:
    """Predict a sample in a memory format that the network bears.

    Args:
        net: network in pixel space; its weights are put into the format.
        sample: a batch.
        layers: those that are to be perturbed.
        options: further arguments of :func:`gpsweep.engine.curve`.

    Returns:
        logits ``(N, C, …)``, and the format.

    Raises:
        GpsweepError: if the network fails.

    Warns:
        UserWarning: where it predicts otherwise when it is asked once more.
    """
    options = {**options, "points_per_forward": 1}

    def predicted(image: torch.Tensor, eps: Any, **more: Any) -> torch.Tensor:
        return next(curve(net, image, eps, **options | more))[1]

    def pulled(memory_format: MemoryFormat) -> torch.Tensor:
        # With an ε that is never asked for, a backward pass precedes the clean logits.
        return predicted(sample["image"], (0.0, 1.0), layer=layers, memory_format=memory_format)

    chance = torch.get_rng_state()
    with failures_named(sample, "on the first sample"):
        z, memory_format = in_a_format_it_bears(net, options["memory_format"], pulled)
        predicted(sample["image"].flip(-1), 0.0, memory_format=memory_format)
        again = predicted(sample["image"], 0.0, memory_format=memory_format)
    if not chance.equal(torch.get_rng_state()):
        warnings.warn(
            "model: the network draws random numbers in a forward pass, as dropout does that evaluation "
            "leaves on; each pass predicts otherwise, and gains are in part chance",
            stacklevel=2,
        )
    elif (again - z).abs().max() > ROUNDED * z.std():
        warnings.warn(
            "model: the network predicts otherwise after another image, as one that keeps something from "
            "pass to pass; gains are in part of what it keeps, and depend on the order of points and images",
            stacklevel=2,
        )
    return z, memory_format


def check_statistics(net: PixelNet) -> None:
    """Warn where mean and std are of another unit than ``scale`` gives grey levels, as 123.675 beside 1/255.

    What networks are given then holds no zero, or spans far less than one or far more than Caffe's 0–255.
    """
    gain, bias = net.preprocess.gain.flatten(), net.preprocess.bias.flatten()
    black, white = bias, bias + 255 * gain
    low, high = torch.minimum(black, white), torch.maximum(black, white)
    span = high - low
    # Some slack, for rounding and for a std of one's own.
    zero = (low < 1e-2) & (high > -1e-2)
    if not bool((zero & (span > 0.1) & (span < 300)).all()):
        warnings.warn(
            f"model.scale, model.mean, model.std: grey levels 0–255 become {low.min() + 0:.4g} … "
            f"{high.max():.4g}; expected model.scale=1 with mean and std in grey levels, and 1/255 with "
            "those of images from 0 to 1",
            stacklevel=2,
        )


def check_logits(
    z: torch.Tensor,
    source: Source,
    image: torch.Tensor,
    *,
    class_map: Sequence[int] | None = None,
    stated: int | None = None,
) -> None:
    """Check that logits fit the data's task and classes.

    Args:
        z: of one image.
        source: the data.
        image: ``(1, 3, H, W)``.
        class_map: see :func:`gpsweep.models.class_map.class_map`.
        stated: how many output channels the configuration says that the network has; as many as the data has
            classes where it says nothing, and then there may be more.

    Raises:
        GpsweepError: if they do not.

    Warns:
        UserWarning: where channels are left over that stand for no class, and for probabilities.
    """
    expected = (1, "C", *image.shape[2:]) if source.task == SEGMENTATION else (1, "C")
    if z.dim() != len(expected) or tuple(z.shape[2:]) != expected[2:]:
        raise GpsweepError(
            f"model: expected logits {expected} for {source.task}, came {tuple(z.shape)}; "
            "does the network do what the data asks?"
        )
    if class_map is not None and z.shape[1] != len(class_map):
        raise GpsweepError(
            f"model.class_map: expected a class for each of the network's {z.shape[1]} output channels, "
            f"came {len(class_map)}"
        )
    if class_map is None and z.shape[1] < max(2, len(source.classes)):
        raise GpsweepError(
            f"model.classes: the network has {z.shape[1]} output channels, expected at least "
            f"{max(2, len(source.classes))}, the classes of data={source.name}"
        )
    if stated not in (None, len(source.classes), z.shape[1]):
        raise GpsweepError(f"model.classes={stated}: the network has {z.shape[1]} output channels")
    if class_map is None and z.shape[1] > len(source.classes) + 1:  # one more is usual, for void
        warnings.warn(
            f"model.class_map=null: of the network's {z.shape[1]} channels the first "
            f"{len(source.classes)} stand for the classes of data={source.name}, in their order, and the "
            "others for none",
            stacklevel=2,
        )
    warn_of_probabilities(z)


def warn_of_probabilities(z: torch.Tensor) -> None:
    """Warn where logits look like what a softmax or a sigmoid makes of them.

    Args:
        z: ``(N, C, …)``.
    """
    if z.min() >= 0 and (z.sum(1) - 1).abs().max() < 1e-3:
        warnings.warn(
            "model: the network seems to return probabilities, expected logits; take its softmax away",
            stacklevel=2,
        )
    elif z.shape[1] == 2 and not z[:, 0].any() and z.min() >= 0 and z.max() <= 1:
        warnings.warn(
            "model.sigmoid=true: the network seems to return probabilities, expected a logit; take its "
            "sigmoid away",
            stacklevel=2,
        )
    elif 0 <= z.min() < LOW and HIGH < z.max() <= 1:
        warnings.warn(
            "model: the network seems to return probabilities, expected logits; take its sigmoid away",
            stacklevel=2,
        )
