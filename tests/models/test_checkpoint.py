"""Every form of checkpoint loads the same weights; every fault is one message, and nothing is half-loaded."""

from __future__ import annotations

import argparse
import json
import os
import pickle
import re
import shutil
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path, PosixPath
from threading import Lock
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import save_file, save_model
from torch import Tensor, nn
from traps import Runs

from gpsweep.errors import GpsweepError
from gpsweep.models.checkpoint import load, restore

State = dict[str, Tensor]


def network(classes: int = 2) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, classes, 1))


@pytest.fixture
def trained() -> State:
    return network().state_dict()


def prefixed(state: State, prefix: str) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


def assert_restored(path: Path, expected: State) -> None:
    net = network()
    restore(net, path)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in net.state_dict().items())


def assert_refused(path: Path | str, says: str, net: nn.Module | None = None) -> None:
    """The message names the key, and the network is as it was."""
    net = net or network()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    with pytest.raises(GpsweepError, match=says) as caught:
        restore(net, path)
    assert str(caught.value).startswith(f"model.checkpoint={path}")
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


@pytest.mark.parametrize("ending", [".pt", ".pth", ".ckpt"])
def test_plain_state_dict(tmp_path: Path, trained: State, ending: str) -> None:
    torch.save(trained, tmp_path / f"net{ending}")
    assert_restored(tmp_path / f"net{ending}", trained)


def test_safetensors(tmp_path: Path, trained: State) -> None:
    save_file(trained, tmp_path / "net.safetensors")
    assert_restored(tmp_path / "net.safetensors", trained)


