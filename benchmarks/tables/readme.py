"""Records -> the Markdown table of a document, between two marks; so no number in it is typed by hand."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from benchmarks.records.record import Record
from benchmarks.tables.summary import group_records, percent, summarise
from src_plugin.errors import ConfigError

BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"

HEAD = (
    "| config | strategy | sleep | accuracy, % | seeds | vs naive | kept between experiences | sleep, s |",
    "|---|---|---|---|---|---|---|---|",
)


def markdown_table(records: Iterable[Record]) -> str:
    """Return one table over all settings: final accuracy on all test images, mean and standard deviation over seeds."""
    lines = list(HEAD)
    for (name, _), group in group_records(records).items():
        for row in summarise(group):
            cells = (
                f"`{name}`",
                f"`{row.name}`",
                f"`{row.sleep}`" if row.sleep else "",
                percent(row.mean, row.sd) + (f" ({row.lost})" if row.lost else ""),
                str(row.n),
                percent(row.difference, row.difference_sd, signed=True),
                row.kept,
                f"{row.asleep:.1f}" if row.sleep and row.asleep is not None else "",
            )
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


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


def write_between_marks(path: Path, content: str) -> None:
    """Put other content between the marks of a document.

    Raises:
        ConfigError: There is no such document, or it has no marks.
    """
    path.write_text(between_marks(read_document(path), content, where=str(path)), encoding="utf-8")


def read_document(path: Path) -> str:
    """Return the text of a document.

    Raises:
        ConfigError: There is no such document.
    """
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}; --write needs a document with marks") from error
