"""gpsweep: one gradient, the whole ε-curve of Guided Perturbations.

``gpsweep.engine.curve`` draws a curve for any ``nn.Module``; ``gpsweep.results.load`` reads a finished run.

Where things are; which may import which, pyproject.toml says:

- Points and numbers: ``points``, ``counts``, ``metrics`` (and intervals), ``config`` (the schema),
  ``quoting`` before and ``composed`` after Hydra has read it, ``errors``.
- The perturbation: ``engine``, which checks, ``walk``, which goes from point to point, and ``passes``
  through the network; ``labels``, ``signals``, ``steps`` and ``layers`` are what they combine. ``trust`` says
  which layers can be replayed, ``together`` lets points share a pass, ``packed`` lays weights out once for
  all passes, ``memo`` is what they remember; ``logits``, ``precision``, ``memory`` and ``allocator`` help.
- What is perturbed: ``models``, ``data``; ``failures`` says what is wrong where a network fails.
- From a batch to counts: ``tally`` with ``compiled``, ``counting``, ``store``; ``views``, ``crf`` and
  ``refine`` are the rivals; ``knn`` is for the label of that name.
- A run: ``identity`` and ``source_code``, ``prepare``, ``ahead``, ``parts``, ``trainer``, ``lightning``,
  ``module``, ``compute``, ``run``, ``progress``; ``predict`` and ``submission`` where there is no truth;
  ``cost`` and ``measure`` for what a point takes.
- Many processes: ``jobs`` and ``cluster`` of a sweep, ``ranks`` and ``rank`` of a run on several devices,
  ``interrupts``.
- What comes of it: ``record``, ``results``, ``drawing`` and ``pictures``, ``report``, ``trackers``;
  ``tuning``, ``provenance``, ``words``.
- Further commands: ``fit`` by a ``recipe``, which ``fitting``, ``training`` and ``augment`` follow;
  ``track``, ``tables``, ``crf_search`` with ``crf_pool``; ``command``, ``mistakes``, ``completion``,
  ``console``, ``output``, ``atomic`` and ``cache`` serve them all.
"""

import signal
import sys

# A command of ours, whose modules are still to be imported: Ctrl-C and SIGTERM end it as they do later.
if sys.argv[:1] == ["-m"] or "".join(sys.argv[:1]).endswith(__name__):
    from gpsweep.command import interrupted, terminated

    sys.excepthook = interrupted
    signal.signal(signal.SIGTERM, terminated)

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType

try:
    __version__ = version("gpsweep")
except PackageNotFoundError:  # a checkout on PYTHONPATH
    __version__ = "0+checkout"

# Imported on first use: the command line must not wait for what it does not need.
_LAZY = ("engine", "results")


def __getattr__(name: str) -> ModuleType:
    if name in _LAZY:
        return import_module(f"gpsweep.{name}")
    raise AttributeError(f"module 'gpsweep' has no attribute {name!r}")