def test_the_format_before_zip_archives(tmp_path: Path, trained: State) -> None:
    torch.save(trained, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert_restored(tmp_path / "old.pth", trained)


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model", "net", "module", "weights"])
def test_state_dict_among_what_a_training_loop_saves(tmp_path: Path, trained: State, key: str) -> None:
    torch.save({"epoch": 3, key: trained, "optimizer": {"lr": 0.1}, "note": "x"}, tmp_path / "a.pt")
    assert_restored(tmp_path / "a.pt", trained)


@pytest.mark.parametrize(
    "prefix", ["module.", "model.", "net.", "_orig_mod.", "model._orig_mod.", "module._orig_mod.model."]
)
def test_prefixes_of_wrappers(tmp_path: Path, trained: State, prefix: str) -> None:
    torch.save(prefixed(trained, prefix), tmp_path / "a.pt")
    assert_restored(tmp_path / "a.pt", trained)


class Picking(nn.Module):
    """A module of the user's own around a network, which was trained without it."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.trained, self.resize = net, nn.Upsample(scale_factor=4)

    def forward(self, x: Tensor) -> Tensor:
        return self.resize(self.trained(x)["logits"])


@pytest.mark.parametrize(
    "wrap",
    [nn.DataParallel, partial(torch.compile, backend="eager"), Picking, lambda net: Picking(Picking(net))],
)
@pytest.mark.parametrize("prefix", ["", "model.", "module.", "_orig_mod.", "trained.", "model.trained."])
def test_a_network_in_a_wrapper(
    tmp_path: Path, trained: State, wrap: Callable[[nn.Module], nn.Module], prefix: str
) -> None:
    torch.save(prefixed(trained, prefix), tmp_path / "a.pt")
    net = network()
    restore(wrap(net), tmp_path / "a.pt")
    assert all(torch.equal(tensor, trained[name]) for name, tensor in net.state_dict().items())


def test_a_submodule_compiled_alone(tmp_path: Path, trained: State) -> None:
    torch.save(
        {name.replace("0.", "0._orig_mod.", 1): value for name, value in trained.items()}, tmp_path / "a.pt"
    )
    assert_restored(tmp_path / "a.pt", trained)


def test_lightning(tmp_path: Path, trained: State) -> None:
    state = prefixed(trained, "net.") | {"criterion.weight": torch.ones(2)}
    content = {
        "state_dict": state,
        "epoch": 1,
        "pytorch-lightning_version": "2.0.0",
        "callbacks": {},
        "loops": {},
    }
    torch.save(content, tmp_path / "last.ckpt")
    assert_restored(tmp_path / "last.ckpt", trained)


@pytest.mark.parametrize("loss", ["loss", "criterion", "loss_fn"])
def test_a_lightning_module_that_is_the_network_itself(tmp_path: Path, trained: State, loss: str) -> None:
    """Where the network has a part of such a name, it is none of training alone."""
    torch.save({"state_dict": trained | {f"{loss}.weight": torch.ones(2)}}, tmp_path / "a.ckpt")
    assert_restored(tmp_path / "a.ckpt", trained)
    torch.save({"state_dict": trained | {f"neck.{loss}.weight": torch.ones(2)}}, tmp_path / "b.ckpt")
    assert_refused(tmp_path / "b.ckpt", rf"1 unexpected \(neck\.{loss}\.weight\)")
    net = nn.ModuleDict({loss: nn.Linear(1, 1), "head": nn.Linear(1, 1)})
    torch.save(net.state_dict() | {f"{loss}.more": torch.ones(2)}, tmp_path / "c.ckpt")
    assert_refused(tmp_path / "c.ckpt", rf"1 unexpected \({loss}\.more\)", net)


def test_a_prefix_that_belongs_to_the_network_stays(tmp_path: Path) -> None:
    net = nn.ModuleDict({"model": nn.Conv2d(1, 1, 1), "net": nn.Conv2d(1, 1, 1)})
    state = {name: torch.full_like(tensor, k) for k, (name, tensor) in enumerate(net.state_dict().items())}
    torch.save(state, tmp_path / "a.pt")
    restore(net, tmp_path / "a.pt")
    assert [tensor.flatten().tolist() for tensor in net.state_dict().values()] == [[0.0], [1.0], [2.0], [3.0]]


def test_the_counter_of_batch_norm_may_be_missing(tmp_path: Path, trained: State) -> None:
    torch.save({name: t for name, t in trained.items() if "num_batches" not in name}, tmp_path / "a.pt")
    assert_restored(tmp_path / "a.pt", trained)


def test_the_auxiliary_head_of_torchvision_is_left(tmp_path: Path, trained: State) -> None:
    torch.save(trained | {"aux_classifier.0.weight": torch.ones(1)}, tmp_path / "a.pt")
    assert_restored(tmp_path / "a.pt", trained)


def test_load_gives_names_as_they_are(tmp_path: Path, trained: State) -> None:
    torch.save({"state_dict": prefixed(trained, "model.")}, tmp_path / "a.pt")
    assert list(load(tmp_path / "a.pt")) == [f"model.{name}" for name in trained]


def test_missing_file_offers_its_neighbours(tmp_path: Path, trained: State) -> None:
    torch.save(trained, tmp_path / "camvid_best.pt")
    assert_refused(tmp_path / "camvid_bets.pt", "no such file. Did you mean camvid_best.pt")
    assert_refused(tmp_path / "zzz.pt", "no such file. Checkpoints in its folder: camvid_best.pt")
    assert_refused(tmp_path / "nowhere" / "a.pt", "no such file. Nor is there a folder")
    (tmp_path / "folder.pt").mkdir()
    assert_refused(tmp_path / "folder.pt", "It is a folder; checkpoints in it: none")
    assert_refused(tmp_path, "It is a folder; checkpoints in it: camvid_best.pt")


def test_unknown_ending(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"x")
    assert_refused(tmp_path / "a.onnx", r"unknown ending; expected \.pt, \.pth, \.ckpt, \.safetensors")


@pytest.mark.parametrize("ending", [".pt", ".ckpt", ".safetensors"])
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello world\n",
        b"<!doctype html><html></html>",
        b"\x89PNG\r\n\x1a\n" + bytes(64),
        bytes(range(256)),
    ],
)
def test_not_a_checkpoint(tmp_path: Path, ending: str, content: bytes) -> None:
    path = tmp_path / f"a{ending}"
    path.write_bytes(content)
    assert_refused(path, rf"not a \{ending} checkpoint, or cut short \({len(content)} bytes")


@pytest.mark.parametrize("name", ["a.pt", "a.safetensors"])
def test_cut_short(tmp_path: Path, trained: State, name: str) -> None:
    path = tmp_path / name
    (save_file if path.suffix == ".safetensors" else torch.save)(trained, path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert_refused(path, "cut short")


def saved_new(content: Any, path: Path) -> None:
    torch.save(content, path)


def saved_old(content: Any, path: Path) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


def pickled(content: Any, path: Path) -> None:
    path.write_bytes(pickle.dumps(content))


def pickled_plainly(content: Any, path: Path) -> None:
    path.write_bytes(pickle.dumps(content, protocol=2))


@pytest.mark.parametrize("save", [saved_new, saved_old, pickled, pickled_plainly])
def test_code_in_a_checkpoint_is_never_run(
    tmp_path: Path, trained: State, save: Callable[[Any, Path], None]
) -> None:
    trap = tmp_path / "executed"
    save({"state_dict": trained, "hyper_parameters": Runs(os.mkdir, str(trap))}, tmp_path / "a.pt")
    assert_refused(tmp_path / "a.pt", "could run code .* convert it once: .*safetensors")
    assert not trap.exists()
    pickle.loads(pickle.dumps(Runs(os.mkdir, str(trap))))
    assert trap.exists(), "the trap itself does not work"


@pytest.mark.parametrize(
    "content", [network(), {"state_dict": {}, "by": torch.optim.SGD(network().parameters())}]
)
def test_objects_in_a_checkpoint_are_named(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "a.pt")
    assert_refused(tmp_path / "a.pt", r"holds more than weights \(torch\.(nn|optim)\.\S+\)")


@pytest.mark.parametrize("save", [saved_new, saved_old])
@pytest.mark.parametrize(
    "beside",
    [
        argparse.Namespace(lr=0.1, data=Path("data"), sizes=[1, 2]),
        np.float64(71.5),
        np.int64(3),
        np.bool_(True),
        np.array([71.5, 60.25]),
        np.random.RandomState(0).get_state(),
        {"milestones": range(3), "part": slice(2), "frozen": frozenset({"stem"})},
        {
            "begun": datetime(2026, 1, 2, 3, tzinfo=UTC),
            "day": date(2026, 1, 2),
            "patience": timedelta(hours=1),
        },
        OmegaConf.create({"lr": 0.1, "net": {"stages": [1, 2.5, "x", None, True], "same": "${lr}"}}),
    ],
    ids=["arguments", "score", "count", "flag", "scores", "generator", "plain", "times", "configuration"],
)
def test_what_training_loops_save_beside_weights(
    tmp_path: Path, trained: State, beside: Any, save: Callable[[Any, Path], None]
) -> None:
    save({"model": trained, "args": beside, "epoch": 3}, tmp_path / "a.pt")
    assert_restored(tmp_path / "a.pt", trained)


def test_hyper_parameters_of_any_class_are_passed_over(
    tmp_path: Path, trained: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Lightning's ``save_hyperparameters()`` keeps them; the classes need not be here."""
    theirs = ModuleType("their_nets")
    theirs.Net = type("Net", (nn.Linear,), {"__module__": "their_nets"})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "their_nets", theirs)
    parameters = {
        "net": theirs.Net(2, 2),
        "optimizer": partial(torch.optim.Adam, lr=0.1),
        "loss": nn.CrossEntropyLoss(weight=torch.ones(2)),
        "activation": nn.ReLU,
    }
    torch.save({"state_dict": prefixed(trained, "net."), "hyper_parameters": parameters}, tmp_path / "a.ckpt")
    torch.save({"model": parameters["net"], "steps": torch.ones(1)}, tmp_path / "b.pt")
    monkeypatch.undo()
    assert_restored(tmp_path / "a.ckpt", trained)
    assert_refused(tmp_path / "b.pt", r"holds more than weights \(their_nets\.Net\); .* c is a network\.$")


