"""The parts of a run: grid, data, network, store and guides, as a configuration names them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from omegaconf import DictConfig, OmegaConf

from gpsweep import layers, points, predict
from gpsweep.atomic import check_writable, located
from gpsweep.composed import check_keys, check_whole
from gpsweep.crf import Crf
from gpsweep.data.base import Source
from gpsweep.data.build import check_same_classes, named, source_of
from gpsweep.data.files import Files
from gpsweep.engine import check_choices
from gpsweep.errors import GpsweepError
from gpsweep.identity import identity
from gpsweep.knn import KnnGuide
from gpsweep.knn.gallery import Gallery
from gpsweep.lightning import Trainer
from gpsweep.models.build import build
from gpsweep.models.class_map import class_map
from gpsweep.models.pixels import PixelNet
from gpsweep.precision import check_precision
from gpsweep.refine import Refinement, refinement
from gpsweep.store import Store
from gpsweep.trainer import processes_started, trainer_of


@dataclass(frozen=True)
class Parts:
    """What a configuration names, checked as far as it can be without a forward pass.

    Args:
        grid: the points.
        source: the data.
        net: the network, on the CPU.
        store: where counts are kept.
        guides: label → what gives its directions.
        trainer: finds the devices and runs the batches.
        refinement: what is made of predictions.
        class_map: see :func:`gpsweep.models.class_map.class_map`.
        spool: where predictions are kept if nobody tells the truth; else None.
    """

    grid: points.Grid
    source: Source
    net: PixelNet
    store: Store
    guides: dict[str, KnnGuide]
    trainer: Trainer
    refinement: Refinement
    class_map: tuple[int, ...] | None = None
    spool: predict.Spool | None = None

    @property
    def keeper(self) -> Store | predict.Spool:
        """What keeps what is computed: counts, or predictions where nobody tells the truth."""
        return self.store if self.spool is None else self.spool

    @property
    def wanted(self) -> list[points.Point]:
        """What is to be computed of every batch."""
        whole = self.grid.points()
        return whole if self.spool is None else predict.wanted(whole)

    @property
    def classes(self) -> int:
        """How many classes the data has."""
        return len(self.source.classes)

    @property
    def joined(self) -> bool:
        """Whether others have started the processes of this run, which meet even where nothing is to do."""
        return self.trainer.world_size > 1 and processes_started()


def parts_of(cfg: DictConfig) -> Parts:
    """Build what a configuration names.

    Raises:
        GpsweepError: naming the key of what does not fit.
    """
    grid = grid_of(cfg)
    if not cfg.store:
        raise GpsweepError("store=: expected a folder, came nothing (store=…, or $GPSWEEP_STORE)")
    check_writable(located(cfg.store), "store")
    source = source_of(cfg.data)
    crf = Crf(**cfg.crf)
    refining = refinement(grid.refine, task=source.task, scales=cfg.multiscale.scales, crf=crf)
    mapped = class_map(cfg.model, classes=source.classes)
    if mapped is not None and "knn" in grid.label:
        raise GpsweepError(
            "model.class_map: label=knn guides by the classes of data.train, which are to be the network's "
            "own; expected null"
        )
    blind = predict.unlabelled(source)
    if blind:
        predict.check(cfg, grid, source, mapped)
    # Weights that no checkpoint gives are at least the same in every process and shard.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(cfg.seed)
        net = build(cfg.model, classes=len(source.classes))
    for name in grid.layer:
        if name != layers.INPUT:
            layers.find(net, name)
    trainer = trainer_of(cfg)
    kind = trainer.strategy.root_device.type
    guides = {"knn": knn_of(cfg, source, net)} if "knn" in grid.label else {}
    known = identity(cfg, source, net, kind) | refining.identity()
    for name, guide in guides.items():
        known[name] = guide.identity(kind)
    store = Store(located(cfg.store), known)
    spool = predict.Spool(store.folder / "predictions", source.ids, cfg.data.batch_size) if blind else None
    return Parts(grid, source, net, store, guides, trainer, refining, mapped, spool)


def knn_of(cfg: DictConfig, source: Source, net: PixelNet) -> KnnGuide:
    """Make what ``label=knn`` finds neighbours by.

    Args:
        cfg: the run's configuration.
        source: the data that are judged.
        net: the network.

    Raises:
        GpsweepError: if the data has no training images or such of other classes, the model names no
            features, or the cache cannot be written.
    """
    training: Source | None = None
    if cfg.data.get("train") is not None:
        training = named(cfg.data, "train", gives="training images")
    features = cfg.model.get("features")
    cache = located(cfg.knn.cache) if cfg.knn.cache else None
    if cache is not None:
        check_writable(cache, "knn.cache")
    gallery = Gallery(
        net,
        training,
        features=None if features is None else str(features),  # of a sequence, modules go by numbers
        cache=cache,
        fresh=cfg.fresh,
        memory_format=cfg.memory_format,
        workers=cfg.data.workers,
    )
    if training is not None:
        # Their numbers stand for channels of the network, and so do those of the data.
        check_same_classes(training, source, key="data.train")
    same = training is not None and _same_images(training, source)
    choices = {key: cfg.knn[key] for key in ("k", "weights", "at", "combine")}
    return KnnGuide(gallery, images=len(source), leave_out=same, **choices)


def _same_images(training: Source, source: Source) -> bool:
    """Whether an id names the same image in both; two folders of pictures may bear one name."""
    places = [{item.image for item in one.items} for one in (training, source) if isinstance(one, Files)]
    return training.name == source.name and (len(places) < 2 or not places[0].isdisjoint(places[1]))


def grid_of(cfg: DictConfig) -> points.Grid:
    """Make the grid of a configuration and check the other choices of one word or number.

    Raises:
        GpsweepError: naming the key.
    """
    check_keys(cfg)
    check_choices(cfg)
    check_precision("precision.forward", cfg.precision.forward)
    if cfg.precision.gradient is not None:
        check_precision("precision.gradient", cfg.precision.gradient)
    name = cfg.model.name
    if not isinstance(name, str | int | float) or not str(name).strip():
        raise GpsweepError(f"model.name={name}: expected a name")
    if cfg.points_per_forward != "auto":
        check_whole(cfg, "points_per_forward", 1, "auto or a whole number")
    for key in ("data.workers", "seed", "shard", "pictures"):
        check_whole(cfg, key, 0)
    for key in ("data.batch_size", "shards", "trainer.num_nodes"):
        check_whole(cfg, key, 1)
    if cfg.seed >= 2**64:
        raise GpsweepError(f"seed={cfg.seed}: expected a whole number below 2**64")
    if cfg.shard >= cfg.shards:
        raise GpsweepError(f"shard={cfg.shard}: expected 0 to {cfg.shards - 1}, as shards={cfg.shards}")
    if cfg.fresh and cfg.shards > 1:
        raise GpsweepError(
            f"fresh=true shards={cfg.shards}: a shard cannot tell the others' new counts from old ones; "
            "expected shards=1, or another store: store=FOLDER"
        )
    axes = {
        axis: OmegaConf.to_container(cfg[axis], resolve=True) if OmegaConf.is_config(cfg[axis]) else cfg[axis]
        for axis in points.AXES
    }
    labels = (*points.LABELS, *points.GUIDES)
    return points.grid(labels=labels, **axes)
