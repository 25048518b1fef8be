"""A table, and how it is written in Markdown and in LaTeX."""

import re
import textwrap
from dataclasses import dataclass

NONE = "–"
"""What a cell holds where there is nothing to tell."""
PACKAGES = "% In the preamble: \\usepackage{array, booktabs, graphicx}\n"
"""What a document with tables of :func:`latex` needs."""

_TEXT = 24
"""Columns with longer cells, in characters, hold text, whose lines are broken."""

_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        **{character: f"\\{character}" for character in "&%$#_{}"},
        "–": "--",
        "−": "$-$",
        "±": r"$\pm$",
        "<": "$<$",
        ">": "$>$",
    }
)


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        title: What it shows.
        header: Names of the columns.
        rows: Cells, as many in each row as there are columns.
        note: How it is to be read.
    """

    title: str
    header: list[str]
    rows: list[list[str]]
    note: str = ""


def markdown(table: Table) -> str:
    """A table in Markdown, under a heading of the second level."""
    cells = [[cell.replace("|", r"\|") for cell in line] for line in (table.header, *table.rows)]
    lines = [f"| {' | '.join(line)} |" for line in (cells[0], ["---"] * len(table.header), *cells[1:])]
    return "\n".join([f"## {table.title}", "", *lines, *["", table.note] * bool(table.note), ""])


def latex(table: Table, prefix: str = "") -> str:
    """A table in LaTeX, with the rules of the package booktabs; the note follows in the caption.

    It takes both columns of a page that has two, and is made smaller where it would still be too wide for the text.

    Args:
        table: The table.
        prefix: Of its label, such as the study's name.
    """
    longest = [max((len(row[i]) for row in table.rows), default=0) for i in range(len(table.header))]
    aligned = ["l", *["r"] * (len(table.header) - 1)]
    columns = [
        r">{\raggedright\arraybackslash}p{13em}" if length > _TEXT else side
        for length, side in zip(longest, aligned, strict=True)
    ]
    head = [
        _stacked(name, length, side) if column == side else _escaped(name)
        for name, length, side, column in zip(table.header, longest, aligned, columns, strict=True)
    ]
    label = re.sub(r"[^a-z0-9]+", "-", f"{prefix} {table.title}".lower()).strip("-")
    return "\n".join(
        [
            r"\begin{table*}",
            r"  \centering",
            rf"  \caption{{{_escaped(f'{table.title}. {table.note}'.strip())}}}",
            rf"  \label{{tab:{label}}}",
            r"  \footnotesize",
            r"  \setlength{\tabcolsep}{3pt}",
            r"  \resizebox{\ifdim\width>\textwidth\textwidth\else\width\fi}{!}{%",
            rf"  \begin{{tabular}}{{{''.join(columns)}}}",
            r"    \toprule",
            _line(head),
            r"    \midrule",
            *(_line(list(map(_escaped, row))) for row in table.rows),
            r"    \bottomrule",
            r"  \end{tabular}}",
            r"\end{table*}",
            "",
        ]
    )


def _line(cells: list[str]) -> str:
    # What ends the line before would take a bracket or a star for an option of its own.
    return f"    {'{}' * cells[0].startswith(('[', '*'))}{' & '.join(cells)} \\\\"


def _stacked(name: str, width: int, side: str) -> str:
    """A column's name, in several lines where it is longer than the cells below it."""
    if len(name) <= width or " " not in name:
        return _escaped(name)
    lines = textwrap.wrap(name, max([width, *map(len, name.split())]), break_on_hyphens=False)
    return rf"\shortstack[{side}]" + "{" + r"\\".join(map(_escaped, lines)) + "}"


def _escaped(text: str) -> str:
    return text.translate(_LATEX)