def test_a_class_whose_name_is_no_text_is_not_printed(tmp_path: Path) -> None:
    torch.save({"model": nn.Linear(1, 1)}, tmp_path / "a.pt", _use_new_zipfile_serialization=False)
    torch.save({"model": nn.Linear(1, 1)}, tmp_path / "b.pt")
    for name in ("a.pt", "b.pt"):
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(
            content.replace(b"torch.nn.modules.linear", b"torch.nn.modules.l\x1b[31m")
        )
        assert_refused(tmp_path / name, r"holds more than weights; reading that could run code")


def test_whatever_is_called_is_refused(tmp_path: Path, trained: State) -> None:
    """Such as a function that PyTorch does not block."""
    called = Runs(shutil.copyfile, "no such file", "copy")
    torch.save({"state_dict": trained, "hyper_parameters": called}, tmp_path / "a.ckpt")
    assert_refused(tmp_path / "a.ckpt", r"holds more than weights \(shutil\.copyfile\); .* could run code")


@pytest.mark.parametrize("named", ["pathlib._local\nPosixPath", "pathlib\nWindowsPath"])
def test_paths_of_other_pythons(tmp_path: Path, trained: State, named: str) -> None:
    saved_old({"model": trained, "args": {"data": PosixPath("data")}}, tmp_path / "here.pt")
    content = (tmp_path / "here.pt").read_bytes()
    other, count = re.subn(rb"cpathlib(\._local)?\nPosixPath", f"c{named}".encode(), content)
    assert count == 1
    (tmp_path / "a.pt").write_bytes(other)
    assert_restored(tmp_path / "a.pt", trained)


