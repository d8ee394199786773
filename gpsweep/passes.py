"""The passes of one batch: one clean, one backward per signal, and one forward for what depends on a layer.

No hook, patch or changed flag outlives a method, so nothing is left on the network between two points.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from gpsweep import layers, memory
from gpsweep.errors import GpsweepError
from gpsweep.logits import pick
from gpsweep.memo import Memo
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
    replaced: frozenset[str] = frozenset()


@dataclass
class Passes:
    """The passes through one network for one batch.

    Passes are of two kinds: those with gradients, which directions are pulled from, and plain ones, which
    predict. Each replays what a clean pass of its own kind recorded; one clean pass, with gradients, serves
    both where they compute alike.

    Args:
        net: network in evaluation mode.
        x: batch ``(N, …)``, in the memory format in which it is to be run.
        output: key or index of the logits, see :func:`gpsweep.logits.pick`.
        clip: range to which a moved input is clamped, or None.
        memo: what is known of the network.
        precision: of the plain passes.
        gradient_precision: of those with gradients.
    """

    net: nn.Module
    x: Tensor
    output: str | int | None
    clip: tuple[float, float] | None
    memo: Memo
    precision: Precision = "32"
    gradient_precision: Precision = "32"
    guided: layers.Recording = field(default_factory=layers.Recording)
    plain: layers.Recording = field(default_factory=layers.Recording)

    @property
    def mixed(self) -> bool:
        """Whether the two kinds of passes compute in different precisions."""
        return self.precision != self.gradient_precision

    @contextmanager
    def pulling(self) -> Iterator[None]:
        """Run the network for a gradient, in its precision; none is taken at the weights."""
        with _differentiating(self.net), computing(self.gradient_precision, self.x.device, self.gradient_key):
            yield

    @contextmanager
    def predicting(self) -> Iterator[None]:
        """Run the network for a prediction alone."""
        with torch.no_grad(), layers.submodules_run(), computing(self.precision, self.x.device):
            yield

    @property
    def gradient_key(self) -> str:
        """What the user calls the precision of the gradient."""
        return "precision.gradient" if self.mixed else "precision"

    def examine(self, names: Sequence[str]) -> None:
        """Find out, on one batch and once for each layer, where layers are and what precedes them.

        On the whole batch, since a network may run a module once for each sample.
        """
        new = [name for name in _inner(names) if name not in self.memo.replays]
        if not new:
            return
        for name in new:
            layers.find(self.net, name)
        x = self.x.clone()
        with self.predicting():
            calls, _ = layers.trace(self.net, x)
        self.memo.changes_input = x._version > 0
        runs = Counter(done.call.path for done in calls)
        if runs != self.memo.runs:
            # What is known of layers is of other passes.
            self.memo.replays.clear()
            self.memo.trusted.clear()
            self.memo.runs, new = runs, _inner(names)
        for name in new:
            self.memo.replays[name] = layers.replay_of(calls, layers.site(calls, self.net, name))

    def clean(self, names: Sequence[str], *, again: bool = True) -> State:
        """Run the clean passes, and record activations and what replays need.

        Args:
            names: layers, examined.
            again: whether to examine them anew where modules run otherwise than when they were.

        Raises:
            GpsweepError: for a layer that does not run or gives no floating-point tensor, and for logits that
                are not one a sample, have fewer than two classes or depend on nothing.
        """
        inner = _inner(names)
        # Whether or not the input's gradient is wanted: neither logits nor gradients, of several tensors of a
        # layer for one, are to depend on which other layers a grid holds.
        leaf = self.x.detach().requires_grad_()
        with self.pulling(), layers.recorded(self.net, self._replays(inner)) as self.guided:
            z = pick(self.net(leaf.clone()), self.output)
        if again and any(self.memo.runs[path] != runs for path, runs in self.guided.runs.items()):
            # As where a module runs once for each sample, or tile, and this batch has more or fewer of them.
            self.memo.replays.clear()
            self.memo.trusted.clear()
            self.examine(names)
            return self.clean(names, again=False)
        if z.dim() and len(z) != len(self.x):
            raise GpsweepError(
                f"net: expected logits of a batch of {len(self.x)}, came {tuple(z.shape)}; an image alone is "
                "a batch of one: x[None]"
            )
        anchors = {name: self._anchors(name) for name in inner}
        if layers.INPUT in names:
            anchors[layers.INPUT] = [leaf]
        self.guided = _detached(self.guided)
        self.plain, prediction = self.guided, z.detach()
        if self.mixed:
            self.plain, prediction = self.clean_plainly(inner)
        elif self.memo.mode_matters:
            self.replay_plainly(inner)
        return _state(z, anchors, prediction)

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

    def clean_plainly(self, names: Sequence[str]) -> tuple[layers.Recording, Tensor]:
        """Run and record a clean pass without gradients."""
        with self.predicting(), layers.recorded(self.net, self._replays(names)) as recording:
            z = pick(self.net(self.x.clone()), self.output)
        return _detached(recording), z

    def replay_plainly(self, names: Sequence[str]) -> None:
        """Let plain passes replay what a plain one gave; where layers start from stays as it is."""
        recording, _ = self.clean_plainly(names)
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
        state = _state(z, {layer: leaves}, prediction)
        if layer == layers.INPUT:
            return state
        how = self.memo.replays[layer]
        return replace(state, replaced=frozenset(call.path for call in (how.site, *how.unmoved)))

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
        """Return a layer's tensors moved by ε times a direction, the input within its range."""
        tensors = [h + eps * d for h, d in zip(start, by, strict=True)]
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
        """Return the logits with a layer giving ``moved``, by replay or from a full forward pass."""
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

    def check(self, names: Sequence[str]) -> None:
        """Find, once for each layer, a replay that equals the full forward pass, or else do without."""
        for name in _inner(names):
            if name in self.memo.trusted:
                continue
            self.memo.trusted[name] = self.can_be_replayed(name, names)
            if not self.memo.trusted[name]:
                warnings.warn(
                    f"layer={name}: what depends on it cannot be computed alone in this network; "
                    "every point takes a full forward pass",
                    stacklevel=2,
                )

    def can_be_replayed(self, name: str, names: Sequence[str]) -> bool:
        """Settle on the first way of replay that is exact, and say whether there is one."""
        how = self.memo.replays[name]
        for way in (how, how.cautious):
            if way is None:
                continue
            self.memo.replays[name] = way
            if self.replay_is_exact(name):
                return True
            if self.plain is self.guided:
                self.replay_plainly(_inner(names))
                if self.replay_is_exact(name):
                    self.memo.mode_matters = True
                    return True
                self.plain = self.guided
        return False

    def replay_is_exact(self, name: str) -> bool:
        """Say whether replay gives what the full forward pass gives, bit for bit, for a moved activation."""
        moved = [h * 1.01 for h in self.activation(name)]
        with self.predicting():
            full = self.suffix(name, [h.clone() for h in moved], replay=False)
            # What modules keep beside their outputs, as for a skip connection, is now another pass's.
            # Brighter alone would not do: it leaves the places that pooling takes.
            self.net(self.x.flip(-1) * 1.01)
            try:
                quick = self.suffix(name, moved, replay=True)
            except Exception as error:
                if isinstance(error, RuntimeError) and memory.exhausted(error):
                    raise
                return False  # as where a module writes into what it was given
        return full.shape == quick.shape and full.allclose(quick, rtol=0, atol=0, equal_nan=True)

    def _replays(self, names: Sequence[str]) -> list[layers.Replay]:
        return [self.memo.replays[name] for name in names]


