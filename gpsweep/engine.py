"""One gradient, the whole curve: the logits of every point of a grid for one batch.

The three steps of Guided Perturbations (paper, Fig. 2 and Eq. 1): predict, pull the error signal of a label
distribution back to a layer, move the layer by ε along the step, predict again:

    z = f(x),  g = (∂z/∂h)ᵀ s(softmax(z), ℓ(z)),  z_ε = f(h + ε · step(g))

All ε share the clean forward and one backward pass per label and signal, which serves every layer; a point
then costs only what follows its layer. Nothing here knows Lightning or Hydra.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from gpsweep import layers, memory
from gpsweep.errors import GpsweepError, unknown
from gpsweep.labels import STRATEGIES, Hints
from gpsweep.passes import Memo, Passes, State
from gpsweep.points import LABELS, Grid, Point, grid
from gpsweep.precision import Precision, check_precision
from gpsweep.signals import SIGNALS
from gpsweep.steps import STEPS, rms

MemoryFormat = Literal["channels_last", "contiguous"]
CHOICES = {
    "layer_scale": ("rms", "absolute"),
    "random_unit": ("pixel", "image"),
    "memory_format": ("channels_last", "contiguous"),
}

Pull = Callable[[Tensor], list[Tensor]]
Step = Callable[[list[Tensor]], list[Tensor]]


class Guide(Protocol):
    """A source of directions that is more than a label of this batch, such as kNN-weighted perturbation.

    :func:`curve` asks it for a direction under the name by which it was passed in ``guides``.
    """

    def __call__(
        self,
        pull: Pull,
        step: Step,
        *,
        x: Tensor,
        logits: Tensor,
        point: Point,
        sample_ids: Sequence[str] | None,
    ) -> list[Tensor]:
        """Return the direction in which to move the layer, one tensor for each of its tensors.

        Args:
            pull: label distribution ``(N, C, …)`` → gradients of its signal at the layer's tensors.
            step: gradients → directions, by the point's ``step``.
            x: the clean batch ``(N, …)``.
            logits: ``(N, C, …)``, those of the state that is about to be moved, in the gradient's precision.
            point: the curve that asks, with ε = 0.
            sample_ids: N names, if there are any.
        """
        ...


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

        for point, logits in curve(net, x, eps=[-1, 0, 1], label=["argmax", "uniform"]):
            print(point.label, point.eps, logits.argmax(1))

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
        valid: ``(N, H, W)`` bool, False where a pixel is padding, which gets no signal and no perturbation.
        seed: seed of ``random_onehot``.
        random_unit: whether ``random_onehot`` draws a class per pixel or per image.
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
        memo: an object to keep between the batches of one network; without it every call examines anew.

    Yields:
        ``(point, logits)``; logits ``(N, C, …)`` without gradient, not to be changed in place; float32 in
        any precision, so that what is done with them does not depend on it.

    Raises:
        GpsweepError: at the call, for an unknown name, an axis without values, a number that does not fit, an
            ``x`` of whole numbers, ``sample_ids`` that are not one a sample, a network any module of which is
            in training mode, a call in inference mode or an ``x`` from there, or a layer that does not run,
            or runs several times while no ``@k`` says which run. While points are asked for, for a ``target``
            or ``class_map`` that ``ground_truth`` lacks or that does not fit the logits, a ``valid`` that
            does not, logits that are not found or have no classes, a layer that they do not depend on or
            whose first dimension is not the batch's, a precision that the device does not have, or a batch
            that memory does not hold.

    Warns:
        UserWarning: once for each layer that cannot be replayed: its points take full forward passes. Once
            where fewer ε ride in one forward pass than asked for: memory does not hold them, or samples of a
            batch depend on each other in this network.
    """
    guides = guides or {}
    points = grid(
        label=label,
        signal=signal,
        layer=layer,
        step=step,
        iterations=iterations,
        eps=eps,
        labels=(*LABELS, *guides),
    )
    hints = Hints(target, sample_ids, seed, valid, random_unit, class_map)
    if sample_ids is not None and len(sample_ids) != len(x):
        raise GpsweepError(f"sample_ids: expected one per sample, {len(x)}, came {len(sample_ids)}")
    if not x.is_floating_point():
        raise GpsweepError(f"x: expected floating-point numbers, came {x.dtype}; use x.float()")
    if any(module.training for module in net.modules()):
        raise GpsweepError(
            "net: expected a network in evaluation mode, came one in training; call net.eval()"
        )
    if torch.is_inference_mode_enabled() or x.is_inference():
        raise GpsweepError("x: gradients cannot be taken in inference mode; use torch.no_grad() instead")
    if points_per_forward != "auto" and points_per_forward < 1:
        raise GpsweepError(f"points_per_forward={points_per_forward}: expected auto or at least 1")
    gradient_precision = gradient_precision or precision
    check_choices({"layer_scale": layer_scale, "random_unit": random_unit, "memory_format": memory_format})
    if clip is not None and not (len(clip) == 2 and clip[0] < clip[1]):
        raise GpsweepError(f"clip={clip}: expected the lowest and the highest value, or None")
    check_precision("precision", precision)
    check_precision("precision.gradient", gradient_precision)
    passes = Passes(
        net,
        formatted(x, memory_format),
        output,
        clip,
        (memo or Memo()).of(net),
        precision,
        gradient_precision,
    )
    passes.examine(points.layer)
    return _Walk(passes, points, hints, layer_scale, guides, points_per_forward).run()


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