def test_arrays_run_no_code_and_take_no_memory(tmp_path: Path, trained: State) -> None:
    torch.save(
        {"model": trained, "best": np.array([Runs(os.mkdir, str(tmp_path / "executed"))])}, tmp_path / "a.pt"
    )
    assert_refused(tmp_path / "a.pt", "holds more than weights")
    assert not (tmp_path / "executed").exists()

    class Huge:
        def __reduce__(self) -> tuple[Any, ...]:
            return np.zeros(0).__reduce__()[0], (np.ndarray, (10**15,), b"b")

    torch.save({"model": trained, "best": Huge()}, tmp_path / "b.pt")
    assert_restored(tmp_path / "b.pt", trained)


def test_weights_that_are_arrays_are_named(tmp_path: Path, trained: State) -> None:
    torch.save({name: tensor.numpy() for name, tensor in trained.items()}, tmp_path / "a.pt")
    assert_refused(tmp_path / "a.pt", r"expected tensors alone, .*0\.weight \(Array\)")


def test_one_of_several_networks_is_to_be_saved_alone(tmp_path: Path, trained: State) -> None:
    torch.save({"student": trained, "teacher": trained}, tmp_path / "a.pt")
    assert_refused(tmp_path / "a.pt", r"came student .*, teacher .*; save the one that is meant alone\.")


@pytest.mark.parametrize("name", ["model_best.pth.tar", "pytorch_model.bin", "A.PTH"])
def test_endings_that_are_met(tmp_path: Path, trained: State, name: str) -> None:
    torch.save({"state_dict": trained}, tmp_path / name)
    assert_restored(tmp_path / name, trained)


def in_parts(folder: Path, state: State, ending: str) -> Path:
    """Write a checkpoint as Hugging Face's libraries do above some size: two parts, and their index."""
    names = [f"model-{number:05d}-of-00002{ending}" for number in (1, 2)]
    shares = [dict(list(state.items())[:3]), dict(list(state.items())[3:])]
    for name, share in zip(names, shares, strict=True):
        (save_file if ending == ".safetensors" else torch.save)(share, folder / name)
    known = {key: name for name, share in zip(names, shares, strict=True) for key in share}
    index = folder / f"model{ending}.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": known}))
    return index


