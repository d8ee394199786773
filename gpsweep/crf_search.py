"""``python -m gpsweep.crf_search model=… data=…``: the dense CRF's parameters, chosen on the tuning images.

They are the images that ``select=half`` chooses ε on, so that what is reported on the others stays honest.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
import numpy as np
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from numpy.typing import NDArray
from omegaconf import MISSING, DictConfig, OmegaConf

from gpsweep import composed, config, metrics, quoting
from gpsweep.atomic import save
from gpsweep.command import typed, within_hydra
from gpsweep.console import standard_output
from gpsweep.crf import Crf
from gpsweep.crf_pool import Labelled, Softmax, processes
from gpsweep.errors import GpsweepError
from gpsweep.interrupts import TERMINATE, left_at_once
from gpsweep.progress import bar

if TYPE_CHECKING:
    import pandas as pd

    from gpsweep.data.batch import Batch
    from gpsweep.parts import Parts
    from gpsweep.points import Point

TABLE = "crf_search.csv"
SHOWN = 5
KEYS = tuple(each.name for each in fields(Crf))


@dataclass
class Search:
    """What is tried of each parameter, and in how many processes; ``conf/crf_search.yaml`` has the values.

    ``workers`` says how many, ≥ 1; None: as many as there are cores for this one. All others are values of
    the parameter of that name, see :class:`gpsweep.crf.Crf`.
    """

    iterations: list[int] = MISSING
    smooth_weight: list[float] = MISSING
    smooth_xy: list[float] = MISSING
    appearance_weight: list[float] = MISSING
    appearance_xy: list[float] = MISSING
    appearance_rgb: list[float] = MISSING
    workers: int | None = MISSING


# What a run takes and a search has no use for, and how it stands where nobody asks for it.
ALONE: dict[str, tuple[Any, ...]] = {
    "select": ("none",),
    "shards": (1,),
    "tracker": (None,),
    "trainer.devices": (1, "1", "auto"),
    "trainer.num_nodes": (1,),
}


@dataclass
class SearchConfig(config.Config):
    """A run's configuration and what is tried."""

    search: Search = field(default_factory=Search)


@dataclass(frozen=True, eq=False)
class Found:
    """What a search has found.

    Args:
        table: one row a combination, the best at the point first: the parameters; ``score`` and
            ``clean_score``, of the point and at ε = 0; ``delta`` and ``clean_delta``, what the CRF adds to
            each; all in %.
        name: the model and the data set.
        images: how many were tuned on.
        point: what was perturbed how.
        without: the point's score without a CRF, in %.
        clean_without: the same at ε = 0.
    """

    table: pd.DataFrame
    name: str
    images: int
    point: Point
    without: float
    clean_without: float


def register() -> None:
    """Make the schema of the search known to Hydra, and what runs have in common with it."""
    config.register()
    ConfigStore.instance().store(name="crf_search_schema", node=SearchConfig, provider="gpsweep")


def search(cfg: DictConfig) -> Found:
    """Try every combination on the tuning images.

    Args:
        cfg: the composed configuration, see :class:`SearchConfig`.

    Raises:
        GpsweepError: for whatever the user can mend, before the first batch where it can be known.
    """
    tried = candidates(cfg.search)
    check(cfg)
    from gpsweep.parts import parts_of
    from gpsweep.results.halves import halves
    from gpsweep.tuning import tune_ids

    parts = parts_of(cfg)
    if parts.spool is not None:
        raise GpsweepError(f"data: {parts.source.name} has no masks to choose by; expected data with a truth")
    grid = parts.grid.points()
    # Fewer iterations are on the way to the most.
    most = max(point.iterations for point in grid)
    points = [point for point in grid if point.iterations == most]
    if len(points) != 1 or points[0].refine != "crf":
        came = f"refine={points[0].refine}" if len(points) == 1 else f"{len(points)} points"
        raise GpsweepError(f"eps, label, …: expected one point with refine=crf, came {came}")
    tune, groups = tune_ids(cfg.data, parts.source), cfg.data.get("groups")
    places, _ = halves(parts.source.ids, seed=cfg.seed, tune=tune, groups=groups)
    totals = tally(cfg, parts, points[0], places.tolist(), tried)
    scores = metrics.score(totals, parts.source.task)
    return Found(
        ranked(tried, scores),
        name=f"{cfg.model.name} on {parts.source.name}",
        images=len(places),
        point=points[0],
        without=float(scores[-1, 0]),
        clean_without=float(scores[0, 0]),
    )


