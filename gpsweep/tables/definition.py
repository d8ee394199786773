"""What a table of the paper is: its rows, the runs behind them and the paper's numbers, from a YAML file."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from omegaconf import MISSING, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gpsweep import config
from gpsweep.errors import GpsweepError, unknown

KINDS = ("gains", "classes", "seeds")
PICTURES = (None, "labels", "networks")


@dataclass
class Line:
    """One line of a table: a curve of a run, and what the paper says of it.

    Args:
        name: as the table shows it, behind the row's name; empty for a row of one line.
        where: axis → value, what picks the curve out of the run.
        base: the paper's score without perturbation, in %.
        gp: the paper's score with it, in %.
        eps: an ε that was not tuned here, at which the gain is told as well.
        seconds: the paper's time for an image.
    """

    name: str = ""
    where: dict[str, Any] = field(default_factory=dict)
    base: float | None = None
    gp: float | None = None
    eps: float | None = None
    seconds: float | None = None


@dataclass
class Row:
    """One run, or with ``fit`` one run a training seed.

    Args:
        name: as the table shows it.
        run: overrides of the run, on top of the variant's.
        eps: first, last and step of its ε, in place of the variant's.
        data: name of the data set in the paper, in place of the variant's.
        images: how many of it the paper judged on, likewise.
        lines: what the table shows of it.
        classes: of Table 3, class of the data → the paper's base and GP.
        fit: the recipe (``conf/fit``) that makes its network, once a seed.
        submit: whether there is no truth, and the run leaves predictions for an evaluation server.
        note: what one must know of the row.
    """

    name: str = MISSING
    run: list[str] = field(default_factory=list)
    eps: list[float] | None = None
    data: str | None = None
    images: int | None = None
    lines: list[Line] = field(default_factory=lambda: [Line()])
    classes: dict[str, list[float]] = field(default_factory=dict)
    fit: str | None = None
    submit: bool = False
    note: str = ""


@dataclass
class Variant:
    """The rows of a table: the paper's own, or small ones that run on what can be trained here.

    Args:
        title: its caption.
        run: overrides that all rows share.
        eps: first, last and step of the ε to choose from; what lines name in ``eps`` is added.
        data: name of the data set in the paper; null: no row's numbers can be compared with the paper's.
        images: how many of it the paper judged on.
        rows: name of the row's folder → row.
        seeds: of the trainings of rows with ``fit``.
        at_once: how many of its runs share the processor, see :func:`gpsweep.tables.running.run`.
        measure: what its scores are.
        note: what one must know of all rows.
    """

    title: str = MISSING
    run: list[str] = field(default_factory=list)
    eps: list[float] | None = None
    data: str | None = None
    images: int | None = None
    rows: dict[str, Row] = field(default_factory=dict)
    seeds: list[int] = field(default_factory=lambda: [0])
    at_once: int = 1
    measure: str = "mean IoU (%)"
    note: str = ""


@dataclass
class Definition:
    """A table of the paper.

    Args:
        source: which of the paper's it is.
        kind: ``gains``: one line a curve; ``classes``: one line a class; ``seeds``: one line a training seed.
        picture: ``labels``: the curves of each run; ``networks``: one panel a run; null: none.
        paper: the paper's networks and data.
        small: networks and data that are at hand.
    """

    source: str = MISSING
    kind: str = "gains"
    picture: str | None = None
    paper: Variant = field(default_factory=Variant)
    small: Variant = field(default_factory=Variant)


def folder() -> Path:
    """Return where the definitions lie."""
    return Path(config.conf_folder(), "sweeps", "tables")


def names() -> list[str]:
    """Return the names of all tables."""
    return sorted(path.stem for path in folder().glob("*.yaml"))


def read(name: str) -> Definition:
    """Read the definition of a table.

    Raises:
        GpsweepError: for an unknown name, or a file that is no definition.
    """
    if name not in names():
        raise unknown("table", name, names())
    path = folder() / f"{name}.yaml"
    try:
        merged = OmegaConf.merge(OmegaConf.structured(Definition), OmegaConf.load(path))
        definition = OmegaConf.to_object(merged)
    except (OmegaConfBaseException, yaml.YAMLError) as error:
        raise GpsweepError(f"{path}: expected the definition of a table: {error}") from None
    assert isinstance(definition, Definition)
    if definition.kind not in KINDS:
        raise unknown(f"{path}: kind", definition.kind, KINDS)
    if definition.picture not in PICTURES:
        raise unknown(f"{path}: picture", definition.picture, [str(choice) for choice in PICTURES if choice])
    return definition
