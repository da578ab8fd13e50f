"""Markdown: tables, and the place between two marks of a document where a command writes them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from src_plugin.errors import ConfigError

BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, align: str = "") -> str:
    """Return a table.

    Args:
        headings: Of the columns.
        rows: A cell for each heading; the cells that a shorter row lacks are empty, so one of one cell is a heading.
        align: A letter for each column: "l" for left or "r" for right. Columns after the last letter are as the last
            one; "" is all left.
    """
    sides = align.ljust(len(headings), align[-1:] or "l")
    rule = "|".join("---:" if side == "r" else "---" for side in sides[: len(headings)])
    return "\n".join([_line(headings), f"|{rule}|", *(_line(row) + " |" * (len(headings) - len(row)) for row in rows)])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def between_marks(text: str, content: str, *, where: str) -> str:
    """Return a document with other content between its marks.

    Args:
        text: The document.
        content: What is to stand there.
        where: Its name, for people.

    Raises:
        ConfigError: The marks are not there.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ConfigError(f"{where} has no place for a table; put a line {BEGIN} and a line {END} where it belongs")
    return f"{before}{BEGIN}\n{content}\n{END}{after}"


def check_marks(path: Path) -> None:
    """Refuse a document that `write_between_marks` would refuse, before the hours that its content takes."""
    between_marks(_read(path), "", where=str(path))


def write_between_marks(path: Path, content: str) -> None:
    """Put other content between the marks of a document.

    Raises:
        ConfigError: There is no such document, or it has no marks.
    """
    path.write_text(between_marks(_read(path), content, where=str(path)), encoding="utf-8")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}; --write needs a document with marks") from error
