"""Which layers can be replayed: found out once for each, by comparison with the full forward pass."""

from __future__ import annotations

import warnings

from gpsweep import layers, memory
from gpsweep.passes import Passes


def check(passes: Passes) -> None:
    """Find, once for each layer of clean passes, a replay that equals the full one, or else do without.

    Warns:
        UserWarning: for a layer without such a replay.
    """
    trusted = passes.memo.trusted
    for name in (name for name in passes.inner if name not in trusted):
        trusted[name] = _can_be_replayed(passes, name)
        if not trusted[name]:
            warnings.warn(
                f"layer={name}: what depends on it cannot be computed alone in this network; "
                "every point takes a full forward pass",
                stacklevel=2,
            )


def _can_be_replayed(passes: Passes, name: str) -> bool:
    """Settle on the first way of replay that is exact, and say whether there is one."""
    memo = passes.memo
    how = memo.replays[name]
    for way in filter(None, (how, how.cautious)):
        memo.replays[name] = way
        if _is_exact(passes, name):
            return True
        if passes.plain is passes.guided:
            passes.replay_plainly()
            if _is_exact(passes, name):
                memo.mode_matters = True
                return True
            passes.plain = passes.guided
    memo.replays[name] = layers.Replay(how.site)  # of no other call an output is wanted
    return False


def _is_exact(passes: Passes, name: str) -> bool:
    """Say whether replay gives what the full forward pass gives, bit for bit, for a moved activation."""
    moved = [h * 1.01 for h in passes.activation(name)]
    with passes.predicting():
        full = passes.suffix(name, [h.clone() for h in moved], replay=False)
        # What modules keep beside their outputs, as for a skip connection, is now another pass's.
        # Brighter alone would not do: it leaves the places that pooling takes.
        passes.net(passes.x.flip(-1) * 1.01)
        try:
            quick = passes.suffix(name, moved, replay=True)
        except Exception as error:
            if isinstance(error, RuntimeError) and memory.exhausted(error):
                raise
            return False  # as where a module writes into what it was given
    return full.shape == quick.shape and full.allclose(quick, rtol=0, atol=0, equal_nan=True)