def check(cfg: DictConfig) -> None:
    """Refuse what a run takes and a search has no use for.

    Raises:
        GpsweepError: naming the key.
    """
    for key, usual in asdict(Crf()).items():
        if (came := cfg.crf[key]) != usual:
            raise GpsweepError(
                f"crf.{key}={came}: a search tries what search.{key} lists; expected search.{key}=[…]"
            )
    for key, choices in ALONE.items():
        if (came := OmegaConf.select(cfg, key)) not in choices:
            raise GpsweepError(
                f"{key}={came}: a search runs in one process, on the tuning images; leave it out"
            )


def candidates(cfg: DictConfig) -> list[Crf]:
    """Return every combination of the parameters.

    Raises:
        GpsweepError: naming the key of what does not fit.
    """
    for key in KEYS:
        if not cfg[key]:
            raise GpsweepError(f"search.{key}=[]: expected a list of numbers, came an empty list")
    if cfg.workers is not None and cfg.workers < 1:
        raise GpsweepError(f"search.workers={cfg.workers}: expected a whole number of at least 1, or null")
    tried = [Crf(**dict(zip(KEYS, values, strict=True))) for values in product(*(cfg[key] for key in KEYS))]
    for crf in tried:
        crf.check("search")
    return tried


def tally(
    cfg: DictConfig, parts: Parts, point: Point, places: list[int], tried: list[Crf]
) -> NDArray[np.int64]:
    """Count what comes of the softmax at ε = 0 and at a point, as it is and by every CRF.

    Args:
        cfg: the composed configuration.
        parts: what it names.
        point: the point.
        places: which images.
        tried: the CRFs.

    Returns:
        ``(ε, 1 + CRFs, classes, 3)``: one ε or two.

    Raises:
        GpsweepError: if network and data do not fit, an image cannot be read, or logits are no numbers.
    """
    from gpsweep.counting import check_finite, sums, walk
    from gpsweep.data.batch import batch_of, on_device, rows_of
    from gpsweep.failures import failures_named
    from gpsweep.memo import Memo
    from gpsweep.prepare import prepare
    from gpsweep.trainer import quiet_lightning

    device = parts.trainer.strategy.root_device
    options = prepare(cfg, parts)
    net, size, tuned = parts.net.to(device), cfg.data.batch_size, set(places)
    eps = list(dict.fromkeys((0.0, point.eps)))
    axes = {key: value for key, value in point.asdict().items() if key not in ("eps", "refine")}
    options |= {**axes, "eps": eps, "memo": Memo()}
    options.pop("refinement")
    totals = np.zeros((len(eps), 1 + len(tried), parts.classes, 3), dtype=np.int64)
    with (
        quiet_lightning(),
        processes(cfg.search.workers, tried) as by_each,
        bar(cfg.progress, len(places) * len(eps) * len(tried), "CRFs") as on_image,
    ):
        # A run's batches, of which an image's padding comes, whichever of their images are tuned on.
        for number in sorted({place // size for place in places}):
            rows = rows_of(number, size, len(parts.source))
            own = [place for place, row in enumerate(rows) if row in tuned]
            batch = batch_of(parts.source, rows)
            with failures_named(batch, f"in batch {number}", net=net):
                for here, logits in walk(net, on_device(batch, device), **options):
                    if here.iterations == point.iterations:
                        check_finite([(here, sums(logits))], number, batch["ids"])
                        softmax = logits.softmax(1).cpu().numpy()
                        row = totals[eps.index(here.eps)]
                        count(row, batch, own, softmax, by_each, on_image, class_map=parts.class_map)
    return totals


def count(
    totals: NDArray[np.int64],
    batch: Batch,
    own: Iterable[int],
    softmax: Softmax,
    by_each: Labelled,
    on_image: Callable[[], None],
    *,
    class_map: Any,
) -> None:
    """Add the counts of some images of a batch: of the likeliest classes, and of those by every CRF.

    Args:
        totals: ``(1 + CRFs, classes, 3)``, added to.
        batch: on the CPU.
        own: which of its images are counted.
        softmax: ``(N, C, H, W)``.
        by_each: yields an image's classes by every CRF.
        on_image: called after every image and CRF.
        class_map: see :class:`gpsweep.tally.Tally`.
    """
    import torch

    from gpsweep.tally import Tally
    from gpsweep.views import colours, sizes_of

    images, sizes = colours(batch), sizes_of(batch)
    for place in own:
        height, width = sizes[place]
        target = batch["target"][place : place + 1, :height, :width]
        counted = Tally(target, classes=totals.shape[1], channels=softmax.shape[1], class_map=class_map)
        box = np.ascontiguousarray(softmax[place, :, :height, :width])
        totals[0] += counted(torch.from_numpy(box.argmax(0))[None])[0].numpy()
        for row, found in enumerate(by_each(images[place, :height, :width], box), 1):
            totals[row] += counted(torch.from_numpy(found.astype(np.int64))[None])[0].numpy()
            on_image()


def ranked(tried: list[Crf], scores: NDArray[np.float64]) -> pd.DataFrame:
    """Put the scores ``(ε, 1 + CRFs)`` beside the parameters, the best first and of equals the first."""
    import pandas as pd

    table = pd.DataFrame([asdict(crf) for crf in tried])
    for prefix, (without, *refined) in (("", scores[-1]), ("clean_", scores[0])):
        table[f"{prefix}score"] = refined
        table[f"{prefix}delta"] = np.asarray(refined) - without
    return table.sort_values("score", ascending=False, kind="stable", ignore_index=True)


def show(found: Found, folder: Path) -> None:
    """Print the best few combinations, and the overrides that a run takes the best by."""
    from rich import box
    from rich.table import Table

    from gpsweep import words

    table, console = found.table, standard_output()
    setting = " ".join(f"{key}={value}" for key, value in found.point.asdict().items() if key != "refine")
    perturbed = found.point.eps != 0
    varied = [key for key in KEYS if table[key].nunique() > 1]
    clean = f" ({found.clean_without:.2f} clean)" if perturbed else ""
    for line in (
        f"{found.name}, the {found.images} images to tune on",
        f"{setting}: mIoU {found.without:.2f}{clean} without a CRF",
    ):
        console.print(line, markup=False, soft_wrap=True)
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    columns = ["score", "delta", *(["clean_score", "clean_delta"] if perturbed else [])]
    headings = {"score": "mIoU", "delta": "gain", "clean_score": "clean", "clean_delta": "gain"}
    for key in (*varied, *columns):
        shown.add_column(headings.get(key, key.replace("_", "\n")), justify="right")
    for _, row in table.head(SHOWN).iterrows():
        cells = [
            words.signed(row[key], minus="-") if key.endswith("delta") else words.score(row[key])
            for key in columns
        ]
        shown.add_row(*(f"{row[key]:g}" for key in varied), *cells)
    console.print(shown)
    console.print(f"{len(table)} combinations in {folder / TABLE}; the best:", markup=False, soft_wrap=True)
    console.print(overrides(table), markup=False, soft_wrap=True)


def overrides(table: pd.DataFrame) -> str:
    """Return the best combination as one would type it."""
    best = table.iloc[0]
    return shlex.join(["refine=crf", *(f"crf.{key}={best[key]:.12g}" for key in KEYS)])


register()


@hydra.main(version_base="1.3", config_path=config.conf_folder(), config_name="crf_search")
def main(cfg: DictConfig) -> float:
    """Search as the command line says; a mistake of the user's ends in one message."""
    folder = Path(HydraConfig.get().runtime.output_dir)
    with within_hydra(), left_at_once(TERMINATE):
        composed.check_builds_on_ours(cfg, "crf_search", HydraConfig.get())
        composed.check_values(cfg)
        found = search(cfg)
        try:
            save(folder / TABLE, found.table.to_csv(index=False).encode())
        finally:
            show(found, folder)  # where nothing can be written, it is all there is of a long search
    return float(found.table["score"].iloc[0])


def cli() -> None:
    """Run the command line."""
    read = partial(quoting.quoted, primary="crf_search")
    typed(main, "a search is not kept, and the same command begins anew", read)


if __name__ == "__main__":
    cli()
