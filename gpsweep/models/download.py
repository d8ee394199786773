"""Weights from the network: fetched for ``model.weights`` alone, and explained when they do not come."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit
from urllib.request import getproxies

from gpsweep.errors import GpsweepError

CLIENTS = ("huggingface_hub", "requests", "urllib3", "httpx", "httpcore")


@contextmanager
def explained(weights: str | None) -> Iterator[None]:
    """Turn a download that fails inside the block into one message, within seconds.

    Args:
        weights: ``model.weights``; null downloads nothing, and nothing is caught.

    Raises:
        GpsweepError: the weights could not be downloaded.
    """
    if weights is None:
        yield
        return
    try:
        with _no_retries_offline():
            yield
    except Exception as error:
        if not _of_download(error):
            raise
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise GpsweepError(
            f"model.weights={weights}: could not be downloaded ({reason}). Offline, leave "
            "model.weights=null and name a file in model.checkpoint."
        ) from error


@contextmanager
def _no_retries_offline() -> Iterator[None]:
    """Keep the hub's client to its cache where the hub is out of reach: it would retry for a minute."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or not (getproxies() or _resolves(constants.ENDPOINT))
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _resolves(address: str) -> bool:
    try:
        socket.getaddrinfo(urlsplit(address).hostname, None)
    except OSError:
        return False
    return True


def _of_download(error: Exception) -> bool:
    damaged = isinstance(error, RuntimeError) and "hash" in str(error)  # torch.hub's check of the file
    return damaged or isinstance(error, OSError) or type(error).__module__.split(".")[0] in CLIENTS
