"""Training: image and mask are varied together, weights load, mistakes leave nothing behind."""

from __future__ import annotations

import json
import shlex
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import Terminal
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from PIL import Image
from torch.utils.data import get_worker_info

from gpsweep import config, fitting
from gpsweep.augment import varied
from gpsweep.data.base import VOID, Sample
from gpsweep.data.batch import collate
from gpsweep.data.scenes import Scenes
from gpsweep.errors import GpsweepError
from gpsweep.fit import cli
from gpsweep.models.build import build, sha256
from gpsweep.models.pixels import PixelNet
from gpsweep.recipe import Augment, check
from gpsweep.training import TrainingModule, class_weights

RECIPES = sorted(path.stem for path in Path(config.conf_folder(), "fit").glob("*.yaml"))
TINY = ("data.limit=8", "batch_size=4", "epochs=1")
Fit = Callable[..., tuple[int, str, str]]


@pytest.fixture
def fit(terminal: Terminal) -> Fit:
    """Run ``python -m gpsweep.fit`` in an empty folder; return its exit code, output and errors."""
    return partial(terminal.run, cli, "gpsweep.fit")


def composed(*overrides: str) -> Any:
    GlobalHydra.instance().clear()
    with initialize_config_dir(config.conf_folder(), version_base="1.3"):
        return compose("fit", list(overrides))


def trained(folder: Path, recipe: str) -> dict[str, Any]:
    """Check that a recipe's weights load into its model, and return its record."""
    record: dict[str, Any] = json.loads((folder / "fit.json").read_text())
    cfg = composed(f"fit={recipe}", f"model.checkpoint={folder / 'weights.safetensors'}")
    assert sha256(build(cfg.model, classes=len(record["per_class"]))) == record["weights_sha256"]
    return record


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipes_compose(recipe: str) -> None:
    cfg = composed(f"fit={recipe}")
    check(cfg)
    assert cfg.name == recipe and cfg.model.checkpoint is None and cfg.train.split == "train"


def test_scenes_recipe_writes_weights_that_load(fit: Fit, tmp_path: Path) -> None:
    code, out, err = fit("fit=scenes", *TINY)
    assert code == 0, err
    folder = tmp_path / "outputs" / "fit" / "scenes"
    record = trained(folder, "scenes")
    assert record["samples"] == {"train": 8, "held_out": 8}
    asked = OmegaConf.to_container(composed("fit=scenes", *TINY), resolve=True)
    assert record["config"] == json.loads(json.dumps(asked)), "nothing that came of the data"
    assert {"score", "seconds", "versions", "parameters", "git_commit"} <= record.keys()
    assert f"{record['score']:.2f}" in out
    assert out.splitlines()[-2:-1] == ["To sweep it:"]
    assert out.splitlines()[-1].startswith("python -m gpsweep -m 'eps=range(-1,1,0.05)' ")
    words = shlex.split(out.strip().splitlines()[-1])
    assert words[:3] == ["python", "-m", "gpsweep"]
    assert words[-3:] == [
        "data=scenes",
        "model=scenes",
        "model.checkpoint=outputs/fit/scenes/weights.safetensors",
    ]
    assert sorted(path.name for path in folder.iterdir()) == [".hydra", "fit.json", "weights.safetensors"]


def test_the_seed_decides(fit: Fit, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        assert fit(*TINY, f"seed={seed}", f"hydra.run.dir={name}")[0] == 0
    a, b, c = (json.loads((tmp_path / name / "fit.json").read_text()) for name in "abc")
    assert a["weights_sha256"] == b["weights_sha256"] != c["weights_sha256"]


@pytest.mark.parametrize(("autocast", "precision"), [("none", "32"), ("bf16", "bf16"), ("auto", "bf16")])
def test_training_is_in_the_bits_asked_for_and_its_score_in_32(
    autocast: str, precision: str, fit: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[bool, set[torch.dtype]] = {True: set(), False: set()}
    forward = torch.nn.Conv2d.forward

    def look(module: torch.nn.Conv2d, x: torch.Tensor) -> torch.Tensor:
        out = forward(module, x)
        seen[module.training].add(out.dtype)
        return out

    monkeypatch.setattr(torch.nn.Conv2d, "forward", look)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True}, raising=False)
    code, _, err = fit(*TINY, f"autocast={autocast}")
    assert code == 0, err
    record = trained(tmp_path / "outputs" / "fit" / "scenes", "scenes")
    assert record["precision"] == precision
    assert seen[True] == {torch.float32 if precision == "32" else torch.bfloat16}
    assert seen[False] == {torch.float32}


