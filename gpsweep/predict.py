"""Where nobody tells the truth: predictions for an evaluation server in place of counts.

Each prediction lies on disk by itself as soon as it is made: a run may be stopped and go on, is shared by
shards and devices, and never holds more than one batch.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from gpsweep.atomic import save
from gpsweep.counting import evaluate
from gpsweep.data.base import Source
from gpsweep.data.batch import Batch
from gpsweep.data.voc import CLASSES
from gpsweep.errors import GpsweepError
from gpsweep.labels import likeliest
from gpsweep.memo import Memo
from gpsweep.points import AXES, ORACLE, Grid, Point
from gpsweep.store import digest
from gpsweep.submission import encoded, pack
from gpsweep.views import sizes_of

BASE = "base"


@dataclass(frozen=True, eq=False)
class Predictions:
    """Pictures of some points' predictions on one batch.

    Args:
        ids: the batch's samples.
        pictures: the points' PNGs, one a sample.
    """

    ids: list[str]
    pictures: dict[Point, list[bytes]]


def predict(
    net: nn.Module,
    batch: Batch,
    points: Sequence[Point],
    *,
    number: int = 0,
    options: Mapping[str, Any] | None = None,
    memo: Memo | None = None,
    on_point: Callable[[], None] | None = None,
) -> Predictions:
    """Predict the classes of one batch at some points; arguments are those of :func:`gpsweep.counting.count`.

    Returns:
        PNGs of the data's classes, at the images' own sizes.

    Raises:
        GpsweepError: where logits are not finite, or a prediction is no class of the data.
    """
    class_map = (options or {}).get("class_map")
    lookup = None if class_map is None else torch.tensor(class_map, device=batch["image"].device)

    def judge(scores: Tensor) -> Tensor:
        predicted = likeliest(scores)
        return (predicted if lookup is None else lookup[predicted]).to("cpu", torch.int16)

    done = evaluate(
        net, batch, points, judge=judge, number=number, options=options, memo=memo, on_point=on_point
    )
    boxes = [(slice(height), slice(width)) for height, width in sizes_of(batch)]
    pictures = {
        point: [
            encoded(name, image[box].numpy())
            for name, image, box in zip(batch["ids"], images, boxes, strict=True)
        ]
        for point, images in zip(points, done.results(), strict=True)
    }
    return Predictions(list(batch["ids"]), pictures)


class Spool:
    """Predictions on disk, a PNG for each point and image; it takes a store's place.

    Args:
        folder: where they lie.
        ids: all samples of the data.
        batch_size: how many of them make a batch.
    """

    def __init__(self, folder: Path, ids: Sequence[str], batch_size: int) -> None:
        self.folder, self.ids, self.batch_size = folder, list(ids), batch_size

    @property
    def batches(self) -> int:
        """How many batches the data make."""
        return math.ceil(len(self.ids) / self.batch_size)

    def put(self, predictions: Predictions) -> None:
        """Keep the predictions of a batch.

        Raises:
            GpsweepError: if the disk is full or cannot be written.
        """
        for point, pictures in predictions.pictures.items():
            for name, content in zip(predictions.ids, pictures, strict=True):
                save(self._path(point, name), content)

    def discard(self, points: Sequence[Point]) -> None:
        """Remove all predictions of some points.

        Raises:
            GpsweepError: if a file cannot be removed.
        """
        for path in (path for point in points for path in self._place(point).glob("*.png")):
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise GpsweepError(f"fresh=true: cannot remove {path}: {error.strerror}") from None

    def missing(
        self, points: Sequence[Point], batches: Iterable[int] | None = None
    ) -> dict[int, list[Point]]:
        """Return which points are missing in which batches; batches that are complete are left out.

        Args:
            points: which points are looked for.
            batches: numbers of the batches that are looked at; None: all.
        """
        there = {point: {path.stem for path in self._place(point).glob("*.png")} for point in points}
        left: dict[int, list[Point]] = {}
        for batch in range(self.batches) if batches is None else batches:
            ids = self.ids[batch * self.batch_size : (batch + 1) * self.batch_size]
            open_points = [point for point in points if not there[point].issuperset(ids)]
            if open_points:
                left[batch] = open_points
        return left

    def submit(self, point: Point, path: Path) -> None:
        """Pack the predictions of a point for the evaluation server.

        Args:
            point: the point.
            path: the archive to write, ``.tgz``.

        Raises:
            GpsweepError: if one is missing, or the file cannot be written.
        """
        try:
            pack(((name, self._path(point, name).read_bytes()) for name in self.ids), path)
        except OSError as error:
            raise GpsweepError(f"store: {error.filename} cannot be read: {error.strerror}") from None

    def _place(self, point: Point) -> Path:
        return self.folder / (BASE if is_base(point) else digest([point]))

    def _path(self, point: Point, name: str) -> Path:
        return self._place(point) / f"{name}.png"


def unlabelled(source: Source) -> bool:
    """Say whether a source has images without any truth."""
    return bool(getattr(source, "unlabelled", False))


def check(cfg: DictConfig, grid: Grid, source: Source, class_map: Sequence[int] | None) -> None:
    """Refuse what makes no sense where there is no truth.

    Args:
        cfg: the run's configuration.
        grid: its points.
        source: its data, without masks.
        class_map: see :func:`gpsweep.models.class_map.class_map`.

    Raises:
        GpsweepError: naming the key.
    """
    reason = f"{source.name} has no masks"
    if source.classes != CLASSES:
        raise GpsweepError(f"data.split: {reason}; predictions are written for PASCAL VOC's 21 classes alone")
    if cfg.select != "none":
        raise GpsweepError(f"select={cfg.select}: {reason} to choose ε by; expected none")
    if ORACLE in grid.label:
        raise GpsweepError(f"label=ground_truth: {reason}; expected another label")
    if cfg.data.source.get("size") is not None:
        raise GpsweepError(
            f"data.size={cfg.data.source.size}: predictions are to have the images' own sizes; expected null"
        )
    if class_map is not None and min(class_map) < 0:
        raise GpsweepError("model.class_map: a prediction has to name a class of the data; expected no null")


def wanted(points: Sequence[Point]) -> list[Point]:
    """Return the points that are predicted: the clean one first, which is the same on each curve."""
    clean = replace(points[0].curve(), iterations=1, refine="none")
    return list(dict.fromkeys([clean, *(point for point in points if not is_base(point))]))


def is_base(point: Point) -> bool:
    """Say whether a point is the clean prediction."""
    return point.eps == 0 and point.refine == "none"


def file_name(point: Point, grid: Grid) -> str:
    """Name a point's archive by its label, by what else the grid has several of, and by ε."""
    if is_base(point):
        return f"submission-{BASE}.tgz"
    several = [axis for axis in AXES[1:-1] if len(getattr(grid, axis)) > 1]
    words = [point.label, *(f"{axis}={getattr(point, axis)}" for axis in several), f"eps{point.eps:.12g}"]
    name = re.sub(r"[^\w.@=-]+", "-", "-".join(words))
    return f"submission-{name}.tgz"
