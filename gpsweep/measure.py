"""The time of an image at a point alone, beside that of the bare network's forward pass."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from statistics import mean
from time import perf_counter
from typing import Any

import torch
from omegaconf import DictConfig
from torch import nn

from gpsweep import cost
from gpsweep.counting import count
from gpsweep.data.batch import Batch, batch_of, on_device
from gpsweep.engine import formatted
from gpsweep.memo import Memo
from gpsweep.parts import Parts
from gpsweep.points import GUIDES, Point
from gpsweep.precision import computing, widened
from gpsweep.refine import Refinement
from gpsweep.trainer import device_name

IMAGES = 4  # as many of the first batch are enough; of a slow network one is
FEWEST, MOST = 2, 25  # turns of a point and the bare pass
ENOUGH = 0.5  # seconds that a point takes in all turns, each counted as the shortest
EVEN = 0.1  # seconds; a bare pass that takes as long is timed by itself, and on one image
SECONDS, SHARE = 3.0, 0.02  # for all of it: so many seconds, or where it is more that share of the run's


def measure_missing(
    cfg: DictConfig,
    parts: Parts,
    points: Sequence[Point],
    *,
    options: Mapping[str, Any],
    memo: Memo,
    spent: float,
) -> None:
    """Measure what points cost whose cost is not stored yet, and store it beside their counts.

    Args:
        cfg: the run's configuration; where it is ``fresh``, all of it is measured again.
        parts: what it names.
        points: those that were computed just now, so that nothing is to be set up for them any more.
        options: those of :func:`gpsweep.counting.count`.
        memo: what the run knows of the network.
        spent: seconds that the run took.
    """
    folder, source, device = parts.store.folder, parts.source, parts.trainer.strategy.root_device
    known = set() if cfg.fresh else set(cost.stored(folder))
    if known.issuperset(cost.settings(points)):
        return
    batch = batch_of(source, range(min(IMAGES, cfg.data.batch_size, len(source))))
    found = measure(
        parts.net.to(device),
        on_device(batch, device),
        points,
        classes=parts.classes,
        options=options,
        memo=memo,
        known=known,
        budget=max(SECONDS, SHARE * spent),
        device_name=device_name(parts.trainer),
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
        batch: a handful of images, of which one is enough for a network that takes EVEN seconds for each.
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
    options, memo = options or {}, memo or Memo()
    device, end = batch["image"].device, clock() + budget

    def seconds(work: Callable[[], object]) -> float:
        start = clock()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return clock() - start

    def bare() -> float:
        return seconds(partial(_unperturbed, net, batch, "none", options))

    found: list[cost.Cost] = []
    images, forward = len(batch["ids"]), bare()
    if forward > EVEN * images:  # one image tells as much, and more points fit in
        batch, images, forward = _first(batch), 1, forward / images
    if clock() + forward < end:
        forward = min(forward, bare())  # the first one warms up
    wanted = {key: point for key, point in cost.settings(points).items() if key not in known}
    for number, (setting, point) in enumerate(wanted.items()):
        # In less than clean pass, backward and prediction no point can be had; the bare pass is beside it.
        steps = 1 + 2 * setting.iterations
        if clock() + FEWEST * forward * (steps + 1) > end:
            continue
        work = partial(_alone, net, batch, point, classes=classes, options=options, memo=memo)
        if setting.label_kind in GUIDES:
            work()  # what is to be known of training images
        own, beside = list[float](), list[float]()
        start, room = clock(), end - clock()
        while not own or _again(own, clock() - start, room=room, share=room / (len(wanted) - number)):
            own.append(seconds(work))
            beside.append(_even(bare, steps))
        if len(own) >= FEWEST:
            found.append(cost.Cost(setting, min(own) / images, min(beside) / images, device_name))
    return found


def _again(own: Sequence[float], spent: float, *, room: float, share: float) -> bool:
    """Say whether a point is timed in one turn more.

    Args:
        own: how long it took, turn by turn; at least one.
        spent: seconds of these turns, the bare passes among them.
        room: seconds that there are for all points, as many as the fewest turns may take.
        share: those of them that are this point's.
    """
    then = spent + spent / len(own)
    if len(own) < FEWEST:
        return then <= room
    return len(own) < MOST and len(own) * min(own) < ENOUGH and then <= share


def _even(bare: Callable[[], float], most: int) -> float:
    """Return the seconds of a bare pass, of a short one the mean of several.

    Where others hold up one of a point's many steps, they would leave a short pass by itself alone.
    """
    passes = [bare()]
    while len(passes) < most and sum(passes) < EVEN:
        passes.append(bare())
    return mean(passes)


def _first(batch: Batch) -> Batch:
    """Return a batch of the first image alone."""
    return Batch(
        image=batch["image"][:1],
        target=batch["target"][:1],
        valid=None if batch["valid"] is None else batch["valid"][:1],
        ids=batch["ids"][:1],
        content=batch["content"],
    )


def _alone(
    net: nn.Module,
    batch: Batch,
    point: Point,
    *,
    classes: int,
    options: Mapping[str, Any],
    memo: Memo,
) -> None:
    """Do all that a point takes by itself, as for images that its guide has not seen."""
    if point.eps == 0:
        _unperturbed(net, batch, point.refine, options)
        return
    if point.label in GUIDES:
        options["guides"][point.label].forget()
    count(net, batch, [point], classes=classes, options=options, memo=memo)


def _unperturbed(net: nn.Module, batch: Batch, refine: str, options: Mapping[str, Any]) -> None:
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
            for _ in refinement.scores([refine], wide, batch):
                pass
