"""What a key takes, in words."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from benchmarks.configs.run import Fraction, Part, Positive
from benchmarks.configs.words import choices_of, in_words, schema_of, section_in


class Inner(BaseModel):
    a: int
    b: str = ""


class Outer(BaseModel):
    inner: Inner | None = None
    n: Annotated[int, Field(ge=8, multiple_of=8)] = 8


WORDS: dict[str, tuple[Any, str]] = {
    "whole": (Positive, "a whole number of 1 or more"),
    "between": (Fraction, "a number of 0 or more and less than 1"),
    "above": (Annotated[float, Field(gt=0, le=1)], "a number greater than 0 and at most 1"),
    "multiple": (Annotated[int, Field(ge=8, multiple_of=8)], "a whole number of 8 or more that is a multiple of 8"),
    "free": (float, "a number"),
    "truth": (bool, "true or false"),
    "text": (str, "text"),
    "pattern": (Annotated[str, Field(pattern="^a+$")], "text that fits ^a+$"),
    "one word": (Literal["a"], "'a'"),
    "words": (Literal["a", "b", "c"], "'a', 'b' or 'c'"),
    "null": (Positive | None, "a whole number of 1 or more; or null"),
    "nested union": (Part | None, "a whole number of 1 or more; or a number greater than 0 and less than 1; or null"),
    "list": (list[Positive], "a list of whole numbers of 1 or more"),
    "list that is not empty": (Annotated[list[str], Field(min_length=1)], "a list of one or more texts"),
    "list of lists": (list[list[int]], "a list of lists of whole numbers"),
    "list of two kinds": (list[int | str], "a list of whole numbers or texts"),
    "tuple": (tuple[float, float, float], "a list of 3 numbers"),
    "any tuple": (tuple[float, ...], "a list of numbers"),
    "mapping": (dict[str, Any], "a mapping"),
    "section": (Inner, "a mapping with the keys a, b"),
    "sections": (list[Inner], "a list of mappings with the keys a, b"),
}


@pytest.mark.parametrize(("annotation", "words"), WORDS.values(), ids=WORDS)
def test_an_annotation_in_words(annotation: Any, words: str) -> None:
    assert in_words(schema_of(annotation)) == words


def test_a_section_that_may_be_left_out_is_found_with_the_bounds_of_its_fields() -> None:
    keys = schema_of(Outer)["properties"]
    assert section_in(keys["inner"]) == schema_of(Inner)
    assert section_in(keys["n"]) is None
    assert in_words(keys["n"]) == WORDS["multiple"][1]


def test_words_that_are_taken_are_found_in_a_union() -> None:
    assert choices_of(schema_of(Literal["first", "running"] | float | None)) == ["first", "running"]
    assert choices_of(schema_of(int | None)) == []