@pytest.mark.data
@pytest.mark.parametrize("recipe", ["mnist", "cifar", "camvid"])
def test_recipes_on_real_data(
    recipe: str, fit: Fit, tmp_path: Path, data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GPSWEEP_DATA", str(data_root.resolve()))
    code, _, err = fit(f"fit={recipe}", *TINY)
    assert code == 0, err
    record = trained(tmp_path / "outputs" / "fit" / recipe, recipe)
    assert 0 <= record["score"] <= 100


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fit=scene"], "scene"),
        (["epochs=0"], "epochs=0: expected a number ≥ 1"),
        (["epochs=abc"], "epochs"),
        (["seed=4294967296"], "seed=4294967296: expected a number below 2**32"),
        (["+epoch=3"], "gpsweep: epoch: no such key. Did you mean epochs?"),
        (["autocast=fp16"], "autocast=fp16: unknown. Did you mean bf16? Choices: none, bf16, auto"),
        (["rate=0"], "rate=0.0: expected a number > 0"),
        (["rate=inf"], "rate=inf: expected a number > 0 and finite"),
        (["decay=inf"], "decay=inf: expected a finite number ≥ 0"),
        (["balance=nan"], "balance=nan: expected a finite number ≥ 0"),
        (["precision=16"], "gpsweep: precision=16: of another command, python -m gpsweep precision=16\n"),
        (["+tracker=csv"], "gpsweep: +tracker=csv: of another command, python -m gpsweep tracker=csv\n"),
        (["seed=-1"], "seed=-1: expected a number ≥ 0"),
        (["augment.scale=[2,1]"], "augment.scale=[2.0, 1.0]"),
        (
            ["augment.scale=[1,inf]"],
            "augment.scale=[1.0, inf]: expected [smallest, largest], both > 0 and fini",
        ),
        (["augment.crop=[500,10]"], "augment.crop=[500, 10]"),
        (["augment.crop=[288]"], "augment.crop=[288]: expected two numbers"),
        (["data.batch_size=0"], "data.batch_size=0: expected a whole number of at least 1"),
        (["data.batch_size=2.5"], "data.batch_size=2.5: expected a whole number of at least 1"),
        (["data.workers=few"], "data.workers=few: expected a whole number of at least 0"),
        (["+train.images=a"], "train.images: unknown to this data"),
        (["+train.images=a"], "expected some of split, seed, count, "),
        (["+train.images=a"], "; ~train.images takes it away"),
        (["augment.contrast=nan"], "augment.contrast=nan: expected a finite number ≥ 0"),
        (["augment.brightness=-1"], "augment.brightness=-1.0: expected a finite number ≥ 0"),
        (["batch_size=9"], "batch_size=9: expected at most the 8 training samples"),
        (["train.split=test"], "gpsweep: train.split=test: unknown. Choices: train, val"),
        (["train.count=0"], "gpsweep: train.count=0: expected a whole number"),
        (["data.count=0"], "gpsweep: data.count=0: expected a whole number"),
        (["accelerator=abacus"], "accelerator=abacus"),
        (
            [
                "model=custom",
                "model.net={_target_: torch.nn.Conv2d, in_channels: 1, out_channels: 11, kernel_size: 1}",
            ],
            "model: the network fails on the first sample at 96 × 128 pixels (train/0000): RuntimeError: ",
        ),
        (["model.stages=[]"], "model.stages=[]"),
        (["data.root=x", "fit=camvid"], "data.root=x"),
    ],
)
def test_mistakes_end_in_one_message_and_leave_no_weights(
    arguments: list[str], message: str, fit: Fit, tmp_path: Path
) -> None:
    code, _, err = fit("data.limit=8", "batch_size=4", *arguments)
    assert code == 1
    assert message in err and "Traceback" not in err
    assert not list(tmp_path.rglob("*.safetensors*")) and not list(tmp_path.rglob("fit.json"))


