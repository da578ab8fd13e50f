"""What the article says of a figure, in words and numbers, beside what a run gives, and whether it holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.markdown import table


@dataclass(frozen=True)
class Claim:
    """One statement of the article.

    Attributes:
        words: What it says.
        published: Its number, as people read it; "" without one.
        measured: Ours.
        holds: Whether ours agrees; None where the run cannot tell.
    """

    words: str
    published: str
    measured: str
    holds: bool | None


def claim_table(claims: Sequence[Claim], *, first: str = "the article says") -> str:
    """Return claims as a table in Markdown; `first` heads them."""
    answers = {True: "yes", False: "no", None: "not told"}
    rows = [[claim.words, claim.published, claim.measured, answers[claim.holds]] for claim in claims]
    return table([first, "published", "here", "holds"], rows)
