"""Label strategies: the distribution over classes that takes the place of the truth (paper, Sec. 5).

A strategy is a pure function ``(z, hints) -> ℓ`` in :data:`STRATEGIES`, of logits ``(N, C, …)`` to a
distribution of the same shape. All ℓ sum to 1 over the classes, but where a strategy knows no label (a void
pixel of ``ground_truth``) ℓ is 0, and no signal follows from it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from gpsweep.errors import GpsweepError

PARTS, FEW = (48, 32, 64, 80), 64  # pixels, the quickest first, and classes that a nearby cache holds


@dataclass(frozen=True)
class Hints:
    """What a strategy may know beside the logits.

    Args:
        target: classes ``(N, …)``; values outside 0 … C−1 are void.
        sample_ids: N names; randomness belongs to the sample, so they seed it.
        seed: mixed into every sample's seed.
        valid: ``(N, …)`` bool, False where a pixel is padding; None if nothing was padded.
        random_unit: whether ``random_onehot`` draws one class per pixel or one per image.
        class_map: the class of ``target`` that each of the C classes stands for, one below 0 for none; None:
            its own.
    """

    target: Tensor | None = None
    sample_ids: Sequence[str] | None = None
    seed: int = 0
    valid: Tensor | None = None
    random_unit: Literal["pixel", "image"] = "pixel"
    class_map: Sequence[int] | None = None


LabelStrategy = Callable[[Tensor, Hints], Tensor]


def argmax(z: Tensor, hints: Hints) -> Tensor:
    """Put all mass on the most likely class: Guided Perturbations itself (paper, Sec. 3.1).

    Args:
        z: logits ``(N, C, …)``.
        hints: not looked at.

    Returns:
        ``(N, C, …)``: 1 at one class, 0 at the others.
    """
    return _one_hot(likeliest(z), z)


def random_onehot(z: Tensor, hints: Hints) -> Tensor:
    """Put all mass on a class drawn uniformly, per pixel or per image (paper, Sec. 5).

    Each sample's draws depend on the seed, its id and its own size alone: not on the batch it came in.

    Args:
        z: logits ``(N, C, …)``; only their shape matters.
        hints: ``seed``, ``sample_ids`` (the position in the batch if None), ``valid`` and ``random_unit``.

    Returns:
        ``(N, C, …)``: 1 at the drawn class, 0 at the others.
    """
    n, c = z.shape[:2]
    ids = hints.sample_ids if hints.sample_ids is not None else [str(i) for i in range(n)]
    classes = torch.zeros((n, *z.shape[2:]), dtype=torch.long)
    for i, name in enumerate(ids):
        generator = torch.Generator().manual_seed(_seed(hints.seed, name))
        if hints.random_unit == "image":
            classes[i] = torch.randint(c, (), generator=generator)
            continue
        own = _extent(hints.valid[i]) if hints.valid is not None and z.dim() > 2 else tuple(z.shape[2:])
        classes[i][tuple(slice(length) for length in own)] = torch.randint(c, own, generator=generator)
    return _one_hot(classes.to(z.device), z)


def uniform(z: Tensor, hints: Hints) -> Tensor:
    """Put mass 1/C on every class (paper, Sec. 5).

    Args:
        z: logits ``(N, C, …)``; only their shape matters.
        hints: not looked at.

    Returns:
        ``(N, C, …)``: 1/C everywhere.
    """
    return torch.full_like(z, 1 / z.shape[1])


def top2(z: Tensor, hints: Hints) -> Tensor:
    """Put mass ½ on each of the two most likely classes (paper, Sec. 5).

    Args:
        z: logits ``(N, C, …)``, C ≥ 2.
        hints: not looked at.

    Returns:
        ``(N, C, …)``: ½ at two classes, 0 at the others.
    """
    first = likeliest(z).unsqueeze(1)
    second = likeliest(z.scatter(1, first, -torch.inf)).unsqueeze(1)
    return torch.zeros_like(z).scatter_(1, first, 0.5).scatter_(1, second, 0.5)


def ground_truth(z: Tensor, hints: Hints) -> Tensor:
    """Put all mass on the true class, the oracle of the paper's Fig. 5c.

    Where several classes stand for the true one, each has the same part of the mass.

    Args:
        z: logits ``(N, C, …)``; only their shape matters.
        hints: ``target``, classes ``(N, …)``, and ``class_map``.

    Returns:
        ``(N, C, …)``, summing to 1 over the classes; 0 at all of them where the truth is void or no class
        stands for it.

    Raises:
        GpsweepError: if there is no target, one of another shape than the logits' or of other than whole
            numbers, or a class map that has not one entry a class.
    """
    target = hints.target
    if target is None:
        raise GpsweepError("label=ground_truth: expected a target, came none")
    if target.shape != (expected := (z.shape[0], *z.shape[2:])):
        raise GpsweepError(f"label=ground_truth: expected a target {expected}, came {tuple(target.shape)}")
    if target.is_floating_point():
        raise GpsweepError(f"label=ground_truth: expected a target of whole numbers, came {target.dtype}")
    target = target.long()  # masks often come as bytes
    if hints.class_map is not None:
        return _shared(target, hints.class_map, z)
    known = (target >= 0) & (target < z.shape[1])
    return _one_hot(target.where(known, 0), z) * known.unsqueeze(1)


STRATEGIES: dict[str, LabelStrategy] = {
    "argmax": argmax,
    "random_onehot": random_onehot,
    "uniform": uniform,
    "top2": top2,
    "ground_truth": ground_truth,
}


def likeliest(z: Tensor) -> Tensor:
    """Return the class of the largest score.

    Args:
        z: scores ``(N, C, …)``.

    Returns:
        ``(N, …)``, int64, 0 … C−1; the first of several that are equally large.
    """
    if z.device.type == "cpu" and z.dim() == 4:
        return _likeliest_in_rows(z)
    # max takes the same class as argmax, in much less time where classes are not the last dimension.
    return z.max(1).indices


def _likeliest_in_rows(z: Tensor) -> Tensor:
    # On a CPU, max over 11 classes took longer than counting them. Pooling compares a whole row of pixels at
    # once, if rows lie one class after the other: seen as an image of W channels, C high and 1 wide. Where
    # the classes of a pixel lie together, they are put in this order a part of a row at a time.
    n, c, h, w = z.shape
    together = z.stride(1) == 1 and c <= FEW
    part = next((width for width in PARTS if w % width == 0), w) if together else w
    rows = z.permute(0, 2, 3, 1).view(n, h, w // part, part, c).transpose(3, 4).contiguous()
    rows = rows.view(-1, c, 1, part).permute(0, 3, 1, 2)
    return F.max_pool2d(rows, (c, 1), return_indices=True)[1].view(n, h, w)


def _one_hot(classes: Tensor, z: Tensor) -> Tensor:
    return torch.zeros_like(z).scatter_(1, classes.unsqueeze(1), 1)


def _shared(target: Tensor, class_map: Sequence[int], z: Tensor) -> Tensor:
    """Return the distribution over all classes that stand for the true one."""
    if len(class_map) != z.shape[1]:
        raise GpsweepError(f"class_map: expected one for each of {z.shape[1]} classes, came {len(class_map)}")
    stands_for = torch.tensor(class_map, device=z.device).view(1, -1, *[1] * (z.dim() - 2))
    mass = ((stands_for == target.unsqueeze(1)) & (stands_for >= 0)).to(z.dtype)
    return mass / mass.sum(1, keepdim=True).clamp(min=1)


def _seed(seed: int, name: str) -> int:
    digest = blake2b(f"{seed}:{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def _extent(valid: Tensor) -> tuple[int, ...]:
    """Return the size of the unpadded corner of a mask."""
    return tuple(
        int(valid.any(dim=[d for d in range(valid.dim()) if d != axis]).sum()) for axis in range(valid.dim())
    )
