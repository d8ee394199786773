"""Where the weights of the paper's networks are published; nothing is downloaded from here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gpsweep.errors import GpsweepError

BERKELEY = "http://dl.caffe.berkeleyvision.org"
CCVL = "http://www.cs.jhu.edu/~alanlab/ccvl"
TORCHFCN = "https://drive.google.com/uc?id="


@dataclass(frozen=True)
class Published:
    """One file of published weights.

    Args:
        file: its name.
        url: where it is, or the page that leads to it.
        checksum: of the file as its publishers or users state it, the algorithm first; None where unknown.
        options: what besides ``model.checkpoint`` the command needs.
    """

    file: str
    url: str
    checksum: str | None = None
    options: str = ""


# The models of conf/model → their weights, the default of the configuration first. Above each: what it was
# trained on, and what its publishers say it scores.
WEIGHTS: dict[str, tuple[Published, ...]] = {
    "fcn32s": (
        # SBD; 63.6 mIoU on seg11valid
        Published(
            "fcn32s_from_caffe.pth",
            f"{TORCHFCN}11k2Q0bvRQgQbT6-jYWeh6nmAsWlSCY3f",
            "md5:d3eb467a80e7da0468a20dfcbc13e6c8",
        ),
        # the same in Caffe's format
        Published(
            "fcn32s-heavy-pascal.caffemodel",
            f"{BERKELEY}/fcn32s-heavy-pascal.caffemodel",
            "sha1:05eb922d7829c39448f57e5ab9d8cd75d6c0be6d",
        ),
    ),
    "fcn8s": (
        # SBD; 65.5 mIoU on seg11valid, 67.2 on VOC 2012 test
        Published(
            "fcn8s_from_caffe.pth",
            f"{TORCHFCN}0B9P1L--7Wd2vT0FtdThWREhjNkU",
            "md5:dbd9bbb3829a3184913bccc74373afbb",
            options="model.at_once=false",
        ),
        # the same in Caffe's format
        Published(
            "fcn8s-heavy-pascal.caffemodel",
            f"{BERKELEY}/fcn8s-heavy-pascal.caffemodel",
            "sha1:c449ea74dd7d83751d1357d6a8c323fcf4038962",
            options="model.at_once=false",
        ),
        # trained all at once; 65.4 mIoU on seg11valid
        Published(
            "fcn8s-atonce_from_caffe.pth",
            f"{TORCHFCN}0B9P1L--7Wd2vblE1VUIxV1o2d2M",
            "md5:bfed4437e941fef58932891217fe6464",
            options="model.at_once=true",
        ),
        # the same in Caffe's format
        Published(
            "fcn8s-atonce-pascal.caffemodel",
            f"{BERKELEY}/fcn8s-atonce-pascal.caffemodel",
            options="model.at_once=true",
        ),
        # PASCAL-Context, background and 59 classes (Table 2); judged on the 59 alone,
        # with data.background=false, it takes +class_map=context60_context59
        Published(
            "pascalcontext-fcn8s-heavy.caffemodel",
            f"{BERKELEY}/pascalcontext-fcn8s-heavy.caffemodel",
            options="model.classes=60 model.at_once=false",
        ),
    ),
    "crfasrnn": (
        # VOC, SBD and COCO
        Published(
            "crfasrnn_weights.pth",
            "https://github.com/sadeepj/crfasrnn_pytorch/releases/download/0.0.1/crfasrnn_weights.pth",
        ),
        # the original in Caffe's format, the paper's CRFasRNN-coco
        Published(
            "TVG_CRFRNN_COCO_VOC.caffemodel",
            "http://goo.gl/j7PrPZ",
            "sha1:bfda5c5149d566aa56695789fa9a08e7a7f3070a",
        ),
    ),
    "deeplab_largefov": (
        # VOC 2012 and SBD; DeepLab-COCO-LargeFOV beside it also saw COCO, as the paper's did
        Published(
            "train2_iter_8000.caffemodel",
            f"{CCVL}/DeepLab-LargeFOV/train2_iter_8000.caffemodel",
        ),
    ),
    "deeplab_v2_resnet101": (
        # COCO, VOC 2012 and SBD; 76.65 mIoU on VOC 2012 val
        Published(
            "deeplabv2_resnet101_msc-vocaug-20000.pth",
            "https://github.com/kazuto1011/deeplab-pytorch/releases/download/v1.0/"
            "deeplabv2_resnet101_msc-vocaug-20000.pth",
        ),
        # the original in Caffe's format
        Published(
            "train2_iter_20000.caffemodel",
            "http://liangchiehchen.com/projects/DeepLabv2_resnet.html",
        ),
    ),
}


def files() -> Iterator[tuple[str, Published]]:
    """Yield each model's name with each of its files."""
    for model, published_files in WEIGHTS.items():
        for one in published_files:
            yield model, one


def published(name: str) -> str | None:
    """Say in a sentence where a file of this name is published; None where that is not known."""
    for model, one in files():
        if one.file == name:
            options = " ".join(part for part in (f"model={model}", one.options) if part)
            checksum = f" ({one.checksum.replace(':', ' ')})" if one.checksum else ""
            return f" It is published at {one.url}{checksum}; save it there, and use it with {options}."
    return None


def check_published(cfg: Mapping[str, Any], file: str) -> None:
    """Check that a network is as the weights want it that are published under a name.

    Args:
        cfg: the ``model`` group.
        file: name of a checkpoint.

    Raises:
        GpsweepError: where a key is set otherwise; the keys of the file would fit all the same.
    """
    for _, one in files():
        for option in one.options.split() if one.file == file else ():
            key, _, wanted = option.partition("=")
            came = cfg.get(key.removeprefix("model."), wanted)
            if str(came).lower() != wanted:
                raise GpsweepError(f"{key}={came}: the weights published as {file} want {option}.")