@pytest.mark.parametrize(
    ("file", "chosen", "base"),
    [("own.yaml", "--config-name=own", "fit"), ("data/own.yaml", "data=own", "custom")],
)
def test_a_file_of_the_user_s_own_builds_on_ours(
    fit: Fit, tmp_path: Path, file: str, chosen: str, base: str
) -> None:
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    path.write_text("epochs: 1\n")
    code, _, err = fit(f"--config-dir={tmp_path}", chosen)
    line = f"defaults: [{base}, _self_]"
    assert code == 1 and "Traceback" not in err
    assert f"gpsweep: {chosen}: expected a file that builds on gpsweep's own, by the line {line}" in err


class Halving(torch.nn.Module):
    """A network that needs sides that two divides, in a pass or on the way back alone."""

    def __init__(self, *, back: bool = False) -> None:
        super().__init__()
        self.back, self.head = back, torch.nn.Conv2d(3, 11, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.head(x)
        if not self.back:
            return y.unflatten(2, (-1, 2)).flatten(2, 3)
        if y.shape[2] % 2:
            y.register_hook(lambda gradient: gradient.unflatten(2, (-1, 2)))
        return y


@pytest.mark.parametrize("back", ["false", "true"])
def test_a_network_that_fails_on_crops_alone_is_told_of(
    fit: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, back: str
) -> None:
    monkeypatch.setattr("networks.Halving", Halving, raising=False)
    net = f"model.net={{_target_: networks.Halving, back: {back}}}"
    code, _, err = fit(*TINY, "model=custom", net, "augment.crop=[31,32]", "batch_size=8")
    assert code == 1 and "Traceback" not in err
    assert "model: the network fails in training at 31 × 32 pixels (train/000" in err
    assert "RuntimeError: unflatten" in err
    assert not list(tmp_path.rglob("*.safetensors"))


class Rows(torch.nn.Conv2d):
    """A network that assumes rows in memory order."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = super().forward(x)
        return y.view(y.size(0), -1).view(y.shape)


def test_a_network_that_wants_contiguous_memory_is_trained(fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("networks.Rows", Rows, raising=False)
    net = "model.net={_target_: networks.Rows, in_channels: 3, out_channels: 11, kernel_size: 1}"
    with pytest.warns(UserWarning, match="memory_format=channels_last: the network needs contiguous"):
        code, _, err = fit(*TINY, "model=custom", net)
    assert code == 0, err


def test_a_network_that_fails_on_held_out_images_alone_is_told_of(
    fit: Fit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("networks.Halving", Halving, raising=False)
    whole = Scenes.__getitem__
    monkeypatch.setattr(Scenes, "__getitem__", lambda source, number: cut(whole(source, number)))

    def cut(sample: Sample) -> Sample:
        sides = (slice(95), slice(128)) if sample["id"].startswith("val") else (slice(96), slice(128))
        return Sample(image=sample["image"][:, *sides], target=sample["target"][sides], id=sample["id"])

    code, _, err = fit(*TINY, "model=custom", "model.net=networks.Halving", "augment.crop=null")
    assert code == 1 and "Traceback" not in err
    assert "model: the network fails on held-out batch 0 at 95 × 128 pixels (val/000" in err


@pytest.mark.parametrize(("images", "epochs", "when"), [(32, 2, "epoch"), (4, 1, "its last step")])
def test_a_diverging_training_says_so(fit: Fit, tmp_path: Path, images: int, epochs: int, when: str) -> None:
    code, _, err = fit(f"data.limit={images}", "batch_size=4", f"epochs={epochs}", "rate=1e30")
    assert code == 1 and f"rate=1e+30: the training diverged in {when}" in err and "Traceback" not in err
    assert not list(tmp_path.rglob("*.safetensors"))


def striped() -> tuple[torch.Tensor, torch.Tensor]:
    """Images whose red level is 10 × the class, and their masks."""
    target = torch.arange(16).repeat(4, 12, 1)
    image = torch.zeros(4, 3, 12, 16)
    image[:, 0] = 10.0 * target
    return image, target


def test_a_training_that_is_ended_says_so_and_leaves_no_weights(
    fit: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = TrainingModule.training_step

    def ended(*args: Any) -> Any:
        signal.raise_signal(signal.SIGTERM)
        return step(*args)

    monkeypatch.setattr(TrainingModule, "training_step", ended)
    before = signal.getsignal(signal.SIGTERM)
    code, _, err = fit("fit=scenes", *TINY)
    assert code == 128 + signal.SIGTERM
    assert "gpsweep: stopped; no weights were written, and the same command begins anew\n" in err
    assert not list(tmp_path.rglob("*.safetensors"))
    assert signal.getsignal(signal.SIGTERM) is before


def test_ctrl_c_ends_a_training_in_a_line(fit: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def ended(*args: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(TrainingModule, "training_step", ended)
    before = signal.getsignal(signal.SIGINT)
    try:
        code, _, err = fit("fit=scenes", *TINY)
    finally:
        signal.signal(signal.SIGINT, before)  # which Lightning ignores from then on
    assert code == 130
    assert [line for line in err.splitlines() if line.startswith("gpsweep: stopped")] == [
        "gpsweep: stopped; no weights were written, and the same command begins anew"
    ]
    assert not list(tmp_path.rglob("*.safetensors"))


def test_augmentation_is_none_unless_asked_for() -> None:
    image, target = striped()
    same, truth = varied(Augment(), image, target)
    assert torch.allclose(same, image, atol=1e-4) and torch.equal(truth, target)


def test_masks_move_with_their_images() -> None:
    torch.manual_seed(0)
    image, target = striped()
    moved, truth = varied(Augment(flip=True, crop=(5, 7)), image, target)
    assert moved.shape == (4, 3, 5, 7) and truth.shape == (4, 5, 7)
    assert torch.allclose(moved[:, 0], 10.0 * truth, atol=1e-3)
    assert {bool((row.diff() > 0).all()) for row in truth[:, 0]} == {True, False}


def test_resizing_never_falls_below_the_crop_and_invents_no_class() -> None:
    torch.manual_seed(0)
    image, target = striped()
    target[:, 0, 0] = VOID
    moved, truth = varied(Augment(scale=(0.1, 0.2), crop=(6, 8)), image, target)
    assert moved.shape == (4, 3, 6, 8) and truth.shape == (4, 6, 8)
    assert set(truth.unique().tolist()) <= {VOID, *range(16)}
    assert (moved[:, 0] - 10.0 * truth).abs()[truth != VOID].max() <= 10


def test_resizing_leaves_a_pixel_at_least() -> None:
    moved, truth = varied(Augment(scale=(1e-3, 1e-3)), *striped())
    assert moved.shape == (4, 3, 1, 1) and truth.shape == (4, 1, 1)


def test_classified_images_are_mirrored_and_nothing_more() -> None:
    torch.manual_seed(0)
    image, target = torch.rand(8, 3, 12, 16) * 255, torch.arange(8)
    same, truth = varied(Augment(scale=(2, 2), crop=(5, 7)), image, target)
    assert torch.allclose(same, image, atol=1e-3) and torch.equal(truth, target)
    moved, truth = varied(Augment(flip=True), image, target)
    mirrored = [
        torch.allclose(one, before.flip(-1), atol=1e-3) for one, before in zip(moved, image, strict=True)
    ]
    kept = [torch.allclose(one, before, atol=1e-3) for one, before in zip(moved, image, strict=True)]
    assert torch.equal(truth, target) and any(mirrored) and any(kept)
    assert [a != b for a, b in zip(mirrored, kept, strict=True)] == [True] * 8


@pytest.mark.parametrize("target", [torch.arange(200), torch.zeros(200, 6, 8).long()])
def test_contrast_is_an_image_s_and_brightness_a_channel_s(target: torch.Tensor) -> None:
    torch.manual_seed(0)
    image = torch.rand(200, 3, 6, 8) * 255
    moved, truth = varied(Augment(contrast=0.5, brightness=20.0), image, target)
    assert truth.equal(target)
    gains, shifts = (moved.std((2, 3)) / image.std((2, 3))), moved.mean((2, 3)) - image.mean((2, 3))
    assert torch.allclose(gains, gains[:, :1].expand(-1, 3), atol=1e-3)
    middle, shift = image.mean((2, 3), keepdim=True), shifts[..., None, None]
    expected = middle + shift + gains[:, :1, None, None] * (image - middle)
    assert torch.allclose(moved, expected, atol=1e-2)
    for found, reach in ((gains[:, 0] - 1, 0.5), *((shift, 20.0) for shift in shifts.T)):
        assert -reach <= found.min() < -0.9 * reach and 0.9 * reach < found.max() <= reach
    assert not torch.allclose(shifts[:, 0], shifts[:, 1], atol=1.0)


def test_rare_classes_weigh_more() -> None:
    targets = [torch.tensor([[0, 0, 0], [1, VOID, VOID]])]
    assert class_weights(targets, 2, 0.0) is None
    weights = class_weights(targets, 2, 1.0)
    assert weights is not None
    assert weights.tolist() == pytest.approx([2 / 3, 2.0])  # every class counts as much: 3 · 2/3 = 1 · 2


def test_a_recipe_is_checked() -> None:
    with pytest.raises(GpsweepError, match="balance=-1"):
        check(composed("balance=-1"))


def test_classes_of_training_and_held_out_data_are_the_same(fit: Fit, tmp_path: Path) -> None:
    for part, classes in (("held", "abc"), ("own", "ac")):
        for name in classes:
            (tmp_path / part / name).mkdir(parents=True)
            Image.new("RGB", (32, 32)).save(tmp_path / part / name / "1.png")
    data = ["data=folder", "data.images=held", "+train.images=own", "train.split=null"]
    code, _, err = fit("fit=cifar", *data, "batch_size=1", "epochs=1")
    assert code != 0
    assert "train: its classes are a, c, those of data=folder-held a, b, c" in err


@pytest.mark.parametrize(
    ("blind", "message"),
    [(True, "data: scenes has no masks to learn or to score by"), (False, "train: all masks are void thro")],
)
def test_data_without_truth_teach_nothing(
    fit: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blind: bool, message: str
) -> None:
    def void(source: Scenes, number: int) -> Sample:
        sample = whole(source, number)
        return Sample(image=sample["image"], target=torch.full_like(sample["target"], VOID), id=sample["id"])

    whole = Scenes.__getitem__
    monkeypatch.setattr(Scenes, "__getitem__", void)
    monkeypatch.setattr(Scenes, "unlabelled", blind, raising=False)
    code, _, err = fit(*TINY)
    assert code == 1 and message in err and "Traceback" not in err
    assert not list(tmp_path.rglob("*.safetensors"))


def test_the_command_that_is_printed_keeps_what_was_said_of_data_and_network(fit: Fit) -> None:
    _, out, _ = fit("fit=scenes", *TINY, "model.stages=[[4],[4],[8]]")
    words = shlex.split(out.strip().splitlines()[-1])
    assert words[-1] == "model.stages=[[4],[4],[8]]"
    assert not any(word.startswith(("epochs", "batch_size", "fit", "data.limit")) for word in words)


def test_the_command_that_is_printed_can_be_typed_whatever_the_folder_is_called(
    fit: Fit, tmp_path: Path
) -> None:
    _, out, _ = fit("fit=scenes", *TINY, "hydra.run.dir='seed=1, (b)'")
    *_, last = shlex.split(out.strip().splitlines()[-1])
    given = OverridesParser.create().parse_override(last)
    assert given.key_or_group == "model.checkpoint"
    assert (tmp_path / str(given.value())).samefile(tmp_path / "seed=1, (b)" / "weights.safetensors")


def test_jobs_of_a_multirun_have_a_folder_each(fit: Fit, tmp_path: Path) -> None:
    code, _, err = fit("-m", "fit=scenes", "seed=0,1", *TINY)
    assert code == 0, err
    folder = tmp_path / "outputs" / "fit" / "scenes"
    found = [json.loads(path.read_text())["config"]["seed"] for path in sorted(folder.glob("*/fit.json"))]
    assert found == [0, 1]


def test_a_record_is_never_of_other_weights(
    fit: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even where a training is killed between the two files."""
    assert fit("fit=scenes", *TINY, "hydra.run.dir=out")[0] == 0
    save = fitting.save

    def killed(path: Path, content: bytes) -> Path:
        if path.name == "fit.json":
            raise SystemExit(137)
        return save(path, content)

    monkeypatch.setattr(fitting, "save", killed)
    assert fit("fit=scenes", *TINY, "seed=1", "hydra.run.dir=out")[0] == 137
    assert (tmp_path / "out" / "weights.safetensors").exists()
    assert not (tmp_path / "out" / "fit.json").exists()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork:DeprecationWarning")
def test_held_out_images_are_read_by_workers(fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be read there is said in one message all the same."""

    def unreadable(source: Scenes, number: int) -> Sample:
        if get_worker_info() is not None:
            raise GpsweepError("data.root: image 3.png does not decode")
        return whole(source, number)

    recipe = ["fit=scenes", *TINY, "data.workers=1", "hydra.run.dir=out"]
    whole = Scenes.__getitem__
    monkeypatch.setattr(Scenes, "__getitem__", unreadable)
    code, _, err = fit(*recipe)
    assert code == 1
    assert "gpsweep: data.root: image 3.png does not decode\n" in err
    assert "Traceback" not in err
    monkeypatch.setattr(Scenes, "__getitem__", whole)
    assert fit(*recipe)[0] == 0


def test_padding_is_what_a_run_pads_with() -> None:
    """A score beside a training is the base of a run on the same images."""
    net = PixelNet(torch.nn.Conv2d(3, 2, 1), mean=(0.5, 0.25, 0.5), std=(1.0, 1.0, 1.0)).eval()
    seen: list[torch.Tensor] = []
    net.net.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    samples = [
        Sample(image=torch.full((3, *size), 255.0), target=torch.zeros(size, dtype=torch.long), id=str(size))
        for size in ((4, 6), (5, 3))
    ]
    module = TrainingModule(net, classes=2, augment=Augment(), rate=1.0, decay=0.0)
    module.test_step(collate(samples), 0)
    assert seen[0][0, :, 4:].abs().max() < 1e-6
    assert seen[0][1, :, :, 3:].abs().max() < 1e-6
    assert module.totals[:, [0, 2]].sum() == 4 * 6 + 5 * 3, "padding is not counted"


def test_a_batch_of_void_alone_teaches_nothing() -> None:
    module = TrainingModule(torch.nn.Conv2d(3, 2, 1), classes=2, augment=Augment(), rate=1.0, decay=0.0)
    void = {"image": torch.zeros(1, 3, 4, 4), "target": torch.full((1, 4, 4), VOID)}
    assert module.training_step(void, 0) is None
    with pytest.raises(GpsweepError, match="void throughout"):
        class_weights([void["target"]], 2, 1.0)