@pytest.mark.parametrize("ending", [".safetensors", ".bin"])
def test_a_checkpoint_in_parts(tmp_path: Path, trained: State, ending: str) -> None:
    index = in_parts(tmp_path, trained, ending)
    assert_restored(index, trained)
    first, second = sorted(tmp_path.glob("model-*"))
    assert_refused(first, r"missing .*\. It is a part of several, which their \.index\.json names\.$")
    second.unlink()
    with pytest.raises(GpsweepError, match=rf"^model\.checkpoint={second}: no such file"):
        restore(network(), index)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "[" * 100_000,
        '{"weight_map": {}}',
        '{"weight_map": {"a": 3}}',
        '{"weight_map": {"a": "../a.bin"}}',
        '{"weight_map": {"a": "/a.bin"}}',
        '{"weight_map": {"a": "a.bin.index.json"}}',
    ],
    ids=["empty", "list", "deep", "nothing", "number", "above", "elsewhere", "itself"],
)
def test_an_index_of_nothing_beside_it(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.bin.index.json").write_text(content)
    assert_refused(
        tmp_path / "a.bin.index.json", r"expected a weight_map, name → \.safetensors or \.bin file"
    )


@pytest.mark.parametrize("key", ["model_state", "network", "ema", "params"])
def test_the_only_state_dict_is_found_by_any_key(tmp_path: Path, trained: State, key: str) -> None:
    torch.save({"epoch": 3, key: trained, "optimizer": {"lr": 0.1}, "callbacks": {}}, tmp_path / "a.pt")
    assert_restored(tmp_path / "a.pt", trained)


@pytest.mark.parametrize(("own", "average"), [("state_dict", "state_dict_ema"), ("model", "ema")])
def test_of_weights_and_their_average_the_taken_ones_are_named(
    tmp_path: Path, trained: State, own: str, average: str
) -> None:
    other = torch.optim.swa_utils.AveragedModel(network()).state_dict()
    rest = {"epoch": 3, "optimizer": {"lr": 0.1}, "best": {"miou": torch.ones(())}}
    torch.save({average: other, own: trained, **rest}, tmp_path / "a.pt")
    says = f"2 times, under {average}, {own}; those under {own} are taken; to take others"
    with pytest.warns(UserWarning, match=says):
        assert_restored(tmp_path / "a.pt", trained)


@pytest.mark.parametrize("prefix", ["network.", "student.unet.", "lit._orig_mod.backbone."])
def test_prefixes_of_any_name(tmp_path: Path, trained: State, prefix: str) -> None:
    own = {"loss.weight": torch.ones(2), "0.other": torch.ones(1)}
    torch.save(prefixed(trained, prefix) | own, tmp_path / "a.pt")
    assert_restored(tmp_path / "a.pt", trained)


def test_of_several_copies_the_one_that_is_taken_is_named(tmp_path: Path, trained: State) -> None:
    other = prefixed(network().state_dict(), "ema.") | prefixed(network(7).state_dict(), "teacher.")
    torch.save(other | prefixed(trained, "model."), tmp_path / "a.pt")
    with pytest.warns(UserWarning, match=r"2 times, under ema\., model\.; those under model\. are taken"):
        assert_restored(tmp_path / "a.pt", trained)


class Renamed(nn.Module):
    """A network that reads the names of an older release, and passes over all that it does not know."""

    def __init__(self, rename: Callable[[str], str]) -> None:
        super().__init__()
        self.new, self.rename = nn.Linear(2, 2), rename

    def load_state_dict(self, state: Any, *args: Any, **kwargs: Any) -> Any:
        named = {self.rename(name): tensor for name, tensor in state.items()}
        return super().load_state_dict({n: t for n, t in named.items() if n.startswith("new")}, strict=False)


def test_a_network_reads_names_of_its_own_past(tmp_path: Path) -> None:
    net = Renamed(lambda name: name.replace("old", "new"))
    state = {"old.weight": nn.Parameter(torch.ones(2, 2))}
    torch.save(state | {"old.bias": torch.zeros(2)}, tmp_path / "a.pt")
    restore(net, tmp_path / "a.pt")
    assert net.new.weight.tolist() == [[1, 1], [1, 1]]
    torch.save(state, tmp_path / "b.pt")
    assert_refused(
        tmp_path / "b.pt", r"2 missing \(new\.weight, new\.bias\), 1 unexpected \(old\.weight\)", net
    )


def test_of_a_network_within_another_the_one_that_is_named_is_meant(tmp_path: Path) -> None:
    """A file of the whole is not taken for one of a part, though names of the part are in it as well."""
    state = network().state_dict()
    others = prefixed(network().state_dict(), "model.")
    torch.save(others | prefixed(state, "module.trained."), tmp_path / "a.pt")
    net = Picking(network())
    restore(net, tmp_path / "a.pt")
    assert all(torch.equal(tensor, state[name]) for name, tensor in net.trained.state_dict().items())


class Named(nn.Module):
    """A network whose library translates names where it makes networks, as Hugging Face's does."""

    config_class = dict

    def __init__(self, config: dict[str, int]) -> None:
        super().__init__()
        self.config = config
        self.new, self.head = nn.Linear(2, 2), nn.Linear(2, config["classes"])

    @classmethod
    def from_pretrained(cls, folder: None, *, config: dict[str, int], state_dict: State) -> Named:
        assert folder is None
        net = cls(config)
        found = {name.replace("old", "new"): tensor for name, tensor in state_dict.items()}
        net.load_state_dict({name: found[name] for name in net.state_dict() if name in found}, strict=False)
        config["changed"] = 1
        return net


@pytest.mark.parametrize("wrap", [lambda net: net, Picking])
@pytest.mark.parametrize("prefix", ["", "model."])
def test_a_library_that_translates_names_where_it_makes_networks(
    tmp_path: Path, wrap: Callable[[nn.Module], nn.Module], prefix: str
) -> None:
    ours, theirs = Named({"classes": 3}), Named({"classes": 3})
    old = {name.replace("new", "old"): tensor.half() for name, tensor in theirs.state_dict().items()}
    torch.save(prefixed(old, prefix), tmp_path / "a.pt")
    restore(wrap(ours), tmp_path / "a.pt")
    assert ours.config == {"classes": 3}
    for name, tensor in ours.state_dict().items():
        assert torch.equal(tensor, theirs.state_dict()[name].half().float())
    torch.save({name: tensor for name, tensor in old.items() if name != "old.bias"}, tmp_path / "b.pt")
    assert_refused(tmp_path / "b.pt", r"2 missing \(new\.weight, new\.bias\), 1 unexpected", ours)


def test_a_network_that_passes_over_what_does_not_fit_gets_nothing(tmp_path: Path) -> None:
    torch.save({"old.weight": torch.ones(2, 2), "old.bias": torch.zeros(2)}, tmp_path / "a.pt")
    assert_refused(tmp_path / "a.pt", "2 missing", Renamed(lambda name: name))


def test_keys_of_a_network_that_cannot_be_copied_are_named(tmp_path: Path) -> None:
    net = nn.Linear(2, 2)
    net.lock = Lock()
    torch.save({"weight": torch.ones(2, 2)}, tmp_path / "a.pt")
    assert_refused(tmp_path / "a.pt", r"keys do not fit the network: 1 missing \(bias\)", net)


def test_one_name_is_enough_for_shared_weights(tmp_path: Path) -> None:
    net = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Linear(2, 2)})
    net["b"] = net["a"]
    save_model(net, str(tmp_path / "net.safetensors"))
    other = nn.ModuleDict({"a": nn.Linear(2, 2)})
    other["b"] = other["a"]
    restore(other, tmp_path / "net.safetensors")
    assert all(torch.equal(t, net.state_dict()[name]) for name, t in other.state_dict().items())


