"""Reading images and masks of every mode."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gpsweep.data.base import VOID
from gpsweep.data.decode import (
    ORIENTATION,
    extent,
    read_image,
    read_mask,
    to_tensor,
)
from gpsweep.data.legend import Legend
from gpsweep.errors import GpsweepError

Maker = Callable[..., Path]
KEY = "data.root"


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".jpg", ".webp"])
def test_formats_become_rgb(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    Image.new("RGB", (6, 4), (200, 100, 50)).save(path)
    image = read_image(path, key=KEY)
    assert image.shape == (4, 6, 3)
    assert image.dtype == np.uint8
    assert np.abs(image.astype(int) - (200, 100, 50)).max() <= 4  # what JPEG and WebP lose


def test_grey_is_repeated(tmp_path: Path) -> None:
    levels = np.arange(24, dtype=np.uint8).reshape(4, 6)
    Image.fromarray(levels).save(tmp_path / "a.png")
    assert np.array_equal(read_image(tmp_path / "a.png", key=KEY), np.stack([levels] * 3, axis=2))


def test_palette_gives_its_colours(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 1]], dtype=np.uint8))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.save(tmp_path / "a.png", transparency=b"\x00\x80")
    assert read_image(tmp_path / "a.png", key=KEY).tolist() == [[[10, 20, 30], [40, 50, 60]]]


@pytest.mark.parametrize(("mode", "colour"), [("RGBA", (1, 2, 3, 0)), ("LA", (7, 0))])
def test_alpha_is_dropped(tmp_path: Path, mode: str, colour: tuple[int, ...]) -> None:
    Image.new(mode, (2, 1), colour).save(tmp_path / "a.png")
    expected = list(colour[:3]) if mode == "RGBA" else [7, 7, 7]
    assert read_image(tmp_path / "a.png", key=KEY).tolist() == [[expected, expected]]


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_become_eight(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    Image.fromarray(np.array([[0, 257, 32896, 65535]], dtype=np.uint16)).save(path)
    assert read_image(path, key=KEY)[0, :, 0].tolist() == [0, 1, 128, 255]


def test_exif_orientation_is_applied(tmp_path: Path, picture: Maker) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6  # to be turned clockwise by a viewer
    plain = read_image(picture(tmp_path / "a.png"), key=KEY)
    path = picture(tmp_path / "b.png", exif=exif)
    assert np.array_equal(read_image(path, key=KEY), np.rot90(plain, -1))
    assert extent(path, key=KEY) == (6, 4)
    assert extent(tmp_path / "a.png", key=KEY) == (4, 6)


@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
@pytest.mark.parametrize("orientation", [1, 3, 5, 6, 7, 8])
def test_tiffs_are_turned_once(tmp_path: Path, orientation: int, compression: str | None) -> None:
    turned, exif = {ORIENTATION: orientation}, Image.Exif()
    exif[ORIENTATION] = orientation
    for levels in (np.arange(24, dtype=np.uint8), np.arange(24, dtype=np.uint16) * 257):
        grey = Image.fromarray(levels.reshape(4, 6))
        grey.save(tmp_path / "a.png", exif=exif)
        grey.save(tmp_path / "a.tif", tiffinfo=turned, compression=compression)
        seen, numbers = (read(tmp_path / "a.png", key=KEY) for read in (read_image, read_mask))
        assert np.array_equal(read_image(tmp_path / "a.tif", key=KEY), seen)
        assert np.array_equal(read_mask(tmp_path / "a.tif", key=KEY), numbers)
        assert extent(tmp_path / "a.tif", key=KEY) == numbers.shape


def test_floating_point_image_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((2, 2), dtype=np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(GpsweepError, match=r"data\.root: image .*a\.tif holds floating point"):
        read_image(tmp_path / "a.tif", key=KEY)


def test_thirty_two_bits_beyond_sixteen_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.full((2, 2), 70000, dtype=np.int32)).save(tmp_path / "a.tif")
    with pytest.raises(GpsweepError, match="outside 0–65535"):
        read_image(tmp_path / "a.tif", key=KEY)
    with pytest.raises(GpsweepError, match="holds 70000; expected classes 0–4 or void 255"):
        Legend(5, (255,)).targets(read_mask(tmp_path / "a.tif", key=KEY), tmp_path / "a.tif", key=KEY)


@pytest.mark.parametrize("read", [read_image, read_mask, extent])
@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\nbroken"])
def test_what_is_no_picture(tmp_path: Path, read: Callable[..., object], content: bytes) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with pytest.raises(GpsweepError, match=rf"^data\.images: \w+ {re.escape(str(path))} does not decode: "):
        read(path, key="data.images")


def test_content_that_is_known_needs_no_file(tmp_path: Path, picture: Maker) -> None:
    path = picture(tmp_path / "a.png")
    content = path.read_bytes()
    expected = read_image(path, key=KEY)
    path.unlink()
    assert np.array_equal(read_image(path, key=KEY, content=content), expected)
    with pytest.raises(GpsweepError, match=r"image .*a\.png does not decode"):
        read_image(path, key=KEY, content=content[:-40])


@pytest.mark.parametrize("kind", ["GIF", "TGA", "ICO", "EPS"])
def test_other_formats_are_not_opened_whatever_their_suffix(tmp_path: Path, kind: str) -> None:
    with (tmp_path / "a.png").open("wb") as stream:
        Image.new("RGB", (16, 16)).save(stream, kind)
    with pytest.raises(GpsweepError, match=r"image .*a\.png does not decode: not a picture"):
        read_image(tmp_path / "a.png", key=KEY)


def test_coloured_masks_where_they_are_wanted(tmp_path: Path) -> None:
    Image.new("RGB", (2, 1), (192, 128, 128)).save(tmp_path / "a.png")
    assert read_mask(tmp_path / "a.png", key=KEY, coloured=True).tolist() == [[15, 15]]


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_cut_short(tmp_path: Path, picture: Maker, suffix: str) -> None:
    path = picture(tmp_path / f"a{suffix}", height=64, width=64)
    path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(GpsweepError, match=r"image .*does not decode: .*truncated"):
        read_image(path, key=KEY)


@pytest.mark.parametrize("pixels", [20, 10], ids=["warning", "error"])
def test_decompression_bomb(
    tmp_path: Path, picture: Maker, monkeypatch: pytest.MonkeyPatch, pixels: int
) -> None:
    path = picture(
        tmp_path / "a.png"
    )  # 24 pixels: PIL warns above the limit, and fails above twice the limit
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", pixels)
    with pytest.raises(GpsweepError, match=rf"a\.png was not opened: it has more than {pixels} pixels"):
        read_image(path, key=KEY)


@pytest.mark.parametrize("numbers", [[0, 3, 255], [0, 300, 65535]])
def test_grey_masks_keep_their_numbers(tmp_path: Path, mask: Maker, numbers: list[int]) -> None:
    came = read_mask(mask(tmp_path / "a.png", *numbers), key=KEY)
    assert came[0].tolist() == numbers * 2


def test_palette_masks_keep_their_numbers_not_their_colours(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 2, 255]], dtype=np.uint8))
    image.putpalette([value % 256 for value in range(7, 775)])
    image.save(tmp_path / "a.png")
    assert read_mask(tmp_path / "a.png", key=KEY).tolist() == [[0, 2, 255]]


def test_masks_of_one_bit(tmp_path: Path) -> None:
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "a.png")
    assert read_mask(tmp_path / "a.png", key=KEY).tolist() == [[1, 0]]


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_coloured_masks_are_refused(tmp_path: Path, mode: str) -> None:
    Image.new(mode, (2, 2)).save(tmp_path / "a.png")
    with pytest.raises(GpsweepError, match=rf"mask .*a\.png is a picture of mode {mode}; expected class num"):
        read_mask(tmp_path / "a.png", key="data.masks")


def test_legend_translates_and_void_wins() -> None:
    mask = np.array([[0, 1, 2, 255]], dtype=np.uint8)
    assert Legend(3, (255, 1)).targets(mask, Path("a"), key=KEY).tolist() == [[0, VOID, 2, VOID]]


def test_legend_names_what_does_not_fit() -> None:
    mask = np.array([[0, 3, 19, 19, 255]], dtype=np.uint8)
    with pytest.raises(GpsweepError) as caught:
        Legend(3, advice="; see data.classes and data.void").targets(mask, Path("m/a.png"), key="data.masks")
    assert str(caught.value) == (
        "data.masks: mask m/a.png holds 3, 19, 255; expected classes 0–2 or void (none set); "
        "see data.classes and data.void"
    )


def test_tensor_has_channels_first() -> None:
    image = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    tensor = to_tensor(image)
    assert tensor.shape == (3, 2, 4)
    assert tensor.is_contiguous()
    assert tensor[2, 1, 3] == image[1, 3, 2]


@pytest.mark.parametrize("bits", [2, 4])
def test_masks_of_few_bits_keep_their_numbers(tmp_path: Path, bits: int) -> None:
    def chunk(name: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        )

    header = struct.pack(">2I5B", 8 // bits, 2, bits, 0, 0, 0, 0)
    rows = b"\0\x1b" * 2  # 0 1 2 3, or 1 11
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    content = b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)
    (tmp_path / "a.png").write_bytes(content)
    numbers = [0, 1, 2, 3] if bits == 2 else [1, 11]
    assert read_mask(tmp_path / "a.png", key=KEY).tolist() == [numbers] * 2
