from __future__ import annotations

import ast
import doctest
import inspect
import re
import subprocess
import sys
import tomllib
from importlib import import_module
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import torch

import gpsweep

FOLDER = Path(gpsweep.__file__).parent
SHOWING = [path.relative_to(FOLDER) for path in FOLDER.rglob("*.py") if ">>> " in path.read_text("utf-8")]


def test_the_engine_and_results_are_there_without_another_import() -> None:
    assert callable(gpsweep.engine.curve)
    assert callable(gpsweep.results.load)
    assert gpsweep.__version__
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = gpsweep.nothing


def test_every_room_is_on_the_map() -> None:
    assert gpsweep.__doc__
    named = re.findall(r"``(\w+)``", gpsweep.__doc__)
    files = {path.stem for path in FOLDER.glob("*.py")} - {"__init__", "__main__"}
    folders = {path.parent.name for path in FOLDER.glob("*/__init__.py")}
    assert sorted(named) == sorted(files | folders)


@pytest.mark.parametrize("path", SHOWING, ids=str)
def test_the_examples_in_docstrings_hold(path: Path) -> None:
    parts = [part for part in path.with_suffix("").parts if part != "__init__"]
    found = doctest.testmod(import_module(".".join(["gpsweep", *parts])))
    assert found.attempted and not found.failed


def test_the_example_of_a_curve_is_code_that_runs_and_that_the_pages_show_so() -> None:
    docs = pytest.importorskip("pdoc.docstrings")
    shown = docs.convert(inspect.getdoc(gpsweep.engine.curve), "google", None)
    found = re.search(r"(?m)^> ```python\n((?:>.*\n)+?)> ```$", shown)
    assert found, "as a paragraph its lines would run together"
    code = re.sub(r"(?m)^> ?", "", found[1])
    net = torch.nn.Conv2d(3, 5, 3, padding=1).eval()
    exec(code, {"curve": gpsweep.engine.curve, "net": net, "x": torch.rand(1, 3, 4, 4)})


def test_the_engine_needs_neither_hydra_nor_lightning_and_importing_the_package_no_torch() -> None:
    code = (
        "import sys, gpsweep; assert 'torch' not in sys.modules; gpsweep.engine; "
        "heavy = {'hydra', 'pytorch_lightning', 'omegaconf', 'torchvision', 'matplotlib'}; "
        "assert not heavy & set(sys.modules); "
        "assert sys.excepthook is sys.__excepthook__, 'whoever imports the package keeps their own hook'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_what_is_imported_is_declared() -> None:
    root = Path(__file__).resolve().parent.parent
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    named = [*project["dependencies"], *(one for extra in extras for one in extra)]
    declared = {re.split(r"[^\w-]", one)[0].lower() for one in named}
    imported: set[str] = set()
    for path in (file for part in ("gpsweep", "hydra_plugins") for file in (root / part).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                imported.add(node.module.partition(".")[0])
    owners = packages_distributions()  # what is not installed, such as an extra, cannot be looked up
    foreign = imported - set(sys.stdlib_module_names) - {"gpsweep", "hydra_plugins"}
    strange = {
        name: owners[name]
        for name in foreign & owners.keys()
        if not declared & {owner.lower().replace("_", "-") for owner in owners[name]}
    }
    assert not strange


def _parameters(node: ast.FunctionDef | ast.ClassDef) -> list[str]:
    """Name what a function takes, or a class by its ``__init__`` or its fields."""
    if isinstance(node, ast.ClassDef):
        fields = [each for each in node.body if isinstance(each, ast.AnnAssign)]
        made = [each for each in node.body if isinstance(each, ast.FunctionDef) and each.name == "__init__"]
        taken = [ast.unparse(each.target) for each in fields if "init=False" not in ast.unparse(each)]
        return _parameters(made[0]) if made else taken
    own = node.args
    every = [*own.posonlyargs, *own.args, own.vararg, *own.kwonlyargs, own.kwarg]
    return [each.arg for each in every if each and each.arg not in ("self", "cls")]


def test_where_arguments_are_explained_all_of_them_are_and_no_others() -> None:
    for path in FOLDER.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                told = re.search(r"^Args:\n((?: {4}.*\n|\n)+)", f"{ast.get_docstring(node)}\n", re.MULTILINE)
                named = re.findall(r"^ {4}(\w+(?:, \w+)*):", told[1], re.MULTILINE) if told else []
                assert not told or ", ".join(named).split(", ") == _parameters(node), f"{path}: {node.name}"
