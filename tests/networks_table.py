"""Writes docs/networks.md: what the battery of network kinds and the families of timm came to.

.venv/bin/python tests/networks_table.py --seeds 3
"""

import argparse
import json
import logging
import sys
import warnings
from pathlib import Path
from statistics import mean, stdev

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from family_samples import FAMILIES, Family, look
from network_samples import KINDS, Kind, train

PAGE = Path(__file__).resolve().parents[1] / "docs" / "networks.md"

HEADER = """# Which networks sleep

Made by `python tests/networks_table.py`, from the same tables that `tests/networks` walks. A head is a tail of linear
layers with an activation between them; all that lies below it stays as it is, to the bit. What cannot sleep is refused
in the first batch, with the reason.

## Kinds of networks

Scikit-learn's digits, five experiences of two classes, Adam at 0.001, batches of 16, five epochs; {hidden} hidden
units; accuracy on all ten digits at the end, in percent: mean and standard deviation over {seeds} seeds. *Layers* is
how many of them sleep; where it is one, outputs are levelled only.

| network | trained alone | with `SRCPlugin()` | layers |
|---|---:|---:|---:|
"""

REFUSED = """
## Refused

| network | what is said |
|---|---|
"""

FAMILY = """
## Families of timm

Random weights, ten classes, small inputs, some of them with fewer blocks; what lies below the head is bit-identical
after a sleep. *Below* is what ended the search for more layers, or the refusal.

| model | head | below |
|---|---|---|
"""


def cell(values):
    """Mean and standard deviation."""
    return f"{mean(values):.1f} ± {stdev(values):.1f}" if len(values) > 1 else f"{values[0]:.1f}"


def escaped(text):
    return text.replace("|", "\\|").replace("\n", " ")


def kind_row(name, kind: Kind, seeds):
    """The cells of a kind; two if it is refused."""
    if kind.refused:
        return [f"`{name}`" if "(" in name else name, escaped(train(kind, sleeps=True, experiences=1).refusal)]
    slept = [train(kind, sleeps=True, seed=seed) for seed in range(seeds)]
    alone = [train(kind, sleeps=False, seed=seed).accuracy for seed in range(seeds)]
    return [name, cell(alone), cell([o.accuracy for o in slept]), str(slept[0].layers)]


def family_row(name, family: Family):
    seen = look(name, family)
    return [f"`{name}`", ", ".join(f"`{n}`" for n in seen.names) or "refused", escaped(seen.below)]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--part", type=int, nargs=2, default=(0, 1), metavar=("I", "N"))
    parser.add_argument("--rows", type=Path, help="file of rows that are there already; new ones are added")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.getLogger("src_plugin").setLevel(logging.ERROR)
    rows = json.loads(options.rows.read_text()) if options.rows and options.rows.exists() else {}
    part, parts = options.part
    for make, table in ((lambda n, k: kind_row(n, k, options.seeds), KINDS), (family_row, FAMILIES)):
        for i, (name, row) in enumerate(table.items()):
            if i % parts == part and name not in rows:
                rows[name] = make(name, row)
                print(*rows[name], sep=" | ", flush=True)
                if options.rows:
                    options.rows.write_text(json.dumps(rows))
    if parts == 1:
        PAGE.write_text(page(rows, options.seeds), "utf-8")


def page(rows, seeds):
    """The whole page."""
    lines = {name: f"| {' | '.join(cells)} |\n" for name, cells in rows.items()}
    slept = "".join(lines[name] for name, kind in KINDS.items() if not kind.refused)
    refused = "".join(lines[name] for name, kind in KINDS.items() if kind.refused)
    families = "".join(lines[name] for name in FAMILIES)
    return HEADER.format(hidden=512, seeds=seeds) + slept + REFUSED + refused + FAMILY + families


if __name__ == "__main__":
    main()
