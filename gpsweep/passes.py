"""The passes of one batch: one clean, one backward per signal, and one forward for what depends on a layer.

No hook, patch or changed flag outlives a method, so nothing is left on the network between two points.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from gpsweep import layers
from gpsweep.errors import GpsweepError
from gpsweep.logits import pick
from gpsweep.memo import Memo
from gpsweep.packed import Packed
from gpsweep.precision import Precision, computing, refusals_named, widened

CUT = (
    "the logits do not depend on it, or the network cuts the gradient, by a no_grad() or detach() in its "
    "forward, or by layers that are quantised"
)


@dataclass
class State:
    """One forward pass with gradients: where it can be pulled back to, from where, and what is predicted.

    Args:
        logits: those of the pass, in the precision of the gradient.
        softmax: theirs, in 32 bits at least.
        anchors: per layer name, the tensors that gradients can be taken at.
        prediction: logits without gradients in the precision of the points, 32 bits wide.
        replaced: paths of the modules that did not run, their outputs being put in their place.
    """

    logits: Tensor
    softmax: Tensor
    anchors: dict[str, list[Tensor]]
    prediction: Tensor
    replaced: frozenset[str]


@dataclass
class Passes:
    """The passes through one network for one batch.

    Passes are of two kinds: those with gradients, which directions are pulled from, and plain ones, which
    predict. Each replays what a clean pass of its own kind recorded; one clean pass, with gradients, serves
    both where they compute alike.

    Args:
        net: network in evaluation mode.
        x: batch ``(N, …)``, in the memory format in which it is to be run.
        names: the layers that may be moved.
        output: key or index of the logits, see :func:`gpsweep.logits.pick`.
        clip: range to which a moved input is clamped, or None.
        memo: what is known of the network.
        precision: of the plain passes.
        gradient_precision: of those with gradients.
        points: how many are predicted about.
    """

    net: nn.Module
    x: Tensor
    names: Sequence[str]
    output: str | int | None
    clip: tuple[float, float] | None
    memo: Memo
    precision: Precision = "32"
    gradient_precision: Precision = "32"
    points: int = 1
    guided: layers.Recording = field(init=False, repr=False)
    plain: layers.Recording = field(init=False, repr=False)
    packed: Packed = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.packed = Packed(self.net, self.memo.packed, self.points)

    @property
    def mixed(self) -> bool:
        """Whether the two kinds of passes compute in different precisions."""
        return self.precision != self.gradient_precision

    @contextmanager
    def pulling(self) -> Iterator[None]:
        """Run the network for a gradient, in its precision; none is taken at the weights."""
        asking = [parameter for parameter in self.net.parameters() if parameter.requires_grad]
        precision = computing(self.gradient_precision, self.x.device, self.gradient_key)
        for parameter in asking:
            parameter.requires_grad_(False)
        try:
            with torch.enable_grad(), layers.submodules_run(), precision:
                yield
        finally:
            for parameter in asking:
                parameter.requires_grad_(True)

    @contextmanager
    def predicting(self) -> Iterator[None]:
        """Run the network for a prediction alone."""
        precision = computing(self.precision, self.x.device)
        with torch.no_grad(), layers.submodules_run(), precision, self.packed.running():
            yield

    @property
    def gradient_key(self) -> str:
        """What the user calls the precision of the gradient."""
        return "precision.gradient" if self.mixed else "precision"

    @property
    def inner(self) -> list[str]:
        """The layers, the input aside."""
        return [name for name in self.names if name != layers.INPUT]

    def examine(self) -> None:
        """Find out what the memo does not know of the layers yet; see :meth:`gpsweep.memo.Memo.examine`."""
        self.memo.examine(self.net, self.x, self.inner, self.precision)

    def clean(self, *, again: bool = True) -> State:
        """Run the clean passes, and record activations and what replays need.

        Args:
            again: whether to examine layers anew where modules run otherwise than when they were.

        Raises:
            GpsweepError: for a layer that does not run or gives no floating-point tensor, and for logits that
                are not one a sample, have fewer than two classes or depend on nothing.
        """
        self.examine()
        # Whether or not the input's gradient is wanted: neither logits nor gradients, of several tensors of a
        # layer for one, are to depend on which other layers a grid holds.
        leaf = self.x.detach().requires_grad_()
        with self.pulling(), self.recorded() as self.guided:
            z = pick(self.net(leaf.clone()), self.output)
        if again and any(self.memo.runs[path] != runs for path, runs in self.guided.runs.items()):
            # As where a module runs once for each sample, or tile, and this batch has more or fewer of them.
            self.memo.forget()
            return self.clean(again=False)
        if z.dim() and len(z) != len(self.x):
            raise GpsweepError(
                f"net: expected logits of a batch of {len(self.x)}, came {tuple(z.shape)}; an image alone is "
                "a batch of one: x[None]"
            )
        anchors = {name: [leaf] if name == layers.INPUT else self._anchors(name) for name in self.names}
        self.guided = _detached(self.guided)
        self.plain, prediction = self.guided, z.detach()
        if self.mixed:
            self.plain, prediction = self.clean_plainly()
        elif self.memo.mode_matters:
            self.replay_plainly()
        return _state(z, anchors, prediction)

    def recorded(self) -> AbstractContextManager[layers.Recording]:
        """Record, of a clean pass within the block, the layers and what replays of them need."""
        return layers.recorded(self.net, [self.memo.replays[name] for name in self.inner])

    def _anchors(self, name: str) -> list[Tensor]:
        """Return a layer's tensors of the pass with gradients, or say why there are none."""
        site = self.memo.replays[name].site
        if site not in self.guided.activations:
            raise GpsweepError(
                f"layer={name}: expected to run alike in every forward pass, but in one with gradients it "
                "does not run"
            )
        tensors = layers.tensors_of(self.guided.activations[site])
        if not tensors:
            raise GpsweepError(
                f"layer={name}: expected floating-point tensors, in a tuple, list or dict if several, came "
                f"{type(self.guided.activations[site]).__name__} without any; take another layer"
            )
        return tensors

    def clean_plainly(self) -> tuple[layers.Recording, Tensor]:
        """Run and record a clean pass without gradients."""
        with self.predicting(), self.recorded() as recording:
            z = pick(self.net(self.x.clone()), self.output)
        return _detached(recording), z

    def replay_plainly(self) -> None:
        """Let plain passes replay what a plain one gave; where layers start from stays as it is."""
        recording, _ = self.clean_plainly()
        self.plain = layers.Recording(self.guided.activations, recording.outputs)

    def pull(self, state: State, error: Tensor, *, keep_graph: bool) -> dict[str, list[Tensor]]:
        """Pull an error signal at the logits back to all anchors in one backward pass.

        Args:
            state: what the signal is of.
            error: ``(N, C, …)``, a direction of ascent at the logits.
            keep_graph: whether the state is pulled from once more.

        Returns:
            per layer, a gradient of the shape of each of its tensors.

        Raises:
            GpsweepError: for a layer that the logits do not depend on, a precision that the device does not
                have, and a network that computes again what was replaced.
        """
        tensors = [tensor for anchors in state.anchors.values() for tensor in anchors]
        with (
            refusals_named(self.gradient_precision, self.x.device, self.gradient_key),
            self.never_running(state),
        ):
            found = torch.autograd.grad(
                state.logits,
                tensors,
                grad_outputs=error.to(state.logits.dtype),
                retain_graph=keep_graph,
                allow_unused=True,
            )
        gradients = iter(found)
        pulled = {}
        for name, anchors in state.anchors.items():
            own = [next(gradients) for _ in anchors]
            if all(g is None for g in own):
                raise GpsweepError(f"layer={name}: {CUT}")
            full = [torch.zeros_like(a) if g is None else g for g, a in zip(own, anchors, strict=True)]
            # Steps are taken in 32 bits, or their length would be rounded.
            pulled[name] = full if self.gradient_precision == "32" else [widened(g) for g in full]
        return pulled

    def onward(self, layer: str, moved: Sequence[Tensor]) -> State:
        """Run what depends on a layer's moved tensors with gradients at them, for a further iteration."""
        leaves = [h.detach().requires_grad_() for h in moved]
        with self.pulling():
            z = self.following(layer, [leaf.clone() for leaf in leaves])
        prediction = self.forward(layer, [h.clone() for h in moved]) if self.mixed else z.detach()
        how = self.memo.replays.get(layer)  # none of the input
        replaced = frozenset(call.path for call in (how.site, *how.unmoved)) if how else frozenset()
        return _state(z, {layer: leaves}, prediction, replaced)

    @contextmanager
    def never_running(self, state: State) -> Iterator[None]:
        """Refuse a backward pass that runs modules which the state's forward pass did not.

        Checkpointing computes a block again for its backward pass, where nothing stands in their place any
        more; the gradient would be another point's.

        Raises:
            GpsweepError: naming the module.
        """

        def refuse(path: str, *_: Any) -> None:
            raise GpsweepError(
                f"layer={', '.join(state.anchors)}: the network computes {path} again for its backward pass, "
                "as checkpointing does; switch that off for iterations > 1"
            )

        with ExitStack() as stack:
            for path in state.replaced:
                module = self.net.get_submodule(path)
                stack.enter_context(module.register_forward_pre_hook(partial(refuse, path)))
            yield

    def activation(self, layer: str) -> list[Tensor]:
        """Return the clean tensors at a layer, in 32 bits where the network computes in fewer.

        A layer of 16 bits that moved in 16 bits would hardly move: ε would be rounded away. Autocast takes
        what is wider.
        """
        if layer == layers.INPUT:
            return [self.x]
        tensors = layers.tensors_of(self.plain.activations[self.memo.replays[layer].site])
        return tensors if self.precision == "32" else [widened(tensor) for tensor in tensors]

    def moved(self, layer: str, start: Sequence[Tensor], by: Sequence[Tensor], eps: float) -> list[Tensor]:
        """Return a layer's tensors moved by ε times a direction, the input within its range.

        Args:
            layer: its name.
            start: where its tensors are.
            by: the direction, a tensor of the same shape for each.
            eps: ε, of either sign.
        """
        # In the order and the memory format of h + eps * d, without a third tensor.
        tensors = [torch.mul(d, eps, out=torch.empty_like(h)).add_(h) for h, d in zip(start, by, strict=True)]
        if layer == layers.INPUT and self.clip is not None:
            return [tensor.clamp(*self.clip) for tensor in tensors]
        return tensors

    def forward(self, layer: str, moved: list[Tensor], times: int = 1) -> Tensor:
        """Return the logits that follow from a layer's moved tensors, which hold ``times`` batches."""
        with self.predicting():
            return widened(self.following(layer, moved, times))

    def following(self, layer: str, moved: list[Tensor], times: int = 1) -> Tensor:
        """Run what depends on a layer's moved tensors in a pass of the kind that one is in."""
        if layer == layers.INPUT:
            return pick(self.net(moved[0]), self.output)
        return self.suffix(layer, moved, times, replay=self.memo.trusted[layer])

    def suffix(self, layer: str, moved: list[Tensor], times: int = 1, *, replay: bool) -> Tensor:
        """Return the logits with a layer giving ``moved``, by replay or from a full forward pass.

        Args:
            layer: its name, not the input's.
            moved: its tensors, which hold ``times`` batches one after the other.
            times: ≥ 1.
            replay: whether by replay.

        Returns:
            ``(times · N, C, …)``.
        """
        how = self.memo.replays[layer]
        recording = self.guided if torch.is_grad_enabled() else self.plain
        x = self.x
        if times > 1:
            x = torch.cat([x] * times)
            recording = layers.repeated(recording, how, len(self.x), times)
        elif self.memo.changes_input:
            x = x.clone()
        activation = layers.with_tensors(recording.activations[how.site], moved)
        way = (
            layers.replayed(self.net, how, recording, activation)
            if replay
            else layers.replaced(self.net, how.site, activation)
        )
        with way:
            return pick(self.net(x), self.output)


def _detached(recording: layers.Recording) -> layers.Recording:
    """Return a recording whose activations belong to no graph."""
    return layers.Recording(tree_map_only(Tensor, torch.detach, recording.activations), recording.outputs)


def _state(
    z: Tensor, anchors: dict[str, list[Tensor]], prediction: Tensor, replaced: frozenset[str] = frozenset()
) -> State:
    if not z.requires_grad:
        raise GpsweepError(f"layer={', '.join(anchors)}: {CUT}")
    if z.dim() < 2 or z.shape[1] < 2:
        # Of one class the softmax is 1 and the signal 0, whatever the logit.
        raise GpsweepError(
            f"net: expected logits (N, C, …) of two classes at least, came a tensor {tuple(z.shape)}. Of a "
            "logit for a sigmoid make two: torch.cat([torch.zeros_like(z), z], 1), as model.sigmoid=true does"
        )
    # Softmax and signal stay in 32 bits when the forward pass is in fewer.
    return State(z, widened(z.detach()).softmax(1), anchors, widened(prediction), replaced)
