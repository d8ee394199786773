"""What is found out about a network on one batch, and holds for all others."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from operator import call

from torch import Tensor, nn

from gpsweep import layers
from gpsweep.errors import GpsweepError
from gpsweep.packed import Compared
from gpsweep.precision import Precision, computing


@dataclass
class Memo:
    """What a caller keeps from batch to batch of one network and one precision, to examine only once.

    Args:
        net, precisions: whose memo it is, once it has been used.
        replays: per layer name, its site and how to compute only what depends on it.
        runs: how often each module ran in the pass that was examined last.
        trusted: per layer name, whether that was found to equal the full forward pass.
        apart: per layer name and size of batch, whether points that share a forward pass were found not to
            change each other: a tensor as long as the batch is by chance may be taken for one of its samples.
        packed: whether convolutions give the same with weights that are laid out once, see
            :class:`gpsweep.packed.Packed`.
        changes_input: whether the network changes its input in place.
        mode_matters: whether a pass with gradients rounds otherwise than one without, as fused attention
            does; what replays stand on is then recorded in a pass of either kind.
        points_per_forward: how many ε rode in one forward pass.
        settle: is given the way to measure how many memory holds, and says how many it shall be; a store
            measures once for all the processes and runs that share it.
        room: the most of them, once settled or found out.
        short_of_memory: whether it was found out, and said.
    """

    net: weakref.ref[nn.Module] | None = field(default=None, repr=False)
    precisions: tuple[Precision, ...] = field(default=(), repr=False)
    replays: dict[str, layers.Replay] = field(default_factory=dict, repr=False)
    runs: dict[str, int] = field(default_factory=dict, repr=False)
    trusted: dict[str, bool] = field(default_factory=dict)
    apart: dict[tuple[str, int], bool] = field(default_factory=dict)
    packed: Compared = field(default_factory=Compared, repr=False)
    changes_input: bool = False
    mode_matters: bool = False
    points_per_forward: int | None = None
    settle: Callable[[Callable[[], int]], int] = field(default=call, repr=False)
    room: int | None = None
    short_of_memory: bool = False

    def of(self, net: nn.Module, *precisions: Precision) -> Memo:
        """Return itself, from now on this network's in these precisions of points and gradient.

        Raises:
            GpsweepError: if it is another's, or of others.
        """
        if self.net is not None and (self.net() is not net or self.precisions != precisions):
            raise GpsweepError(
                "memo: expected one of this network and precision, came another's; make one for each"
            )
        self.net, self.precisions = weakref.ref(net), precisions
        return self

    def examine(self, net: nn.Module, x: Tensor, names: list[str], precision: Precision) -> None:
        """Find out, on one batch and once for each inner layer, where layers are and what precedes them.

        On the whole batch, since a network may run a module once for each sample.

        Args:
            net: in evaluation mode.
            x: the batch ``(N, …)``.
            names: the inner layers.
            precision: of the pass.

        Raises:
            GpsweepError: for a layer that is not there, does not run, or runs several times while its name
                does not say which run is meant.
        """
        new = [name for name in names if name not in self.replays]
        if not new:
            return
        for name in new:
            layers.find(net, name)
        x = x.clone()
        with computing(precision, x.device):
            calls = layers.trace(net, x)
        self.changes_input = x._version > 0
        runs = Counter(done.call.path for done in calls)
        if runs != self.runs:
            # What is known of layers is of other passes.
            self.forget()
            self.runs, new = runs, names
        for name in new:
            self.replays[name] = layers.replay_of(calls, layers.site(calls, net, name))

    def forget(self) -> None:
        """Forget what is known of layers."""
        self.replays.clear()
        self.trusted.clear()
