"""On which images ε is chosen where ``data.tune_split`` names them."""

from __future__ import annotations

from omegaconf import DictConfig, OmegaConf

from gpsweep.atomic import is_file, located
from gpsweep.config import instance
from gpsweep.data.base import Source
from gpsweep.data.files import read_lines
from gpsweep.errors import GpsweepError, listing

KEY = "data.tune_split"


def tune_ids(cfg: DictConfig, source: Source) -> list[str] | None:
    """Return the ids of the images that ``data.tune_split`` names.

    Args:
        cfg: the ``data`` group; its ``tune_split`` is a split as ``data.split`` is one, or the path of a list
            of ids, one a line.
        source: the images of the run, some of which it names.

    Returns:
        Ids, those that a ``data.limit`` cut off among them; None where nothing is named.

    Raises:
        GpsweepError: if there is no such split, or it has images that are not among the run's.
    """
    split = cfg.get("tune_split")
    if split is None:
        return None
    own = set(source.ids)
    path = located(split)
    lines = read_lines(path, key=KEY) if is_file(path) else []
    # A list of other words than ids, such as pairs of files, is left to the data's own reading of it.
    ids = lines if own.intersection(lines) else _ids_of_split(cfg, split)
    strange = [name for name in ids if name not in own]
    limited = cfg.get("limit") is not None or cfg.source.get("limit") is not None
    if (strange and not limited) or len(strange) == len(ids):
        raise GpsweepError(
            f"{KEY}={split}: {len(strange)} of its {len(ids)} images are not among the {len(own)} of "
            f"data={source.name}: {listing(strange, 3)}; expected some of those, such as {source.ids[0]}"
        )
    return ids


def _ids_of_split(cfg: DictConfig, split: object) -> list[str]:
    if "split" not in cfg.source:
        raise GpsweepError(f"{KEY}={split}: this data has no splits; expected the path of a list of ids")
    node = OmegaConf.merge(cfg.source, {"split": split})
    if "limit" in node:
        node.limit = None
    try:
        part: Source = instance(node, KEY)
    except GpsweepError as error:
        raise GpsweepError(str(error).replace("data.split", KEY)) from None
    return list(part.ids)
