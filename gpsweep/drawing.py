"""Draws what a point changes in images: predictions beside the truth, and what is set right or wrong."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig
from PIL import Image
from torch import Tensor, nn

from gpsweep import pictures
from gpsweep.atomic import save
from gpsweep.cache import Cache
from gpsweep.counting import evaluate
from gpsweep.data.base import Sample, Source
from gpsweep.data.batch import batch_of, on_device, read, rows_of
from gpsweep.data.palette import palette
from gpsweep.errors import GpsweepError
from gpsweep.labels import likeliest
from gpsweep.memo import Memo
from gpsweep.metrics import FN, FP, TP, is_segmentation, score, total
from gpsweep.parts import Parts
from gpsweep.pictures import Picture
from gpsweep.points import Point
from gpsweep.prepare import prepare
from gpsweep.results import selection
from gpsweep.results.outcome import Outcome
from gpsweep.tally import meanings
from gpsweep.views import sizes_of

NONE = -1  # a pixel without truth, or predicted as no class of the data
NO_CLASS = "no class of the data"
BLANK = (221, 225, 230)
RIGHT, WRONG = (11, 95, 165), (194, 87, 12)  # the page's colours of gains and losses
SMALLEST, LARGEST, GAP = 160, 320, 4  # of a panel's longer side; pixels

Classes = NDArray[np.integer[Any]]
Colours = NDArray[np.uint8]


def illustrate(cfg: DictConfig, parts: Parts, outcome: Outcome, folder: Path) -> None:
    """Draw what the best point changes on a few images into a run's folder, or the base if none is better.

    Args:
        cfg: the run's configuration; its ``pictures`` says how many at most.
        parts: what it names.
        outcome: the finished run.
        folder: the run's.

    Warns:
        UserWarning: where that fails; it takes no result along.
    """
    pictures.clear(folder)
    if not cfg.pictures:
        return
    place = selection.top(outcome.points, score(total(outcome.counts), outcome.task))
    point, counts = outcome.points[place], outcome.counts[place]
    if point.eps:
        rows = choose(counts, outcome.base, cfg.pictures)
    elif point.refine == "none":
        rows = throughout(outcome.base, cfg.pictures)
    else:
        return
    try:
        if is_segmentation(outcome.task):
            draw(folder, point, rows, cfg=cfg, parts=parts)
        else:
            show(folder, point, rows, counts=counts, base=outcome.base, source=parts.source)
    except (GpsweepError, RuntimeError) as error:
        warnings.warn(f"pictures={cfg.pictures}: not all were drawn: {error}", stacklevel=2)


def choose(counts: NDArray[Any], base: NDArray[Any], most: int) -> list[int]:
    """Choose images on which a point changes most: one half where it gains, the other where it loses.

    Of either, near neighbours, which may be frames of a video, are only chosen where there are no others.

    Args:
        counts: the point's, ``(images, classes, 3)``.
        base: those without perturbation.
        most: how many images at most; where there are too few of one kind, there are more of the other.

    Returns:
        places of images: the largest gains, then the largest losses, of each near neighbours last; those
        where nothing changes are left out.
    """
    gain = (counts[..., TP].astype(np.int64) - base[..., TP]).sum(1)
    falling = np.argsort(-gain, kind="stable")
    gains = [place for place in falling.tolist() if gain[place] > 0]
    losses = [place for place in falling[::-1].tolist() if gain[place] < 0]
    apart = (len(gain) - 1) // (2 * most)  # so far from each other there is room for twice as many
    first = _spread(gains, apart)[: max(most - most // 2, most - len(losses))]
    return first + _spread(losses, apart)[: most - len(first)]


def throughout(base: NDArray[Any], most: int) -> list[int]:
    """Choose images that lie evenly throughout the data, of those with a truth.

    Args:
        base: the counts without perturbation, ``(images, classes, 3)``.
        most: how many images at most.
    """
    able = np.flatnonzero(base[..., [TP, FN]].any((1, 2)))
    most = min(most, len(able))
    middles = (np.arange(most) + 0.5) * len(able) / max(most, 1)  # of parts of one size
    places: list[int] = able[middles.astype(int)].tolist()
    return places


def _spread(places: Sequence[int], apart: int) -> list[int]:
    """Move to the end what lies less than ``apart`` places from one before it."""
    kept, near = list[int](), list[int]()
    for place in places:
        close = any(abs(place - other) < apart for other in kept)
        (near if close else kept).append(place)
    return kept + near


def draw(folder: Path, point: Point, rows: Sequence[int], *, cfg: DictConfig, parts: Parts) -> None:
    """Write pictures of some images of a segmentation into a run's folder, and a list of them.

    Args:
        folder: the run's.
        point: what is shown beside the base.
        rows: which images of the data.
        cfg: the run's configuration.
        parts: what it names.

    Raises:
        GpsweepError: if an image cannot be read, or a file not be written.
    """
    cache = Cache(parts.store.folder / pictures.FOLDER, fresh=cfg.fresh, optional=True)
    source, device = parts.source, parts.trainer.strategy.root_device
    options: Mapping[str, Any] = {}
    memo, made = Memo(), []
    for number, row in enumerate(rows, 1):
        name, key = str(row), {"point": repr(point)}
        kept = cache.read(name, key)
        if kept is None:
            options = options or _options(cfg, parts)
            base, moved = predicted(
                parts.net.to(device),
                source,
                row,
                point,
                batch_size=cfg.data.batch_size,
                device=device,
                options=options,
                memo=memo,
            )
            kept = {"base": base, "point": moved}
            cache.write(name, key, kept)
        classes = len(source.classes)
        after = kept["point"] if point.eps else None
        panels, right, wrong = compared(read(source, row), kept["base"], after, classes=classes)
        made.append(Picture(_file(point, number), source.ids[row], right, wrong))
        save(folder / pictures.FOLDER / made[-1].file, strip(panels))
    pictures.note(folder, point, made)


def _options(cfg: DictConfig, parts: Parts) -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # said before the first batch
        return prepare(cfg, parts)


def show(
    folder: Path,
    point: Point,
    rows: Sequence[int],
    *,
    counts: NDArray[Any],
    base: NDArray[Any],
    source: Source,
) -> None:
    """Write images that are classified otherwise at a point into a run's folder, and a list of them.

    Args:
        folder: the run's.
        point: what is shown beside the base.
        rows: which images of the data.
        counts: the point's, ``(images, classes, 3)``; of an image they tell the class that is predicted.
        base: those without perturbation.
        source: the data, for classification.

    Raises:
        GpsweepError: if an image cannot be read, or a file not be written.
    """
    made = []
    for number, row in enumerate(rows, 1):
        right, wrong = (int(each[row, :, TP].any()) for each in (counts, base))
        if not point.eps:
            wrong = 1 - right
        before, after = (named(each[row], source.classes) for each in (base, counts))
        truth = source.classes[int((base[row, :, TP] | base[row, :, FN]).argmax())]
        made.append(Picture(_file(point, number), source.ids[row], right, wrong, before, after, truth))
        image = read(source, row)["image"].permute(1, 2, 0).numpy()
        save(folder / pictures.FOLDER / made[-1].file, strip([image]))
    pictures.note(folder, point, made)


def _file(point: Point, number: int) -> str:
    return f"{'changes' if point.eps else 'base'}-{number}.png"


def named(counts: NDArray[Any], classes: Sequence[str]) -> str:
    """Return the class that is predicted for an image, from its counts ``(classes, 3)``."""
    predicted = counts[:, TP] | counts[:, FP]
    return classes[int(predicted.argmax())] if predicted.any() else NO_CLASS


def compared(
    sample: Sample, base: Classes, moved: Classes | None, *, classes: int
) -> tuple[list[Colours], int, int]:
    """Return the panels of an image, and how many pixels a point sets right and wrong.

    Args:
        sample: the image and its truth.
        base: what the network predicts, ``(H, W)``.
        moved: what it predicts at the point; None for the base alone, and what is right and wrong there.
        classes: how many classes the data has.
    """
    image, truth = sample["image"].permute(1, 2, 0).numpy(), sample["target"].numpy()
    told = (truth >= 0) & (truth < classes)
    truth = np.where(told, truth, NONE)
    panels, fits = [image, painted(truth), painted(base)], base == truth
    if moved is None:
        right, wrong, shown = told & fits, told & ~fits, np.zeros_like(told)
    else:
        right, wrong = told & (moved == truth) & ~fits, told & (moved != truth) & fits
        panels, shown = [*panels, painted(moved)], right
    return [*panels, marked(image, shown, wrong)], int(right.sum()), int(wrong.sum())


def predicted(
    net: nn.Module,
    source: Source,
    row: int,
    point: Point,
    *,
    batch_size: int,
    device: torch.device,
    options: Mapping[str, Any],
    memo: Memo | None = None,
) -> tuple[Classes, Classes]:
    """Return the classes of the data that the base and a point predict for an image, each ``(H, W)``.

    The image is alone, but for one that is padded in its batch, which may change what the network sees.

    Args:
        net: on the device.
        source: the data.
        row: which image.
        point: the point.
        batch_size: of the run.
        device: the network's.
        options: those of :func:`gpsweep.counting.count`.
        memo: what is known of the network.
    """
    rows = rows_of(row // batch_size, batch_size, len(source))
    batch, place = batch_of(source, rows), row - rows.start
    if batch["valid"] is None:
        batch, place = batch_of(source, [row]), 0
    height, width = sizes_of(batch)[place]
    judge = partial(_classes, place=place, classes=len(source.classes), class_map=options.get("class_map"))
    done = evaluate(net, on_device(batch, device), [point], judge=judge, options=options, memo=memo)
    found = (done.clean["none"], done.results()[0])
    base, moved = (each[:height, :width].to(torch.int32).cpu().numpy() for each in found)
    return base, moved


def _classes(scores: Tensor, *, place: int, classes: int, class_map: Sequence[int] | None) -> Tensor:
    """Return what an image's likeliest channels stand for: a class of the data, or ``NONE``."""
    own = range(scores.shape[1]) if class_map is None else class_map
    predicted = likeliest(scores[place : place + 1])[0]
    return meanings(own, classes=classes, none=NONE).to(scores.device)[predicted]


