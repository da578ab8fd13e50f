"""What a key of a config takes, in words for people: of its type, its bounds, and the words it may be.

The same words stand in error messages (`config_files.explain`) and in the reference (`config_reference`).
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt, Le, Lt, MinLen, MultipleOf
from pydantic import BaseModel
from pydantic.fields import FieldInfo

PATTERNS = {
    r"^[A-Za-z0-9][A-Za-z0-9._-]*$": "text of letters, digits and . _ - that begins with a letter or digit",
    r"^[0-9a-f]{64}$": "a SHA-256: 64 digits 0-9 and a-f",
}
"""Regular expression of a text -> the same in words."""

BOUNDS = {Gt: "greater than {0.gt:g}", Ge: "{0.ge:g} or more", Lt: "less than {0.lt:g}", Le: "at most {0.le:g}"}


def annotations_of(section: type) -> dict[str, Any]:
    """Return the annotation of every field of a pydantic model or a dataclass, with its bounds."""
    return get_type_hints(section, include_extras=True)


def in_words(annotation: Any) -> str:
    """Return what an annotation takes, e.g. "a whole number of 1 or more" or "'half' or 'single'".

    Args:
        annotation: A type as pydantic reads it: bounds stand in `Annotated`.
    """
    options, takes_null = options_of(annotation)
    words = [_one(option) for option in options]
    return "; or ".join(dict.fromkeys([*words, *(["null"] if takes_null else [])]))


def options_of(annotation: Any) -> tuple[list[Any], bool]:
    """Return the parts of a union, nested ones too, and whether null is one of them."""
    if get_origin(annotation) not in (Union, types.UnionType):
        return [annotation], False
    found, takes_null = [], False
    for part in get_args(annotation):
        if part is type(None):
            takes_null = True
        else:
            inner, has_null = options_of(part)
            found += inner
            takes_null |= has_null
    return found, takes_null


def section_in(annotation: Any) -> type[BaseModel] | None:
    """Return the section that an annotation takes, itself or as a part of a union; None if it takes none."""
    parts, _ = options_of(annotation)
    return next((part for part in parts if isinstance(part, type) and issubclass(part, BaseModel)), None)


def choices_of(annotation: Any) -> list[str]:
    """Return the words that an annotation takes; none if it is no list of them."""
    return [str(word) for part in options_of(annotation)[0] if get_origin(part) is Literal for word in get_args(part)]


def _one(annotation: Any, *, many: bool = False) -> str:
    """Return what one part of a union takes; as the entries of a list where there are `many`."""
    kind, bounds = _bounds(annotation)
    origin, arguments = get_origin(kind), get_args(kind)
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return f"{'mappings' if many else 'a mapping'} with the keys {', '.join(kind.model_fields)}"
    if origin is Literal:
        *others, last = (repr(word) for word in arguments)
        return f"{', '.join(others)} or {last}" if others else last
    if origin in (list, tuple):
        least = "one or more " if MinLen in bounds else ""
        return f"{'lists' if many else 'a list'} of {least}{_entries(origin, arguments)}"
    if kind is dict or origin in (dict, Mapping):
        return "a mapping"
    if kind is bool:
        return "true or false"
    if kind in (int, float):
        name = "whole number" if kind is int else "number"
        return " ".join([f"{name}s" if many else f"a {name}", *_limits(bounds)])
    if kind is str:
        patterns = [bound.pattern for found in bounds.values() for bound in found if hasattr(bound, "pattern")]
        name = "texts" if many else "text"
        return PATTERNS.get(patterns[0], f"{name} that fits {patterns[0]}") if patterns else name
    return getattr(kind, "__name__", str(kind))


def _entries(origin: Any, arguments: tuple[Any, ...]) -> str:
    """Return what a list holds."""
    if origin is tuple and Ellipsis not in arguments:
        return f"{len(arguments)} {_one(arguments[0], many=True)}"
    parts, _ = options_of(arguments[0])
    return " or ".join(_one(part, many=True) for part in parts)


def _limits(bounds: Mapping[type, list[Any]]) -> list[str]:
    """Return the bounds of a number, e.g. ["greater than 0 and at most 1"]; nothing without any."""
    said = " and ".join(form.format(bound) for kind, form in BOUNDS.items() for bound in bounds.get(kind, ()))
    said = f"of {said}" if said[:1].isdigit() else said
    return [said] * bool(said) + [f"that is a multiple of {bound.multiple_of}" for bound in bounds.get(MultipleOf, ())]


def _bounds(annotation: Any) -> tuple[Any, dict[type, list[Any]]]:
    """Return an annotation without its bounds, and these by their kind."""
    found: dict[type, list[Any]] = {}
    while get_origin(annotation) is Annotated:
        annotation, *more = get_args(annotation)
        for item in more:
            for bound in item.metadata if isinstance(item, FieldInfo) else [item]:
                found.setdefault(type(bound), []).append(bound)
    return annotation, found
