"""What an image costs at a point alone, in forward passes: which settings differ, and what is known of each.

Costs are measured once (:mod:`gpsweep.measure`) and kept beside the counts, a file a setting.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from statistics import median
from typing import Any

from gpsweep.atomic import save
from gpsweep.points import GUIDES, Point

PREFIX, SUFFIX = "cost-", ".json"
KEY_LENGTH = 16


@dataclass(frozen=True)
class Setting:
    """What the cost of a point depends on.

    Args:
        label_kind: ``label``, or the name of a guide; None at ε = 0, where nothing is perturbed.
        layer: which is perturbed; None at ε = 0.
        iterations: 0 at ε = 0.
        refine: what is made of the prediction.
    """

    label_kind: str | None
    layer: str | None
    iterations: int
    refine: str

    @property
    def plain(self) -> bool:
        """Whether this is the bare network's forward pass and nothing else."""
        return self.iterations == 0 and self.refine == "none"


@dataclass(frozen=True)
class Cost:
    """What was measured.

    Args:
        setting: at which points.
        seconds: of one image.
        forward_seconds: of one image's forward pass through the bare network, measured beside it.
        device: in words.
    """

    setting: Setting
    seconds: float
    forward_seconds: float
    device: str = ""

    @property
    def passes(self) -> float:
        """The cost in forward passes of the bare network."""
        return self.seconds / self.forward_seconds


def setting(point: Point) -> Setting:
    """Return what a point's cost depends on."""
    if point.eps == 0:
        return Setting(None, None, 0, point.refine)
    kind = point.label if point.label in GUIDES else "label"
    return Setting(kind, point.layer, point.iterations, point.refine)


def settings(points: Iterable[Point]) -> dict[Setting, Point]:
    """Return the settings that are to be measured, each with a point.

    What is not refined comes first, then the fewest iterations: there may be no time for all.
    """
    found: dict[Setting, Point] = {}
    for point in points:
        found.setdefault(setting(point), point if point.eps else Point(refine=point.refine))
    ranked = sorted(found, key=lambda each: (each.refine != "none", each.iterations))
    return {key: found[key] for key in ranked if not key.plain}


def passes(points: Sequence[Point], known: Mapping[str, Any] | None) -> list[float]:
    """Return the cost of points in forward passes; NaN where it was not measured.

    Args:
        points: any, at ε = 0 among them.
        known: as :func:`summary` returns it.
    """
    costs = {_setting(entry): float(entry["passes"]) for entry in (known or {}).get("settings", ())}
    return [1.0 if key.plain else costs.get(key, math.nan) for key in map(setting, points)]


def summary(folder: Path, points: Iterable[Point]) -> dict[str, Any] | None:
    """Return what is known of the costs of points, as summary.json says it; None if nothing is.

    Args:
        folder: of the counts.
        points: those of the run.

    Returns:
        ``forward_seconds`` of an image, and ``settings`` with the ``seconds`` of an image and the ``passes``
        of each, which is by the forward passes measured beside it.
    """
    known = stored(folder)
    found = [known[key] for key in settings(points) if key in known]
    if not found:
        return None
    return {
        "forward_seconds": median(cost.forward_seconds for cost in found),
        "settings": [
            {**asdict(cost.setting), "seconds": cost.seconds, "passes": cost.passes} for cost in found
        ],
    }


def keep(folder: Path, cost: Cost) -> Path:
    """Store a cost beside the counts; the shards of a run write side by side without asking each other."""
    key = sha256(json.dumps(asdict(cost.setting)).encode()).hexdigest()[:KEY_LENGTH]
    return save(folder / f"{PREFIX}{key}{SUFFIX}", json.dumps(asdict(cost), indent=1).encode() + b"\n")


def stored(folder: Path) -> dict[Setting, Cost]:
    """Return the costs in a folder; a file that cannot be read counts as none."""
    found: dict[Setting, Cost] = {}
    for path in sorted(folder.glob(f"{PREFIX}*{SUFFIX}")):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            cost = Cost(**content | {"setting": Setting(**content["setting"])})
            if cost.seconds > 0 and cost.forward_seconds > 0:
                found[cost.setting] = cost
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return found


def _setting(entry: Mapping[str, Any]) -> Setting:
    return Setting(entry["label_kind"], entry["layer"], entry["iterations"], entry["refine"])