@dataclass
class _Walk:
    """The way through a grid on one batch, every shared pass made once."""

    passes: Passes
    points: Grid
    hints: Hints
    layer_scale: str
    guides: Mapping[str, Guide]
    points_per_forward: int | Literal["auto"]

    def run(self) -> Iterator[tuple[Point, Tensor]]:
        """Yield the points, curve by curve.

        Raises:
            GpsweepError: if memory does not hold what cannot be done in smaller parts.
        """
        try:
            yield from self.curves()
            return
        except RuntimeError as error:
            if not memory.exhausted(error):
                raise
        # Outside the handler: what the failed pass held is free again.
        x = self.passes.x
        raise GpsweepError(
            f"data.batch_size={len(x)}: the memory of {x.device} does not hold one pass of a batch "
            f"{tuple(x.shape)}; lower data.batch_size or data.size"
        )

    def curves(self) -> Iterator[tuple[Point, Tensor]]:
        """Yield the points, label by label and layer by layer."""
        points = self.points
        state = self.passes.clean(points.layer)
        self.check_valid(state.logits)
        self.passes.check(points.layer)
        # What is not perturbed, as plain test-time augmentation, takes no backward pass.
        moving = any(points.eps)
        pairs = [(label, signal) for label in points.label for signal in points.signal]
        for label, signal in pairs:
            pulled = {}
            if label not in self.guides and moving:
                keep_graph = (label, signal) != pairs[-1]
                pulled = self.pull(
                    state, signal, self.distribution(label, state.logits), keep_graph=keep_graph
                )
            for layer in points.layer:
                for step in points.step:
                    curve = Point(label, signal, layer, step)
                    direction = self.direction(curve, state, pulled) if moving else []
                    yield from self.along(curve, direction, state.prediction)

    def check_valid(self, logits: Tensor) -> None:
        """Refuse a mask of padding that is of another size than the logits.

        Raises:
            GpsweepError: naming both shapes.
        """
        valid, expected = self.hints.valid, (len(logits), *logits.shape[2:])
        if valid is not None and logits.dim() == 4 and valid.shape != expected:
            raise GpsweepError(
                f"valid: expected the size of the logits, {expected}, came {tuple(valid.shape)}; where the "
                "network gives smaller ones than its input, enlarge them in it"
            )

    def distribution(self, label: str, logits: Tensor) -> Tensor:
        """Return the label distribution that a strategy makes of logits."""
        return STRATEGIES[label](logits.detach().float(), self.hints)

    def pull(self, state: State, signal: str, label: Tensor, *, keep_graph: bool) -> dict[str, list[Tensor]]:
        """Pull the signal of a label distribution back to every layer of a state (paper, Eq. 5)."""
        error = SIGNALS[signal](state.softmax, label)
        if self.hints.valid is not None and error.dim() == 4:
            error = error * self.hints.valid.unsqueeze(1)
        return self.passes.pull(state, error, keep_graph=keep_graph)

    def direction(self, curve: Point, state: State, pulled: Mapping[str, list[Tensor]]) -> list[Tensor]:
        """Return the direction for ε = 1 at a layer, from its gradients or from a guide."""
        valid = self.hints.valid if curve.layer == layers.INPUT else None

        def step(gradients: list[Tensor]) -> list[Tensor]:
            return [STEPS[curve.step](gradient, valid) for gradient in gradients]

        def pull(label: Tensor) -> list[Tensor]:
            return self.pull(state, curve.signal, label, keep_graph=True)[curve.layer]

        if curve.label in self.guides:
            directions = self.guides[curve.label](
                pull,
                step,
                x=self.passes.x,
                logits=state.logits.detach(),
                point=curve,
                sample_ids=self.hints.sample_ids,
            )
        else:
            directions = step(pulled[curve.layer])
        if curve.layer == layers.INPUT or "rms" not in (self.layer_scale, curve.step):
            return directions
        clean = self.passes.activation(curve.layer)
        self.check_batch_first(curve.layer, clean)
        if self.layer_scale == "absolute":
            return directions
        return [rms(h) * d for h, d in zip(clean, directions, strict=True)]

    def check_batch_first(self, layer: str, clean: list[Tensor]) -> None:
        """Refuse a layer whose first dimension is not the batch's: it has no RMS of an image.

        Raises:
            GpsweepError: naming the layer and its shape.
        """
        count = len(self.passes.x)
        for h in clean:
            if h.dim() > 1 and len(h) != count:
                raise GpsweepError(
                    f"layer={layer}: gives {tuple(h.shape)} for a batch of {count}, expected it first, "
                    "for the RMS of each image. Take another layer, or layer_scale=absolute step=sign"
                )

    def along(self, curve: Point, direction: list[Tensor], clean: Tensor) -> Iterator[tuple[Point, Tensor]]:
        """Yield the points of one curve and of its counterparts with more iterations."""
        if self.points.iterations[-1] > 1:
            for eps in self.points.eps:
                yield from self.trajectory(replace(curve, eps=eps), direction, clean)
            return
        waiting = self.points.eps
        while waiting:
            size = self.passes.points_per_forward(
                self.points_per_forward, len(self.points.eps), self.points.layer
            )
            moving = [eps for eps in waiting[:size] if eps != 0]
            found = self.held(curve.layer, moving, direction)
            if found is None:
                self.passes.lack_memory(len(moving))
                continue
            each = iter(found)
            for eps in waiting[:size]:
                yield replace(curve, eps=eps), next(each) if eps else clean
            waiting = waiting[size:]

    def held(self, layer: str, eps: Sequence[float], direction: list[Tensor]) -> Sequence[Tensor] | None:
        """Return the logits for each ε; None if memory does not hold several of them together."""
        try:
            return self.together(layer, eps, direction)
        except RuntimeError as error:
            if len(eps) < 2 or not memory.exhausted(error):
                raise
            return None

    def together(self, layer: str, eps: Sequence[float], direction: list[Tensor]) -> Sequence[Tensor]:
        """Return the logits for each ε, all of them from one forward pass."""
        if not eps:
            return []
        start = self.passes.activation(layer)
        moved = [self.passes.moved(layer, start, direction, e) for e in eps]
        if len(eps) == 1:
            return [self.passes.forward(layer, moved[0])]
        found = self.passes.together(layer, moved)
        if found is None:
            return [self.passes.forward(layer, each) for each in moved]
        return found

    def trajectory(
        self, point: Point, direction: list[Tensor], clean: Tensor
    ) -> Iterator[tuple[Point, Tensor]]:
        """Yield one ε after each iteration of the three steps (paper, Fig. 5)."""
        now = self.passes.activation(point.layer)
        for count in self.points.iterations:
            here = replace(point, iterations=count)
            if point.eps == 0:
                yield here, clean
                continue
            now = self.passes.moved(point.layer, now, direction, point.eps)
            if count == self.points.iterations[-1]:
                yield here, self.passes.forward(point.layer, now)
                continue
            state = self.passes.onward(point.layer, now)
            pulled = {}
            if point.label not in self.guides:
                label = self.distribution(point.label, state.logits)
                pulled = self.pull(state, point.signal, label, keep_graph=False)
            direction = self.direction(point, state, pulled)
            yield here, state.prediction
