"""What a setting may be: tests of values, and the refusal that names field, value and what was wanted."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

from src_plugin.errors import ConfigError, did_you_mean

PerLayer = float | tuple[float, ...]
"""One number for all layers of a head, or one for each, input side first."""

Triple = tuple[float, float, float]
"""(first layer, every layer between, output layer), where the head is not known yet; one layer uses the last."""


@dataclass(frozen=True)
class Check:
    """What some fields may be.

    Attributes:
        names: Of the fields.
        is_meant: Whether a value is one.
        wanted: How that is called.
    """

    names: tuple[str, ...]
    is_meant: Callable[[Any], bool]
    wanted: str


def check_fields(settings: Any, checks: Sequence[Check]) -> None:
    """Turn lists into tuples, and refuse values that cannot be meant.

    Args:
        settings: A frozen dataclass that is being made.
        checks: What its fields may be.

    Raises:
        ConfigError: A value is none of them.
    """
    for field in fields(settings):
        value = getattr(settings, field.name)
        if isinstance(value, list):
            object.__setattr__(settings, field.name, tuple(value))
    for check in checks:
        for name in check.names:
            value = getattr(settings, name)
            if not check.is_meant(value):
                raise ConfigError(f"{type(settings).__name__}({name}={value!r}): {name} must be {check.wanted}")


def check_choice(settings: Any, name: str, known: Sequence[str]) -> None:
    """Refuse a word that is not one of those known, and name the nearest."""
    value = getattr(settings, name)
    if value not in known:
        hint = did_you_mean(str(value), known)
        raise ConfigError(f"{type(settings).__name__}({name}={value!r}): unknown {name}{hint}")


def is_number(value: object) -> bool:
    """Whether it is a finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def is_positive(value: Any) -> bool:
    """Whether it is a finite number above 0."""
    return is_number(value) and value > 0


def is_least_0(value: Any) -> bool:
    """Whether it is a finite number, 0 or more."""
    return is_number(value) and value >= 0


def is_int(value: object) -> bool:
    """Whether it is a whole number."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_share(value: Any) -> bool:
    """Whether it is a number in (0, 1]."""
    return is_number(value) and 0 < value <= 1


def are(value: object, is_meant: Callable[[Any], bool]) -> bool:
    """Whether all entries of a tuple, at least one, are meant; another value stands for itself."""
    return all(map(is_meant, value)) and bool(value) if isinstance(value, tuple) else is_meant(value)


def is_triple(value: Any) -> bool:
    """Whether it is three numbers, 0 or more."""
    return isinstance(value, tuple) and len(value) == 3 and are(value, is_least_0)


TRIPLE = "three numbers, 0 or more: (first layer, between, output layer)"
DEPTH = "None or a finite number, 0 or more"
FLAG = "true or false"


def is_flag(value: object) -> bool:
    """Whether it is true or false."""
    return isinstance(value, bool)


def or_none(is_meant: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """Return a test that also takes None."""
    return lambda value: value is None or is_meant(value)
