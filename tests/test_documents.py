"""What documents and help name is there: each command composes, each key below a group is one."""

from __future__ import annotations

import re
import shlex
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra._internal.utils import get_args
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from gpsweep import config, crf_search, quoting, recipe
from gpsweep.composed import check_keys
from gpsweep.tables import definition
from gpsweep.tables.__main__ import asked
from gpsweep.tables.commands import check, jobs
from hydra_plugins.gpsweep_sweeper.fused import fuse

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("[!.]*/*.md"), *ROOT.glob("conf/hydra/help/*.yaml")]
PRIMARY = {
    "gpsweep": "config",
    "gpsweep.layers": "config",
    "gpsweep.fit": "fit",
    "gpsweep.crf_search": "crf_search",
    "gpsweep.track": "track",
}
# Which stand for what the reader has: model=…, fit=NAME, seed=S, DIR.
PLACEHOLDER = re.compile(r".*…|(.+=)?[A-Z]+(/[A-Z]+)?|FOLDER")
GROUPS = ("model", "data", "tracker", "precision", "hydra/launcher")
PARTS = "model|data|trainer|knn|crf|multiscale|precision|tracker|search|augment|train|hydra"


@cache
def code(document: Path) -> list[str]:
    """Return what a document has as code: the lines of its blocks, and words in a line."""
    text = re.sub(r"\\\n\s*", "", document.read_text(encoding="utf-8"))
    if document.suffix == ".yaml":
        return [re.split(r"(?<=\S)  +", line)[0] for line in text.splitlines() if not line.startswith("#")]
    fenced = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    rest = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    indented = re.findall(r"^    (.+)$", rest, re.MULTILINE)
    inline = (" ".join(words.split()) for words in re.findall(r"`([^`]+)`", rest))
    return [*"".join(fenced).splitlines(), *indented, *inline]


def commands() -> list[str]:
    """Return every command of gpsweep that a document names, once."""
    found = (re.search(r"python -m (gpsweep.*)", line) for document in DOCUMENTS for line in code(document))
    return list(dict.fromkeys(each[1] for each in found if each))


@pytest.fixture(autouse=True)
def registered() -> None:
    crf_search.register()
    recipe.register()


def composed(primary: str, *overrides: str) -> DictConfig:
    """Compose as a command would, of a sweep over jobs the first."""
    parsed = OverridesParser.create().parse_overrides(quoting.quoted(overrides, primary))
    lines = OverridesParser.create().parse_overrides(fuse(parsed))
    first = [
        f"{each.get_key_element()}={next(each.sweep_string_iterator())}"
        if each.is_sweep_override()
        else str(each.input_line)
        for each in lines
    ]
    with initialize_config_dir(config.conf_folder(), version_base="1.3"):
        return compose(primary, first)


@pytest.mark.parametrize("line", commands())
def test_a_command_composes(line: str) -> None:
    module, *words = shlex.split(line.replace(')"', ""), comments=True)
    spec = find_spec(module)
    assert spec is not None and spec.origin is not None
    file = Path(spec.origin)
    main = file.with_name("__main__.py") if spec.submodule_search_locations else file
    assert '__name__ == "__main__"' in main.read_text(encoding="utf-8")
    arguments = [word for word in words if not PLACEHOLDER.fullmatch(word)]
    if module == "gpsweep.tables" and arguments:
        wanted = asked(arguments)
        table = definition.read(wanted.name)
        check(jobs(table.small if wanted.small else table.paper, wanted.out, wanted.extra, wanted.seeds))
    if module in PRIMARY:
        typed = get_args(arguments)
        overrides = typed.overrides[1 if module == "gpsweep.track" and typed.overrides else 0 :]
        if "--config-dir" not in words and not typed.shell_completion:
            cfg = composed(PRIMARY[module], *overrides)
            check_keys(cfg)
        parsed = OverridesParser.create().parse_overrides(overrides)
        several = any(each.is_sweep_override() for each in parsed)
        assert typed.multirun or not several


def below(node: Any, place: str) -> set[str]:
    """Return the keys of a configuration with all that lie above them."""
    if not isinstance(node, dict):
        return {place}
    inner = (below(value, f"{place}.{key}".lstrip(".")) for key, value in node.items())
    return {place}.union(*inner)


@cache
def keys() -> set[str]:
    """Return every key there is, whichever files are chosen."""
    folder, known = Path(config.conf_folder()), set()
    for primary, groups in (("config", GROUPS), ("fit", ("fit",)), ("crf_search", ())):
        choices = [f"{group}={path.stem}" for group in groups for path in (folder / group).glob("*.yaml")]
        for choice in choices or [""]:
            with initialize_config_dir(str(folder), version_base="1.3"):
                cfg = compose(primary, quoting.quoted(choice.split(), primary), return_hydra_config=True)
            known |= below(OmegaConf.to_container(cfg), "")
    return known


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_key_is_there(document: Path) -> None:
    dotted = rf"(?<![\w./])((?:{PARTS})(?:\.[a-z_]+)+)"
    assert not {key for line in code(document) for key in re.findall(dotted, line)} - keys()
