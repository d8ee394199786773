"""``python -m gpsweep.layers model=NAME``: the layers one can perturb, and what depends on them."""

from __future__ import annotations

import sys
import warnings
from collections import Counter
from collections.abc import Sequence
from statistics import median
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import DictConfig, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor, nn

from gpsweep import composed, config, layers, quoting
from gpsweep.allocator import keep_freed
from gpsweep.command import told
from gpsweep.console import UNBOUNDED, standard_output
from gpsweep.data.batch import Batch, batch_of
from gpsweep.data.build import source_of
from gpsweep.engine import MemoryFormat, check_choices, formatted
from gpsweep.errors import GpsweepError, listing
from gpsweep.failures import failures_named, in_a_format_it_bears
from gpsweep.models.build import build

HELP = """\
python -m gpsweep.layers [KEY=VALUE …]

Lists what layer=… can name, in the order in which it runs: the shape of the
output for the first image, and the share of a forward pass that depends on it,
which is what an ε costs there. The keys are those of python -m gpsweep:

  python -m gpsweep.layers model=timm model.arch=resnet18 data.size=224
  python -m gpsweep.layers model=custom model.net=my_nets.net
"""

Row = tuple[str, str, float]

SHAPE_AND_SHARE = 36
"""Characters of a line that are left to the columns beside a layer's name."""
FEW = 3
"""Shapes of an output that are shown at a terminal."""


@told(HydraException, OmegaConfBaseException, OSError, kept="the same command begins anew")
def main(overrides: list[str] | None = None) -> int:
    """Print the table for the model and data that the overrides name, as for a run."""
    arguments = sys.argv[1:] if overrides is None else overrides
    if {"-h", "--help"} & set(arguments):
        print(HELP, end="")
        return 0
    if flags := [each for each in arguments if each.startswith("-")]:
        raise GpsweepError(
            f"{flags[0]}: expected KEY=VALUE; a folder of files of your own is hydra.searchpath=[file://PATH]"
        )
    keep_freed()  # as a run does, or late layers of large maps seemed to take longer than there
    config.register()
    with initialize_config_dir(config.conf_folder(), version_base="1.3"):
        cfg = compose("config", overrides=quoting.quoted(arguments), return_hydra_config=True)
    with open_dict(cfg):
        hydra = cfg.pop("hydra")
    composed.check_builds_on_ours(cfg, "config", hydra)
    composed.check_keys(cfg)
    check_choices(cfg)
    net, sample = network_and_sample(cfg)

    def listed(memory_format: MemoryFormat) -> list[Row]:
        return rows(net, formatted(sample["image"], memory_format))

    with failures_named(sample, "on the first sample"):
        table, _ = in_a_format_it_bears(net, cfg.memory_format, listed)
    show(table, f"{cfg.model.name}, one image {tuple(sample['image'].shape[2:])}")
    return 0


def network_and_sample(cfg: DictConfig) -> tuple[nn.Module, Batch]:
    """Build the model of a configuration, without its weights, and take the first image of its data."""
    source = source_of(cfg.data)
    with read_write(cfg):
        # Layers, shapes and times do not depend on them.
        cfg.model.update({key: None for key in ("checkpoint", "weights") if key in cfg.model})
    net = build(cfg.model, classes=len(source.classes))
    return net, batch_of(source, [0])


def rows(net: nn.Module, x: Tensor, repeats: int = 5) -> list[Row]:
    """List the layers of a network that can be perturbed, in the order in which they run.

    Args:
        net: network in evaluation mode.
        x: batch ``(N, 3, H, W)``.
        repeats: forward passes whose median time counts.

    Returns:
        names, as in ``stage1 = stages.0``, output shapes, and the share of the forward time that depends on
        the layer, 0 to 1.

    Warns:
        UserWarning: where torch.compile has made something of the network, whose layers cannot be.
    """
    calls = layers.trace(net, x)
    passes = [layers.trace(net, x, follow=False) for _ in range(repeats)]
    timed = [(each, own_seconds(each), each[-1]) for each in passes if each]  # the network itself ends last
    names: dict[str, list[str]] = {}
    for name, path in layers.aliases(net).items():
        names.setdefault(path, []).insert(0, name)  # other names before the path itself
    runs = Counter(done.call.path for done in calls)
    left_out = {path for path in runs if path and layers.compiled(net, path)}
    if left_out:
        warnings.warn(
            "layers within what torch.compile has made are left out, as they cannot be perturbed; hand on "
            "the network as it was before",
            stacklevel=2,
        )
    table = [(layers.INPUT, shape_text(tuple(x.shape)), 1.0)]
    for k, done in enumerate(calls):
        path = done.call.path
        if not path or not done.movable or path in left_out or (names and path not in names):
            continue
        number = f"@{done.call.number}" if runs[path] > 1 else ""
        spared = layers.beside(calls, k)
        share = median(
            (whole.ended - each[k].ended - sum(own[j] for j in spared)) / (whole.ended - whole.began)
            for each, own, whole in timed
        )
        name = " = ".join(f"{name}{number}" for name in names.get(path, [path]))
        table.append((name, shape_text(done.shape), max(share, 0.0)))
    return table


def own_seconds(calls: Sequence[layers.Finished]) -> list[float]:
    """Return how long calls of :func:`gpsweep.layers.trace` took, without what ran inside them."""
    own = {done.call: done.ended - done.began for done in calls}
    for done in calls:
        for parent in done.parents[-1:]:
            own[parent] -= done.ended - done.began
    return list(own.values())


def shape_text(shape: Any) -> str:
    """Write the shapes of an output, however it is nested; of what cannot be looked into, its kind."""
    if isinstance(shape, dict):
        return ", ".join(f"{key}: {shape_text(part)}" for key, part in shape.items())
    if isinstance(shape, (tuple, list)) and not all(isinstance(part, int) for part in shape):
        return ", ".join(shape_text(part) for part in shape)
    if isinstance(shape, (tuple, list)):
        return "×".join(map(str, shape))
    return str(shape) if shape is None or isinstance(shape, (int, float, str)) else type(shape).__name__


def show(table: list[Row], title: str) -> None:
    """Print the table, at a terminal the first shapes of many; of a narrow one they are folded first.

    Names are what is copied.
    """
    from rich import box
    from rich.table import Table

    out = standard_output()
    longest = max(len(name) for name, _, _ in table)
    printed = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False)
    printed.add_column("layer", overflow="fold", min_width=min(longest, out.width - SHAPE_AND_SHARE))
    printed.add_column("output", overflow="fold")
    printed.add_column("time it takes", justify="right")
    for name, shape, share in table:
        shapes = shape if out.width == UNBOUNDED else listing(shape.split(", "), FEW)
        printed.add_row(name, shapes, f"{100 * share:.0f} %")
    out.print(printed)


if __name__ == "__main__":
    sys.exit(main())
