"""Names in a config that stand in tables of their own: refused before anything that takes seconds is imported."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.configs.run import RunConfig
from benchmarks.data.sets import IMAGE_SETS, check_known
from src_plugin.errors import ConfigError
from strategies import find_row


def check_names(config: RunConfig, strategies: Sequence[str] = ()) -> None:
    """Refuse a data set that there is not, or that cannot go through the backbone, and unknown strategies.

    Raises:
        ConfigError: It names the nearest known one, or the cure.
    """
    stream = config.stream
    for key, names in {"dataset": [stream.dataset], "then": stream.then or []}.items():
        for name in names:
            check_known(name, where=f"{config.name}: stream.{key}: ")
            if config.backbone is not None and name not in IMAGE_SETS:
                raise ConfigError(
                    f"{config.name}: stream.{key}: {name} has pixels only, and a backbone takes image sets: "
                    f"{', '.join(IMAGE_SETS)}. Leave backbone out, or bring the images as an image_folder"
                )
    if config.backbone is not None and stream.permutations is not None:
        raise ConfigError(
            f"{config.name}: stream.permutations puts pixels into new orders; features have none, so leave backbone out"
        )
    for strategy in strategies:
        find_row(strategy)
