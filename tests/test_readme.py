"""What the README shows runs, and what is stated twice is the same."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import torch
from commands import Terminal, pictures
from omegaconf import OmegaConf

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_network_of_ones_own_runs(terminal: Terminal) -> None:
    found = re.search(r"```python\n(# my_nets\.py\n.*?)```", README, re.DOTALL)
    assert found
    Path("my_nets.py").write_text(found[1], encoding="utf-8")
    terminal.patch.syspath_prepend(str(terminal.folder))
    import my_nets

    torch.save({"state_dict": {f"net.{k}": v for k, v in my_nets.net().state_dict().items()}}, "best.ckpt")
    pictures(terminal.folder)
    code, out, err = terminal(
        *("eps=[0,1]", "model=custom", "model.net=my_nets.net", "model.checkpoint=best.ckpt"),
        *("model.mean=[0.485,0.456,0.406]", "model.std=[0.229,0.224,0.225]"),
        *("data=folder", "data.images=images", "data.masks=masks", "data.classes=11", "data.void=255"),
    )
    assert code == 0, err
    assert "custom on folder-images: mIoU base" in out


def test_the_notebook_s_lines_run() -> None:
    net = torch.nn.Conv2d(3, 5, 3, padding=1).eval()
    images = torch.rand(2, 3, 8, 8) * 255
    known = {"net": net, "x": images / 255, "images": images, "target": torch.zeros(2, 8, 8)}
    section = README.partition("## From a notebook")[2].partition("\n## ")[0]
    for lines in re.findall(r"```python\n(.*?)```", section, re.DOTALL):
        exec(lines, known)
    normalised = (images / 255 - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor(
        [0.229, 0.224, 0.225]
    ).view(3, 1, 1)
    assert 0 < (known["logits"] - net(normalised)).abs().max() < 0.1, "a quarter of a grey level"


@pytest.mark.parametrize(
    "key", [key for key in OmegaConf.load(ROOT / "conf" / "config.yaml") if key != "hydra"]
)
def test_every_key_is_named(key: str) -> None:
    assert key == "defaults" or re.search(rf"`{key}[`.]|\b{key}=", README)


def test_no_line_is_longer_than_120() -> None:
    lines = [line for line in README.splitlines() if not line.startswith("|")]
    assert max(map(len, lines)) <= 120


@pytest.mark.parametrize("place", re.findall(r"\]\((?!http)([^)#]+)\)|src=\"([^\"]+)\"", README))
def test_what_it_links_to_is_there(place: tuple[str, str]) -> None:
    assert (ROOT / "".join(place)).exists()


def test_the_citation_names_this_version() -> None:
    citation = OmegaConf.to_container(OmegaConf.load(ROOT / "CITATION.cff"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert isinstance(citation, dict)
    assert {key: str(citation[key]) for key in ("version", "license")} == {
        key: project[key] for key in ("version", "license")
    }
