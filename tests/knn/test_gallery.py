from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from digits import Digits, Net, digits, trained, wrapped
from torch import nn
from torch.utils.data import get_worker_info

from gpsweep.errors import GpsweepError
from gpsweep.knn.gallery import FEWEST, LOOKED_AT, MOST, Gallery

CPU = torch.device("cpu")


def gallery(source: Digits | None = None, **options: Any) -> Gallery:
    found = Gallery(trained(), digits() if source is None else source, **{"features": "hidden"} | options)
    found.prepare(CPU)
    return found


def test_features_are_what_the_layer_gives_in_fixed_blocks() -> None:
    net, data = trained(), digits()
    found = gallery(data)
    assert found.classes.equal(data.targets)
    kept: list[torch.Tensor] = []
    with net.net.hidden.register_forward_hook(lambda module, args, output: kept.append(output.clone())):
        for images in data.images.split(MOST):
            net(images.float().contiguous(memory_format=torch.channels_last))
    assert found.index.equal(torch.cat(kept))
    assert found.index.shape == (len(data), 24)
    assert found.describe(data.images[:MOST].float()).equal(kept[0])


@pytest.mark.parametrize(
    ("side", "expected"), [(8, MOST), (32, MOST), (48, 113), (96, FEWEST), (224, FEWEST)]
)
def test_small_images_are_computed_in_larger_blocks(side: int, expected: int) -> None:
    large = Digits(
        torch.zeros(1, 3, 1, 1, dtype=torch.uint8).expand(300, 3, side, side), torch.zeros(300).long()
    )
    found = Gallery(trained(), large, features="hidden")
    assert found.block_size == expected
    assert found.block(1)["ids"] == large.ids[expected : 2 * expected]
    assert len(found.block(300 // expected)["ids"]) == 300 % expected


@pytest.mark.parametrize(("layer", "width"), [("conv2", 16), ("conv1", 8 * 36), ("net.scores", 10)])
def test_any_layer_will_do(layer: str, width: int) -> None:
    assert gallery(digits(0, 40), features=layer).index.shape == (40, width)


def test_autocast_does_not_reach_the_features() -> None:
    data = digits(0, 40)
    with torch.autocast("cpu", torch.bfloat16):
        assert gallery(data).index.equal(gallery(data).index.float())
        inside = gallery(data).index
    assert inside.equal(gallery(data).index)


def test_what_is_kept_has_the_same_bits_and_is_read_instead(tmp_path: Path) -> None:
    first = gallery(cache=tmp_path)
    data = digits()
    second = gallery(data, cache=tmp_path)
    assert second.index.equal(first.index)
    assert second.classes.equal(first.classes)
    assert len(data.reads) <= LOOKED_AT + 1
    [path] = tmp_path.iterdir()
    content = bytearray(path.read_bytes())
    content[5000] ^= 1
    path.write_bytes(content)
    with pytest.warns(UserWarning, match="damaged, made anew"):
        third = gallery(cache=tmp_path)
    assert third.index.equal(first.index)
    assert {file.suffix for file in tmp_path.iterdir()} == {".npz", ".damaged"}


def test_the_key_knows_network_data_and_layer(tmp_path: Path) -> None:
    def keys(net: Any, data: Digits, layer: str = "hidden", **options: Any) -> str:
        return str(sorted(Gallery(net, data, features=layer, **options).identity("cpu").items()))

    torch.manual_seed(1)
    other, brighter, renamed = wrapped(Net()), digits(), digits()
    brighter.images = brighter.images // 2
    renamed.targets = renamed.targets.roll(1)
    unstamped, mended = digits(), digits()
    mended.targets[5] = 9 - mended.targets[5]
    for data in (unstamped, mended):
        data.stamp = None  # type: ignore[assignment,method-assign]
    found = [
        keys(trained(), digits()),
        keys(other, digits()),
        keys(wrapped(trained().net, scale=0.5), digits()),
        keys(wrapped(trained().net, mean=0.5), digits()),
        keys(wrapped(trained().net, divisor=7), digits()),
        keys(trained(), brighter),
        keys(trained(), renamed),
        keys(trained(), unstamped),
        keys(trained(), mended),
        keys(trained(), digits(0, 699)),
        keys(trained(), digits(), "conv1"),
        keys(trained(), digits(), memory_format="contiguous"),
    ]
    assert len(set(found)) == len(found)
    assert keys(trained(), digits(), cache=tmp_path) == found[0]


class Deaf(Digits):
    """Images that are read by processes which no signal disturbs."""

    def __getitem__(self, index: int) -> Any:
        assert get_worker_info() is None or signal.getsignal(signal.SIGUSR2) is signal.SIG_IGN
        return super().__getitem__(index)


def test_processes_that_read_images_leave_signals_alone() -> None:
    """They would requeue a job of SLURM's, once each."""
    data = digits(0, 280)
    found = gallery(Deaf(data.images, data.targets), workers=2)
    assert found.index.equal(gallery(data).index)


def mixed() -> Digits:
    class Mixed(Digits):
        def __getitem__(self, index: int) -> Any:
            sample = super().__getitem__(index)
            return sample | {"image": sample["image"][:, : 8 - (index == 270)]}

    data = digits(0, 280)
    return Mixed(data.images, data.targets)


def unnamed() -> Digits:
    data = digits(0, 280)
    data.targets[270] = -1
    return data


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        (digits(0, 0), {}, r"data\.train: label=knn expects training images .* came none"),
        (Digits(torch.zeros(1), torch.zeros(1), task="segmentation"), {}, "digits is segmentation"),
        (digits(0, 9), {"features": None}, r"model\.features: label=knn expects the layer"),
        (digits(0, 9), {"features": "hiden"}, r"model\.features=hiden: unknown\. Did you mean hidden"),
        (digits(0, 9), {"features": "input"}, r"model\.features=input: expected a layer within the network"),
        (mixed(), {}, r"data\.size: .* one size; 0000 has 8×8 pixels, .* among 0256 … 0279"),
        (unnamed(), {}, "label=knn: expected a class for each training image, .* among 0256 … 0279"),
    ],
)
def test_mistakes_are_named(source: Digits, options: dict[str, Any], message: str) -> None:
    with pytest.raises(GpsweepError, match=message):
        gallery(source, **options)


