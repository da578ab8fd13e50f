"""Plugins that keep training from moving what earlier inputs evoke, by projected gradients: OWM and its kin."""

from __future__ import annotations

from typing import Any


def protector_of(strategy: Any) -> str | None:
    """Return the class name of the first plugin that has `protects_old_inputs = True`; None if there is none.

    Such a plugin notes, when an experience ends, which inputs its layers had, and lets later training move weights
    where these do not reach. Hidden layers are inputs too: a sleep that changes what they answer to earlier images
    leaves the notes behind.

    Args:
        strategy: An Avalanche strategy.
    """
    for plugin in strategy.plugins:
        if getattr(plugin, "protects_old_inputs", False) is True:
            return type(plugin).__name__
    return None
