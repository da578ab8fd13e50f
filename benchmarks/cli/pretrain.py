"""Train a backbone by Lightning; goes on where it stopped."""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

from rich.console import Console

from benchmarks.cli._options import add_data, add_wandb, wandb_settings
from benchmarks.configs.yaml_files import BACKBONE, read_mapping
from benchmarks.console import say


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", type=Path, help="a file of configs/backbones/")
    parser.add_argument("--out", type=Path, default=Path("weights"), metavar="DIR", help="default: weights")
    parser.add_argument("--accelerator", default="auto", help="Lightning's: auto (default), cpu, cuda, mps")
    parser.add_argument("--devices", default="1", help="Lightning's: how many, or which; default: 1")
    parser.add_argument("--strategy", default="auto", help="Lightning's: auto (default), ddp, ...")
    parser.add_argument("--num-nodes", type=int, default=1, metavar="N", help="machines; default: 1")
    parser.add_argument("--restart", action="store_true", help="begin anew, and forget what was trained under --out")
    parser.add_argument("--max-seconds", type=float, metavar="S", help="end training after so many seconds")
    parser.add_argument("--threads", type=int, metavar="N", help="threads of torch; default: torch's own choice")
    parser.add_argument("--openers", type=int, default=0, metavar="N", help="processes that open images; default: 0")
    add_data(parser)
    add_wandb(parser)


def main(options: argparse.Namespace, console: Console) -> int:
    """Train a backbone, and print the lines that name it in a config."""
    read_mapping(options.config, BACKBONE)  # a name mistyped is answered before the seconds that the imports take

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
    say(console, f"for a config:\n{lines}")
    return 0
