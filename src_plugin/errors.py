"""What can go wrong, by name: every error says what was wrong, where, and what to do.

Each class also derives from the fitting builtin, so `except ValueError` keeps working.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


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
    """The mean input cannot drive a sleep: negative, not finite, or missing."""


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """Return "; did you mean 'x'?" for the nearest known name, or "; known: ..." if none is near."""
    options = sorted(known)
    near = difflib.get_close_matches(str(name), options, n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(options)}"
