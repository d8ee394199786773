"""Layers by name: find them, keep their activations, perturb them, and run only what depends on them.

A *call* is one run of one module within a forward pass. Everything here hooks or patches modules inside a
``with`` block only, and restores what was there before. Hooks come before a network's own: what those keep,
such as the features of a decoder, is then of the perturbed activation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_map_only, tree_unflatten

from gpsweep.errors import GpsweepError, unknown
from gpsweep.layers.origins import FROM_ALL, FROM_INPUT, Origins, tensors_in

INPUT = "input"


@dataclass(frozen=True, order=True)
class Call:
    """The ``number``-th run (from 1) of the module at ``path`` in one forward pass."""

    path: str
    number: int = 1


@dataclass
class Finished:
    """What is known of a call once it has finished: when it ran, inside what, and what it gave.

    Args:
        entered, left: positions in the order in which modules were entered and left.
        began, seconds: from the start of the pass to the start and to the end of the call.
        parents: the calls it ran inside, outermost first.
        shape: its output with a shape in place of each tensor.
        origins: what something in it was computed from: bit 0 for the input, k for the k-th call to finish.
        changed_later: whether its output was changed in place afterwards.
    """

    call: Call
    entered: int
    left: int
    began: float
    seconds: float
    parents: tuple[Call, ...]
    shape: Any
    origins: int
    changed_later: bool = False


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
    unmoved: frozenset[Call]
    fragile: frozenset[Call]
    within: frozenset[Call] = frozenset()
    cautious: Replay | None = None


def aliases(net: nn.Module) -> Mapping[str, str]:
    """Return the other names of modules that a network offers as ``layer_aliases``."""
    return getattr(net, "layer_aliases", None) or {}


def find(net: nn.Module, name: str) -> Call:
    """Return the call that ``name`` stands for.

    Args:
        net: any module.
        name: a module path or an alias, with ``@k`` for its k-th run in a pass, k ≥ 1.

    Returns:
        The call by the module's own path; its ``number`` is 0 where ``name`` does not say which run is meant.

    Raises:
        GpsweepError: if there is no such module; the nearest names are offered. Or for a TorchScript network.
    """
    if isinstance(net, torch.jit.ScriptModule):
        raise GpsweepError(
            f"layer={name}: expected input, as a TorchScript network lets no layer be perturbed"
        )
    path, at, number = name.partition("@")
    path = aliases(net).get(path, path)
    canonical = {id(module): known for known, module in net.named_modules()}
    try:
        module = net.get_submodule(path)
    except AttributeError:
        module = None
    if module is None or not path or (at and not (number.isdecimal() and int(number) > 0)):
        named = aliases(net)
        unnamed = [known for known in canonical.values() if known and known not in named.values()]
        choices = [INPUT, *named, *unnamed]
        raise unknown("layer", name, choices)
    return Call(canonical[id(module)], int(number) if at else 0)


def trace(net: nn.Module, *inputs: Tensor, follow: bool = True) -> tuple[list[Finished], Any]:
    """Run a network once without gradients and say which module ran when, inside which, made of what.

    Args:
        net: any module; it is left as it was.
        inputs: what it is called with, such as a batch ``(N, C, H, W)``.
        follow: whether to find out what calls are made of, which takes time; else it is said to be all.

    Returns:
        The calls in the order in which they finished, and the network's output.
    """
    if follow:
        try:
            return _traced(net, inputs, follow=True)
        except Exception:
            # Some operations cannot be followed, such as torch.cond; what else was wrong comes again.
            pass
    return _traced(net, inputs, follow=False)


def _traced(net: nn.Module, inputs: Sequence[Tensor], *, follow: bool) -> tuple[list[Finished], Any]:
    counts: Counter[str] = Counter()
    running: list[tuple[Call, int, float]] = []
    finished: list[Finished] = []
    versions: list[tuple[Finished, list[tuple[Tensor, int]]]] = []
    clock = count()
    origins = Origins(inputs, [*net.parameters(), *net.buffers()] if follow else [])
    start = perf_counter()

    def enter(path: str, module: nn.Module, args: Any) -> None:
        counts[path] += 1
        running.append((Call(path, counts[path]), next(clock), perf_counter() - start))
        origins.enter()

    def leave(path: str, module: nn.Module, args: Any, output: Any) -> None:
        call, entered, began = running.pop()
        done = Finished(
            call,
            entered,
            left=next(clock),
            began=began,
            seconds=perf_counter() - start,
            parents=tuple(parent for parent, _, _ in running),
            shape=tree_map_only(Tensor, lambda t: tuple(t.shape), output),
            origins=origins.leave(output) if follow else FROM_ALL,
        )
        finished.append(done)
        versions.append((done, [(t, t._version) for t in tensors_in(output)]))

    with ExitStack() as stack, torch.no_grad():
        stack.enter_context(submodules_run())
        for path, module in net.named_modules():
            if isinstance(module, torch.jit.ScriptModule):
                continue  # bears no hooks
            stack.enter_context(module.register_forward_pre_hook(partial(enter, path)))
            stack.enter_context(module.register_forward_hook(partial(leave, path), prepend=True))
        if follow:
            stack.enter_context(origins.followed())
        output = net(*inputs)
    for done, tensors in versions:
        done.changed_later = any(tensor._version != version for tensor, version in tensors)
    return finished, output


def site(calls: Sequence[Finished], net: nn.Module, name: str) -> Call:
    """Return the one call that ``name`` means in a traced pass.

    Args:
        calls: those of :func:`trace`.
        net: the network that was traced.
        name: as in :func:`find`.

    Returns:
        The call, its ``number`` ≥ 1.

    Raises:
        GpsweepError: for an unknown name, a module that never ran, or one that ran several times while
            ``name`` does not say which run is meant.
    """
    found = find(net, name)
    runs = sum(done.call.path == found.path for done in calls)
    if runs == 0:
        raise GpsweepError(
            f"layer={name}: the module exists but does not run in a forward pass, or only within TorchScript "
            "or what torch.compile has made; there, hand on the network as it was before"
        )
    if found.number == 0 and runs > 1:
        choices = ", ".join(f"{name}@{k}" for k in range(1, min(runs, 4) + 1))
        raise GpsweepError(f"layer={name}: the module runs {runs} times in a pass; say which: {choices}")
    if found.number > runs:
        raise GpsweepError(f"layer={name}: the module runs only {runs} times in a pass")
    return Call(found.path, max(found.number, 1))


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


def beside(calls: Sequence[Finished], k: int) -> list[int]:
    """Return which calls run later than the ``k``-th, on branches beside it.

    What is made of weights alone is not among them: it may be as long as the batch by chance, and points that
    share a pass would have it repeated.

    Args:
        calls: those of :func:`trace`.
        k: position of a call in them.

    Returns:
        positions in ascending order, also of calls inside others of them.
    """
    left, depends = calls[k].left, 2 << k
    return [
        j
        for j, done in enumerate(calls)
        if done.entered > left and done.origins & FROM_INPUT and not done.origins & depends
    ]


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
def replaced(net: nn.Module, where: Call, activation: Any) -> Iterator[None]:
    """Let the call ``where`` give ``activation`` in a full forward pass."""
    numbers = count(1)

    def swap(module: nn.Module, args: Any, output: Any) -> Any:
        return activation if next(numbers) == where.number else None

    with net.get_submodule(where.path).register_forward_hook(swap, prepend=True):
        yield


@contextmanager
def submodules_run() -> Iterator[None]:
    """Keep attention layers from taking their fused path, which runs no submodule that could be hooked."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


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


def tensors_of(activation: Any) -> list[Tensor]:
    """Return the floating-point tensors of an activation, which may be a tuple, list or dict of tensors."""
    return [tensor for tensor in tensors_in(activation) if tensor.is_floating_point()]


def with_tensors(activation: Any, tensors: Sequence[Tensor]) -> Any:
    """Return ``activation`` with its floating-point tensors replaced, in the order of :func:`tensors_of`."""
    leaves, spec = tree_flatten(activation)
    new = iter(tensors)
    swapped = [next(new) if isinstance(v, Tensor) and v.is_floating_point() else v for v in leaves]
    return tree_unflatten(swapped, spec)


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
