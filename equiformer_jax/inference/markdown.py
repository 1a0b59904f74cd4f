"""Markdown that reads well as it is: tables with straight columns, names that stay names."""

from __future__ import annotations

from collections.abc import Sequence


def table(header: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[int] = ()) -> str:
    """A table whose columns are straight in a terminal, too.

    Args:
      header: title of each column; may be empty texts.
      rows: texts of the cells, as many in each row as there are titles.
      numbers: columns that are set to the right.
    """
    lines = [[_cell(text) for text in line] for line in (header, *rows)]
    widths = [max(3, *(len(line[column]) for line in lines)) for column in range(len(header))]
    rule = [
        "-" * (width - 1) + (":" if column in numbers else "-")
        for column, width in enumerate(widths)
    ]
    lines.insert(1, rule)
    return "\n".join(
        row(
            [
                text.rjust(width) if column in numbers else text.ljust(width)
                for column, (text, width) in enumerate(zip(line, widths, strict=True))
            ]
        )
        for line in lines
    )


def row(cells: Sequence[str]) -> str:
    """One line of a table."""
    return f"| {' | '.join(cells)} |"


def code(text: str) -> str:
    """A name in which no character means anything to Markdown."""
    ticks = "``" if "`" in text else "`"
    return f"{ticks}{text}{ticks}"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", r"\|")
