"""Command line of the laboratory: parses what is asked for, and calls `commands.py`.

run | search | regimes | explain | table | report | verify | submit | features | pretrain | wandb-sync
| config-reference | kernel | overhead. Errors of the project's own become one line.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from benchmarks.configs.yaml_files import BACKBONE, CONFIG, MATRIX, read_mapping
from src_plugin.errors import SRCError

INTERRUPTED = 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="The laboratory of src-plugin.")
    commands = parser.add_subparsers(dest="command", required=True)

    run = commands.add_parser("run", help="run what configs say and has no record yet; print tables, draw pictures")
    run.add_argument("configs", type=Path, nargs="+", help="files of configs/, e.g. configs/split_digits.yaml")
    run.add_argument("--strategies", nargs="+", metavar="NAME", help="instead of those of the configs")
    changes = "change configs, e.g. --set training.lr=0.1 sleep.set.prior=equal; their names then say so"
    run.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", dest="changes", help=changes)
    _add_conditions(run)

    search = commands.add_parser("search", help="choose numbers of methods on held-out images of first experiences")
    search.add_argument("config", type=Path, help="a file of configs/; its stream, network and training are used")
    search.add_argument("--strategies", nargs="+", metavar="NAME", required=True, help="methods with numbers to choose")
    search.add_argument("--write", type=Path, metavar="FILE", help="write a config that extends this one by the choice")
    _add_conditions(search, seeds=[100, 101])

    regimes = commands.add_parser("regimes", help="run a matrix of regimes; print it as a table, draw it")
    regimes.add_argument("matrix", type=Path, help="a matrix of configs/, e.g. configs/regimes_digits.yaml")
    regimes.add_argument("--only", nargs="+", metavar="NAME", help="some of its regimes; default: all")
    regimes.add_argument("--datasets", nargs="+", metavar="NAME", help="some of its data sets; default: all")
    regimes.add_argument("--methods", nargs="+", metavar="NAME", help="run some of its methods; the table shows all")
    regimes.add_argument("--table-only", action="store_true", help="run nothing; table and picture from what is there")
    regimes.add_argument("--write", type=Path, metavar="FILE", help="also make the marked tables of a document anew")
    _add_conditions(regimes)

    explain = commands.add_parser("explain", help="what simulated nights do, and what may stand in their place")
    what = "closed-form: each night again with something else in the place of its sleep; prediction: a grid of sleeps"
    explain.add_argument("what", choices=("closed-form", "prediction"), help=what)
    explain.add_argument("configs", type=Path, nargs="+", help="files of configs/; measured on held-out images")
    explain.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", dest="changes")
    explain.add_argument("--adam", action="store_true", help="each config once more, trained by Adam 0.001")
    explain.add_argument("--seeds", nargs="+", type=int, default=[0, 1], metavar="N", help="default: 0 1")
    place = "folder of folders of records; default: runs/explain"
    explain.add_argument("--out", type=Path, default=Path("runs/explain"), metavar="DIR", help=place)
    explain.add_argument("--write", type=Path, metavar="FILE", help="also make the marked tables of a document anew")
    explain.add_argument("--threads", type=int, metavar="N", help="threads of torch; default: torch's own choice")
    _add_places(explain)

    table = commands.add_parser("table", help="print tables from records alone")
    table.add_argument("folder", type=Path, help="a folder of records, e.g. runs")
    table.add_argument("--write", type=Path, metavar="FILE", help="also make the marked table in a Markdown file anew")
    what = "each strategy with and without sleep, beside what was published; in Markdown, to the screen or to --write"
    table.add_argument("--compare", action="store_true", help=what)

    report = commands.add_parser("report", help="make a web page, CSV and Markdown from records and published numbers")
    report.add_argument("folders", type=Path, nargs="+", help="folders of records, e.g. runs benchmarks/results")
    report.add_argument(
        "--out", type=Path, default=Path("site"), metavar="DIR", help="folder of the page; default: site"
    )

    verify = commands.add_parser(
        "verify", help="check records against themselves, and on request by running them again"
    )
    verify.add_argument("paths", type=Path, nargs="+", help="records, and folders of records")
    verify.add_argument("--rerun", action="store_true", help="run them again; what is confirmed gets a mark beside it")
    verify.add_argument("--seeds", nargs="+", type=int, metavar="N", help="run only these seeds again; default: all")
    verify.add_argument("--threads", type=int, metavar="N", help="threads of torch; default: as each record had")
    _add_places(verify)

    submit = commands.add_parser("submit", help="bring records into the form that a pull request needs")
    submit.add_argument("folders", type=Path, nargs="+", help="folders of records, e.g. runs")
    submit.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new folder")
    submit.add_argument("--note", default="", help="a sentence on what this is")
    submit.add_argument("--allow-dirty", action="store_true", help="also records of code that no commit has")
    submit.add_argument("--allow-failed", action="store_true", help="also records of runs that failed")

    features = commands.add_parser("features", help="compute the features of configs' backbones, once, onto the disk")
    features.add_argument("configs", type=Path, nargs="+", help="files of configs/ with a backbone")
    features.add_argument("--repair", action="store_true", help="compute anew what is not what was written")
    features.add_argument(
        "--devices", type=int, default=1, metavar="N", help="devices that compute together; default: 1"
    )
    features.add_argument("--num-nodes", type=int, default=1, metavar="N", help="machines; default: 1")
    timed = "only time so many images (default: 256), beside the plain loop over the same network"
    features.add_argument("--time", type=int, nargs="?", const=256, metavar="N", help=timed)
    features.add_argument("--turns", type=int, default=3, metavar="N", help="times that both are timed; default: 3")
    features.add_argument("--time-record", type=Path, metavar="FILE", help="also write what --time found as JSON")
    _add_places(features)

    pretrain = commands.add_parser("pretrain", help="train a backbone by Lightning; goes on where it stopped")
    pretrain.add_argument("config", type=Path, help="a file of configs/backbones/")
    pretrain.add_argument("--out", type=Path, default=Path("weights"), metavar="DIR", help="default: weights")
    pretrain.add_argument("--accelerator", default="auto", help="Lightning's: auto (default), cpu, cuda, mps")
    pretrain.add_argument("--devices", default="1", help="Lightning's: how many, or which; default: 1")
    pretrain.add_argument("--strategy", default="auto", help="Lightning's: auto (default), ddp, ...")
    pretrain.add_argument("--num-nodes", type=int, default=1, metavar="N", help="machines; default: 1")
    pretrain.add_argument("--restart", action="store_true", help="begin anew, and forget what was trained under --out")
    pretrain.add_argument("--max-seconds", type=float, metavar="S", help="end training after so many seconds")
    pretrain.add_argument("--threads", type=int, metavar="N", help="threads of torch; default: torch's own choice")
    pretrain.add_argument("--openers", type=int, default=0, metavar="N", help="processes that open images; default: 0")
    _add_data(pretrain)
    _add_wandb(pretrain)

    sync = commands.add_parser("wandb-sync", help="mirror finished runs in Weights & Biases, from their records")
    sync.add_argument("folder", type=Path, help="a folder of records, e.g. runs")
    _add_wandb(sync)

    reference = commands.add_parser("config-reference", help="print the page of all keys of a config")
    reference.add_argument("--write", type=Path, metavar="FILE", help="write it there instead")

    kernel = commands.add_parser("kernel", help="time the kernel's backends", add_help=False)
    kernel.add_argument("arguments", nargs=argparse.REMAINDER)
    overhead = commands.add_parser("overhead", help="time what a suite costs beyond training and sleep", add_help=False)
    overhead.add_argument("arguments", nargs=argparse.REMAINDER)
    return parser


def _add_conditions(command: argparse.ArgumentParser, *, seeds: Sequence[int] = (0, 1, 2)) -> None:
    """Add what `run`, `search` and `regimes` share."""
    add = command.add_argument
    usual = " ".join(map(str, seeds))
    add("--seeds", nargs="+", type=int, default=list(seeds), metavar="N", help=f"default: {usual}")
    add("--out", type=Path, default=Path("runs"), metavar="DIR", help="folder of records; default: runs")
    many = "runs made at the same time, in processes; default: 1, on a cluster as many as it has room for"
    add("--workers", type=int, metavar="N", help=many)
    add("--cluster", metavar="ADDRESS", help="make them on a Ray cluster: auto, host:port or ray://host:port")
    threads = "threads of torch; default: torch's own choice, with more workers one each"
    add("--threads", type=int, metavar="N", help=threads)
    add("--dry-run", action="store_true", help="check the configs, say what would run, and stop")
    _add_places(command)
    _add_wandb(command)


def _add_places(command: argparse.ArgumentParser) -> None:
    """Add where data and features are, and where they are computed."""
    _add_data(command)
    add = command.add_argument
    kept = "folder where features of backbones are kept; default: features"
    add("--features", type=Path, default=Path("features"), metavar="DIR", help=kept)
    add("--openers", type=int, default=0, metavar="N", help="processes that open images for a backbone; default: 0")
    add("--device", default="cpu", help="where networks compute: cpu (default), cuda, cuda:1, ...")


def _add_data(command: argparse.ArgumentParser) -> None:
    roots = "folder with a data set's files; give it again for another folder; default: data"
    command.add_argument("--data-root", type=Path, action="append", default=[], metavar="DIR", help=roots)
    command.add_argument("--download", action="store_true", help="fetch missing files into --data-root")


def _add_wandb(command: argparse.ArgumentParser) -> None:
    what = "mirror runs in Weights & Biases; without a MODE online if there is a key, else offline"
    modes = ("auto", "online", "offline", "disabled")
    command.add_argument("--wandb", nargs="?", choices=modes, const="auto", metavar="MODE", help=f"{what}; {modes}")
    command.add_argument("--wandb-project", metavar="NAME", help="default: WANDB_PROJECT, or src-plugin")


def _read_files(options: argparse.Namespace) -> None:
    """Refuse a config that is not there, or no YAML, before the seconds that the imports of a command take."""
    paths, kind = getattr(options, "configs", []), CONFIG
    if options.command == "search":
        paths = [options.config]
    elif options.command == "pretrain":
        paths, kind = [options.config], BACKBONE
    elif options.command == "regimes":
        paths, kind = [options.matrix], MATRIX
    for path in paths:
        read_mapping(path, kind)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: What follows `python -m benchmarks`; None takes it from the command line.

    Returns:
        Exit status: 0 done, 1 a run failed, 2 a request that cannot be met, 130 interrupted.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["kernel"]:  # has options of its own
        from benchmarks.speed.kernel import main as time_kernel

        return int(time_kernel(given[1:]) or 0)
    # Avalanche's quadratic-programming solvers, which nothing here uses, complain at import.
    warnings.filterwarnings("ignore", message="no QP solver found", category=UserWarning)
    if given[:1] == ["overhead"]:
        from benchmarks.speed.overhead import main as time_overhead

        return time_overhead(given[1:])
    options = _parser().parse_args(given)
    console = Console()
    if not console.is_terminal:  # a file or a pipe has no width of its own; 80 columns would cut the table
        console = Console(width=120)
    try:
        _read_files(options)
        from benchmarks.cli.commands import COMMANDS

        return COMMANDS[options.command](options, console)
    except SRCError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        kept = "all but the experience, epoch or shard in progress is kept"
        print(f"interrupted: {kept}; the same command goes on", file=sys.stderr)
        return INTERRUPTED


def told_of_warning(
    message: Warning | str, kind: type[Warning], file: str, line_number: int, line: str | None = None
) -> str:
    """Return what is printed of a warning: of one that the laboratory has for its user the words, no line of code."""
    if kind is UserWarning and Path(file).is_relative_to(Path(__file__).parent):
        return f"warning: {message}\n"
    return _WITH_LINE(message, kind, file, line_number, line)


_WITH_LINE = warnings.formatwarning

if __name__ == "__main__":
    warnings.formatwarning = told_of_warning
    sys.exit(main())
