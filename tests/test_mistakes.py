"""Every mistake ends in one message that names the key, without a traceback and before any heavy work."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import NET, PYTHONPATH, SET, Terminal, pictures
from hydra.errors import CompactHydraException
from networks import build
from PIL import Image
from traps import Runs

SMALL = [*SET, *NET]
# Of its own words, which tell of objects and of how it has been called, there are none.
HYDRA_S = ("HYDRA_FULL_ERROR", "full_key", "object_type", "Error executing", "Error merging", "search path")


def refused(terminal: Terminal, *arguments: str) -> str:
    """Run a command that must fail, and return its one message."""
    code, _, err = terminal(*arguments)
    assert code != 0
    assert "Traceback" not in err
    assert not any(said in err for said in HYDRA_S), err
    assert not terminal.results()
    return err


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("label=argmx", "label=argmx: unknown. Did you mean argmax?"),
        ("signal=entropy", "signal=entropy: unknown. Did you mean cross_entropy?"),
        ("layer=encoder.dwn", "layer=encoder.dwn: unknown. Did you mean encoder.down"),
        ("layer=encoder.down.3.relu", "layer=encoder.down.3.relu: the module runs 2 times"),
        ("layer=0.10", "layer=0.10: unknown."),
        ("layer=[input,12.0]", "layer=12.0: unknown."),
        ("step=unit", "step=unit: unknown"),
        ("eps=abc", "eps=abc: expected a number"),
        ("eps=nan", "eps=nan: expected a finite number"),
        ("eps=inf", "eps=inf: expected a finite number"),
        ("eps=[]", "eps=[]: expected a value or a list of values, came an empty list"),
        ("eps=[0,x]", "eps=x: expected a number"),
        ("eps=null", "eps=None: expected a number"),
        ("iterations=0", "iterations=0: expected a whole number of at least 1"),
        ("refine=flipped", "refine=flipped: unknown. Did you mean flip?"),
        ("refine=[]", "refine=[]: expected a value or a list of values, came an empty list"),
        ("layer_scale=std", "layer_scale=std: unknown"),
        ("memory_format=nhwc", "memory_format=nhwc: unknown"),
        ("points_per_forward=0", "points_per_forward=0: expected auto or a whole number"),
        ("trainer.devices=0", "trainer.devices=0 trainer.accelerator=auto: "),
        (
            "trainer.devices=99999999999999999999",
            "trainer.devices=99999999999999999999: expected at most 1024\n",
        ),
        ("trainer.num_nodes=0", "gpsweep: trainer.num_nodes=0: expected a whole number of at least 1\n"),
        ("trainer.accelerator=abacus", "trainer"),
        ("trainer.precision=7", "trainer"),
        ("model=nothing", "gpsweep: model=nothing: unknown."),
        ("data=nothing", "gpsweep: data=nothing: unknown."),
        ("model=null", "gpsweep: model=null: unknown."),
        ("data=5", "gpsweep: data=5: unknown."),
        ("tracker=-1", "gpsweep: tracker=-1: unknown."),
        ("precision=-inf", "gpsweep: precision=-inf: unknown."),
        ("tracker=False", "gpsweep: tracker=False: unknown."),
        ("lable=argmax", "lable"),
        ("data.limit=(2)", "data.limit=(2)"),
        ("model.checkpoint=~/my net (1).pt", "my net (1).pt: no such file"),
        ("data.batch_size=0", "data.batch_size=0: expected a whole number of at least 1"),
        ("data.workers=-1", "data.workers=-1: expected a whole number of at least 0"),
        ("data.images=photos", "data.images"),
        ("data.limit=0", "data.limit"),
        ("data.split=absent.txt", "data.split"),
        ("model.net=networks.absent", "model.net=networks.absent"),
        ("model.net=absent.net", "model.net=absent.net"),
        ("model.net=networks.not_a_network", "model.net=networks.not_a_network"),
        ("model.checkpoint=absent.pt", "model.checkpoint=absent.pt"),
        ("model.output=logits", "model.output=logits"),
        ("model.channels=HSV", "model.channels=HSV"),
        ("model.std=0", "model.std"),
        ("data.classes=9", "model.classes: the network has 5 output channels, expected at least 9"),
        ("model.net=networks.Sigmoid", "torch.cat([torch.zeros_like(z), z], 1)"),
        ("model.classes=8", "model.classes=8: the network has 5 output channels"),
        ("seed=${absent}", "gpsweep: seed: Interpolation key 'absent' not found"),
        ("store=${oc.env:ABSENT}", "variable 'ABSENT' not found"),
        ("data.images=???", "gpsweep: data.images=???: expected a value\n"),
        ("model.class_map=???", "gpsweep: model.class_map=???: expected a value\n"),
        ("data.groups=${absent}", "gpsweep: data.groups: Interpolation key 'absent' not found\n"),
        ("data.root=${absent}", "gpsweep: data.root: Interpolation key 'absent' not found\n"),
        ("model.mean=['${absent}',0,0]", "gpsweep: model.mean.0: Interpolation key 'absent' not found\n"),
        ("+tracker.dir=${absent}", "gpsweep: tracker.dir: Interpolation key 'absent' not found\n"),
        ("data.source._target_=networks", "<module 'networks' from '"),
        ("data=${absent}", "gpsweep: Interpolation key 'absent' not found\n"),
        ("crf=${seed}", "gpsweep: crf=0: expected its keys, one by one: iterations, smooth_weight, "),
        ("multiscale.scales=[[1]]", "gpsweep: multiscale.scales=[[1]]: expected a list of numbers\n"),
        ("precision.gradient=", "gpsweep: precision.gradient=: unknown. Choices: 32, bf16, 16\n"),
        ("multiscale.scales=${eps}", "gpsweep: multiscale.scales=0.25: expected a list of numbers\n"),
        ("data.void=2.5", "gpsweep: data.void=2.5: expected null, whole numbers from 0 to 65535, or colours"),
        ("model.checkpoint=???", "gpsweep: model.checkpoint=???: expected a value\n"),
        ("hydra.run.dir=${oc.env:ABSENT}", "variable 'ABSENT' not found"),
        ("~crf", "gpsweep: crf: expected a value, as every run has one; ~crf takes it away\n"),
        ("~label", "gpsweep: label: expected a value, as every run has one; ~label takes it away\n"),
        (
            "~trainer.devices",
            "gpsweep: trainer.devices: expected a value, as every run has one; ~trainer.dev",
        ),
        ("~eps=3", "gpsweep: ~eps=3: it is 0.25\n"),
        ("~data=camvid", "gpsweep: ~data=camvid: there is none to take away\n"),
        ("~", "gpsweep: ~: expected KEY=VALUE\n"),
        ("+=3", "gpsweep: +=3: expected KEY=VALUE\n"),
        ("@a=1", "gpsweep: @a=1: expected KEY=VALUE\n"),
        ("1=3", "gpsweep: 1=3: expected KEY=VALUE, the key of letters, digits, _ and dots between them\n"),
        ("eps =3", "gpsweep: eps =3: expected KEY=VALUE, the key of letters, "),
        ("model.=3", "gpsweep: model.=3: expected KEY=VALUE, the key of letters, "),
        ("eps=${", "viable alternative at input '${'\n"),
        ("model@a=smp", "gpsweep: model@a: no such key. Did you mean model?\n"),
        ("+model=smp", "gpsweep: model: there is one already; expected model=NAME, or in a file the line "),
        ("fit=scenes", "gpsweep: fit=scenes: of another command, python -m gpsweep.fit fit=scenes\n"),
        ("+fit=scenes", "gpsweep: +fit=scenes: of another command, python -m gpsweep.fit fit=scenes\n"),
        ("tracker=[[1]]", "gpsweep: tracker=[[1]]: expected one name; several are a sweep, by -m and "),
        ("model=[smp,timm]", "gpsweep: model=[smp,timm]: expected one name; several are a sweep, by -m and "),
        ("+class_map=[[1]]", "gpsweep: +class_map=[[1]]: expected a name, or a list of names\n"),
        ("++model=smp", "gpsweep: ++model=smp: expected model=smp\n"),
        ("+lable=uniform", "gpsweep: lable: no such key. Did you mean label?"),
        ("+sweep=fig8", "gpsweep: sweep: no such key."),
        (
            "+trainer.precision=16",
            "gpsweep: trainer.precision: no such key. Keys: accelerator, ",
        ),
        ("lable=uniform", "gpsweep: lable: no such key. Did you mean label?"),
        ("data.limt=8", "gpsweep: data.limt: no such key. Did you mean data.limit"),
        ("trainer.device=2", "gpsweep: trainer.device: no such key. Did you mean trainer.devices?"),
        ("hydra.mode=x", "gpsweep: hydra.mode=x: expected RUN or MULTIRUN, or null\n"),
        ("hydra.run.dirr=x", "gpsweep: hydra.run.dirr: no such key. Did you mean hydra.run.dir?"),
        ("+sweeps=8", "gpsweep: sweeps=8: unknown."),
        ("hydra/job_logging=null", "gpsweep: hydra/job_logging=null: unknown."),
        ("+sweeps=[8,10]", "gpsweep: sweeps/10: no such file of the configuration"),
        ("+experiment=1", "gpsweep: experiment: no such key."),
        ("=3", "gpsweep: =3: expected KEY=VALUE\n"),
        ("tracker.mode=online", "gpsweep: tracker.mode: no such key. Keys: none"),
        ("tracker={}", "gpsweep: tracker={}: expected the name of a tracker"),
        ("precision.forward=64", "gpsweep: precision.forward=64: unknown. Did you mean 16?"),
        ("store=", "gpsweep: store=: expected a folder"),
        ("layer={input:body}", "layer={'input': 'body'}: expected a value or a list of values, came a dict"),
        ("seed=-1", "seed=-1: expected a whole number of at least 0"),
        ("seed=18446744073709551616", "seed=18446744073709551616: expected a whole number below 2**64"),
        ("iterations=1000000000", "expected at most 1000000 points, came 1000000000"),
        ("eps", "gpsweep: eps: expected KEY=VALUE\n"),
        (
            "label=argmax,,uniform",
            "gpsweep: label=argmax,,uniform: expected a value, a list [a,b], or with -m",
        ),
        (
            "eps=0,1",
            "gpsweep: eps=0,1: expected one value; several are a sweep, by -m in front of all keys\n",
        ),
        ("data.split=glob(*)", "gpsweep: data.split=glob(*): expected one value; several are a sweep, by -m"),
        ("seed=abc", "gpsweep: seed=abc: expected a whole number\n"),
        ("clip=maybe", "gpsweep: clip=maybe: expected true or false\n"),
        ("progress=2.5", "gpsweep: progress=2.5: expected true or false, or null\n"),
        ("store=[a]", "gpsweep: store=[a]: expected a text\n"),
        ("knn=3", "gpsweep: knn=3: expected its keys, one by one: k, weights, at, combine, cache\n"),
        ("knn=[3]", "gpsweep: knn=[3]: expected its keys, one by one: k, weights, at, combine, cache\n"),
        ("multiscale.scales=x", "gpsweep: multiscale.scales=x: expected a list of numbers\n"),
        ("multiscale.scales=[x]", "gpsweep: multiscale.scales=[x]: expected a number\n"),
        ("multiscale.scales={a:1}", "gpsweep: multiscale.scales={a:1}: expected a list of numbers\n"),
        ("model.mean={a:1}", "gpsweep: model.mean={a:1}: expected a list\n"),
        *((f"model.name={name}", f"gpsweep: model.name={name}: expected a name\n") for name in ("", "[]")),
        ("model.name=null", "gpsweep: model.name=None: expected a name\n"),
        ("model.mean=abc", "gpsweep: model.mean=abc: expected finite numbers"),
        ("iterations=[a]", "gpsweep: iterations=a: expected a number"),
        ("scales=[1]", "gpsweep: scales: no such key. Did you mean multiscale.scales? Keys: "),
        ("limit=20", "gpsweep: limit: no such key. Did you mean data.limit? Keys: "),
        ("hydra.launcher.foo=1", "gpsweep: hydra.launcher.foo: no such key. Keys: _target_\n"),
        ("sweeps=fig8", "gpsweep: sweeps=fig8: expected +sweeps=fig8\n"),
        ("+data.train_limit=3", "gpsweep: data.train_limit: no such key. Keys: source, images, "),
        ("+data.lmit.n=3", "gpsweep: data.lmit: no such key. Did you mean data.limit or data.split? Keys: "),
        (
            "+model.feature=body",
            "gpsweep: model.feature: no such key. Did you mean model.features? Keys: name, ",
        ),
        ("++model.weights=DEFAULT", "gpsweep: model.weights: no such key. Keys: name, "),
        ("+eps=1", "gpsweep: +eps=1: there is such a key; expected eps=1\n"),
        ("~nothing", "gpsweep: ~nothing: no such key\n"),
        ("--config-name=absent", "gpsweep: absent: no such file of the configuration; --config-dir=FOLDER"),
        ("+model.aliases.deep=encodr", "model.aliases.deep=encodr: unknown. Did you mean encoder"),
    ],
)
def test_configuration(terminal: Terminal, override: str, message: str) -> None:
    pictures(terminal.folder)
    assert message in refused(terminal, *SMALL, override)


@pytest.mark.parametrize(
    ("library", "key", "value"),
    [
        *(("timm", "arch", value) for value in ("[1]", "5", "null")),
        *(("smp", key, "[1]") for key in ("arch", "encoder", "weights")),
        *(("torchvision", key, "[1]") for key in ("arch", "weights")),
    ],
)
def test_what_names_a_network_is_a_text(terminal: Terminal, library: str, key: str, value: str) -> None:
    said = refused(terminal, f"model={library}", f"model.{key}={value}")
    shown = "None" if value == "null" else value
    assert said == f"gpsweep: model.{key}={shown}: expected a name\n"


@pytest.mark.parametrize("key", ["model", "data"])
def test_a_group_that_is_taken_away(terminal: Terminal, key: str) -> None:
    said = f"gpsweep: {key}: expected a value, as every run has one; ~{key} takes it away\n"
    assert refused(terminal, f"~{key}") == refused(terminal, "-m", f"~{key}") == said


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("label: uniform\n", "gpsweep: mine: no such key. "),
        ("# @package _global_\nlabel: [argmax\n", "mine/own.yaml"),
        (
            "# @package _global_\nseed: abc\n",
            "gpsweep: seed: Value 'abc' of type 'str' could not be converted",
        ),
        ("# @package _global_\nlable: uniform\n", "gpsweep: lable: no such key. Did you mean label? "),
        (
            "# @package _global_\ndefaults: [absent]\n",
            "gpsweep: mine/absent: no such file of the configuration",
        ),
    ],
)
def test_a_file_of_the_user_s_own_that_does_not_fit(terminal: Terminal, text: str, message: str) -> None:
    path = terminal.folder / "mine" / "own.yaml"
    path.parent.mkdir()
    path.write_text(text)
    said = refused(terminal, f"--config-dir={terminal.folder}", "+mine=own")
    assert message in said
    assert said.count("\n") == 1
    assert ("need the first line # @package _global_" in said) == (text[0] != "#")


def test_a_key_of_the_user_s_own_is_well_where_it_is_used(terminal: Terminal) -> None:
    pictures(terminal.folder)
    code, _, err = terminal(*SMALL, "eps=0", "+lab=4", "hydra.run.dir=of_${lab}")
    assert code == 0, err
    assert Path("of_4/results.csv").is_file()
    code, _, err = terminal(*SMALL, "eps=0", "+size=6", "data.size='${size}'", "hydra.run.dir=small")
    assert code == 0, err
    assert "gpsweep: size: no such key." in refused(terminal, *SMALL, "eps=0", "+size=6")
    code, _, err = terminal(*SMALL, "eps=0", "+data.side=6", "data.size='${.side}'", "hydra.run.dir=smaller")
    assert code == 0, err


@pytest.mark.parametrize(
    ("file", "chosen", "base"),
    [
        ("own.yaml", "--config-name=own", "config"),
        ("model/own.yaml", "model=own", "custom"),
        ("data/own.yaml", "data=own", "custom"),
    ],
)
def test_a_file_of_the_user_s_own_builds_on_ours(
    terminal: Terminal, file: str, chosen: str, base: str
) -> None:
    path = pictures(terminal.folder) / file
    path.parent.mkdir(exist_ok=True)
    path.write_text("label: argmax\n")
    flags = [f"--config-dir={terminal.folder}", *([chosen] if "--" in chosen else [])]
    line = f"defaults: [{base}, _self_]"
    expected = f"gpsweep: {chosen}: expected a file that builds on gpsweep's own, by the line {line}"
    assert expected in refused(terminal, *flags, *([] if "--" in chosen else [chosen]))
    path.write_text(f"{line}\n")
    code, _, err = terminal(*flags, *(each.replace(f"{chosen[:5]}custom", chosen) for each in SMALL), "eps=0")
    assert code == 0, err


def test_what_omegaconf_says_is_said_once(terminal: Terminal) -> None:
    assert refused(terminal, "seed=${absent}").count("Interpolation key 'absent' not found") == 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["-m", "eps=0,1", "--cfg", "job"], "gpsweep: Only one of --run, --multirun, --cfg"),
        (["--resolve"], "gpsweep: The --resolve flag can only be used in conjunction with --cfg"),
        (["--experimental-rerun", "nowhere"], "gpsweep: File nowhere does not exist"),
    ],
)
@pytest.mark.filterwarnings("ignore:Experimental rerun")
def test_flags_of_hydra_that_do_not_fit(terminal: Terminal, flags: list[str], message: str) -> None:
    assert message in refused(terminal, *flags)


def test_missing_and_broken_files(terminal: Terminal) -> None:
    pictures(terminal.folder, count=15)
    for i in range(12):
        (terminal.folder / "masks" / f"{i:02d}.png").unlink()
    message = refused(terminal, *SMALL)
    assert "data.masks" in message
    assert "00.png" in message
    assert "09.png" in message
    assert "2 more" in message
    pictures(terminal.folder, count=15)
    (terminal.folder / "images" / "03.png").write_bytes(b"no picture")
    assert "03.png" in refused(terminal, *SMALL)
    pictures(terminal.folder, count=15)
    (terminal.folder / "masks" / "04.png").write_bytes(b"\x89PNG\r\n\x1a\n no mask")
    assert "04.png" in refused(terminal, *SMALL)


def test_a_broken_image_within_a_worker(terminal: Terminal) -> None:
    pictures(terminal.folder, count=6)
    whole = (terminal.folder / "images" / "04.png").read_bytes()
    (terminal.folder / "images" / "04.png").write_bytes(whole[: len(whole) // 2])
    message = refused(terminal, *SMALL, "data.workers=1", "data.batch_size=2", "eps=0")
    assert "04.png" in message
    assert len(message) < 600


def test_mask_values_beyond_the_classes(terminal: Terminal) -> None:
    pictures(terminal.folder)
    Image.fromarray(np.full((12, 16), 77, np.uint8)).save(terminal.folder / "masks" / "02.png")
    message = refused(terminal, *SMALL)
    assert "02.png" in message
    assert "77" in message


def test_an_empty_data_set(terminal: Terminal) -> None:
    (terminal.folder / "images").mkdir()
    (terminal.folder / "masks").mkdir()
    assert "data" in refused(terminal, *SMALL)


def test_checkpoints(terminal: Terminal) -> None:
    pictures(terminal.folder)
    state = build("skips").state_dict()

    def refused_with(content: object) -> str:
        torch.save(content, terminal.folder / "net.pt")
        return refused(terminal, *SMALL, "model.checkpoint=net.pt")

    (terminal.folder / "net.pt").write_bytes(b"not a checkpoint at all")
    assert "model.checkpoint=net.pt" in refused(terminal, *SMALL, "model.checkpoint=net.pt")
    message = refused_with({k: v for k, v in state.items() if not k.startswith("head")})
    assert "head.weight" in message
    message = refused_with(state | {"head.weight": torch.zeros(7, 8, 1, 1)})
    assert "head.weight" in message
    assert "7" in message
    marker = terminal.folder / "executed"
    message = refused_with({"state_dict": state, "extra": Runs(Path.touch, marker)})
    assert "model.checkpoint=net.pt" in message
    assert not marker.exists()


@pytest.mark.parametrize("name", ["mnist", "camvid"])
def test_weights_that_were_not_trained_yet(terminal: Terminal, name: str) -> None:
    pictures(terminal.folder)
    message = refused(terminal, *SET, f"model={name}")
    assert f"model.checkpoint=outputs/fit/{name}/weights.safetensors" in message
    assert f"python -m gpsweep.fit fit={name}" in message


def test_an_output_folder_that_cannot_be_written(terminal: Terminal) -> None:
    pictures(terminal.folder)
    (terminal.folder / "file").write_text("in the way")
    assert "hydra.run.dir=file/run: expected a folder that can be written" in refused(
        terminal, *SMALL, "hydra.run.dir=file/run"
    )
    assert "hydra.sweep.dir=file: expected a folder that can be written" in refused(
        terminal, "-m", *SMALL, "eps=0,1", "hydra.sweep.dir=file"
    )


@pytest.mark.parametrize(("flags", "key"), [([], "hydra.run.dir"), (["-m"], "hydra.sweep.dir")])
def test_an_output_folder_below_the_user_s_own_is_not_called_so(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, flags: list[str], key: str
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    said = refused(terminal, *flags, f"{key}='~/runs'")
    assert said == f"gpsweep: {key}=~/runs: Hydra does not look ~ up; expected /home/me/runs\n"
    assert not Path("~").exists()


def test_an_output_folder_on_a_full_disk(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty file can be made there, Hydra's are not empty."""
    write_bytes = Path.write_bytes

    def full(path: Path, content: bytes) -> int:
        written = write_bytes(path, content[:1024])
        if len(content) > 1024:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return written

    monkeypatch.setattr(Path, "write_bytes", full)
    for mode, key in (([], "hydra.run.dir"), (["-m"], "hydra.sweep.dir")):
        said = refused(terminal, *mode, *SMALL, f"{key}=out")
        assert said == (
            f"gpsweep: {key}=out: expected a folder that can be written: No space left on device (out)\n"
        )
        assert not [*Path("out").iterdir()]


