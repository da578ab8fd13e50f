"""Writes docs/networks.md: what the battery of network kinds and the families of timm came to.

.venv/bin/python tests/networks_table.py --seeds 6
"""

import argparse
import json
import logging
import sys
import warnings
from pathlib import Path
from statistics import mean, stdev

from scipy.special import stdtrit

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.markdown import BEGIN, END
from family_samples import FAMILIES, Family, look
from network_samples import HIDDEN, KINDS, WAYS, Kind, train

PAGE = Path(__file__).resolve().parents[1] / "docs" / "networks.md"

HEADER = """# Which networks sleep

Made by `python tests/networks_table.py --seeds {seeds}`, from the same tables that `tests/networks` walks. A head is a
tail of linear layers with an activation between them; all that lies below it stays as it is, to the bit. What cannot
sleep is refused in the first batch, with the reason.

## Kinds of networks

Scikit-learn's digits, five experiences of two classes, Adam at 0.001, batches of 16, five epochs; {hidden} hidden
units; accuracy on all ten digits at the end, in percent: mean over {seeds} seeds and half of its 95 % interval
(Student's). *Levelled* is `SleepConfig(sleep=None)`, settling and levelling alone; *joint* is trained on all digits at
once. *Layers* is how many of them sleep; where it is one, outputs are levelled only.

| network | trained alone | levelled | with `SRCPlugin()` | joint | layers |
|---|---:|---:|---:|---:|---:|
"""

UNDER = """
### Below 60 %

No kind loses against training alone. Four stay below 60 %, and neither the sleep nor the layer is what is missing:

- *second of three frozen*: the head ends above the frozen layer, so one layer is levelled, while the layer below goes
  on learning. What was learnt before is lost in that layer, and a warning says that it moved.
- *IncrementalClassifier* masks classes that it has not met, so their rows are random when their experience begins. In a
  plain head earlier training has pushed them down. Settling finds its balance much nearer to the weights before, and
  the experience is settled away (`research_notes.md`, "Heads that grow").
- *BatchNorm at the output* standardises each score over the two classes of a batch, in training. Levelled outputs do
  not outlive that (our reading, not tested apart), and seeds lie between 27 and 65 %.
- *BatchNorm without gains* has 59.6 ± 4.6. Biases of the Linear before it are taken out by the next training, and it
  has none of its own to hold them.

Softplus and Sigmoid have 62 % where joint training has 88 and 86: settling and levelling have 61 of it, so it is these
networks that training of five epochs leaves there.
"""

REFUSED = """
## Refused

| network | what is said |
|---|---|
"""

FORMS = """
## Inputs of any sign, and heads, on MNIST and Fashion-MNIST

Made by `python tests/forms_table.py --mnist DIR --fashion DIR --rows FILE`. Five experiences of two classes in their
natural order, one epoch each, batches of 128; under SGD (0.05) 784-600-600-10 without biases, under Adam (0.001)
784-512-10. Accuracy on all test images in percent: settling and levelling alone / with the sleep of `SleepConfig()`,
mean over two seeds, which differ by 2 points on average and 11.5 at most. Nothing was chosen on them.

Normalised and standardised inputs end where raw pixels do or above. Inputs in [-1, 1] lose 10 and 18 points on MNIST,
of which settling and levelling alone lose 5 and 14, and none on Fashion-MNIST. GELU loses nothing under SGD, 2 and 6
points under Adam. Batch norm loses 10 to 14 points: under Adam settling alone loses as many, under SGD it loses none,
and there the sleep adds nothing to it.

"""

FAMILY = """
## Families of timm

Random weights, ten classes, small inputs, some of them with fewer blocks; what lies below the head is bit-identical
after a sleep. *Below* is what ended the search for more layers, or the refusal.

| model | head | below |
|---|---|---|
"""


def cell(values):
    """Mean and half of its 95 % interval."""
    n = len(values)
    return f"{mean(values):.1f} ± {stdtrit(n - 1, 0.975) * stdev(values) / n**0.5:.1f}" if n > 1 else f"{values[0]:.1f}"


def escaped(text):
    return text.replace("|", "\\|").replace("\n", " ")


def kind_row(kind: Kind, seeds):
    """What a kind came to: accuracies by way and the number of layers, or the refusal."""
    if kind.refused:
        return {"refusal": train(kind, experiences=1).refusal}
    ways = {way: [train(kind, way, seed=seed) for seed in range(seeds)] for way in WAYS}
    return {"layers": ways["slept"][0].layers} | {way: [o.accuracy for o in ways[way]] for way in WAYS}


def kind_line(name, row):
    name = f"`{name}`" if "refusal" in row and "(" in name else name
    if "refusal" in row:
        return [name, escaped(row["refusal"])]
    return [name, *(cell(row[way]) for way in WAYS), str(row["layers"])]


def family_row(name, family: Family):
    seen = look(name, family)
    return [f"`{name}`", ", ".join(f"`{n}`" for n in seen.names) or "refused", escaped(seen.below)]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--rows", type=Path, help="file of rows that are there already; new ones are added")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.getLogger("src_plugin").setLevel(logging.ERROR)
    rows = json.loads(options.rows.read_text()) if options.rows and options.rows.exists() else {}
    for make, table in ((lambda _, k: kind_row(k, options.seeds), KINDS), (family_row, FAMILIES)):
        for name, row in table.items():
            if name not in rows:
                rows[name] = make(name, row)
                print(name, rows[name], flush=True)
                if options.rows:
                    options.rows.write_text(json.dumps(rows))
    PAGE.write_text(page(rows, options.seeds), "utf-8")


def page(rows, seeds):
    """The whole page."""
    lines = {name: f"| {' | '.join(kind_line(name, rows[name]))} |\n" for name in KINDS}
    slept = "".join(lines[name] for name, kind in KINDS.items() if not kind.refused)
    refused = "".join(lines[name] for name, kind in KINDS.items() if kind.refused)
    families = "".join(f"| {' | '.join(rows[name])} |\n" for name in FAMILIES)
    forms = BEGIN + PAGE.read_text("utf-8").partition(BEGIN)[2].partition(END)[0] + END + "\n"  # of forms_table.py
    return (
        HEADER.format(hidden=HIDDEN, seeds=seeds)
        + slept
        + UNDER
        + FORMS
        + forms
        + REFUSED
        + refused
        + FAMILY
        + families
    )


if __name__ == "__main__":
    main()