def test_shared_weights_of_a_file_are_alike(tmp_path: Path) -> None:
    net = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Linear(2, 2)})
    torch.save(net.state_dict(), tmp_path / "net.pt")
    net["b"] = net["a"]
    assert_refused(tmp_path / "net.pt", r"shares, but that differ from each other: b\.weight, b\.bias", net)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning", "ignore:.*torch.jit:FutureWarning")
def test_torchscript(tmp_path: Path) -> None:
    torch.jit.trace(nn.Conv2d(3, 2, 1), torch.zeros(1, 3, 2, 2)).save(str(tmp_path / "a.pt"))
    assert_refused(tmp_path / "a.pt", "TorchScript archive; save its weights")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ([torch.ones(1)], "expected a state dict, came list"),
        (torch.ones(1), "expected a state dict, came Tensor"),
        ({}, "expected a state dict, came dict of 0"),
        ({"state_dict": {}}, "expected a state dict, came .*dict of 0"),
        (
            {"epoch": 3, "ema": {"w": torch.ones(1)}, "own": {"w": torch.ones(1)}, "best": None},
            r"epoch \(int\), ema \(dict of 1\), own \(dict of 1\), best \(null\)",
        ),
    ],
)
def test_other_content(tmp_path: Path, content: Any, says: str) -> None:
    torch.save(content, tmp_path / "a.pt")
    assert_refused(tmp_path / "a.pt", says)


