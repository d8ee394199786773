"""What processes that read data do in tests: they begin with this module, and import no more than it does."""

from __future__ import annotations

import sys
import time
from multiprocessing.synchronize import Event

from gpsweep.interrupts import leave_signals


def reading(ready: Event) -> None:
    leave_signals(0)
    ready.set()
    time.sleep(60)


def left(failure: type[BaseException]) -> None:
    leave_signals(0)
    sys.excepthook(failure, failure("so"), None)
