"""What is said on a console: a line as it is, which may be long, such as a path."""

from __future__ import annotations

from rich.console import Console


def say(console: Console, text: object, *, style: str | None = None) -> None:
    """Print a line without breaking it, colouring numbers in it, or reading brackets in it as markup."""
    console.print(str(text), style=style, soft_wrap=True, highlight=False, markup=False)
