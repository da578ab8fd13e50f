"""WandBLogger: Avalanche's logger for Weights & Biases, with the wandb of today.

Avalanche 0.6.0 asks wandb for two names that it no longer has, when the logger is made and at every value.
"""

from __future__ import annotations

import secrets
from types import SimpleNamespace
from typing import Any

import wandb
from avalanche import logging
from wandb.plot.custom_chart import CustomChart


class _OlderWandb:
    """wandb, and what it had before."""

    util = SimpleNamespace(generate_id=lambda: secrets.token_hex(4))
    viz = SimpleNamespace(CustomChart=CustomChart)

    def __getattr__(self, name: str) -> Any:
        return getattr(wandb, name)  # `wandb.run` is another one in each run


class WandBLogger(logging.WandBLogger):  # type: ignore[misc, unused-ignore]
    """Avalanche's `WandBLogger`, arguments and all, for wandb 0.31 and later.

    Without a network or a key take `params={"mode": "offline"}`; `wandb sync` sends the files later.

    Example:
        >>> WandBLogger(project_name="digits", run_name="sleep", params={"mode": "offline"})  # doctest: +SKIP
    """

    def import_wandb(self) -> None:
        """Take wandb with the names that Avalanche asks for."""
        self.wandb = _OlderWandb()
