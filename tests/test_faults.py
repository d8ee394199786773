"""The faults of RELIABILITY.md, a few rounds of each."""

from __future__ import annotations

import pytest

from benchmarks.faults import FAULTS, tried


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_runs_survive() -> None:
    for outcome in tried(FAULTS, share=0.05, seed=1):
        assert not outcome.unkept, outcome.fault.name
        assert outcome.skipped or outcome.seen
