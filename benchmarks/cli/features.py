"""The commands that make features: `features` and `pretrain`."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from benchmarks.cli.options import check_device, places, wandb_settings

if TYPE_CHECKING:  # what these import takes seconds, and complains until `main` asks it not to
    from benchmarks.configs.run import RunConfig


def features(options: argparse.Namespace, console: Console) -> int:
    """Compute the features that configs need and that are not on disk, or time how fast that is."""
    from benchmarks.configs.files import load_config
    from benchmarks.streams.loading import check_dataset, load_for
    from src_plugin.errors import ConfigError

    check_device(options.device)
    configs = [load_config(path) for path in options.configs]
    where = replace(places(options), repair=options.repair, n_devices=options.devices, n_nodes=options.num_nodes)
    for config in configs:
        check_dataset(config)
        if config.backbone is None or not config.backbone.cached:
            raise ConfigError(f"{config.name} keeps no features: it has no backbone, or one with cached: false")
    for config in configs:
        if options.time is not None:
            _time_features(config, options, console)
            continue
        data = load_for(config, where, console=console)
        keys = (data.provenance or {})["key"].split("+")
        for found, key in zip((data, *data.then), keys, strict=True):
            shapes = f"{tuple(found.train_images.shape)} and {tuple(found.test_images.shape)}"
            folder = options.features / key
            console.print(
                f"{config.name}: features {shapes} of {found.name} in {folder}", highlight=False, soft_wrap=True
            )
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
    console.print(
        f"{config.name}: {found['extraction']:.1f} images/s, the plain loop {found['plain']:.1f} "
        f"(ratio {found['ratio']:.2f}, in turns {found['ratios'][0]:.2f} to {found['ratios'][-1]:.2f}{alone}); "
        f"{n:,} images take {minutes:.1f} min",
        highlight=False,
        soft_wrap=True,
    )


def pretrain(options: argparse.Namespace, console: Console) -> int:
    """Train a backbone, and print the lines that name it in a config."""
    import hashlib

    from benchmarks.pretrain.config import load_pretrain_config
    from benchmarks.pretrain.train import pretrain as train_backbone
    from benchmarks.streams.loading import load_first

    config = load_pretrain_config(options.config)
    devices = int(options.devices) if options.devices.lstrip("-").isdigit() else options.devices

    def train(root: Path | None, download: bool) -> Path:
        return train_backbone(
            config,
            data_root=root,
            out=options.out,
            download=download,
            accelerator=options.accelerator,
            devices=devices,
            strategy=options.strategy,
            num_nodes=options.num_nodes,
            workers=options.openers,
            threads=options.threads,
            max_seconds=options.max_seconds,
            resume=not options.restart,
            wandb=wandb_settings(options, beside=options.out),
            console=console,
        )

    path = load_first(train, options.data_root, download=options.download)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    lines = f"backbone:\n  name: paper_vgg\n  weights: {path}\n  weights_sha256: {digest}"
    console.print(f"for a config:\n{lines}", soft_wrap=True, highlight=False, markup=False)
    return 0
