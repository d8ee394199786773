"""What a run needs that may not be here: weights and data."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from gpsweep import config
from gpsweep.atomic import located
from gpsweep.errors import GpsweepError
from gpsweep.models.weights import published
from gpsweep.tables.commands import Job

CHECKPOINT = "model.checkpoint"


def absent(job: Job) -> str:
    """Say what a job needs that is not here, and where it is to be had; empty where nothing is missing."""
    return weights_absent(job) or data_absent(job)


def weights_absent(job: Job) -> str:
    """Say which weights are not here; what is trained along the way is not missing."""
    model = _model(job)
    if job.row.fit is not None or model.checkpoint is None:
        return ""
    path = located(model.checkpoint)
    if path.is_file():
        return ""
    recipe = model.get("recipe")
    train = f" Train the network first: python -m gpsweep.fit fit={recipe}" if recipe else ""
    note = f" Note: {job.row.note}." if job.row.note else ""
    return f"{CHECKPOINT}={path}: no such file.{published(path.name) or train}{note}"


def data_absent(job: Job) -> str:
    """Say what of the data is not here."""
    try:
        config.instance(job.cfg.data.source, "data.source")
    except GpsweepError as error:
        return str(error)
    return ""


def _model(job: Job) -> DictConfig:
    """Read the file of a job's model, with its checkpoint: a fraction of the time that composing takes."""
    given = {key: value for key, _, value in (each.partition("=") for each in job.overrides)}
    config.register()
    model = OmegaConf.load(Path(config.conf_folder(), "model", f"{given['model']}.yaml"))
    assert isinstance(model, DictConfig)
    if CHECKPOINT in given:
        path = given[CHECKPOINT].strip("'\"")
        model.checkpoint = None if path == "null" else path
    return model
