"""Folders of the user's own images, with a folder of masks or sorted into a sub-folder a class."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from gpsweep.atomic import is_file, is_folder
from gpsweep.data.base import Source, check_ids, checked_limit
from gpsweep.data.decode import IMAGES, MASKS
from gpsweep.data.files import Files, Item, existing_folder, list_file, located, missing, read_lines
from gpsweep.data.legend import LARGEST_CLASS, Legend
from gpsweep.data.sizing import Wanted
from gpsweep.errors import GpsweepError, listing

HIDDEN = (".", "__MACOSX")  # the latter is what a Mac adds to an archive

Classes = int | Sequence[str | int]
Void = int | Sequence[int]


def folder(
    *,
    images: str | None = None,
    masks: str | None = None,
    classes: Classes | None = None,
    void: Void | None = None,
    root: str | None = None,
    split: str | None = None,
    limit: int | None = None,
    size: Wanted = None,
) -> Source:
    """The user's own images: segmentation with ``masks``, without them classification by sub-folders.

    Args:
        images: a folder, searched with its sub-folders, or a glob; ``None`` for ``root`` itself.
        masks: a folder with a mask of class numbers for each image, of the same relative path and stem.
        classes: names of the classes, or how many. With masks it is required; without, ``None`` takes
            the sorted names of the sub-folders.
        void: the numbers in masks that carry no truth; they win over classes.
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
    truth = None if masks is None else _below(top, masks, key="data.masks", expected="a folder of masks")
    base, names = _images(top, "." if images is None else images, truth)
    where = base if split is None else list_file(base if root is None else top, split)
    if split is not None:
        names = _chosen(names, base, where, checked_limit(limit))
    elif truth is None:
        names = _alternating(names)
    if truth is None:
        labels, legend, items = _labelled(base, names, classes, void)
    else:
        labels, legend, items = _masked(base, names, truth, classes, void)
    return Files(
        name=f"folder-{base.name}",
        classes=labels,
        items=items,
        root=base if truth is None else Path(os.path.commonpath([base, truth])),
        where=where,
        legend=legend,
        limit=limit,
        size=size,
        list_key="data.images" if split is None else "data.split",
        image_key="data.images",
        mask_key="data.masks",
    )


def _below(top: Path, path: str, *, key: str, expected: str) -> Path:
    return existing_folder(top / located(path), key=key, expected=expected)


def _images(top: Path, images: str, masks: Path | None) -> tuple[Path, list[str]]:
    """Find the folder that ids are relative to, and the images in it, sorted; ``masks`` is left out."""
    pattern = (top / located(images)).absolute()
    magic = (place for place, part in enumerate(pattern.parts) if glob.has_magic(part))
    # a folder of such a name is meant as it stands
    plain = next((place for place in magic if not is_folder(Path(*pattern.parts[: place + 1]))), None)
    if plain is None:
        base = _below(top, images, key="data.images", expected="a folder or a glob of images")
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


def _masked(
    base: Path, names: Sequence[str], masks: Path, classes: Classes | None, void: Void | None
) -> tuple[tuple[str, ...], Legend, list[Item]]:
    """Pair images with the masks of the same relative path and stem."""
    if classes is None:
        raise GpsweepError("data.classes=null: masks need the classes: how many, or a list of their names")
    labels = _class_names(classes)
    legend = Legend(len(labels), _void_numbers(void), "; see data.classes and data.void")
    found = _walk(masks, MASKS, key="data.masks")
    if found:
        check_ids([_stem(name) for name in found], key="data.masks", where=masks)
    known = {_stem(name): name for name in found}
    stems = [_stem(name) for name in names]
    if known.keys().isdisjoint(stems):
        raise GpsweepError(
            f"data.masks: {masks} has no mask for any image; expected {stems[0]}.png (or .bmp, .tif) "
            f"for {names[0]}; it holds {listing(found, 3) or 'none of these'}"
        )
    paths = [masks / known.get(stem, f"{stem}.png") for stem in stems]
    items = [Item(stem, base / name, path) for stem, name, path in zip(stems, names, paths, strict=True)]
    return labels, legend, items


def _labelled(
    base: Path, names: Sequence[str], classes: Classes | None, void: Void | None
) -> tuple[tuple[str, ...], None, list[Item]]:
    """Give each image the class its sub-folder names."""
    if void is not None:
        raise GpsweepError(f"data.void={void}: there are no masks; set data.masks too, or data.void=null")
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
    return labels, None, [Item(name, base / name, numbers[name.split("/")[0]]) for name in names]


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


def _void_numbers(void: Void | None) -> tuple[int, ...]:
    """Turn ``data.void`` into numbers."""
    numbers = () if void is None else tuple(void) if isinstance(void, Sequence) else (void,)
    if all(type(number) is int and 0 <= number <= LARGEST_CLASS for number in numbers):
        return numbers
    raise GpsweepError(f"data.void={void}: expected null or whole numbers from 0 to {LARGEST_CLASS}")
