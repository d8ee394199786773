"""``python -m gpsweep.store ls|gc DIR``: what is stored, and what may go."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG

from gpsweep.atomic import DAMAGED, TEMPORARY, located
from gpsweep.command import told
from gpsweep.console import standard_output
from gpsweep.errors import GpsweepError
from gpsweep.store import IDENTITY, SUFFIX, Store

DAY = 24 * 3600.0
CACHE = "knn"  # what label=knn keeps beside the counts: knn.cache in conf/config.yaml
ABANDONED = 3600.0  # a file that has been in writing for an hour has no writer any more


@dataclass(frozen=True)
class Entry:
    """One identity's folder, or the cache, as a person sees it.

    Args:
        folder: the folder.
        model: the model's name.
        dataset: the data set's.
        batches: how many of them are begun, in words; empty for the cache.
        files: what is stored.
        debris: leftovers, and what is being written.
        changed: when something was added last, seconds since 1970.
    """

    folder: Path
    model: str
    dataset: str
    batches: str
    files: dict[Path, os.stat_result]
    debris: dict[Path, os.stat_result]
    changed: float

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(seen.st_size for seen in [*self.files.values(), *self.debris.values()])


@told(OSError)
def main(arguments: list[str] | None = None) -> int:
    """List or prune the store named on the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m gpsweep.store", description="What is stored, and what may go."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="ls|gc")
    listing = commands.add_parser("ls", help="list what is stored")
    pruning = commands.add_parser("gc", help="remove leftovers of killed runs and damaged files")
    default = located(os.environ.get("GPSWEEP_STORE", "outputs/store"))  # as in conf/config.yaml
    for command in (listing, pruning):
        where = "the store; $GPSWEEP_STORE, or outputs/store, if left out"
        command.add_argument("folder", metavar="DIR", type=Path, nargs="?", default=default, help=where)
    pruning.add_argument(
        "--older", metavar="DAYS", type=float, help="also what nobody has added to for so long"
    )
    pruning.add_argument(
        "--key", metavar="KEY", action="append", default=[], help="also this one; repeatable"
    )
    pruning.add_argument("--dry-run", action="store_true", help="only say what would go")
    asked = parser.parse_args(arguments)
    entries = found(asked.folder)
    if asked.command == "ls":
        show(entries)
    else:
        prune(entries, older=asked.older, keys=asked.key, dry=asked.dry_run)
    return 0


def found(root: Path) -> list[Entry]:
    """Return what a store holds, the latest first.

    Raises:
        GpsweepError: if the folder is no store.
    """
    # A folder without its identity is what is left where its removal was broken off.
    signs = (f"*/{IDENTITY}", f"*/*{SUFFIX}", f"{CACHE}/*")
    folders = {path.parent for sign in signs for path in root.glob(sign)}
    if not folders:
        raise GpsweepError(f"{root}: expected a store, a folder of folders with {IDENTITY}; there is none")
    return sorted((entry(folder) for folder in folders), key=lambda each: each.changed, reverse=True)


def entry(folder: Path) -> Entry:
    """Look at one identity's folder, or at the cache."""
    every = looked_at([folder, *folder.rglob("*")])
    files = {path: seen for path, seen in every.items() if S_ISREG(seen.st_mode)}
    debris = {path: files.pop(path) for path in [*files] if is_debris(path)}
    changed = max((seen.st_mtime for seen in every.values()), default=time.time())
    if folder.name == CACHE:
        return Entry(folder, "training images of label=knn", "", "", files, debris, changed)
    # Predictions have a folder each.
    kept = {path: seen for path, seen in files.items() if path.suffix == SUFFIX or path.parent != folder}
    try:
        store = Store.at(folder)
        about = json.loads((folder / IDENTITY).read_text(encoding="utf-8")).get("about", {})
        done = len({path.name.partition("-")[0] for path in kept if path.suffix == SUFFIX})
        batches = f"{done} of {store.batches}"
    except GpsweepError:
        about, batches = {}, "?"
    name = {key: str(about.get(key, "?")) for key in ("model", "dataset")}
    return Entry(folder, name["model"], name["dataset"], batches, kept, debris, changed)


def is_debris(path: Path) -> bool:
    """Say whether a file is a leftover, or one that is being written."""
    return path.name.startswith(TEMPORARY) or path.suffix == DAMAGED


def looked_at(paths: Iterable[Path]) -> dict[Path, os.stat_result]:
    """Look at files and folders; a run that goes on meanwhile may have renamed or removed some."""
    seen: dict[Path, os.stat_result] = {}
    for path in paths:
        with suppress(FileNotFoundError):
            seen[path] = path.stat()
    return seen


def show(entries: list[Entry]) -> None:
    """Print a table of what is stored."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column("key", no_wrap=True)  # to be copied into gc --key
    for heading in ("model", "data"):
        table.add_column(heading, overflow="fold")
    for heading in ("batches", "files", "size", "changed"):
        table.add_column(heading, justify="right", no_wrap=True)
    for each in entries:
        changed = time.strftime("%Y-%m-%d %H:%M", time.localtime(each.changed))
        names = (each.folder.name, each.model, each.dataset)
        table.add_row(*map(escape, names), each.batches, str(len(each.files)), size_text(each.size), changed)
    standard_output().print(table)


def prune(entries: list[Entry], *, older: float | None, keys: list[str], dry: bool) -> None:
    """Remove leftovers, and whatever else was asked for.

    Args:
        entries: what there is.
        older: days; what nobody has added to for so long goes, too. None: nothing does.
        keys: names of folders that go, too.
        dry: whether it is only said what would go.

    Raises:
        GpsweepError: for a key that is not there, or a time that is none; at the end, for what could not be
            removed, such as another user's.
    """
    if older is not None and not older >= 0:
        raise GpsweepError(f"--older {older:g}: expected days, 0 or more")
    for key in keys:
        if key not in {each.folder.name for each in entries}:
            raise GpsweepError(f"--key {key}: expected a key that ls shows")
    going = [*leaving(entries, older=older, keys=keys)]
    freed, kept = 0, list[str]()
    for path, about, size in going:
        print(f"{path}{about}")
        try:
            if not dry:
                remove(path)
            freed += size
        except OSError as error:
            kept.append(f"{path}: {error}")  # of a file in a folder the error may tell the name alone
    print(f"{'would free' if dry else 'freed'} {size_text(freed)}")
    if kept:
        raise GpsweepError(f"{len(kept)} of {len(going)} could not be removed; the first: {kept[0]}")


def leaving(entries: list[Entry], *, older: float | None, keys: list[str]) -> Iterator[tuple[Path, str, int]]:
    """Yield what may go, folders and files, with what to say of it and its bytes."""
    now = time.time()
    for each in entries:
        old = older is not None and now - each.changed > older * DAY
        if old or each.folder.name in keys:
            batches = f"{each.batches} batches, " if each.batches else ""
            yield each.folder, f": {batches}{size_text(each.size)}", each.size
            continue
        for path, seen in each.debris.items():
            if path.suffix == DAMAGED or now - seen.st_mtime > ABANDONED:
                yield path, "", seen.st_size


def remove(path: Path) -> None:
    """Remove a folder, or a file that another may have removed meanwhile."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def size_text(size: int) -> str:
    """Write a size in the unit in which it reads best.

    >>> size_text(1234), size_text(1_234_567)
    ('1.2 kB', '1.2 MB')
    """
    return f"{size / 1e3:.1f} kB" if size < 1e6 else f"{size / 1e6:.1f} MB"


if __name__ == "__main__":
    sys.exit(main())
