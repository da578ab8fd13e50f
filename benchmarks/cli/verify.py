"""Check records against themselves, and on request by running them again."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from benchmarks.cli._options import add_places, check_device, places


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("paths", type=Path, nargs="+", help="records, and folders of records")
    parser.add_argument("--rerun", action="store_true", help="run them again; what is confirmed gets a mark beside it")
    parser.add_argument("--seeds", nargs="+", type=int, metavar="N", help="run only these seeds again; default: all")
    parser.add_argument("--threads", type=int, metavar="N", help="threads of torch; default: as each record had")
    add_places(parser)


def main(options: argparse.Namespace, console: Console) -> int:
    """Check, and print what was found."""
    check_device(options.device)

    from benchmarks.verification.verifying import verify

    return verify(
        options.paths,
        console=console,
        rerun=options.rerun,
        seeds=options.seeds,
        places=places(options),
        device=options.device,
        threads=options.threads,
    )