def _inner(names: Sequence[str]) -> list[str]:
    return [name for name in names if name != layers.INPUT]


def _detached(recording: layers.Recording) -> layers.Recording:
    """Return a recording whose activations belong to no graph."""
    activations = {
        call: layers.with_tensors(value, [t.detach() for t in layers.tensors_of(value)])
        for call, value in recording.activations.items()
    }
    return layers.Recording(activations, recording.outputs)


def _state(z: Tensor, anchors: dict[str, list[Tensor]], prediction: Tensor) -> State:
    if not z.requires_grad:
        raise GpsweepError(f"layer={', '.join(anchors)}: {CUT}")
    if z.dim() < 2 or z.shape[1] < 2:
        # Of one class the softmax is 1 and the signal 0, whatever the logit.
        raise GpsweepError(
            f"net: expected logits (N, C, …) of two classes at least, came a tensor {tuple(z.shape)}. Of a "
            "logit for a sigmoid make two: torch.cat([torch.zeros_like(z), z], 1), as model.sigmoid=true does"
        )
    # Softmax and signal stay in 32 bits when the forward pass is in fewer.
    return State(z, widened(z.detach()).softmax(1), anchors, widened(prediction))


@contextmanager
def _differentiating(net: nn.Module) -> Iterator[None]:
    """Take gradients, but none at the weights."""
    asking = [parameter for parameter in net.parameters() if parameter.requires_grad]
    for parameter in asking:
        parameter.requires_grad_(False)
    try:
        with torch.enable_grad(), layers.submodules_run():
            yield
    finally:
        for parameter in asking:
            parameter.requires_grad_(True)