def test_no_training_data_is_named() -> None:
    with pytest.raises(GpsweepError, match="label=knn expects training images"):
        Gallery(trained(), None, features="hidden")


def test_features_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    net = wrapped(Net())
    net.net.hidden[0].weight[0, 0] = torch.nan
    found = Gallery(net, digits(0, 9), features="hidden", cache=tmp_path)
    with pytest.raises(GpsweepError, match=r"model\.features=hidden: expected finite numbers"):
        found.prepare(CPU)
    assert list(tmp_path.iterdir()) == []


def test_features_that_are_not_a_row_an_image_are_refused() -> None:
    class Quarters(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cut, self.head = nn.Unflatten(0, (-1, 1)), nn.Linear(16, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            parts = self.cut(torch.cat([part for half in x.chunk(2, 2) for part in half.chunk(2, 3)]))
            return self.head(parts.flatten(1)).unflatten(0, (4, -1)).mean(0)

    found = Gallery(wrapped(Quarters()), digits(0, 9), features="cut")
    says = r"model\.features=cut: gives \(36, 1, 1, 4, 4\) for a batch of 9, expected features of each image"
    with pytest.raises(GpsweepError, match=says):
        found.prepare(CPU)
    with pytest.raises(GpsweepError, match=r"gives \(8, 1, 1, 4, 4\) for a batch of 2"):
        found.describe(digits(0, 2).images.float())


def test_the_key_knows_what_an_alias_stands_for_and_what_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    net, data = wrapped(trained().net), digits()
    own = net.layer_aliases
    net.layer_aliases = own | {"deep": "net.hidden"}
    named = Gallery(net, data, features="deep").identity("cpu")
    assert named == Gallery(net, data, features="hidden").identity("cpu")
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
    assert named == Gallery(net, data, features="deep").identity("cpu")
    assert "NVIDIA_TF32_OVERRIDE=0" in Gallery(net, data, features="deep").identity("cuda")["computing"]
    net.layer_aliases = own | {"deep": "net.conv1"}
    other = Gallery(net, data, features="deep").identity("cpu")
    assert other["features"] != named["features"]
    monkeypatch.setattr("gpsweep.knn.gallery.engine", lambda: "another")
    assert Gallery(net, data, features="deep").identity("cpu") != other


def test_fresh_reads_nothing_that_was_kept(tmp_path: Path) -> None:
    gallery(cache=tmp_path)
    data = digits()
    gallery(data, cache=tmp_path, fresh=True)
    assert len(data.reads) >= len(data)
