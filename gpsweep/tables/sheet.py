"""A table as text: its columns, and how numbers are written in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from gpsweep import words
from gpsweep.tables.entries import SPREAD, Entry

CHOSEN = {"at a given ε": "fixed", "tuned on the same images": "same", "held out": "held"}
"""How ε was chosen, and what the numbers of it begin with."""


@dataclass(frozen=True)
class Column:
    """One column.

    Args:
        group: what stands above several columns; empty for none.
        heading: what stands above this one.
        cell: an entry's text; empty where it has none.
        words: whether it is text, not numbers.
    """

    group: str
    heading: str
    cell: Callable[[Entry], str]
    words: bool = False


@dataclass(frozen=True)
class Sheet:
    """A table ready to be written.

    Args:
        name: of the table, as the command calls it.
        title: its caption.
        measure: what its scores are.
        entries: its lines.
        notes: what stands below it.
        small: whether networks and data are other ones than the paper's.
    """

    name: str
    title: str
    measure: str
    entries: list[Entry]
    notes: list[str] = field(default_factory=list)
    small: bool = False

    def columns(self) -> list[Column]:
        """Return the columns that have anything in them."""
        paper = self._paper()
        every = [
            Column("", "setting", lambda entry: str(entry["setting"]), words=True),
            Column(paper, "base", _number("paper_base")),
            Column(paper, "GP", _number("paper_gp")),
            Column("ours", "base", _number("base")),
            *(column for group, name in CHOSEN.items() for column in _chosen(group, name)),
            Column("ours − paper", "base", _number("difference_base", signed=True)),
            Column("ours − paper", "GP", _number("difference_gp", signed=True)),
            Column("", "k-NN alone", _number("knn_accuracy")),
            Column("s an image", "paper", _number("paper_seconds")),
            Column("s an image", "ours", _seconds),
            Column("s an image", "in forward passes", _number("passes")),
        ]
        return self._filled(every)

    def brief(self) -> list[Column]:
        """Return few columns that hold all of it, their cells in several lines: for a narrow terminal."""
        every = [
            Column("", "setting", lambda entry: str(entry["setting"]), words=True),
            Column("", self._paper(), _pair("paper_base", "paper_gp")),
            Column("", "base", _number("base")),
            *(Column("", heading, _brief(name)) for heading, name in CHOSEN.items()),
            Column("", "ours − paper", _pair("difference_base", "difference_gp", signed=True)),
            Column("", "k-NN alone", _number("knn_accuracy")),
            Column("", "s an image", _times),
        ]
        return self._filled(every)

    def rows(self, columns: Sequence[Column]) -> list[list[str]]:
        """Return the text of all cells."""
        return [[column.cell(entry) for column in columns] for entry in self.entries]

    def _paper(self) -> str:
        return "paper, its own network and data" if self.small else "paper"

    def _filled(self, columns: Sequence[Column]) -> list[Column]:
        return [each for each in columns if each.words or any(each.cell(entry) for entry in self.entries)]


def _chosen(group: str, name: str) -> list[Column]:
    return [
        Column(group, "ε", _eps(f"{name}_eps")),
        Column(group, "GP", _number(f"{name}_score")),
        Column(group, "gain [95 %]", _gain(name)),
        Column(group, "p", _p(f"{name}_p")),
    ]


def _number(key: str, *, signed: bool = False) -> Callable[[Entry], str]:
    def cell(entry: Entry) -> str:
        if entry.get(key) is None:
            return ""
        text = words.signed(entry[key]) if signed else words.score(entry[key])
        spread = entry.get(SPREAD, {}).get(key)
        return text if spread is None else f"{text} ± {spread:.2f}"

    return cell


def _eps(key: str) -> Callable[[Entry], str]:
    def cell(entry: Entry) -> str:
        if entry.get(key) is None:
            return ""
        return _number(key)(entry) if SPREAD in entry else words.eps(entry[key]).removesuffix(".0")

    return cell


def _gain(name: str) -> Callable[[Entry], str]:
    number = _number(f"{name}_gain", signed=True)

    def cell(entry: Entry) -> str:
        bounds = [entry.get(f"{name}_{side}") for side in ("low", "high")]
        text = number(entry)
        if not text or None in bounds:
            return text
        known = [words.signed(bound) for bound in bounds if bound is not None]
        return f"{text} [{', '.join(known)}]"

    return cell


def _p(key: str) -> Callable[[Entry], str]:
    def cell(entry: Entry) -> str:
        value = entry.get(key)
        return "" if value is None else words.p(value, space=" ")

    return cell


def _pair(before: str, after: str, *, signed: bool = False) -> Callable[[Entry], str]:
    cells = [_number(key, signed=signed) for key in (before, after)]
    return lambda entry: " → ".join(text for cell in cells if (text := cell(entry)))


def _brief(name: str) -> Callable[[Entry], str]:
    """Write gain and ε, interval, and p below each other."""

    def cell(entry: Entry) -> str:
        gain, bracket, interval = _gain(name)(entry).partition("[")
        if not gain:
            return ""
        eps, p = _eps(f"{name}_eps")(entry), _p(f"{name}_p")(entry)
        first = gain.strip() if SPREAD in entry else f"{gain.strip()} at {eps}"
        return "\n".join(line for line in (first, bracket + interval, f"p {p}" if p else "") if line)

    return cell


def _times(entry: Entry) -> str:
    paper, ours = _number("paper_seconds")(entry), _seconds(entry)
    return "\n".join(text for text in (f"paper {paper}" if paper else "", ours) if text)


def _seconds(entry: Entry) -> str:
    return "" if entry.get("seconds") is None else words.bare_seconds(entry["seconds"])


def spans(groups: Sequence[str]) -> list[tuple[str, int]]:
    """Return neighbouring equal groups with how many columns each has."""
    found: list[tuple[str, int]] = []
    for group in groups:
        if found and found[-1][0] == group and group:
            found[-1] = (group, found[-1][1] + 1)
        else:
            found.append((group, 1))
    return found
