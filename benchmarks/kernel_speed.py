"""How fast the kernel's backends are on the Split-MNIST head, 784-1200-1200-10, with the stimulus of a real sleep.

Two sleeps are timed. "paper": the published rule and stimulus, gains at which hidden units fire as rarely as in such a
sleep. "busy": the ungated rule of `auto` at its target rates, where 1 to 2 percent of the hidden units fire per step.
Both backends start from the same weights and the same potentials; the reference, being slow, runs the first few of the
same steps.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from src_plugin.config import SleepConfig
from src_plugin.errors import SRCError
from src_plugin.kernel import simulate
from src_plugin.stimulus import draw_spikes, spike_probability

SIZES = (784, 1200, 1200, 10)
WEIGHT_SPREAD = 0.02  # standard deviation of the synthetic weights, about that of a trained head
PROBE_STEPS = 2000  # for finding gains, and for potentials that have forgotten the start
BUSY_SHARE = 10  # the busy sleep runs this many times fewer steps: `auto` sleeps are short
PAPER = SleepConfig.preset("paper/split_mnist")
AUTO = SleepConfig()
TARGETS = {"paper": (3e-5, 3e-5, 3e-5), "busy": AUTO.target_rates}  # fraction of units firing per step, per layer
WANTED_RATIO = 100


def synthetic_mean_image() -> NDArray[np.float64]:
    """Return a centred blob, (28, 28), with the mean (0.13) and about the peak (0.6) of MNIST's mean image."""
    distance = np.hypot(*(np.indices((28, 28)) - 13.5))
    blob = np.exp(-0.5 * (distance / 5.2) ** 2)
    return blob * (0.13 / blob.mean())


