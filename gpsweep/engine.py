"""One gradient, the whole curve: the logits of every point of a grid for one batch.

The three steps of Guided Perturbations (paper, Fig. 2 and Eq. 1): predict, pull the error signal of a label
distribution back to a layer, move the layer by ε along the step, predict again:

    z = f(x),  g = (∂z/∂h)ᵀ s(softmax(z), ℓ(z)),  z_ε = f(h + ε · step(g))

All ε share the clean forward and one backward pass per label and signal, which serves every layer; a point
then costs only what depends on its layer. Nothing here knows Lightning or Hydra.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Literal

import torch
from torch import Tensor, nn

from gpsweep import memory
from gpsweep.errors import GpsweepError, listing, unknown
from gpsweep.labels import Hints
from gpsweep.memo import Memo
from gpsweep.passes import Passes
from gpsweep.points import LABELS, Point, grid
from gpsweep.precision import Precision, check_precision
from gpsweep.walk import Guide, Pull, Step, Walk

MemoryFormat = Literal["channels_last", "contiguous"]
CHOICES = {
    "layer_scale": ("rms", "absolute"),
    "random_unit": ("pixel", "image"),
    "memory_format": ("channels_last", "contiguous"),
}


def curve(
    net: nn.Module,
    x: Tensor,
    eps: Any,
    label: Any = "argmax",
    signal: Any = "eq5",
    layer: Any = "input",
    step: Any = "sign",
    iterations: Any = 1,
    target: Tensor | None = None,
    sample_ids: Sequence[str] | None = None,
    *,
    valid: Tensor | None = None,
    seed: int = 0,
    random_unit: Literal["pixel", "image"] = "pixel",
    layer_scale: Literal["rms", "absolute"] = "rms",
    clip: tuple[float, float] | None = None,
    points_per_forward: int | Literal["auto"] = 1,
    precision: Precision = "32",
    gradient_precision: Precision | None = "32",
    memory_format: MemoryFormat = "channels_last",
    output: str | int | None = None,
    class_map: Sequence[int] | None = None,
    guides: Mapping[str, Guide] | None = None,
    memo: Memo | None = None,
) -> Iterator[tuple[Point, Tensor]]:
    """Yield every point of a grid with its logits, z_ε = f(h + ε · step(g)) (paper, Eq. 1).

    Mistakes in the arguments are told at the call; the passes are made, and what they meet is told, as points
    are asked for.

    Example:
        ```python
        for point, logits in curve(net, x, eps=[-1, 0, 1], label=["argmax", "uniform"]):
            print(point.label, point.eps, logits.argmax(1))
        ```

    Args:
        net: any module in evaluation mode; its weights are left alone.
        x: batch ``(N, …)``, in the units in which ε is given.
        eps: step length or list of them. At the input in the units of ``x``; at an inner layer relative to
            the RMS of each image's clean activation (``layer_scale="rms"``) or absolute. ε = 0 yields the
            clean logits.
        label: ``argmax``, ``random_onehot``, ``uniform``, ``top2``, ``ground_truth``, a guide, or a list.
        signal: ``eq5``, ``cross_entropy``, ``likelihood``, or a list.
        layer: ``input``, a module path (``@k`` for its k-th run in a pass), an alias, or a list. Where one
            gives several tensors, each is moved along the gradient of what follows the layer, others held.
        step: ``sign`` of the gradient, ``rms``: the gradient divided by its RMS per image; or a list.
        iterations: how often the three steps are repeated; points with fewer iterations come along.
        target: classes ``(N, …)``, for ``ground_truth`` only; values outside 0 … C−1 are void.
        sample_ids: N names that seed ``random_onehot``; the position in the batch if None.
        valid: ``(N, …)`` bool, of images ``(N, H, W)``, False where a pixel is padding, which gets no signal
            and no perturbation.
        seed: seed of ``random_onehot``.
        random_unit: whether ``random_onehot`` draws a class per pixel or per image.
        layer_scale: the unit of ε at an inner layer, see ``eps``.
        clip: range to which a perturbed input is clamped; None for none, as in the paper.
        points_per_forward: how many ε ride in one forward pass. With 1 the logits equal those of the three
            steps done for each point, bit for bit; with more, up to rounding. ``auto`` sizes it by the
            memory of the GPU and is 1 on a CPU. Where memory does not hold so many, it is halved.
        precision: in how many bits the network computes every point, ε = 0 among them: ``32``, ``bf16`` or
            ``16``, the latter two by autocast. Fewer than 32 swallow part of a small ε: bfloat16 resolves
            8 bits of what enters a convolution.
        gradient_precision: in how many it computes the clean pass whose gradient is pulled, and which the
            labels are made from; None for the same. Where the two differ, ε = 0 takes a pass of its own.
        memory_format: layout of ``x``; the weights keep theirs.
        output: key or index of the logits where the network returns a dict or tuple.
        class_map: the class of ``target`` that each class of the network stands for, one below 0 for none;
            None: its own. Points live in the network's classes.
        guides: further sources of directions by name.
        memo: an object to keep between the batches of one network in one precision; without it every call
            examines anew.

    Yields:
        ``(point, logits)``; logits ``(N, C, …)`` without gradient, not to be changed in place; float32 at
        least in any precision, so that what is done with them does not depend on it.

    Raises:
        GpsweepError: at the call, for an unknown name, an axis without values, a number that does not fit,
            what is no module or tensor, an ``x`` of whole numbers, a ``valid`` of numbers or of another size
            than ``x``, ``sample_ids`` that are not one a sample, a ``memo`` of another network or precision,
            a network any module of which is in training mode, a call in inference mode or an ``x`` from
            there, or a layer that does not run, or runs several times while no ``@k`` says which run.
            While points are asked for, for a ``target`` or ``class_map`` that ``ground_truth`` lacks or
            that does not fit the logits, a ``valid`` that does not, logits that are not found, have fewer
            than two classes or are not one a sample, a layer that they do not depend on or whose first
            dimension is not the batch's, a guide that gives other tensors than the layer's, a precision that
            the device does not have, or a batch that memory does not hold.

    Warns:
        UserWarning: once for each layer that cannot be replayed: its points take full forward passes. Once
            where fewer ε ride in one forward pass than asked for: memory does not hold them, or samples of a
            batch depend on each other in this network.
    """
    guides, gradient_precision = guides or {}, gradient_precision or precision
    _check_called(net, x, target=target, sample_ids=sample_ids, valid=valid)
    points = grid(
        label=label,
        signal=signal,
        layer=layer,
        step=step,
        iterations=iterations,
        eps=eps,
        labels=(*LABELS, *guides),
    )
    if points_per_forward != "auto" and not (isinstance(points_per_forward, int) and points_per_forward > 0):
        raise GpsweepError(f"points_per_forward={points_per_forward}: expected auto or at least 1")
    check_choices({"layer_scale": layer_scale, "random_unit": random_unit, "memory_format": memory_format})
    span = None if clip is None else _span(clip)
    check_precision("precision", precision)
    check_precision("precision.gradient", gradient_precision)
    x, memo = formatted(x, memory_format), (memo or Memo()).of(net, precision, gradient_precision)
    passes = Passes(net, x, points.layer, output, span, memo, precision, gradient_precision, len(points))
    try:
        passes.examine()
    except RuntimeError as error:
        if memory.exhausted(error):
            raise memory.lacking(x) from error
        raise
    hints = Hints(target, sample_ids, seed, valid, random_unit, class_map)
    checked = {name: _checked(name, guide, passes) for name, guide in guides.items()}
    return Walk(passes, points, hints, layer_scale, checked, points_per_forward).run()


def _check_called(
    net: object, x: object, *, target: object, sample_ids: Sequence[str] | None, valid: object
) -> None:
    """Refuse a network or a batch that no curve can be drawn of, such as several inputs or an array."""
    if not isinstance(net, nn.Module):
        raise GpsweepError(f"net: expected an nn.Module, came {type(net).__name__}")
    if not isinstance(x, Tensor):
        raise GpsweepError(
            f"x: expected a tensor (N, …), came {type(x).__name__}; of a network's several inputs x is the "
            "one that is perturbed, and a module around it holds the others"
        )
    for name, tensor in (("target", target), ("valid", valid)):
        if not isinstance(tensor, Tensor | None):
            raise GpsweepError(f"{name}: expected a tensor, came {type(tensor).__name__}")
    if isinstance(valid, Tensor):
        if valid.dtype != torch.bool:
            # As numbers it would be a factor of every step.
            raise GpsweepError(f"valid: expected a tensor of bool, came {valid.dtype}; use valid > 0")
        if valid.shape != (expected := (*x.shape[:1], *x.shape[2:])):
            raise GpsweepError(f"valid: expected the size of x, {expected}, came {tuple(valid.shape)}")
    if sample_ids is not None and len(sample_ids) != len(x):
        raise GpsweepError(f"sample_ids: expected one per sample, {len(x)}, came {len(sample_ids)}")
    if not x.is_floating_point():
        raise GpsweepError(f"x: expected floating-point numbers, came {x.dtype}; use x.float()")
    # One of TorchScript may not say.
    training = [name for name, module in net.named_modules() if getattr(module, "training", False)]
    if training:
        where = f" at {listing(training, 3)}" if training[0] else ""
        raise GpsweepError(
            f"net: expected a network in evaluation mode, came one in training{where}; call net.eval(), and "
            "let no train() of its own keep it so"
        )
    if torch.is_inference_mode_enabled() or x.is_inference():
        raise GpsweepError("x: gradients cannot be taken in inference mode; use torch.no_grad() instead")


def _span(clip: Any) -> tuple[float, float]:
    """Return the range that an input is clamped to, as numbers."""
    with suppress(TypeError, ValueError):
        low, high = map(float, clip)
        if low < high:
            return low, high
    raise GpsweepError(f"clip={clip}: expected the lowest and the highest value, or None")


def _checked(name: str, guide: Guide, passes: Passes) -> Guide:
    """Return a guide that is refused a label, or directions, of other shapes than they must have."""

    def checked(pull: Pull, step: Step, *, logits: Tensor, point: Point, **known: Any) -> list[Tensor]:
        def pulled(label: Tensor) -> list[Tensor]:
            if label.shape != logits.shape:
                raise GpsweepError(
                    f"guides: {name} pulls a label {tuple(label.shape)}; expected a distribution over the "
                    f"classes, {tuple(logits.shape)}"
                )
            return pull(label)

        given: Any = guide(pulled, step, logits=logits, point=point, **known)
        came = _shapes(given) if isinstance(given, list | tuple) else type(given).__name__
        if came != (expected := _shapes(passes.activation(point.layer))):
            raise GpsweepError(
                f"guides: at layer={point.layer}, {name} gives {came}; expected a list of tensors {expected}"
            )
        return [direction.detach() for direction in given]

    return checked


def _shapes(tensors: Sequence[object]) -> str:
    """Write the shapes of tensors; of what is none, its kind."""
    return listing([tuple(t.shape) if isinstance(t, Tensor) else type(t).__name__ for t in tensors])


def check_choices(chosen: Mapping[str, Any]) -> None:
    """Check the options that are one of a few words.

    Args:
        chosen: a value for each key of :data:`CHOICES`, others aside.

    Raises:
        GpsweepError: naming the key.
    """
    for key, choices in CHOICES.items():
        if chosen[key] not in choices:
            raise unknown(key, chosen[key], choices)


def formatted(x: Tensor, memory_format: MemoryFormat) -> Tensor:
    """Return a batch in a memory format, without its history of gradients."""
    if memory_format == "channels_last" and x.dim() == 4:
        return x.detach().contiguous(memory_format=torch.channels_last)
    return x.detach().contiguous()