def test_logits_that_are_not_finite(terminal: Terminal) -> None:
    pictures(terminal.folder, count=4)
    Image.fromarray(np.full((12, 16, 3), 255, np.uint8)).save(terminal.folder / "images" / "03.png")
    plain = ["model.mean=0", "model.std=1", "model.scale=0.0078125"]
    for i in range(3):
        Image.fromarray(np.full((12, 16, 3), 90, np.uint8)).save(terminal.folder / "images" / f"{i:02d}.png")
    bright = refused(
        terminal,
        *SET,
        "model=custom",
        "model.net=networks.Broken",
        *plain,
        "data.batch_size=2",
        "model.scale=0.0079",
    )
    assert "NaN or infinity in batch 1" in bright
    assert "samples: 03" in bright


def test_the_task_must_fit(terminal: Terminal) -> None:
    pictures(terminal.folder)
    message = refused(terminal, *SET, "model=custom", "model.net=networks.Classifier")
    assert "expected logits" in message


def test_from_a_real_terminal_within_seconds(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": PYTHONPATH}
    environment.pop("HYDRA_FULL_ERROR", None)
    done = subprocess.run(
        [sys.executable, "-m", "gpsweep", "label=argmx"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert "label=argmx: unknown. Did you mean argmax?" in done.stderr
    assert "Traceback" not in done.stderr + done.stdout


def test_the_traceback_is_there_for_who_asks(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(CompactHydraException, match="label=argmx: unknown"):
        terminal("label=argmx")


def test_masks_that_are_void_throughout(terminal: Terminal) -> None:
    pictures(terminal.folder)
    for path in (terminal.folder / "masks").iterdir():
        Image.new("L", (16, 12), 255).save(path)
    message = refused(terminal, *SMALL, "eps=1")
    assert "data: all 5 masks of folder-images are void throughout; there is nothing to score" in message


def test_masks_of_two_classes_that_are_0_and_255(terminal: Terminal) -> None:
    pictures(terminal.folder)
    for path in (terminal.folder / "masks").iterdir():
        image = Image.open(path)
        image.point([0, 0, 0] + [255] * 253).save(path)
    with pytest.warns(UserWarning, match="all 5 masks of folder-images hold class 0 alone"):
        assert terminal(*SMALL, "eps=1")[0] == 0
