"""The time of an image at a point alone, beside that of the bare network's forward pass."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import mean
from time import perf_counter
from typing import Any, Protocol

import torch
from torch import nn

from gpsweep import cost
from gpsweep.counting import count
from gpsweep.data.base import Source
from gpsweep.data.batch import Batch, batch_of, on_device
from gpsweep.engine import formatted
from gpsweep.memo import Memo
from gpsweep.points import Point
from gpsweep.precision import computing, widened
from gpsweep.refine import Refinement

IMAGES = 4  # as many of the first batch are enough
FEWEST, MOST = 2, 25  # turns of a point and the bare pass
ENOUGH = 0.5  # seconds that a point takes in all turns, each counted as the shortest
EVEN = 0.1  # seconds; a bare pass that takes as long is timed by itself
SECONDS, SHARE = 3.0, 0.02  # for all of it: so many seconds, or where it is more that share of the run's


def measure_missing(
    folder: Path,
    points: Sequence[Point],
    *,
    net: nn.Module,
    source: Source,
    device: torch.device,
    device_name: str,
    batch_size: int,
    options: Mapping[str, Any],
    memo: Memo,
    spent: float,
    again: bool,
) -> None:
    """Measure what points cost whose cost is not stored yet, and store it beside their counts.

    Args:
        folder: of the counts.
        points: those that were computed just now, so that nothing is to be set up for them any more.
        net: network in pixel space.
        source: the data.
        device: what computes.
        device_name: the same in words.
        batch_size: images of a batch of the run.
        options: those of :func:`gpsweep.counting.count`.
        memo: what the run knows of the network.
        spent: seconds that the run took.
        again: measure all of it again.
    """
    known = set() if again else set(cost.stored(folder))
    if known.issuperset(cost.settings(points)):
        return
    batch = batch_of(source, range(min(IMAGES, batch_size, len(source))))
    found = measure(
        net.to(device),
        on_device(batch, device),
        points,
        classes=len(source.classes),
        options=options,
        memo=memo,
        known=known,
        budget=max(SECONDS, SHARE * spent),
        device_name=device_name,
    )
    for each in found:
        cost.keep(folder, each)


def measure(
    net: nn.Module,
    batch: Batch,
    points: Sequence[Point],
    *,
    classes: int,
    options: Mapping[str, Any] | None = None,
    memo: Memo | None = None,
    known: Collection[cost.Setting] = (),
    budget: float = SECONDS,
    device_name: str = "",
    clock: Callable[[], float] = perf_counter,
) -> list[cost.Cost]:
    """Measure one point of each setting by itself, in turns with the forward pass of the bare network.

    A point alone takes all its passes: the clean one, the backward, and those that predict; at ε = 0 only
    the latter. What a guide knows of training images is not computed again. Of each the least time counts:
    what else the machine does meanwhile only adds to it, as the first turn does, which warms up.

    Args:
        net: network in pixel space, on the batch's device.
        batch: a handful of images.
        points: each setting is represented by its first one.
        classes: how many classes the data has.
        options: those of :func:`gpsweep.counting.count`.
        memo: what is known of the network.
        known: settings that are left out.
        budget: seconds for all of it; what does not fit in twice is left out.
        device_name: what computes, in words.
        clock: seconds.

    Returns:
        the costs of an image, as many as there was time for.
    """
    options, memo, images = options or {}, memo or Memo(), len(batch["ids"])
    device, end = batch["image"].device, clock() + budget

    def once(work: Callable[[], object]) -> float:
        return _seconds(work, device, clock)

    found: list[cost.Cost] = []
    bare = partial(predict, net, batch, "none", options)
    forward = once(bare)
    if clock() + forward < end:
        forward = min(forward, once(bare))  # the first one warms up
    wanted = {key: point for key, point in cost.settings(points).items() if key not in known}
    for left, (setting, point) in zip(range(len(wanted), 0, -1), wanted.items(), strict=True):
        # In less than clean pass, backward and prediction no point can be had; the bare pass is beside it.
        fewest = 1 + 2 * setting.iterations
        if clock() + FEWEST * forward * (fewest + 1) > end:
            continue
        work: Callable[[], object] = partial(predict, net, batch, setting.refine, options)
        if setting.iterations:
            work = partial(count, net, batch, [point], classes=classes, options=options, memo=memo)
        guide = options.get("guides", {}).get(setting.label_kind)
        if guide is not None:
            work = partial(_guided, guide, work)
            work()  # what is to be known of training images
        share = clock() + (end - clock()) / left
        turns = _turns(partial(once, work), partial(once, bare), clock, beside=fewest, share=share, end=end)
        if len(turns) >= FEWEST:
            own, beside = (min(times) / images for times in zip(*turns, strict=True))
            found.append(cost.Cost(setting, own, beside, device_name))
    return found


def _turns(
    point: Callable[[], float],
    bare: Callable[[], float],
    clock: Callable[[], float],
    *,
    beside: int,
    share: float,
    end: float,
) -> list[tuple[float, float]]:
    """Time a point and the bare pass in turns, the first of which warms up.

    Where others hold up one of a point's many steps, they would leave a short pass by itself alone: several
    are timed together.

    Args:
        point: returns how long it takes.
        bare: the same of the bare pass.
        beside: how many short bare passes a turn has.
        clock: seconds.
        share: until when turns may go on.
        end: until when the fewest may.

    Returns:
        the seconds of a point and of a bare pass, turn by turn.
    """
    start, turns = clock(), list[tuple[float, float]]()
    while len(turns) < MOST:
        own, passes = point(), [bare()]
        while len(passes) < beside and sum(passes) < EVEN:
            passes.append(bare())
        turns.append((own, mean(passes)))
        then = clock() + (clock() - start) / len(turns)
        enough = len(turns) * min(own for own, _ in turns) >= ENOUGH
        if then > end or (len(turns) >= FEWEST and (enough or then > share)):
            break
    return turns


class Forgetful(Protocol):
    """A guide that keeps what it knows of the images that came last."""

    def forget(self) -> None:
        """Forget it."""


def _guided(guide: Forgetful, work: Callable[[], object]) -> None:
    """Do what is to be timed as for images that the guide has not seen."""
    guide.forget()
    work()


def predict(net: nn.Module, batch: Batch, refine: str, options: Mapping[str, Any]) -> None:
    """Predict as one would without perturbation: a bare forward pass, or those that a refinement takes."""
    refinement: Refinement = options.get("refinement") or Refinement()
    logits = {}
    with torch.no_grad():
        for view in refinement.views(refine):
            x = formatted(view.of(batch)["image"], options.get("memory_format", "channels_last"))
            with computing(options.get("precision", "32"), x.device):
                logits[view] = net(x)
        if refine != "none":
            wide = {view: widened(z) for view, z in logits.items()}
            for _ in refinement.predictions([refine], wide, batch):
                pass


def _seconds(work: Callable[[], object], device: torch.device, clock: Callable[[], float]) -> float:
    """Time some work once."""
    start = clock()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return clock() - start
