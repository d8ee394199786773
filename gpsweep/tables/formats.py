"""A table as CSV, Markdown, LaTeX and on the terminal."""

from __future__ import annotations

import csv
import re
from io import StringIO
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING

from gpsweep.atomic import save
from gpsweep.console import standard_output
from gpsweep.tables.entries import SPREAD, Entry
from gpsweep.tables.sheet import Sheet, spans

if TYPE_CHECKING:
    from rich.console import Console

NAME = 13  # characters of a line that are left to names at least, on the terminal
LATEX = {
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "−": "$-$",
    "±": r"$\pm$",
    "→": r"$\to$",
    "ε": r"$\varepsilon$",
    "≥": r"$\geq$",
    "×": r"$\times$",
    "’": "'",
    "<": "$<$",
    ">": "$>$",
    "–": "--",
    **{symbol: f"\\{symbol}" for symbol in "&%$#_{}"},
}


def write(sheet: Sheet, folder: Path) -> list[Path]:
    """Write a table as ``NAME.csv``, ``NAME.md`` and ``NAME.tex``.

    Returns:
        the paths.

    Raises:
        GpsweepError: if the folder cannot be written.
    """
    texts = {"csv": as_csv(sheet), "md": as_markdown(sheet), "tex": as_latex(sheet)}
    return [save(folder / f"{sheet.name}.{ending}", text.encode()) for ending, text in texts.items()]


def as_csv(sheet: Sheet) -> str:
    """Write every number in full, a line an entry; means over seeds have one more for their spread."""
    lines = [line for entry in sheet.entries for line in _csv_lines(entry)]
    keys = list(dict.fromkeys(key for line in lines for key in line))
    text = StringIO()
    writer = csv.DictWriter(text, keys, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def _csv_lines(entry: Entry) -> list[Entry]:
    plain = {key: value for key, value in entry.items() if key != SPREAD and value is not None}
    if not entry.get(SPREAD):
        return [plain]
    return [plain, {"setting": f"{entry['setting']}: standard deviation", **entry[SPREAD]}]


def as_markdown(sheet: Sheet) -> str:
    """Write a table with its caption and notes."""
    columns = sheet.columns()
    titles = [f"{c.group}: {c.heading}" if c.group else c.heading for c in columns]
    lines = [titles, ["---" if c.words else "---:" for c in columns], *sheet.rows(columns)]
    table = ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]
    notes = [f"- {note}" for note in sheet.notes]
    return "\n".join([f"**{sheet.title}** — {sheet.measure}", "", *table, "", *notes]).rstrip() + "\n"


def as_latex(sheet: Sheet) -> str:
    r"""Write a ``table`` that needs ``\usepackage{booktabs}``."""
    columns = sheet.columns()
    groups, rules, place = [], [], 1
    for group, width in spans([column.group for column in columns]):
        groups.append(rf"\multicolumn{{{width}}}{{c}}{{{escaped(group)}}}" if group else "")
        if group:
            rules.append(rf"\cmidrule(lr){{{place}-{place + width - 1}}}")
        place += width
    body = [
        " & ".join(groups) + r" \\",
        " ".join(rules),
        " & ".join(escaped(column.heading) for column in columns) + r" \\",
        r"\midrule",
        *(" & ".join(map(escaped, row)) + r" \\" for row in sheet.rows(columns)),
    ]
    notes = [rf"\par\footnotesize {escaped(note)}" for note in sheet.notes]
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{escaped(sheet.title)}; {escaped(sheet.measure)}.}}",
            rf"\begin{{tabular}}{{{''.join('l' if column.words else 'r' for column in columns)}}}",
            r"\toprule",
            *(line for line in body if line),
            r"\bottomrule",
            r"\end{tabular}",
            *notes,
            r"\end{table}",
            "",
        ]
    )


def escaped(text: str) -> str:
    r"""Write text for LaTeX.

    >>> escaped("100 % of a_b")
    '100 \\% of a\\_b'
    """
    return re.sub("|".join(map(re.escape, LATEX)), lambda match: LATEX[match[0]], text)


def show(sheet: Sheet, console: Console | None = None) -> None:
    """Print a table; on a narrow terminal its names are folded first, its numbers only if need be."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    console = console or standard_output()
    columns = sheet.brief() if sheet.entries else []
    rows = sheet.rows(columns)
    lines = [[line for cell in cells for line in cell.splitlines()] for cells in zip(*rows, strict=True)]
    widths = [max(map(len, c.heading.split() + cells)) for c, cells in zip(columns, lines, strict=True)]
    # Two characters part the columns.
    whole = sum(NAME if c.words else width + 2 for c, width in zip(columns, widths, strict=True))
    several = len(rows) < max(map(len, lines), default=0)
    table = Table(
        box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), leading=int(several)
    )
    for column, width in zip(columns, widths, strict=True):
        heading, fixed = escape(column.heading), not column.words and whole <= console.width
        table.add_column(
            fill(heading, width, break_long_words=False) if fixed else heading,
            justify="left" if column.words else "right",
            overflow="fold",
            no_wrap=fixed,
        )
    for row in rows:
        table.add_row(*map(escape, row))
    console.print()
    console.print(f"{sheet.title} — {sheet.measure}", markup=False, soft_wrap=True)
    console.print()
    if rows:
        console.print(table)
        console.print()
    for note in sheet.notes:
        console.print(f"- {note}", markup=False, soft_wrap=True)
