"""Command line of the laboratory: a command is a file of `cli`, imported when it is chosen.

Errors of the project's own become one line.
"""

from __future__ import annotations

import argparse
import ast
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from rich.console import Console

from src_plugin.errors import SRCError

COMMANDS = Path(__file__).with_name("cli")
INTERRUPTED = 130


def commands() -> dict[str, str]:
    """Return the name of every command, and the first line of its file, which says what it does."""
    found = {}
    for path in sorted(COMMANDS.glob("[!_]*.py")):
        words = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        found[path.stem.replace("_", "-")] = words.partition("\n")[0]
    return found


def parse(given: Sequence[str]) -> argparse.Namespace:
    """Return the options of a command; `options.main` is what it does.

    Args:
        given: What follows `python -m benchmarks`.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="The laboratory of src-plugin.")
    choices = parser.add_subparsers(dest="command", required=True)
    for name, words in commands().items():
        command = choices.add_parser(name, help=words, description=words)
        if name in given[:1]:
            module = import_module(f"benchmarks.cli.{name.replace('-', '_')}")
            module.add(command)
            command.set_defaults(main=module.main)
    return parser.parse_args(given)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: What follows `python -m benchmarks`; None takes it from the command line.

    Returns:
        Exit status: 0 done, 1 a run failed, 2 a request that cannot be met, 130 interrupted.
    """
    # Avalanche's quadratic-programming solvers, which nothing here uses, complain at import.
    warnings.filterwarnings("ignore", message="no QP solver found", category=UserWarning)
    options = parse(sys.argv[1:] if arguments is None else arguments)
    console = Console()
    if not console.is_terminal:  # a file or a pipe has no width of its own; 80 columns would cut the table
        console = Console(width=120)
    try:
        return int(options.main(options, console))
    except SRCError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        kept = "all but the experience, epoch or shard in progress is kept"
        print(f"interrupted: {kept}; the same command goes on", file=sys.stderr)
        return INTERRUPTED


def told_of_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """Return what is printed of a warning: of one that the laboratory has for its user the words, no line of code."""
    if category is UserWarning and Path(filename).is_relative_to(Path(__file__).parent):
        return f"warning: {message}\n"
    return _WITH_LINE(message, category, filename, lineno, line)


_WITH_LINE = warnings.formatwarning

if __name__ == "__main__":
    warnings.formatwarning = told_of_warning
    sys.exit(main())
