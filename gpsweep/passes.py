"""The passes of one batch: one clean, one backward per signal, and one forward for what follows a layer.

No hook, patch or changed flag outlives a method, so nothing is left on the network between two points.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from gpsweep import layers
from gpsweep.errors import GpsweepError
from gpsweep.logits import pick

# Beyond this many ε in one forward pass a GPU gains nothing more.
MOST_TOGETHER = 64


@dataclass
class Memo:
    """What a caller keeps from batch to batch, so that a network is examined only once.

    Args:
        replays: per layer name, its site and how to compute only what follows it.
        trusted: per layer name, whether that was found to equal the full forward pass.
        changes_input: whether the network changes its input in place.
        mode_matters: whether a pass with gradients rounds otherwise than one without, as fused attention
            does; what replays stand on is then recorded in a pass of either kind.
        points_per_forward: the size that ``auto`` settled on.
    """

    replays: dict[str, layers.Replay] = field(default_factory=dict)
    trusted: dict[str, bool] = field(default_factory=dict)
    changes_input: bool = False
    mode_matters: bool = False
    points_per_forward: int | None = None


@dataclass
class State:
    """One forward pass with gradients: where it can be pulled back to, and from where."""

    logits: Tensor
    softmax: Tensor
    anchors: dict[str, list[Tensor]]


@dataclass
class Passes:
    """The passes through one network for one batch.

    Args:
        net: network in evaluation mode.
        x: batch ``(N, …)``, in the memory format in which it is to be run.
        output: key or index of the logits, see :func:`gpsweep.logits.pick`.
        clip: range to which a moved input is clamped, or None.
        memo: what is known of the network.
    """

    net: nn.Module
    x: Tensor
    output: str | int | None
    clip: tuple[float, float] | None
    memo: Memo
    recording: layers.Recording = field(default_factory=layers.Recording)
    plain_recording: layers.Recording | None = None

    def examine(self, names: Sequence[str]) -> None:
        """Find out, on one sample and once for each layer, where layers are and what precedes them."""
        new = [name for name in _inner(names) if name not in self.memo.replays]
        if not new:
            return
        for name in new:
            layers.find(self.net, name)
        sample = self.x[:1].clone()
        calls, _ = layers.trace(self.net, sample)
        self.memo.changes_input = sample._version > 0
        for name in new:
            self.memo.replays[name] = layers.replay_of(calls, layers.site(calls, self.net, name))

    def clean(self, names: Sequence[str]) -> State:
        """Run the clean forward pass and record activations and what replays need."""
        inner = _inner(names)
        replays = [self.memo.replays[name] for name in inner]
        leaf = self.x.detach().requires_grad_(layers.INPUT in names)
        with _differentiating(self.net), layers.recorded(self.net, replays) as self.recording:
            z = pick(self.net(leaf.clone()), self.output)
        activations = self.recording.activations
        anchors = {name: layers.tensors_of(activations[self.memo.replays[name].site]) for name in inner}
        if layers.INPUT in names:
            anchors[layers.INPUT] = [leaf]
        for call, value in activations.items():
            activations[call] = layers.with_tensors(value, [t.detach() for t in layers.tensors_of(value)])
        if self.memo.mode_matters:
            self.record_plainly(inner)
        return _state(z, anchors)

    def record_plainly(self, names: Sequence[str]) -> None:
        """Record what replays need once more, in a pass without gradients."""
        replays = [self.memo.replays[name] for name in names]
        recording = layers.recorded(self.net, replays)
        with torch.no_grad(), layers.submodules_run(), recording as self.plain_recording:
            self.net(self.x.clone())

    def pull(self, state: State, error: Tensor, *, keep_graph: bool) -> dict[str, list[Tensor]]:
        """Pull an error signal at the logits back to all anchors in one backward pass."""
        tensors = [tensor for anchors in state.anchors.values() for tensor in anchors]
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
                raise GpsweepError(f"layer={name}: the logits do not depend on it")
            pulled[name] = [
                torch.zeros_like(a) if g is None else g for g, a in zip(own, anchors, strict=True)
            ]
        return pulled

    def onward(self, layer: str, moved: Sequence[Tensor]) -> State:
        """Run what follows a layer's moved tensors with gradients at them, for a further iteration."""
        leaves = [h.detach().requires_grad_() for h in moved]
        with _differentiating(self.net):
            z = self.forward(layer, [leaf.clone() for leaf in leaves], differentiably=True)
        return _state(z, {layer: leaves})

    def activation(self, layer: str) -> list[Tensor]:
        """Return the clean tensors at a layer."""
        if layer == layers.INPUT:
            return [self.x]
        return layers.tensors_of(self.recording.activations[self.memo.replays[layer].site])

    def moved(self, layer: str, start: Sequence[Tensor], by: Sequence[Tensor], eps: float) -> list[Tensor]:
        """Return a layer's tensors moved by ε times a direction, the input within its range."""
        tensors = [h + eps * d for h, d in zip(start, by, strict=True)]
        if layer == layers.INPUT and self.clip is not None:
            return [tensor.clamp(*self.clip) for tensor in tensors]
        return tensors

    def forward(
        self, layer: str, moved: list[Tensor], times: int = 1, *, differentiably: bool = False
    ) -> Tensor:
        """Return the logits that follow from a layer's moved tensors, which hold ``times`` batches."""
        with nullcontext() if differentiably else torch.no_grad(), layers.submodules_run():
            if layer == layers.INPUT:
                return pick(self.net(moved[0]), self.output)
            return self.suffix(layer, moved, times, replay=self.memo.trusted[layer])

    def suffix(self, layer: str, moved: list[Tensor], times: int = 1, *, replay: bool) -> Tensor:
        """Return the logits with a layer giving ``moved``, by replay or from a full forward pass."""
        how = self.memo.replays[layer]
        activation = layers.with_tensors(self.recording.activations[how.site], moved)
        recording = self.recording
        if self.plain_recording is not None and not torch.is_grad_enabled():
            recording = self.plain_recording
        x = self.x
        if times > 1:
            x = torch.cat([x] * times)
            recording = layers.repeated(recording, len(self.x), times)
        elif self.memo.changes_input:
            x = x.clone()
        way = (
            layers.replayed(self.net, how, recording, activation)
            if replay
            else layers.replaced(self.net, how.site, activation)
        )
        with way:
            return pick(self.net(x), self.output)

    def check(self, names: Sequence[str]) -> None:
        """Compare, once for each layer, replay with the full forward pass; where they differ, do without."""
        for name in _inner(names):
            if name in self.memo.trusted:
                continue
            equal = self.replay_is_exact(name)
            if not equal and not self.memo.mode_matters:
                self.record_plainly(_inner(names))
                equal = self.memo.mode_matters = self.replay_is_exact(name)
                if not equal:
                    self.plain_recording = None
            self.memo.trusted[name] = equal
            if not equal:
                warnings.warn(
                    f"layer={name}: what follows it cannot be computed alone in this network; "
                    "every point takes a full forward pass",
                    stacklevel=2,
                )

    def replay_is_exact(self, name: str) -> bool:
        """Say whether replay gives what the full forward pass gives, bit for bit, for a moved activation."""
        moved = [h * 1.01 for h in self.activation(name)]
        with torch.no_grad(), layers.submodules_run():
            full = self.suffix(name, [h.clone() for h in moved], replay=False)
            quick = self.suffix(name, moved, replay=True)
        return full.shape == quick.shape and full.allclose(quick, rtol=0, atol=0, equal_nan=True)

    def points_per_forward(self, asked: int | Literal["auto"], most: int) -> int:
        """Return how many ε ride in one forward pass; ``auto`` fills half of a GPU's free memory."""
        if asked != "auto":
            return asked
        if self.memo.points_per_forward is None:
            self.memo.points_per_forward = 1
            if self.x.is_cuda:
                before = torch.cuda.memory_allocated(self.x.device)
                torch.cuda.reset_peak_memory_stats(self.x.device)
                self.forward(layers.INPUT, [self.x])
                needed = torch.cuda.max_memory_allocated(self.x.device) - before
                kept = torch.cuda.memory_reserved(self.x.device) - before
                free = torch.cuda.mem_get_info(self.x.device)[0] + kept
                self.memo.points_per_forward = max(1, min(most, MOST_TOGETHER, free // (2 * max(needed, 1))))
        return self.memo.points_per_forward


def _inner(names: Sequence[str]) -> list[str]:
    return [name for name in names if name != layers.INPUT]


def _state(z: Tensor, anchors: dict[str, list[Tensor]]) -> State:
    if not z.requires_grad:
        raise GpsweepError(
            f"layer={', '.join(anchors)}: the logits do not depend on it, or the network cuts the gradient "
            "by a no_grad() or detach() in its forward"
        )
    # Softmax and signal stay in 32 bits when the forward pass is in fewer.
    return State(z, z.detach().float().softmax(1), anchors)


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
