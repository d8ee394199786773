"""A device apart, for want of a GPU: it computes on the CPU, but its tensors meet none that lie elsewhere.

It is PyTorch's own device for backends written outside of it. As on a GPU, an operation on tensors of two
devices is an error, and what makes the program wait for the device can be told. PyTorch cannot take it back,
so that only a process of its own may use it: :func:`process` starts one, and the functions below run there.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import chdir, contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import composing
import pytest
import torch
from networks import NETWORKS, batch, build
from torch import Tensor
from torch.utils import _pytree as tree
from torch.utils import backend_registration

NAME = "apart"
KNOWN = hasattr(backend_registration, "_setup_privateuseone_for_python_backend")  # to this PyTorch
COPIES = ("aten::_to_copy", "aten::copy_")
WAITS = (
    "aten::_local_scalar_dense",
    "aten::nonzero",
    "aten::masked_select",
    "aten::_unique2",
    "aten::bincount",
)
ANSWERS = {
    **{"is_available": True, "is_initialized": True, "_is_in_bad_fork": False, "manual_seed_all": None},
    **{"device_count": 1, "current_device": 0, "get_amp_supported_dtype": [torch.bfloat16, torch.float16]},
}
waited: list[str] = []  # operations that made the program wait
libraries: list[torch.library.Library] = []  # kept, or what they register is gone


class Apart(Tensor):
    """A tensor on the device, around one on the CPU."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> Apart:
        """Say of a tensor that it lies on the device."""
        layout = {"strides": inner.stride(), "storage_offset": inner.storage_offset()}
        self = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, inner.shape, dtype=inner.dtype, device=torch.device(NAME, 0), **layout
        )
        self.inner = inner
        return self

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Compute one operation."""
        return computed(func, *args, **(kwargs or {}))

    def tolist(self) -> Any:
        """Return the numbers."""
        waited.append("tolist")
        return self.inner.tolist()


class Module:
    """What PyTorch and Lightning ask of a device as ``torch.apart``."""

    def __getattr__(self, name: str) -> Any:
        if name not in ANSWERS:
            raise AttributeError(name)
        return lambda *_: ANSWERS[name]


def computed(func: Any, *args: Any, **kwargs: Any) -> Any:
    """Compute an operation on the CPU; tensors of two devices are refused, unless one is a number."""
    name = func._schema.name
    tensors = [one for one in tree.tree_leaves((args, kwargs)) if isinstance(one, Tensor)]
    ours = {id(one.inner): one for one in tensors if isinstance(one, Apart)}
    if name not in COPIES and any(one.dim() and not isinstance(one, Apart) for one in tensors):
        raise RuntimeError(f"{name}: a tensor of the CPU beside those of the device {NAME}")
    note(name, args, kwargs)
    where = kwargs.get("device")
    inner_args, inner_kwargs = tree.tree_map_only(Apart, lambda one: one.inner, (args, kwargs))
    found = func(*inner_args, **inner_kwargs | ({} if where is None else {"device": "cpu"}))
    here = where is None or torch.device(where).type == NAME

    def outer(one: Tensor) -> Tensor:
        # What works in place gives back what it was given.
        return ours[id(one)] if id(one) in ours else Apart(one) if here else one

    return tree.tree_map_only(Tensor, outer, found)


def note(name: str, args: Any, kwargs: Any) -> None:
    """Note what would make the program wait for a GPU: its numbers are asked for, or copied at once."""
    masks = args[1] if name.startswith("aten::index") and isinstance(args[1], list | tuple) else []
    waits = name in WAITS or any(isinstance(one, Tensor) and one.dtype == torch.bool for one in masks)
    if name == "aten::_to_copy" and kwargs.get("device") is not None:
        moved = torch.device(kwargs["device"]).type != args[0].device.type
        waits = moved and not kwargs.get("non_blocking", False)
    if name == "aten::copy_":
        waits = args[0].device != args[1].device and not (args[2:] or [False])[0]
    if waits:
        waited.append(name)


def register() -> None:
    """Make the device known to this process, for good."""
    backend_registration._setup_privateuseone_for_python_backend(NAME, backend_module=Module())
    for key, kernel in (("PrivateUse1", computed), ("AutocastPrivateUse1", torch.library.fallthrough_kernel)):
        library = torch.library.Library("_", "IMPL")
        library.fallback(kernel, key)
        libraries.append(library)
    plain = torch.tensor

    def tensor(data: Any, *, device: Any = None, **options: Any) -> Tensor:
        return plain(data, **options) if device is None else plain(data, **options).to(device)

    torch.tensor = tensor  # which does not ask a device that is written in Python


@contextmanager
def process() -> Iterator[Executor]:
    """Start a process that has the device."""
    with ProcessPoolExecutor(1, get_context("spawn"), register) as pool:
        yield pool


def points(name: str, grid: dict[str, Any]) -> tuple[int, float]:
    """Compute a network's points on both devices.

    Args:
        name: of one in ``NETWORKS``.
        grid: arguments of ``curve``; where it names none, at all layers of the network.

    Returns:
        How many points there are, and by how much their logits differ at most.
    """
    from gpsweep.engine import curve

    x, target = batch(name)
    found = []
    for device in ("cpu", NAME):
        own = {"layer": NETWORKS[name][1], "output": 0 if name == "tuples" else None} | grid
        found.append(dict(curve(build(name).to(device), x.to(device), target=target.to(device), **own)))
    here, there = found
    assert all(logits.device.type == NAME for logits in there.values())
    return len(there), max(float((logits - there[point].cpu()).abs().max()) for point, logits in here.items())


def waits(name: str, grid: dict[str, Any]) -> list[str]:
    """Return what makes the program wait for the device at a network's second batch."""
    from gpsweep.engine import curve
    from gpsweep.memo import Memo

    x, target = (part.to(NAME) for part in batch(name))
    net, memo = build(name).to(NAME), Memo()
    for _ in range(2):
        waited.clear()
        for _ in curve(net, x, target=target, memo=memo, **grid):
            pass
    return list(waited)


def mixed() -> None:
    """Add tensors of both devices."""
    torch.ones(2, device=NAME) + torch.ones(2)


def command(folder: Path, *arguments: str, drawn: bool = False) -> int:
    """Run ``python -m gpsweep`` on the device, in a folder, with figures or without; return its exit code."""
    from pytorch_lightning.accelerators import CPUAccelerator
    from pytorch_lightning.strategies import SingleDeviceStrategy

    from gpsweep import measure, trainer
    from gpsweep.__main__ import cli

    class Accelerator(CPUAccelerator):
        def setup_device(self, device: torch.device) -> None:
            assert device.type == NAME

    plain = trainer.Trainer

    def elsewhere(*, accelerator: str, **options: Any) -> Any:
        strategy = SingleDeviceStrategy(torch.device(NAME, 0), Accelerator())
        return plain(**options | {"strategy": strategy})

    with composing.once(), pytest.MonkeyPatch.context() as patch, chdir(folder):
        if not drawn:
            composing.undraw(patch)
        patch.setattr(measure, "MOST", measure.FEWEST)
        patch.setattr(trainer, "Trainer", elsewhere)
        patch.setattr(sys, "argv", ["gpsweep", *arguments])
        try:
            cli()
        except SystemExit as stop:
            return int(stop.code or 0)
    return 0
