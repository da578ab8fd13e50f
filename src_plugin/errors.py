"""What can go wrong, by name: every error says what was wrong, where, and what to do.

Each class also derives from the fitting builtin, so `except ValueError` keeps working. A warning points at the line of
the user's that led to it.
"""

from __future__ import annotations

import difflib
import sys
import warnings
from collections.abc import Iterable

NOT_THE_USERS = frozenset(
    {"src_plugin", "avalanche", "pytorch_lightning", "lightning", "transformers", "torch", "contextlib"}
)
"""Packages whose lines a warning does not point at: they stand between the user's line and the sleep."""


class SRCError(Exception):
    """Base of all errors that src_plugin raises on purpose."""


class ConfigError(SRCError, ValueError):
    """A setting is unknown, out of range, or does not fit another one."""


class ShapeError(SRCError, ValueError):
    """Arrays given to the kernel do not fit each other."""


class HeadNotFoundError(SRCError, ValueError):
    """The model has no head of Linear layers that SRC can put to sleep."""


class WeightsError(SRCError, ValueError):
    """Weights are not finite, or a layer cannot be scaled."""


class StimulusError(SRCError, ValueError):
    """The mean input cannot drive a sleep: not finite, missing, or negative where the sleep is simulated."""


def did_you_mean(name: object, known: Iterable[str], *, ending: str = "") -> str:
    """Return "; did you mean 'x'?" for the nearest known name, or "; known: ..." if none is near.

    An ending that every known name may have, and this one had, tells nothing of what is near: it is left off both.
    """
    options = sorted(known)
    near = difflib.get_close_matches(str(name), options, n=1, cutoff=0.5)
    before = f" before {ending}" if ending else ""
    return f"; did you mean {near[0] + ending!r}?" if near else f"; known{before}: {', '.join(options)}"


def warn_user(message: str) -> None:
    """Warn, and point at the line of the user's that led here: the first outside this library and its frameworks."""
    frame = sys._getframe(1)
    while frame.f_back is not None and _package(frame.f_globals) in NOT_THE_USERS:
        frame = frame.f_back
    # Not by `stacklevel`: Python leaves frames of the import system out when it counts, so a number could miss.
    warnings.warn_explicit(
        message,
        UserWarning,
        filename=frame.f_code.co_filename,
        lineno=frame.f_lineno,
        module=frame.f_globals.get("__name__", "<unknown>"),
        registry=frame.f_globals.setdefault("__warningregistry__", {}),
    )


class Warner:
    """Warns of each topic once, in the name of a speaker."""

    def __init__(self, speaker: str) -> None:
        self._speaker = speaker
        self._told: set[str] = set()

    def __call__(self, topic: str, message: str) -> None:
        """Warn, unless that was done before."""
        if topic not in self._told:
            self._told.add(topic)
            warn_user(f"{self._speaker}: {message}")


def _package(module: dict[str, object]) -> str:
    return str(module.get("__name__", "")).partition(".")[0]