def measure(
    steps_event: int,
    steps_reference: int,
    *,
    mean_image: NDArray[np.floating[Any]] | None = None,
    repeats: int = 3,
    seed: int = 0,
) -> dict[str, Any]:
    """Time both backends on both sleeps, in float64 and float32.

    Args:
        steps_event: Steps of the event backend per timing; the busy sleep runs a tenth of them.
        steps_reference: Steps of the reference per timing; the first of the same steps.
        mean_image: Mean input, (28, 28) in [0, 1]; `None` takes a synthetic one.
        repeats: Timings of each; the median counts.
        seed: Of the weights and the stimulus.

    Returns:
        `threads` (OMP_NUM_THREADS or None) and `rows`, each with the sleep, the dtype, input spikes per step, the
        fraction of hidden units firing per step, microseconds per step of both backends, and their ratio. Times are
        those of whole calls of `simulate`, checks and copies included; compilation is not.
    """
    rng = np.random.default_rng(seed)
    image = synthetic_mean_image() if mean_image is None else mean_image
    n_steps = max(steps_event, steps_reference)
    spikes = draw_spikes(
        spike_probability(image.ravel(), PAPER), n_steps=PROBE_STEPS + n_steps, generator=rng, patch=PAPER.patch
    )
    probe, spikes = spikes[:PROBE_STEPS], spikes[PROBE_STEPS:]
    weights = [rng.normal(0.0, WEIGHT_SPREAD, (post, pre)) for pre, post in itertools.pairwise(SIZES)]
    rows = []
    for sleep in TARGETS:
        rule = _rule(sleep)
        n_event = steps_event if sleep == "paper" else max(1, steps_event // BUSY_SHARE)
        rule["scales"], state = _scales(weights, probe, rule, targets=TARGETS[sleep])
        for dtype in (np.float64, np.float32):
            start = [w.astype(dtype) for w in weights]
            simulate(start, spikes[:1], state=state, **rule)  # compiles
            seconds: dict[str, list[float]] = {"event": [], "reference": []}
            for _ in range(repeats):
                for backend, steps in (("event", n_event), ("reference", steps_reference)):
                    begin = time.perf_counter()
                    trace = simulate(start, spikes[:steps], state=state, backend=backend, **rule)
                    seconds[backend].append((time.perf_counter() - begin) / steps)
                    if backend == "event":
                        fired = np.concatenate(trace.spike_counts[1:-1]) / steps
            event, reference = (1e6 * statistics.median(seconds[name]) for name in ("event", "reference"))
            rows.append(
                {
                    "sleep": sleep,
                    "dtype": np.dtype(dtype).name,
                    "input_spikes_per_step": float(spikes[:n_event].sum(axis=1).mean()),
                    "hidden_fraction": float(fired.mean()),
                    "event_us": event,
                    "reference_us": reference,
                    "ratio": reference / event,
                }
            )
    return {"threads": os.environ.get("OMP_NUM_THREADS"), "rows": rows}


def _rule(sleep: str) -> dict[str, Any]:
    if sleep == "paper":
        rule = {"inc": PAPER.inc, "dec": PAPER.dec, "decay": PAPER.decay, "gate_width": PAPER.gate_width}
    else:  # steps so small that the rates stay where they are, which those of `auto` would not; they cost the same
        rule = {"inc": 1e-8, "dec": 1e-8, "decay": AUTO.decay, "gate_width": AUTO.gate_width}
    return {**rule, "thresholds": PAPER.thresholds}


def _scales(
    weights: list[NDArray[Any]], probe: NDArray[np.bool_], rule: dict[str, Any], *, targets: Sequence[float]
) -> tuple[list[float], list[NDArray[Any]]]:
    """Return gains at which each layer fires at its target without plasticity, and the potentials this leaves."""
    scales: list[float] = []
    still = {**rule, "inc": 0.0, "dec": 0.0}
    for layer, target in enumerate(targets):
        part = {**still, "thresholds": rule["thresholds"][: layer + 1]}
        low, high = 1e-3, 1e3
        for _ in range(14):
            middle = float(np.sqrt(low * high))
            trace = simulate(weights[: layer + 1], probe, **{**part, "scales": [*scales, middle]})
            if trace.spike_counts[-1].mean() / len(probe) > target:
                high = middle
            else:
                low = middle
        scales.append(low)
    return scales, simulate(weights, probe, **{**still, "scales": scales}).potentials


def make_table(result: dict[str, Any]) -> Table:
    """Return the result of `measure` as a table for the terminal."""
    threads = result["threads"]
    table = Table(
        title="Kernel, 784-1200-1200-10, one step",
        caption=f"Median of whole calls. OMP_NUM_THREADS: {threads or 'not set'}; event has one thread.",
    )
    for heading in ("sleep", "type", "input spikes", "hidden firing", "event", "reference", "ratio"):
        table.add_column(heading, justify="left" if heading in ("sleep", "type") else "right")
    for row in result["rows"]:
        table.add_row(
            row["sleep"],
            row["dtype"],
            f"{row['input_spikes_per_step']:.1f}",
            f"{100 * row['hidden_fraction']:.4f} %",
            f"{row['event_us']:.1f} us",
            f"{row['reference_us']:.0f} us",
            f"{row['ratio']:.0f}",
        )
    return table


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; `python -m benchmarks kernel`.

    Args:
        argv: Options, see `--help`; None takes them from the command line.

    Returns:
        Exit status: 0, or 2 if the images are not there.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks kernel", description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=_positive, default=15000, help="of the event backend (default: 15000)")
    parser.add_argument("--reference-steps", type=_positive, default=300, help="of the reference (default: 300)")
    parser.add_argument("--repeats", type=_positive, default=3, help="timings of each, the median counts (default: 3)")
    parser.add_argument("--data-root", type=Path, metavar="DIR", help="take the mean image from MNIST's IDX files here")
    options = parser.parse_args(argv)
    console = Console()
    image = None
    if options.data_root is not None:
        from benchmarks.data import load_dataset

        try:
            images = load_dataset("mnist", data_root=options.data_root).train_images
        except SRCError as error:
            parser.error(str(error))
        image = images.mean(dim=0).double().reshape(28, 28).numpy()
    result = measure(options.steps, options.reference_steps, mean_image=image, repeats=options.repeats)
    console.print(make_table(result))
    ratio = result["rows"][0]["ratio"]
    verdict = "reached" if ratio >= WANTED_RATIO else "missed"
    console.print(f"Wanted on the first row: at least {WANTED_RATIO}; {verdict}.", highlight=False)
    return 0


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more; got {number}")
    return number
