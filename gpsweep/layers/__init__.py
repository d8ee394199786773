"""Layers by name: find them, keep their activations, perturb them, and run only what depends on them."""

from __future__ import annotations

from gpsweep.layers.calls import (
    INPUT,
    Call,
    Finished,
    aliases,
    beside,
    compiled,
    find,
    site,
    submodules_run,
    trace,
)
from gpsweep.layers.replay import Recording, Replay, recorded, repeated, replaced, replay_of, replayed
from gpsweep.layers.tensors import tensors_of, with_tensors

__all__ = [
    "INPUT",
    "Call",
    "Finished",
    "Recording",
    "Replay",
    "aliases",
    "beside",
    "compiled",
    "find",
    "recorded",
    "repeated",
    "replaced",
    "replay_of",
    "replayed",
    "site",
    "submodules_run",
    "tensors_of",
    "trace",
    "with_tensors",
]