def test_wrong_keys_are_counted_and_the_first_ten_named(tmp_path: Path, trained: State) -> None:
    extra = {f"more.{k}": torch.ones(1) for k in range(12)}
    torch.save({name: t for name, t in trained.items() if name != "2.bias"} | extra, tmp_path / "a.pt")
    assert_refused(
        tmp_path / "a.pt", r"1 missing \(2\.bias\), 12 unexpected \(more\.0, .*more\.9 … and 2 more\)"
    )


def test_wrong_keys_under_a_prefix_are_named_without_it(tmp_path: Path, trained: State) -> None:
    torch.save(prefixed({n: t for n, t in trained.items() if n != "2.bias"}, "module."), tmp_path / "a.pt")
    assert_refused(tmp_path / "a.pt", r"1 missing \(2\.bias\)\.")


def test_another_number_of_classes_is_recognised(tmp_path: Path) -> None:
    torch.save(network(classes=7).state_dict(), tmp_path / "a.pt")
    says = r"2 of its shapes .* 2\.weight: expected \(2, 4, 1, 1\), came \(7, 4, 1, 1\), .*model\.classes=7"
    assert_refused(tmp_path / "a.pt", says)


def test_other_shapes_give_no_such_hint(tmp_path: Path) -> None:
    torch.save({"weight": torch.ones(2, 4, 1, 1), "bias": torch.ones(2)}, tmp_path / "a.pt")
    assert_refused(tmp_path / "a.pt", r"expected \(2, 3, 1, 1\), came \(2, 4, 1, 1\)\.$", nn.Conv2d(3, 2, 1))


def test_nan_weights_are_named(tmp_path: Path, trained: State) -> None:
    torch.save(trained | {"2.bias": torch.tensor([0.0, float("nan")])}, tmp_path / "a.pt")
    assert_refused(tmp_path / "a.pt", r"NaN: 2\.bias")


@pytest.mark.parametrize("name", ["0.weight", "1.running_var"])
def test_infinite_weights_are_named(tmp_path: Path, trained: State, name: str) -> None:
    trained[name] = trained[name].clone()
    trained[name].view(-1)[1] = -torch.inf
    torch.save(trained, tmp_path / "a.pt")
    assert_refused(tmp_path / "a.pt", rf"infinite: {name}\.$")


