"""The pictures in a run's folder, of what its best point changes, or of the base where nothing is better.

Of a segmentation a picture is a row of panels, of a classification the image alone, beside which names stand.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from gpsweep.atomic import save
from gpsweep.points import Point

FOLDER, INDEX = "pictures", "pictures.json"
PANELS = ("image", "truth", "base", "point", "changes")
UNPERTURBED = ("image", "truth", "base", "errors")


@dataclass(frozen=True)
class Picture:
    """One image, and what the point changes in it.

    Args:
        file: its PNG in the folder of pictures.
        id: the image's.
        right: how many pixels the point sets right that the base has wrong; of a classification, 1 or 0. At
            ε = 0, how many are right.
        wrong: how many it is the other way round; at ε = 0, how many are wrong.
        base: of a classification, the class that is predicted without perturbation.
        point: the one that is predicted at the point.
        truth: the one that it is.
    """

    file: str
    id: str
    right: int
    wrong: int
    base: str = ""
    point: str = ""
    truth: str = ""


def panels(point: Point) -> tuple[str, ...]:
    """Return what the panels of a segmentation's pictures show."""
    return PANELS if point.eps else UNPERTURBED


def note(folder: Path, point: Point, made: Sequence[Picture]) -> None:
    """Write down in a run's folder which point its pictures show, and which they are, if there are any."""
    content = {"point": point.asdict(), "pictures": [asdict(picture) for picture in made]}
    if made:
        save(folder / FOLDER / INDEX, json.dumps(content, indent=1).encode() + b"\n")


def clear(folder: Path) -> None:
    """Remove the pictures of a run that was in the folder before, and nothing else that lies there."""
    for picture in noted(folder)[1]:
        (folder / FOLDER / Path(picture.file).name).unlink(missing_ok=True)
    (folder / FOLDER / INDEX).unlink(missing_ok=True)


def read(folder: Path, points: Sequence[Point], ids: Sequence[str]) -> tuple[Point, dict[str, Picture]]:
    """Return the point that pictures in a run's folder show, and these by their PNG as ``data:`` address.

    Args:
        folder: the run's.
        points: those of the run; pictures of any other are not its own.
        ids: of its images.
    """
    point, pictures = noted(folder)
    if point not in points or not {picture.id for picture in pictures} <= set(ids):
        return Point(), {}
    try:
        files = [(folder / FOLDER / Path(picture.file).name).read_bytes() for picture in pictures]
    except OSError:
        return Point(), {}
    addresses = [f"data:image/png;base64,{b64encode(file).decode()}" for file in files]
    return point, dict(zip(addresses, pictures, strict=True))


def noted(folder: Path) -> tuple[Point, list[Picture]]:
    """Return the point that pictures in a run's folder show, and these; none where they cannot be told."""
    try:
        content = json.loads((folder / FOLDER / INDEX).read_text(encoding="utf-8"))
        return Point(**content["point"]), [
            Picture(
                str(each["file"]),
                str(each["id"]),
                int(each["right"]),
                int(each["wrong"]),
                *(str(each.get(key, "")) for key in ("base", "point", "truth")),
            )
            for each in content["pictures"]
        ]
    except (OSError, ValueError, KeyError, TypeError):
        return Point(), []
