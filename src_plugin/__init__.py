"""Sleep Replay Consolidation (SRC) for PyTorch: sleep after each task, and old tasks come back without stored data.

    from src_plugin import SRC
    src = SRC(model)
    with src.task():
        ...  # train on one task; the model sleeps when the block ends

    from src_plugin import SRCPlugin
    strategy = Naive(..., plugins=[SRCPlugin()])

Avalanche, Lightning, transformers, wandb and matplotlib are extras: names that need one are loaded on first use, and
say what is missing.

Reference: Tadros, Krishnan, Ramyaa, Bazhenov, "Sleep-like unsupervised replay reduces catastrophic forgetting in
artificial neural networks", Nature Communications 13, 7742 (2022), doi 10.1038/s41467-022-34938-7.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from src_plugin.callback import SRCCallback
    from src_plugin.config import ClosedForm, Gates, Simulation, SleepConfig
    from src_plugin.config.presets import PRESETS
    from src_plugin.errors import SRCError
    from src_plugin.head.find import find_head
    from src_plugin.kernel import simulate
    from src_plugin.loop import SRC
    from src_plugin.metrics import SleepMetrics
    from src_plugin.night.sleep import sleep
    from src_plugin.picture import plot_sleeps
    from src_plugin.plugin import SRCPlugin
    from src_plugin.report import SleepReport
    from src_plugin.trainer import SRCTrainerCallback
    from src_plugin.wandb_logger import WandBLogger

__version__ = "0.1.0"

_HOME = {
    "ClosedForm": "config",
    "Gates": "config",
    "PRESETS": "config.presets",
    "SRC": "loop",
    "SRCCallback": "callback",
    "SRCError": "errors",
    "SRCPlugin": "plugin",
    "SRCTrainerCallback": "trainer",
    "Simulation": "config",
    "SleepConfig": "config",
    "SleepMetrics": "metrics",
    "SleepReport": "report",
    "WandBLogger": "wandb_logger",
    "find_head": "head.find",
    "plot_sleeps": "picture",
    "simulate": "kernel",
    "sleep": "night.sleep",
}

_EXTRAS = {
    "avalanche": ("Avalanche", "avalanche"),
    "matplotlib": ("matplotlib", "plot"),
    "transformers": ("Hugging Face's Trainer", "transformers"),
    "wandb": ("Weights & Biases", "wandb"),
}
"""What the base installation leaves out, by the name of its module: its own name, and the extra that brings it."""

__all__ = [
    "PRESETS",
    "SRC",
    "ClosedForm",
    "Gates",
    "SRCCallback",
    "SRCError",
    "SRCPlugin",
    "SRCTrainerCallback",
    "Simulation",
    "SleepConfig",
    "SleepMetrics",
    "SleepReport",
    "WandBLogger",
    "__version__",
    "find_head",
    "plot_sleeps",
    "simulate",
    "sleep",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    except ModuleNotFoundError as error:
        if error.name not in _EXTRAS:
            raise
        what, extra = _EXTRAS[error.name]
        raise ImportError(f"{name} needs {what}: pip install 'src-plugin[{extra}]'") from None
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
