"""From finished runs to the table: its lines, and what must be said below it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from gpsweep import words
from gpsweep.errors import GpsweepError
from gpsweep.results.outcome import Outcome, read
from gpsweep.results.significance import name_of
from gpsweep.tables.commands import Job
from gpsweep.tables.definition import Definition, Variant
from gpsweep.tables.entries import SPREAD, Entry, averaged, by_class, curve_of, gains, risen
from gpsweep.tables.running import Ended
from gpsweep.tables.sheet import Sheet

Done = tuple[Job, Outcome]
PAPER = ("paper_base", "paper_gp", "paper_seconds")


def sheet(
    name: str, definition: Definition, ended: Sequence[Ended], *, small: bool, at_once: int = 1
) -> Sheet:
    """Put what has run into a table.

    Args:
        name: of the table.
        definition: what it is.
        ended: all its runs, in order.
        small: whether they are the small variant's.
        at_once: how many of them, if there are as many, shared the processor.
    """
    variant = definition.small if small else definition.paper
    entries: list[Entry] = []
    notes = [variant.note] if variant.note else []
    done: list[Done] = []
    for key, group in groupby(ended, key=lambda each: each.job.key):
        runs = list(group)
        notes += [f"{runs[0].job.row.name}: {runs[0].job.row.note}"] if runs[0].job.row.note else []
        notes += [f"{each.job.name}: {each.problem}" for each in runs if each.problem]
        notes += [f"{each.job.name}: {_submission(each.folder)}" for each in runs if _submits(each)]
        own = [
            (each.job, read(each.folder))
            for each in runs
            if each.folder is not None and not each.job.row.submit
        ]
        try:
            found = _entries(definition.kind, variant, own)
        except GpsweepError as error:
            notes.append(f"{key}: {error}")
            continue
        if definition.kind == "classes" and found:
            notes.append(f"{runs[0].job.row.name}: {risen(found)}")
        entries += found
        done += own
    together = min(at_once, len(ended))
    if done and together > 1:
        notes.append(f"times: {together} runs shared the processor; alone each takes less")
    return Sheet(
        name=name,
        title=f"{definition.source}{', small' if small else ''}: {variant.title}",
        measure=variant.measure,
        entries=entries,
        notes=list(dict.fromkeys([*notes, *_explained(variant, done, entries, small=small)])),
        small=small,
    )


def _other(variant: Variant, job: Job, outcome: Outcome) -> list[str]:
    """Name what of a run is not the paper's; only where nothing is, a difference to it means something."""
    paper = _images(job.row.images or variant.images, job.row.data or variant.data)
    ours = _images(len(outcome.ids), outcome.info.get("dataset"))
    return [*job.altered, *([ours] if ours != paper else [])]


def _images(count: int | None, data: str | None) -> str:
    return f"{count} images of {data}"


def _entries(kind: str, variant: Variant, done: Sequence[Done]) -> list[Entry]:
    found: list[Entry] = []
    for job, outcome in done:
        for line in job.row.lines:
            curve = curve_of(outcome, line.where)
            if kind == "classes":
                classes = by_class(curve, line, job.row.classes)
                found += [{"setting": job.row.name}, *classes]
                continue
            entry = gains(curve, line, compared=not _other(variant, job, outcome))
            setting = f"{job.name}, {line.name}" if line.name else job.name
            found.append({"setting": setting, **entry})
    if kind == "seeds" and len(found) > 1:
        mean = {"setting": f"{done[0][0].row.name}, mean of {len(found)} seeds", **averaged(found)}
        return [*found, mean]
    return found


def _explained(variant: Variant, done: Sequence[Done], entries: Sequence[Entry], *, small: bool) -> list[str]:
    """Say what the columns mean, and what they come from."""
    if not done:
        return []
    over = " or ".join(dict.fromkeys(outcome.over for _, outcome in done))
    notes = [f"gain: of guided perturbation (GP) over our base [paired 95 % bootstrap interval over {over}]"]
    if any(SPREAD in entry for entry in entries):
        notes.append("mean of seeds: ± standard deviation [95 % t interval of the mean over trainings]")
    if small and any(entry.get(key) is not None for entry in entries for key in PAPER):
        notes.append("paper: what it reports of its own network and data, for orientation alone")
    if not small:
        others = {job.row.name: ", ".join(_other(variant, job, outcome)) for job, outcome in done}
        notes += [f"{name}: not compared with the paper: {other}" for name, other in others.items() if other]
    plans = [outcome.info["select"] for _, outcome in done if outcome.info.get("select")]
    if plans:
        chosen = "data.tune_split" if any("tune" in plan for plan in plans) else "one half of the images"
        tests = dict.fromkeys(name_of(outcome) for _, outcome in done)
        notes += [
            "tuned on the same images: ε was chosen on the images that it is judged on, as the paper does",
            f"held out: ε was chosen on {chosen}, gain and p are of the others; p: {' or '.join(tests)}",
        ]
    return [*notes, *_origins(done)]


def _origins(done: Sequence[Done]) -> list[str]:
    """Say what rows were judged on, and how long a plain forward pass took: of several runs, from … to …."""
    taken: dict[tuple[str, str | None], list[float]] = {}
    for job, outcome in done:
        text = f"{job.row.name}: {_images(len(outcome.ids), outcome.info.get('dataset'))}"
        known = outcome.info.get("cost")
        seconds = taken.setdefault((text, outcome.info.get("device") if known else None), [])
        seconds += [known["forward_seconds"]] if known else []
    return [text + _forward(seconds, device) for (text, device), seconds in taken.items()]


def _forward(seconds: Sequence[float], device: str | None) -> str:
    if not seconds:
        return ""
    ends = dict.fromkeys(words.bare_seconds(end) for end in (min(seconds), max(seconds)))
    return f", {' to '.join(ends)} s for a plain forward pass ({device})"


def _submits(each: Ended) -> bool:
    return each.job.row.submit and each.folder is not None


def _submission(folder: Path | None) -> str:
    archives = sorted(folder.glob("**/*.tgz")) if folder else []
    if not archives:
        return "left no submission"
    return f"for the evaluation server: {', '.join(map(str, archives))}"
