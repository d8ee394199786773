"""Replay: keep the outputs of a clean pass, and run again only what depends on a layer that has moved.

Modules are hooked or patched inside a ``with`` block only, and are afterwards as they were. Hooks come before
a network's own: what those keep, such as the features of a decoder, is of the perturbed activation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from gpsweep.layers.calls import Call, Finished, beside


@dataclass(frozen=True)
class Replay:
    """The calls whose outputs stand in for themselves when only what depends on ``site`` is computed.

    Args:
        site: the call whose output is perturbed.
        unmoved: outermost calls that do not depend on it: all that had finished when it ran, and later ones
            on branches beside it.
        fragile: those of ``unmoved`` whose output is changed in place later, so that it must be copied.
        within: calls inside ``site`` and those of ``unmoved``, which do not run.
        cautious: the same without the branches beside, for networks where they do more than give an output.
    """

    site: Call
    unmoved: frozenset[Call] = frozenset()
    fragile: frozenset[Call] = frozenset()
    within: frozenset[Call] = frozenset()
    cautious: Replay | None = None


def replay_of(calls: Sequence[Finished], where: Call) -> Replay:
    """Choose the outermost calls that do not depend on ``where``.

    Args:
        calls: those of :func:`trace`.
        where: one of them, the call whose output is perturbed.

    Returns:
        What is to be recorded of a clean pass, so that only what depends on ``where`` need be run.
    """
    k = next(k for k, done in enumerate(calls) if done.call == where)
    before = {done.call for done in calls if done.left < calls[k].entered}
    cautious = _without(calls, where, before)
    later = {calls[j].call for j in beside(calls, k)}
    return replace(_without(calls, where, before | later), cautious=cautious) if later else cautious


def _without(calls: Sequence[Finished], where: Call, free: set[Call]) -> Replay:
    """Return how to do without calls that are free of ``where``, and so are those inside them."""
    unmoved = [done for done in calls if done.call in free and free.isdisjoint(done.parents)]
    outermost = frozenset(done.call for done in unmoved)
    skipped = outermost | {where}
    return Replay(
        where,
        unmoved=outermost,
        fragile=frozenset(done.call for done in unmoved if done.changed_later),
        within=frozenset(done.call for done in calls if not skipped.isdisjoint(done.parents)),
    )


@dataclass
class Recording:
    """Outputs of one clean pass: activations at the sites, and what replays of them need.

    Args:
        activations, outputs: by call.
        runs: how often the modules of those calls ran.
    """

    activations: dict[Call, Any] = field(default_factory=dict)
    outputs: dict[Call, Any] = field(default_factory=dict)
    runs: dict[str, int] = field(default_factory=dict)


@contextmanager
def recorded(net: nn.Module, replays: Iterable[Replay]) -> Iterator[Recording]:
    """Keep the sites' activations, ready for gradients, and the outputs that replays need.

    What follows a site is given a copy, so that an in-place operation leaves the kept activation alone.
    """
    recording = Recording()
    replays = list(replays)
    sites = {replay.site for replay in replays}
    needed = {call for replay in replays for call in replay.unmoved}
    fragile = {call for replay in replays for call in replay.fragile}
    recording.runs = {call.path: 0 for call in sites | needed}

    def keep(path: str, module: nn.Module, args: Any, output: Any) -> Any:
        recording.runs[path] += 1
        call = Call(path, recording.runs[path])
        if call in needed:
            copy = torch.clone if call in fragile else _same
            recording.outputs[call] = tree_map_only(Tensor, lambda t: copy(t.detach()), output)
        if call in sites:
            recording.activations[call] = tree_map_only(Tensor, _anchor, output)
            return tree_map_only(Tensor, torch.clone, recording.activations[call])
        return None

    with ExitStack() as stack:
        for path in recording.runs:
            hook = partial(keep, path)
            stack.enter_context(net.get_submodule(path).register_forward_hook(hook, prepend=True))
        yield recording


@contextmanager
def replayed(net: nn.Module, replay: Replay, recording: Recording, activation: Any) -> Iterator[None]:
    """Let the modules that do not depend on a site return what was recorded, and the site ``activation``.

    A forward pass within the block computes only what depends on the site.

    Args:
        net: the network.
        replay: the site, and the calls that do not depend on it.
        recording: of a clean pass, see :func:`recorded`.
        activation: what the site gives.
    """
    outputs: dict[Call, Callable[[], Any]] = {replay.site: lambda: activation}
    for call in replay.unmoved:
        # In new lists and dicts each time: what follows may change theirs.
        give = torch.clone if call in replay.fragile else _same
        outputs[call] = partial(tree_map_only, Tensor, give, recording.outputs[call])
    with ExitStack() as stack:
        for path in {call.path for call in outputs}:
            # What does not run counts all the same, or a shared module's later runs were taken for others.
            runs = (run for run in map(partial(Call, path), count(1)) if run not in replay.within)
            stack.enter_context(_forward_replaced(net.get_submodule(path), runs, outputs))
        yield


@contextmanager
def _forward_replaced(
    module: nn.Module, runs: Iterator[Call], outputs: Mapping[Call, Callable[[], Any]]
) -> Iterator[None]:
    own = module.__dict__.get("forward")
    forward = module.forward

    def stand_in(*args: Any, **kwargs: Any) -> Any:
        known = outputs.get(next(runs))
        return known() if known is not None else forward(*args, **kwargs)

    module.forward = stand_in
    try:
        yield
    finally:
        if own is None:
            del module.forward
        else:
            module.forward = own


@contextmanager
def replaced(net: nn.Module, where: Call, activation: Any) -> Iterator[None]:
    """Let the call ``where`` give ``activation`` in a full forward pass."""
    numbers = count(1)

    def swap(module: nn.Module, args: Any, output: Any) -> Any:
        return activation if next(numbers) == where.number else None

    with net.get_submodule(where.path).register_forward_hook(swap, prepend=True):
        yield


def repeated(recording: Recording, replay: Replay, samples: int, times: int) -> Recording:
    """Return what one replay needs of ``times`` batches one after the other.

    Args:
        recording: of one batch.
        replay: what is to be replayed.
        samples: of the batch.
        times: ≥ 1.
    """

    def repeat(tensor: Tensor) -> Tensor:
        batched = tensor.dim() > 0 and len(tensor) == samples
        return torch.cat([tensor] * times) if batched else tensor

    activations = {replay.site: recording.activations[replay.site]}
    outputs = {call: recording.outputs[call] for call in replay.unmoved}
    return Recording(tree_map_only(Tensor, repeat, activations), tree_map_only(Tensor, repeat, outputs))


def _same(value: Any) -> Any:
    return value


def _anchor(tensor: Tensor) -> Tensor:
    """Return a tensor of a layer to take the gradient at, of what follows the layer alone.

    The tensor itself would not do where a layer gives several: those made of it inside the layer, as deeper
    features are of others, would count as what follows it, while each is moved by itself.
    """
    if not tensor.is_floating_point():
        return tensor
    return tensor.clone() if tensor.requires_grad else tensor.detach().requires_grad_()
