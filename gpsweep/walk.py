"""The way through a grid on one batch: what is shared is made once, and each point costs one forward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from torch import Tensor

from gpsweep import layers, memory, trust
from gpsweep.errors import GpsweepError
from gpsweep.labels import STRATEGIES, Hints
from gpsweep.passes import Passes, State
from gpsweep.points import Grid, Point
from gpsweep.precision import widened
from gpsweep.signals import SIGNALS
from gpsweep.steps import STEPS, rms
from gpsweep.together import Together

Pull = Callable[[Tensor], list[Tensor]]
Step = Callable[[list[Tensor]], list[Tensor]]


class Guide(Protocol):
    """A source of directions that is more than a label of this batch, such as kNN-weighted perturbation.

    :func:`gpsweep.engine.curve` asks it for a direction under the name by which it was passed in ``guides``.
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


@dataclass
class Walk:
    """The way through a grid on one batch, every shared pass made once.

    Args:
        passes: those of the batch.
        points: the grid.
        hints: what labels are made of besides logits.
        layer_scale: the unit of ε at an inner layer, see :func:`gpsweep.engine.curve`.
        guides: further sources of directions by name.
        points_per_forward: how many ε ride in one forward pass.
    """

    passes: Passes
    points: Grid
    hints: Hints
    layer_scale: str
    guides: Mapping[str, Guide]
    points_per_forward: int | Literal["auto"]

    def __post_init__(self) -> None:
        self.together = Together(self.passes)

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
        raise memory.lacking(self.passes.x)

    def curves(self) -> Iterator[tuple[Point, Tensor]]:
        """Yield the points, label by label and layer by layer."""
        points = self.points
        state = self.passes.clean()
        self.check_valid(state.logits)
        trust.check(self.passes)
        # What is not perturbed, as plain test-time augmentation, takes no backward pass.
        moving = any(points.eps)
        pairs = [(label, signal) for label in points.label for signal in points.signal]
        for label, signal in pairs:
            keep_graph = (label, signal) != pairs[-1]
            pulled = self.pulled(state, label, signal, keep_graph=keep_graph) if moving else {}
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
        if valid is not None and logits.dim() > 2 and valid.shape != expected:
            raise GpsweepError(
                f"valid: expected the size of the logits, {expected}, came {tuple(valid.shape)}; where the "
                "network gives smaller ones than its input, enlarge them in it"
            )

    def pulled(self, state: State, label: str, signal: str, *, keep_graph: bool) -> dict[str, list[Tensor]]:
        """Pull a label's signal back to every layer of a state; a guide pulls by itself."""
        if label in self.guides:
            return {}
        distribution = STRATEGIES[label](widened(state.logits.detach()), self.hints)
        return self.pull(state, signal, distribution, keep_graph=keep_graph)

    def pull(self, state: State, signal: str, label: Tensor, *, keep_graph: bool) -> dict[str, list[Tensor]]:
        """Pull the signal of a label distribution back to every layer of a state (paper, Eq. 5).

        Args:
            state: a forward pass with gradients.
            signal: a name of :data:`gpsweep.signals.SIGNALS`.
            label: the distribution ℓ, ``(N, C, …)``.
            keep_graph: whether the state is pulled from once more.

        Returns:
            per layer, a gradient of the shape of each of its tensors.
        """
        error = SIGNALS[signal](state.softmax, label)
        if self.hints.valid is not None and error.dim() > 2:
            error = error * self.hints.valid.unsqueeze(1)
        return self.passes.pull(state, error, keep_graph=keep_graph)

    def direction(self, curve: Point, state: State, pulled: Mapping[str, list[Tensor]]) -> list[Tensor]:
        """Return the direction for ε = 1 at a layer, from its gradients or from a guide.

        Args:
            curve: the curve that asks, with ε = 0.
            state: what is about to be moved.
            pulled: what :meth:`pulled` gave of it; empty for a guide.

        Returns:
            a tensor of the shape of each of the layer's.

        Raises:
            GpsweepError: for a layer without an RMS of an image where one is needed.
        """
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
            if h.shape[:1] != (count,):
                raise GpsweepError(
                    f"layer={layer}: gives {tuple(h.shape)} for a batch of {count}, expected it first, "
                    "for the RMS of each image. Take another layer, or layer_scale=absolute step=sign"
                )

    def along(self, curve: Point, direction: list[Tensor], clean: Tensor) -> Iterator[tuple[Point, Tensor]]:
        """Yield the points of one curve and of its counterparts with more iterations.

        Args:
            curve: with ε = 0.
            direction: of its first iteration, for ε = 1.
            clean: the logits at ε = 0, ``(N, C, …)``.
        """
        if self.points.iterations[-1] > 1:
            for eps in self.points.eps:
                yield from self.trajectory(replace(curve, eps=eps), direction, clean)
            return
        waiting = self.points.eps
        while waiting:
            size = self.together.size(self.points_per_forward, len(self.points.eps))
            moving = [eps for eps in waiting[:size] if eps != 0]
            found = self.together.logits(curve.layer, moving, direction)
            if found is None:
                continue
            each = iter(found)
            for eps in waiting[:size]:
                yield replace(curve, eps=eps), next(each) if eps else clean
            waiting = waiting[size:]

    def trajectory(
        self, point: Point, direction: list[Tensor], clean: Tensor
    ) -> Iterator[tuple[Point, Tensor]]:
        """Yield one ε after each iteration of the three steps (paper, Fig. 5).

        Args:
            point: its ε, and the curve's setting.
            direction: of the first iteration, for ε = 1.
            clean: the logits at ε = 0, ``(N, C, …)``.
        """
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
            pulled = self.pulled(state, point.label, point.signal, keep_graph=False)
            direction = self.direction(point.curve(), state, pulled)
            yield here, state.prediction
