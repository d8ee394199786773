"""What the README shows runs, what is stated twice is the same, and the documents' links lead somewhere."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import torch
from commands import Terminal, pictures
from omegaconf import OmegaConf

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted(path for folder in (".", "sweeps", "benchmarks") for path in (ROOT / folder).glob("*.md"))
README = (ROOT / "README.md").read_text(encoding="utf-8")


def name(document: Path) -> str:
    return document.relative_to(ROOT).as_posix()


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
    assert "net-best on folder-images: mIoU base" in out


def test_the_notebook_s_lines_run() -> None:
    net = torch.nn.Conv2d(3, 5, 3, padding=1).eval()
    images = torch.rand(2, 3, 8, 8) * 255
    known = {"net": net, "x": images / 255, "images": images, "target": torch.zeros(2, 8, 8)}
    section = README.partition("## From a notebook")[2].partition("\n## ")[0]
    for lines in re.findall(r"```python\n(.*?)```", section, re.DOTALL):
        exec(lines, known)
    assert [*known["scores"]] == [("argmax", 0), ("argmax", 1), ("softened", 0), ("softened", 1)]
    normalised = (images / 255 - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor(
        [0.229, 0.224, 0.225]
    ).view(3, 1, 1)
    assert 0 < (known["logits"] - net(normalised)).abs().max() < 0.1, "a quarter of a grey level"


@pytest.mark.parametrize(
    "key", [key for key in OmegaConf.load(ROOT / "conf" / "config.yaml") if key != "hydra"]
)
def test_every_key_is_named(key: str) -> None:
    assert key == "defaults" or re.search(rf"`{key}[`.]|\b{key}=", README)


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_no_line_is_longer_than_120(document: Path) -> None:
    lines = document.read_text(encoding="utf-8").splitlines()
    assert not [line for line in lines if len(line) > 120 and not line.startswith("|")]


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_what_a_document_links_to_is_there(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    places = re.findall(r"\]\((?!http)([^)#]+)\)|src=\"([^\"]+)\"", text)
    assert not [place for place in map("".join, places) if not (document.parent / place).exists()]
    assert places or document != ROOT / "README.md", "the expression finds links"


def test_the_citation_names_this_version() -> None:
    citation = OmegaConf.to_container(OmegaConf.load(ROOT / "CITATION.cff"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert isinstance(citation, dict)
    assert {key: str(citation[key]) for key in ("version", "license")} == {
        key: project[key] for key in ("version", "license")
    }
