"""Calls: which module runs when in a forward pass, inside which, and what its output depends on.

A *call* is one run of one module within a forward pass.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import count
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from gpsweep.errors import GpsweepError, unknown
from gpsweep.layers.origins import FROM_ALL, FROM_INPUT, Origins
from gpsweep.layers.tensors import tensors_in

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
        call: which one it is.
        entered, left: positions in the order in which modules were entered and left.
        began, ended: seconds from the start of the pass.
        parents: the calls it ran inside, outermost first.
        shape: its output with a shape in place of each tensor.
        origins: what something in it was computed from: bit 0 for the input, k for the k-th call to finish.
        changed_later: whether its output was changed in place afterwards.
        movable: whether it gives a floating-point tensor that what the network gives is computed from.
    """

    call: Call
    entered: int
    left: int
    began: float
    ended: float
    parents: tuple[Call, ...]
    shape: Any
    origins: int
    changed_later: bool = False
    movable: bool = False


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
        GpsweepError: if there is no such module; the nearest names are offered. Or for a TorchScript network,
            and a module within what torch.compile has made.
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
        choices = [INPUT, *(each for each in (*named, *unnamed) if not compiled(net, named.get(each, each)))]
        raise unknown("layer", name, choices)
    found = Call(canonical[id(module)], int(number) if at else 0)
    if compiled(net, found.path):
        raise GpsweepError(
            f"layer={name}: expected input, or a layer outside what torch.compile has made; hand on the "
            "network as it was before"
        )
    return found


def compiled(net: nn.Module, path: str) -> bool:
    """Say whether a module is within what torch.compile has made: hooks do not reach it alike in every pass.

    Args:
        net: any module.
        path: the module's own.
    """
    parts = path.split(".")
    around = [net.get_submodule(".".join(parts[:n])) for n in range(len(parts) + 1)]
    return "_orig_mod" in parts or any(getattr(module, "_compiled_call_impl", None) for module in around)


def trace(net: nn.Module, x: Tensor, *, follow: bool = True) -> list[Finished]:
    """Run a network once without gradients and say which module ran when, inside which, made of what.

    Args:
        net: any module; it is left as it was.
        x: batch ``(N, …)``.
        follow: whether to find out what calls are made of, which takes time; else it is said to be all.

    Returns:
        The calls in the order in which they finished.
    """
    if follow:
        # Some operations cannot be followed, such as torch.cond; what else was wrong comes again.
        with suppress(Exception):
            return _traced(net, x, follow=True)
    return _traced(net, x, follow=False)


def _traced(net: nn.Module, x: Tensor, *, follow: bool) -> list[Finished]:
    counts: Counter[str] = Counter()
    running: list[tuple[Call, int, float]] = []
    finished: list[Finished] = []
    versions: list[tuple[Finished, list[tuple[Tensor, int]]]] = []
    clock = count()
    origins = Origins([x], [*net.parameters(), *net.buffers()] if follow else [])
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
            ended=perf_counter() - start,
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
        output = net(x)
    used = origins.within(output) if follow else FROM_ALL
    for k, (done, tensors) in enumerate(versions):
        done.changed_later = any(tensor._version != version for tensor, version in tensors)
        done.movable = bool(used & 2 << k) and any(tensor.is_floating_point() for tensor, _ in tensors)
    return finished


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


@contextmanager
def submodules_run() -> Iterator[None]:
    """Keep attention layers from taking their fused path, which runs no submodule that could be hooked."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
