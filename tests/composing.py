"""Runs as the tests use them: what Hydra would do again for each command and each job is done once.

Composing takes half of a small run's time, and figures as much again: most tests leave them out. Nothing
writes into the folders of the configuration while tests run, so what the same files make together stays the
same.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import IConfigRepository
from hydra._internal.defaults_list import DefaultsList, Overrides, create_defaults_list
from hydra._internal.hydra import Hydra
from hydra.core.config_store import ConfigStore
from hydra.core.default_element import ResultDefault
from hydra.core.override_parser.types import Override
from omegaconf import Container, DictConfig, OmegaConf

from gpsweep import config

GET_MODE = Hydra.get_mode


def mode(hydra: Hydra, config_name: str | None, overrides: list[str]) -> Any:
    """Hydra composes everything once more to look for hydra.mode, a third of its time; few tests set it."""
    sets = any("hydra.mode" in one or "sweeps=" in one for one in overrides)
    return GET_MODE(hydra, config_name, overrides) if sets else None


def undraw(patch: pytest.MonkeyPatch) -> None:
    """Leave the figures out of reports."""
    patch.setattr("gpsweep.report.curves.draw", lambda *findings, **options: None)
    patch.setattr("gpsweep.report.curves.panels", lambda *rows: [])
    patch.setattr("gpsweep.report.worth.draw", lambda *findings, **options: None)
    patch.setattr("gpsweep.drawing.draw", lambda *arguments, **options: [])


@contextmanager
def once() -> Iterator[None]:
    """Parse a text, choose and merge the same files once; the values on the command line come after."""
    parse, parsed = OmegaConf.load, dict[str, Container]()
    listed = dict[str, DefaultsList]()
    merge, merged = ConfigLoaderImpl._compose_config_from_defaults_list, dict[tuple[str, ...], DictConfig]()

    def load(file: Any) -> Container:
        if isinstance(file, str | Path):
            return parse(file)
        text = file.read()
        if text not in parsed:
            file.seek(0)
            parsed[text] = parse(file)
        return deepcopy(parsed[text])

    def chosen(
        repo: IConfigRepository, config_name: str | None, overrides_list: list[Override], **options: bool
    ) -> DefaultsList:
        typed = Overrides(repo, overrides_list)
        groups = (typed.override_choices, typed.append_group_defaults, typed.deletions)
        places = [source.path for source in repo.get_sources() if source.scheme() == "file"]
        if places != [config.conf_folder()]:  # a test's own files, which it may write anew
            return create_defaults_list(repo, config_name, overrides_list, **options)
        key = repr((config_name, groups, options))
        if key not in listed:
            listed[key] = create_defaults_list(repo, config_name, overrides_list, **options)
        return replace(listed[key], config_overrides=typed.config_overrides)

    def composed(
        loader: ConfigLoaderImpl, defaults: list[ResultDefault], repo: IConfigRepository
    ) -> DictConfig:
        key = (repr(defaults), *(source.path for source in repo.get_sources()))
        if key not in merged:
            merged[key] = merge(loader, defaults, repo)
        return deepcopy(merged[key])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OmegaConf, "load", load)
        patch.setattr("hydra._internal.config_loader_impl.create_defaults_list", chosen)
        patch.setattr(ConfigLoaderImpl, "_compose_config_from_defaults_list", composed)
        # Every composition copies the repository, which is not changed, and with it all schemas.
        patch.setattr(ConfigStore, "__deepcopy__", lambda store, memo: store, raising=False)
        # It looks through the source of the whole stack of calls, which is pytest's.
        patch.setattr("hydra._internal.utils.is_under_debugger", lambda: False)
        yield