class Masked(nn.Module):
    """A mask of attention is infinite, as a buffer or, where it is built so, as a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mask", torch.zeros(2, 2))
        self.bound = nn.Parameter(torch.full((2,), torch.inf), requires_grad=False)


def test_what_may_be_infinite_is_taken(tmp_path: Path) -> None:
    state = {"mask": torch.full((2, 2), -torch.inf).triu(1), "bound": torch.tensor([1.0, torch.inf])}
    torch.save(state, tmp_path / "a.pt")
    net = Masked()
    restore(net, tmp_path / "a.pt")
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())


def test_histories_of_losses_are_looked_through(
    tmp_path: Path, trained: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As OpenMMLab's training loop saves them."""
    place = "mmengine.logging.history_buffer"
    kind = type("HistoryBuffer", (), {"__module__": place})
    for module in ("mmengine", place):
        monkeypatch.setitem(sys.modules, module, SimpleNamespace(HistoryBuffer=kind))
    history = kind()
    vars(history).update(max_length=10, _log_history=np.array([0.5]), _count_history=np.array([1]))
    torch.save({"message_hub": {"log_scalars": {"loss": history}}, "state_dict": trained}, tmp_path / "a.pth")
    monkeypatch.undo()
    assert_restored(tmp_path / "a.pth", trained)


def test_a_file_that_git_lfs_has_not_fetched(tmp_path: Path) -> None:
    for name in ("a.pt", "a.safetensors"):
        (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
        assert_refused(tmp_path / name, "git lfs pull fetches it")


def test_permission(tmp_path: Path, trained: State, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise PermissionError(13, "Permission denied")

    torch.save(trained, tmp_path / "a.pt")
    monkeypatch.setattr(torch, "load", refuse)  # root, as tests may run, could read any file
    assert_refused(tmp_path / "a.pt", r"cannot be read: Permission denied\.")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda weight: weight.to_sparse(), "2.weight: sparse_coo float32"),
        (lambda weight: weight.to("meta"), "2.weight: a shape without values"),
        (lambda weight: weight.to(torch.complex64), "2.weight: strided complex64"),
        (lambda weight: weight.long(), "2.weight: whole numbers"),
        (lambda weight: torch.quantize_per_tensor(weight, 0.1, 0, torch.qint8), "2.weight: strided qint8"),
    ],
    ids=["sparse", "meta", "complex", "whole", "quantised"],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_weights_of_another_kind_are_named(
    tmp_path: Path, trained: State, change: Callable[[Tensor], Tensor], says: str
) -> None:
    torch.save(trained | {"2.weight": change(trained["2.weight"])}, tmp_path / "net.pt")
    assert_refused(tmp_path / "net.pt", f"expected dense weights of real numbers, came {says}")


def test_halves_become_floats(tmp_path: Path, trained: State) -> None:
    halves = {name: value.half() if value.is_floating_point() else value for name, value in trained.items()}
    torch.save(halves, tmp_path / "net.pt")
    assert_restored(tmp_path / "net.pt", {name: value.float() for name, value in halves.items()})


@pytest.mark.parametrize(("at", "byte", "says"), [(46, 0xFF, "not a whole archive"), (6, 99, "version")])
def test_a_damaged_directory_of_an_archive(
    tmp_path: Path, trained: State, at: int, byte: int, says: str
) -> None:
    torch.save(trained, tmp_path / "net.pt")
    content = bytearray((tmp_path / "net.pt").read_bytes())
    entry = content.index(b"PK\x01\x02")  # a file's entry in the directory: its version at 6, its name at 46
    content[entry + at] = byte
    if says != "version":
        content[entry + 9] |= 8  # names are UTF-8
    (tmp_path / "net.pt").write_bytes(content)
    assert_refused(tmp_path / "net.pt", says)


def test_names_that_are_no_text(tmp_path: Path, trained: State) -> None:
    torch.save(trained | {"2.\nweight": trained["2.weight"]}, tmp_path / "net.pt")
    assert_refused(tmp_path / "net.pt", r"its names are no text: '2\.\\nweight'")


def test_paths_that_cannot_be_looked_at_are_missing_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    torch.save(nn.Linear(1, 1).state_dict(), tmp_path / "own.pt")
    assert load("~/own.pt").keys() == {"weight", "bias"}
    for path in ("x" * 300 + ".pt", "~of nobody/own.pt"):
        with pytest.raises(GpsweepError, match="no such file"):
            load(path)
