"""The code that makes a network or data tells stored counts apart: the user's with all that it imports."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from gpsweep.identity import targets_of
from gpsweep.source_code import code, code_of


def test_the_code_of_a_network_is_part_of_it_and_torchs_own_is_not() -> None:
    class Own(nn.Module):
        pass

    plain = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU())
    assert code(plain) == code(nn.Linear(2, 2))
    assert code(nn.Sequential(plain, Own())) != code(plain)


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Write a user's modules, and return the hash of the network that one of them builds."""
    monkeypatch.syspath_prepend(tmp_path)

    def made(activation: str) -> str:
        (tmp_path / "users_parts.py").write_text(
            f"from torch import nn\n\ndef act(): return nn.{activation}()\n"
        )
        (tmp_path / "users_nets.py").write_text(
            "from torch import nn\nfrom users_parts import act\n\n"
            "class Net(nn.Module):\n    def forward(self, x):\n        return act()(x)\n\n"
            "def build(): return Net()\n\ndef plain(): return nn.Sequential(nn.Flatten())\n"
        )
        for name in ("users_parts", "users_nets"):
            sys.modules.pop(name, None)
        importlib.invalidate_caches()
        nets = importlib.import_module("users_nets")
        return code(nets.build()) + code(nets.plain(), ["users_nets.plain"])

    return made


def test_what_a_users_network_imports_and_what_builds_it_are_part_of_it(user: Callable[[str], str]) -> None:
    relu, tanh, again = user("ReLU"), user("Tanh"), user("ReLU")
    half = len(relu) // 2
    assert relu == again
    assert relu[:half] != tanh[:half]
    assert relu[half:] != tanh[half:]


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("from users_kit.values import SCALE", "SCALE"),
        ("def scale():\n    from users_kit.values import SCALE\n    return SCALE", "scale()"),
        ("def scale():\n    import users_kit.values as own\n    return own.SCALE", "scale()"),
        ("from users_kit import SCALE", "SCALE"),
        (
            "try:\n    from .users_kit import SCALE\nexcept ImportError:\n    from users_kit import SCALE",
            "SCALE",
        ),
    ],
    ids=["a number", "in a function", "a module in a function", "through a package", "one way or another"],
)
def test_what_leaves_no_trace_in_a_users_module_is_part_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, value: str
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "users_kit").mkdir()
    (tmp_path / "users_kit" / "__init__.py").write_text("from .values import SCALE\n")
    (tmp_path / "users_nets.py").write_text(
        f"from torch import nn\n{line}\n\n"
        f"class Net(nn.Module):\n    def forward(self, x):\n        return x * {value}\n"
    )
    found = []
    for scale in (1, 20, 1):
        (tmp_path / "users_kit" / "values.py").write_text(f"SCALE = {scale}\n")
        for name in [name for name in sys.modules if name.startswith("users_")]:
            sys.modules.pop(name)
        importlib.invalidate_caches()
        net = importlib.import_module("users_nets").Net()
        found.append(code(net))
        net(1)
        assert code(net) == found[-1], "what a forward pass imports was known before"
    assert found[0] == found[2] != found[1]


@pytest.mark.parametrize("place", ["opt/torch/lib/python3/site-packages", "usr/lib/python3/dist-packages"])
def test_a_library_that_lies_elsewhere_is_not_the_users_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """Of all of its modules, those count that are imported; that would differ from run to run."""
    library = tmp_path / place / "others_library"
    library.mkdir(parents=True)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.syspath_prepend(library.parent)
    (library / "__init__.py").touch()
    (library / "late.py").touch()
    (tmp_path / "users_nets.py").write_text(
        "import others_library\nfrom torch import nn\n\nclass Net(nn.Module):\n    pass\n"
    )
    for name in [name for name in sys.modules if name.startswith(("users_", "others_"))]:
        monkeypatch.delitem(sys.modules, name)
    net = importlib.import_module("users_nets").Net()
    before = code(net)
    importlib.import_module("others_library.late")
    assert code(net) == before


def test_the_code_of_a_source_is_part_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    found = []
    for number in (1, 2, 1):
        text = f"class Data:\n    pass\n\ndef data(): return Data()\n# class {number}\n"
        (tmp_path / "users_data.py").write_text(text)
        sys.modules.pop("users_data", None)
        importlib.invalidate_caches()
        kind = importlib.import_module("users_data").Data
        found.append(code_of(kind.__mro__, ["users_data.data"]))
    assert found[0] == found[2] != found[1]
    for name in ("camvid", "cityscapes"):
        importlib.import_module(f"gpsweep.data.{name}")
        found.append(code_of((), [f"gpsweep.data.{name}.{name}"]))
    assert len(set(found)) == 4


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user's package, of which nothing is imported."""
    monkeypatch.syspath_prepend(tmp_path)
    folder = tmp_path / "users_lab"
    folder.mkdir()
    (folder / "__init__.py").touch()
    for name in ("one", "other"):
        (folder / f"{name}.py").write_text(f"NAME = '{name}'\n\ndef net():\n    return NAME\n")
    importlib.invalidate_caches()
    yield folder
    for name in [name for name in sys.modules if name.startswith("users_lab")]:
        sys.modules.pop(name)


def test_what_else_a_process_has_imported_is_not_part_of_it(lab: Path) -> None:
    importlib.import_module("users_lab.one")
    alone = code_of((), ["users_lab.one.net"])
    importlib.import_module("users_lab.other")
    assert code_of((), ["users_lab.one.net"]) == alone
    (lab / "__init__.py").write_text("from . import other\n")
    assert code_of((), ["users_lab.one.net"]) != alone


def test_what_is_built_within_what_is_built_is_part_of_it(lab: Path) -> None:
    inner = {"_target_": "users_lab.other.net", "_partial_": True}
    got = {"_target_": "hydra.utils.get_method", "path": "users_lab.other.net"}
    for node in ({"act": inner}, {"acts": [{"act": inner}]}, {"act": got}):
        targets = targets_of({"_target_": "users_lab.one.net", **node})
        assert {"users_lab.one.net", "users_lab.other.net"} <= targets
        found = []
        for text in ("NAME = 1\n", "NAME = 2\n", "NAME = 1\n"):
            (lab / "other.py").write_text(text)
            found.append(code_of((), targets))
        assert found[0] == found[2] != found[1]
    assert targets_of("users_lab.one.net") == {"users_lab.one.net"}


@pytest.mark.filterwarnings("ignore:.torch.jit.:FutureWarning")
def test_the_code_of_a_scripted_network_is_part_of_it() -> None:
    class Scaled(torch.nn.Module):
        def __init__(self, by: float) -> None:
            super().__init__()
            self.by: float = by

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * self.by

    class Squared(Scaled):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * x

    one, again, other = (torch.jit.script(kind(2.0)) for kind in (Scaled, Scaled, Squared))
    assert code(one) == code(again) != code(other)


def test_the_version_of_an_installed_package_is_part_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    timm = pytest.importorskip("timm")
    net = timm.create_model("resnet10t", pretrained=False)
    before = code(net)
    monkeypatch.setattr(timm, "__version__", "0.0.1")
    assert code(net) != before
