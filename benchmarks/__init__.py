"""The laboratory: typed configs in, one record per run out, tables and pictures from records only.

Start with `python -m benchmarks run configs/split_digits.yaml`. Not part of the installed package.

    from benchmarks import load_model
    model = load_model("runs/.../seed0-1f0c2a9b.model.safetensors")  # an nn.Module on images, see docs/models.md
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.runs.saved import load_model, save_model

__all__ = ["load_model", "save_model"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from benchmarks.runs import saved  # here, because torch takes seconds to import

    return getattr(saved, name)
