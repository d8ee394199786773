"""Folders of the user's own images, with a folder of masks or sorted into a sub-folder a class."""

from __future__ import annotations

import glob
import os
import re
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from gpsweep.atomic import is_file, is_folder, located
from gpsweep.data.base import Source, check_ids, checked_limit
from gpsweep.data.decode import IMAGES, MASKS, read_coloured, read_mask
from gpsweep.data.files import Files, Item, MaskReader, existing_folder, list_file, missing, read_lines
from gpsweep.data.legend import LARGEST_CLASS, Colours, Legend
from gpsweep.data.sizing import Wanted
from gpsweep.errors import GpsweepError, listing

HIDDEN = (".", "__MACOSX")  # the latter is what a Mac adds to an archive

Classes = int | Sequence[str | int]
Mark = int | str  # a number in masks, or a colour: #rrggbb
Marks = Mark | Sequence[Mark]

ANY = "*"  # the stem of an image, within what its mask is called
OTHERS = "; masks of other names are stated with the image's stem as *: 'data.masks=masks/*_mask.png'"
COLOUR = re.compile(r"#[0-9a-fA-F]{6}")


def folder(
    *,
    images: str | None = None,
    masks: str | None = None,
    classes: Classes | None = None,
    values: Sequence[Mark] | None = None,
    void: Marks | None = None,
    root: str | None = None,
    split: str | None = None,
    limit: int | None = None,
    size: Wanted = None,
) -> Source:
    """The user's own images: segmentation with ``masks``, without them classification by sub-folders.

    Args:
        images: a folder, searched with its sub-folders, or a glob; ``None`` for ``root`` itself.
        masks: a folder with a mask for each image, of the same relative path and stem; or, where masks are
            called otherwise, with a last part such as ``*_mask.png``, in which ``*`` is the image's stem.
        classes: names of the classes, or how many. With masks it is required; without, ``None`` takes
            the sorted names of the sub-folders.
        values: what stands for each class in masks: numbers, or colours such as ``#ff0000``; ``None``: 0, 1,
            2 and so on.
        void: what carries no truth in masks, numbers or colours; it wins over classes.
        root: the folder that ``images``, ``masks`` and ``split`` are relative to; ``None``: the current one.
        split: a list file with a relative path a line, suffix optional; ``None`` for all images.
        limit: how many of the first samples to take; ``None`` for all.
        size: how pictures are resized, see :func:`gpsweep.data.sizing.sizing`; ``None``: they are not.

    Returns:
        The data set; ids are the images' relative paths, for segmentation without suffix. Without ``masks``
        and ``split`` the classes alternate, so that a limit leaves all of them.

    Raises:
        GpsweepError: naming the key, what was expected and what came.
    """
    if images is None and root is None:
        raise GpsweepError("data.images=null: expected a folder or a glob of images, or data.root")
    top = Path() if root is None else existing_folder(root, key="data.root", expected="a folder")
    truth, named = (None, ANY) if masks is None else _mask_folder(top, masks)
    base, names = _images(top, "." if images is None else images, truth, named)
    where = base if split is None else list_file(base if root is None else top, split)
    if split is not None:
        names = _chosen(names, base, where, checked_limit(limit))
    elif truth is None:
        names = _alternating(names)
    legend: Legend | None = None
    reader: MaskReader = read_mask
    if truth is None:
        for key, given in (("values", values), ("void", void)):
            if given is not None:
                raise GpsweepError(
                    f"data.{key}={given}: there are no masks; set data.masks too, or data.{key}=null"
                )
        labels, items = _labelled(base, names, classes)
    else:
        labels, items = _masked(base, names, truth, named, classes)
        legend, reader = _legend(len(labels), values, void)
    return Files(
        name=f"folder-{base.name}",
        classes=labels,
        items=items,
        root=base if truth is None else Path(os.path.commonpath([base, truth])),
        where=where,
        legend=legend,
        reader=reader,
        limit=limit,
        size=size,
        list_key="data.images" if split is None else "data.split",
        image_key="data.images",
        mask_key="data.masks",
    )