def painted(classes: Classes) -> Colours:
    """Return classes ``(H, W)`` in colours, ``(H, W, 3)``; neighbouring numbers differ much."""
    colours: Colours = palette()[classes % 256]
    colours[classes == NONE] = BLANK
    return colours


def marked(image: Colours, right: NDArray[np.bool_], wrong: NDArray[np.bool_]) -> Colours:
    """Return an image in pale grey with what was set right and wrong in colour.

    Args:
        image: ``(H, W, 3)``, RGB.
        right, wrong: which pixels, ``(H, W)``.
    """
    grey = image.mean(2, keepdims=True).repeat(3, 2)
    pale: Colours = (175 + 0.3 * grey).astype(np.uint8)
    pale[right], pale[wrong] = RIGHT, WRONG
    return pale


def strip(panels: Sequence[Colours]) -> bytes:
    """Return panels of one size beside each other, as a PNG; small ones are enlarged by a whole number."""
    height, width = panels[0].shape[:2]
    longer = max(height, width)
    scale = max(1, SMALLEST // longer) if longer <= LARGEST else LARGEST / longer
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    whole = Image.new("RGBA", (len(panels) * (size[0] + GAP) - GAP, size[1]))
    for number, panel in enumerate(panels):
        # The photograph alone has colours in between.
        way = Image.Resampling.LANCZOS if number == 0 and scale < 1 else Image.Resampling.NEAREST
        whole.paste(Image.fromarray(panel).resize(size, way), (number * (size[0] + GAP), 0))
    file = BytesIO()
    whole.save(file, "PNG")
    return file.getvalue()
