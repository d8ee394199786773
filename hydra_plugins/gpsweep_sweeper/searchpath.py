"""Lets ``+sweeps=NAME`` find the files of ``sweeps/`` in a checkout; a wheel carries them in its ``conf/``."""

from pathlib import Path

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin

ROOT = Path(__file__).resolve().parents[2]


class SweepsSearchPath(SearchPathPlugin):
    """Adds the root of a checkout behind all other places."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Add the root, if this is a checkout."""
        if (ROOT / "sweeps" / "fig8.yaml").is_file():
            search_path.append("gpsweep", f"file://{ROOT}")