def _images(top: Path, images: str, masks: Path | None, named: str) -> tuple[Path, list[str]]:
    """Find the folder that ids are relative to, and the images in it, sorted; masks are left out."""
    given = top / located(images)
    pattern = given.absolute()
    magic = (place for place, part in enumerate(pattern.parts) if glob.has_magic(part))
    # a folder of such a name is meant as it stands
    plain = next((place for place in magic if not is_folder(Path(*pattern.parts[: place + 1]))), None)
    if plain is None:
        base = existing_folder(given, key="data.images", expected="a folder or a glob of images")
        names = _walk(base, IMAGES, key="data.images")
    else:
        base = Path(*pattern.parts[:plain])
        try:
            paths = [path for path in base.glob("/".join(pattern.parts[plain:])) if is_file(path)]
            found = [path.relative_to(base).as_posix() for path in paths]
        except ValueError as error:
            raise GpsweepError(f"data.images={images}: {error}") from error
        names = sorted(name for name in found if _wanted(name, IMAGES))
    if masks is not None and not base.is_relative_to(masks):
        names = [name for name in names if not (base / name).is_relative_to(masks)]
    elif base == masks and named != ANY:
        beside = {_renamed(_stem(name), named) for name in names}
        names = [name for name in names if _stem(name) not in beside]
    if not names:
        raise GpsweepError(
            f"data.images={images}: no images found; expected {', '.join(sorted(IMAGES))} files"
        )
    return base, names


def _walk(base: Path, suffixes: frozenset[str], *, key: str) -> list[str]:
    """List files below ``base`` by suffix, sorted, without hidden ones.

    Raises:
        GpsweepError: when a folder cannot be searched, whose files would be left out in silence.
    """

    def refuse(error: OSError) -> None:
        raise GpsweepError(f"{key}: {error.filename} cannot be searched: {error.strerror}") from error

    found: list[str] = []
    for place, folders, names in os.walk(base, onerror=refuse, followlinks=True):
        here = Path(place)
        folders[:] = [name for name in folders if not name.startswith(HIDDEN) and not _loops(here / name)]
        found += [(here / name).relative_to(base).as_posix() for name in names if _wanted(name, suffixes)]
    return sorted(found)


def _loops(path: Path) -> bool:
    """Tell whether a folder is a link to one that it lies in."""
    return path.is_symlink() and any(path.samefile(parent) for parent in path.parents)


def _wanted(name: str, suffixes: frozenset[str]) -> bool:
    hidden = any(part.startswith(HIDDEN) for part in name.split("/"))
    return Path(name).suffix.lower() in suffixes and not hidden


def _stem(name: str) -> str:
    return PurePosixPath(name).with_suffix("").as_posix()


def _renamed(stem: str, named: str) -> str:
    """Return what the mask of an image is called, both without suffix."""
    path = PurePosixPath(stem)
    return path.with_name(named.replace(ANY, path.name)).as_posix()


def _chosen(found: Sequence[str], base: Path, where: Path, limit: int | None) -> list[str]:
    """Return the images a list file names, in its order; a name may lack its suffix."""
    named = [_relative(line, base) for line in read_lines(where)]
    check_ids(named, key="data.split", where=where)
    known: dict[str, list[str]] = {}
    for name in found:
        known.setdefault(_stem(name), []).append(name)
    known |= {name: [name] for name in found}
    chosen = []
    for name in named[:limit]:
        matches = known.get(name, [])
        if len(matches) > 1:
            raise GpsweepError(f"data.split: {where} names {name}; expected one of {listing(matches)}")
        chosen += matches or [name]
    absent = [name for name in chosen if name not in known]
    if absent:
        raise missing("images", absent, of=len(chosen), root=base, where=where, key="data.images")
    return chosen


def _relative(line: str, base: Path) -> str:
    path = base / line
    return path.relative_to(base).as_posix() if path.is_relative_to(base) else line


def _mask_folder(top: Path, masks: str) -> tuple[Path, str]:
    """Find the folder of masks, and what their stems are called, ``*`` being that of the image."""
    given, named = top / located(masks), ANY
    if given.name.count("*") == 1 and not is_folder(given):
        named = _stem(given.name) if given.suffix.lower() in MASKS else given.name
        given = given.parent
    return existing_folder(given, key="data.masks", expected="a folder of masks"), named


def _masked(
    base: Path, names: Sequence[str], masks: Path, named: str, classes: Classes | None
) -> tuple[tuple[str, ...], list[Item]]:
    """Pair images with the masks of the same relative path, and the same or the named stem."""
    if classes is None:
        raise GpsweepError("data.classes=null: masks need the classes: how many, or a list of their names")
    labels = _class_names(classes)
    found = _walk(masks, MASKS, key="data.masks")
    if found:
        check_ids([_stem(name) for name in found], key="data.masks", where=masks)
    known = {_stem(name): name for name in found}
    stems = [_stem(name) for name in names]
    wanted = [_renamed(stem, named) for stem in stems]
    if known.keys().isdisjoint(wanted):
        raise GpsweepError(
            f"data.masks: {masks} has no mask for any image; expected {wanted[0]}.png (or .bmp, .tif) "
            f"for {names[0]}; it holds {listing(found, 3) or 'none of these'}{OTHERS if found else ''}"
        )
    paths = [masks / known.get(stem, f"{stem}.png") for stem in wanted]
    items = [Item(stem, base / name, path) for stem, name, path in zip(stems, names, paths, strict=True)]
    return labels, items


