"""Compute the features of configs' backbones, once, onto the disk."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from benchmarks.cli._options import add_places, check_device, places
from benchmarks.configs.checks import check_names
from benchmarks.configs.files import load_config
from benchmarks.console import say
from src_plugin.errors import ConfigError

if TYPE_CHECKING:  # what this imports takes seconds
    from benchmarks.configs.run import RunConfig


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("configs", type=Path, nargs="+", help="files of configs/ with a backbone")
    parser.add_argument("--repair", action="store_true", help="compute anew what is not what was written")
    parser.add_argument("--devices", type=int, default=1, metavar="N", help="devices that compute together; default: 1")
    parser.add_argument("--num-nodes", type=int, default=1, metavar="N", help="machines; default: 1")
    timed = "only time so many images (default: 256), beside the plain loop over the same network"
    parser.add_argument("--time", type=int, nargs="?", const=256, metavar="N", help=timed)
    parser.add_argument("--turns", type=int, default=3, metavar="N", help="times that both are timed; default: 3")
    parser.add_argument("--time-record", type=Path, metavar="FILE", help="also write what --time found as JSON")
    add_places(parser)


def main(options: argparse.Namespace, console: Console) -> int:
    """Compute what is not on disk, or time how fast that is."""
    configs = [load_config(path) for path in options.configs]
    for config in configs:
        check_names(config, ())
        if config.backbone is None or not config.backbone.cached:
            raise ConfigError(f"{config.name} keeps no features: it has no backbone, or one with cached: false")
    check_device(options.device)

    from benchmarks.streams.loading import check_dataset, load_for

    where = replace(places(options), repair=options.repair, n_devices=options.devices, n_nodes=options.num_nodes)
    for config in configs:
        check_dataset(config)
    for config in configs:
        if options.time is not None:
            _time_features(config, options, console)
            continue
        data = load_for(config, where, console=console)
        keys = (data.provenance or {})["key"].split("+")
        for found, key in zip((data, *data.then), keys, strict=True):
            shapes = f"{tuple(found.train_images.shape)} and {tuple(found.test_images.shape)}"
            folder = options.features / key
            say(console, f"{config.name}: features {shapes} of {found.name} in {folder}")
    return 0


def _time_features(config: RunConfig, options: argparse.Namespace, console: Console) -> None:
    from benchmarks.features.backbones import build_backbone
    from benchmarks.features.dataset import check_weights_file
    from benchmarks.speed.extraction import time_extraction, write_time_record
    from benchmarks.streams.loading import load_images_for

    assert config.backbone is not None
    check_weights_file(config.backbone)
    images = load_images_for(config, places(options))
    backbone = build_backbone(config.backbone)
    found = time_extraction(
        images,
        backbone,
        config.backbone,
        n_images=options.time,
        repeats=options.turns,
        workers=options.openers,
        device=options.device,
    )
    if options.time_record is not None:
        write_time_record(options.time_record, found, config=config)
    n = len(images.train) + len(images.test)
    minutes = n / found["extraction"] / 60
    computing = found["processor_ratio"]
    alone = "" if computing is None else f", by processor time {computing:.2f}"
    say(
        console,
        f"{config.name}: {found['extraction']:.1f} images/s, the plain loop {found['plain']:.1f} "
        f"(ratio {found['ratio']:.2f}, in turns {found['ratios'][0]:.2f} to {found['ratios'][-1]:.2f}{alone}); "
        f"{n:,} images take {minutes:.1f} min",
    )
