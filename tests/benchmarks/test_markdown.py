"""Tables in Markdown, and words on a console."""

from __future__ import annotations

from rich.console import Console

from benchmarks import markdown
from benchmarks.console import say


def test_columns_are_aligned_as_their_letters_say_and_the_last_letter_goes_on() -> None:
    rows = [["a", "1", "2"], ["b", "", "4"]]
    assert markdown.table(["name", "x", "y"], rows, align="lr").splitlines() == [
        "| name | x | y |",
        "|---|---:|---:|",
        "| a | 1 | 2 |",
        "| b |  | 4 |",
    ]
    assert markdown.table(["name", "x"], []).splitlines()[1] == "|---|---|"


def test_a_row_of_one_cell_is_a_heading_within_the_table() -> None:
    assert markdown.table(["name", "x", "y"], [["**group**"]]).splitlines()[2] == "| **group** | | |"


def test_a_line_is_said_as_it_is() -> None:
    console = Console(width=20, force_terminal=True, color_system="truecolor")
    with console.capture() as captured:
        say(console, "a path of 40 signs [and 2 brackets]/12345")
    assert captured.get() == "a path of 40 signs [and 2 brackets]/12345\n"
