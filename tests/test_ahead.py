"""Batches that come ahead; the streams are stand-ins, test_gpu.py has real ones."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from gpsweep.ahead import Ahead, ahead
from gpsweep.errors import GpsweepError

GPU = torch.device("cuda", 0)


class Stream:
    """A stream that notes what waits for it."""

    def __init__(self, log: list[str]) -> None:
        self.log = log

    def record_event(self) -> str:
        self.log.append("copied")
        return "event"

    def wait_event(self, event: str) -> None:
        self.log.append(f"waits for {event}")


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What happens on a GPU that is not there."""
    said: list[str] = []
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: Stream(said))
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Stream(said))
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda tensor, stream: said.append("kept"))
    monkeypatch.setattr("gpsweep.ahead.on_device", lambda batch, device: batch)
    return said


def batches(*rows: Any) -> DataLoader[Any]:
    return DataLoader(rows, batch_size=None, collate_fn=lambda row: row)  # type: ignore[arg-type]


def test_all_come_in_order_the_next_one_being_fetched_meanwhile(log: list[str]) -> None:
    loader = Ahead(batches(*({"image": torch.full((2,), n), "valid": None} for n in range(4))), GPU)
    assert len(loader) == 4
    seen = []
    for batch in loader:
        seen.append(int(batch["image"][0]))  # type: ignore[index]
        assert log.count("waits for event") == log.count("kept") == len(seen), "before it is computed with"
    assert seen == [0, 1, 2, 3]
    assert log.count("copied") == 4


def test_an_error_comes_in_its_place_and_a_failure_ends_it(log: list[str]) -> None:
    def failing() -> Any:
        yield {"image": torch.zeros(1)}
        yield GpsweepError("data: 7 cannot be read")
        raise RuntimeError("a worker has died")

    found = iter(Ahead(failing(), GPU))
    assert isinstance(next(found), dict)
    assert isinstance(next(found), GpsweepError)
    with pytest.raises(RuntimeError, match="a worker has died"):
        next(found)


def test_who_stops_early_leaves_no_thread(log: list[str]) -> None:
    import threading

    before = threading.active_count()
    found = iter(Ahead(batches(*({"image": torch.zeros(1)} for _ in range(4))), GPU))
    next(found)
    found.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


def test_on_a_cpu_it_is_the_loader_itself() -> None:
    loader = batches(1, 2)
    assert ahead(loader, torch.device("cpu")) is loader