def _labelled(
    base: Path, names: Sequence[str], classes: Classes | None
) -> tuple[tuple[str, ...], list[Item]]:
    """Give each image the class its sub-folder names."""
    stray = [name for name in names if "/" not in name]
    if stray:
        raise GpsweepError(
            f"data.images: {len(stray)} images lie directly in {base}: {listing(stray)}; "
            "expected a sub-folder for each class, or data.masks for segmentation"
        )
    # every sub-folder counts, with or without images: a class keeps its number in every part of the data
    folders = [path.name for path in base.iterdir() if path.is_dir()]
    present = sorted(name for name in folders if not name.startswith(HIDDEN))
    labels = tuple(present) if classes is None or isinstance(classes, int) else _class_names(classes)
    if isinstance(classes, int) and len(_class_names(classes)) != len(present):
        raise GpsweepError(
            f"data.classes={classes}: {base} has {len(present)} sub-folders: {listing(present)}"
        )
    strange = [name for name in present if name not in labels]
    if strange:
        raise GpsweepError(
            f"data.classes: {base} has sub-folders that are no class: {listing(strange)}; "
            f"expected {listing(labels)}"
        )
    numbers = {label: number for number, label in enumerate(labels)}
    return labels, [Item(name, base / name, numbers[name.split("/")[0]]) for name in names]


def _alternating(names: Sequence[str]) -> list[str]:
    """Order images so that classes alternate: a limit leaves all of them."""
    before: Counter[str] = Counter()
    places = []
    for name in sorted(names):
        label = name.split("/")[0]
        places.append((before[label], name))
        before[label] += 1
    return [name for _, name in sorted(places)]


def _class_names(classes: Classes) -> tuple[str, ...]:
    """Turn ``data.classes`` into names: a number N gives ``0`` … ``N − 1``."""
    if type(classes) is int and 1 <= classes <= LARGEST_CLASS + 1:
        return tuple(str(number) for number in range(classes))
    if isinstance(classes, Sequence) and not isinstance(classes, str):
        names = tuple(str(name) for name in classes)
        if names and all(names) and len(set(names)) == len(names):
            return names
    raise GpsweepError(f"data.classes={classes}: expected how many, or a list of names, each once")


def _legend(count: int, values: Sequence[Mark] | None, void: Marks | None) -> tuple[Legend, MaskReader]:
    """Say what stands for which class in masks, and how these are read."""
    numbers, colours = _marks("data.values", values)
    void_numbers, void_colours = _marks("data.void", void)
    given = numbers or colours
    if values is not None and (len(given) != count or len(set(given)) != count):
        raise GpsweepError(
            f"data.values={values}: expected one for each of the {count} classes of data.classes, each once"
        )
    if colours and not void_numbers:
        every = [*colours, *void_colours]
        known = {code: n for n, code in enumerate(colours)} | dict.fromkeys(void_colours, count)
        expected = f"{listing([f'#{code:06x}' for code in every])}; see data.values and data.void"
        return Legend(count, (count,)), partial(read_coloured, colours=Colours(known, expected))
    if colours or void_colours:
        as_values = "null" if values is None else values
        raise GpsweepError(
            f"data.void={void}: expected {'colours' if colours else 'numbers'}, as data.values={as_values}"
        )
    advice = "; see data.classes, data.values and data.void"
    return Legend(count, void_numbers, advice, numbers), read_mask


def _marks(key: str, marks: Marks | None) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Turn what stands for something in masks into numbers, or into colours: 256 (256 R + G) + B."""
    alone = isinstance(marks, str) or not isinstance(marks, Sequence)
    listed: Any = [] if marks is None else [marks] if alone else marks
    numbers = tuple(mark for mark in listed if type(mark) is int and 0 <= mark <= LARGEST_CLASS)
    colours = tuple(int(mark[1:], 16) for mark in listed if isinstance(mark, str) and COLOUR.fullmatch(mark))
    if len(listed) in (len(numbers), len(colours)):
        return numbers, colours
    raise GpsweepError(
        f"{key}={marks}: expected null, whole numbers from 0 to {LARGEST_CLASS}, or colours such as '#ff0000'"
    )
