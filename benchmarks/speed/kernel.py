"""How fast the kernel's backends are on the Split-MNIST head, 784-1200-1200-10, or at other widths, with real stimuli.

Two sleeps are timed. "paper": the published rule and stimulus, gains at which hidden units fire as rarely as in such a
sleep. "auto": its ungated rule and its stimulus, gains at which 1 to 2 percent of the hidden units fire per step.
All backends start from the same weights and the same potentials; the reference, being slow, runs the first few of the
same steps. A change of `event` is measured beside the version before it, in turns:

    git show HEAD:src_plugin/kernel/event.py > /tmp/before.py
    python -m benchmarks kernel --before /tmp/before.py --widths 300 600 1200 2400
"""

from __future__ import annotations

import importlib.util
import itertools
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from src_plugin.config import Simulation, SleepConfig
from src_plugin.errors import ConfigError
from src_plugin.kernel import BACKENDS, simulate
from src_plugin.night.stimulus import draw_spikes, spike_probability

INPUTS, WIDTH, OUTPUTS = 784, 1200, 10
WEIGHT_SPREAD = 0.02  # standard deviation of the synthetic weights, about that of a trained head
PROBE_STEPS = 2000  # for finding gains, and for potentials that have forgotten the start
AUTO_SHARE = 10  # of `auto` this many times fewer steps are run: its sleeps are short
PAPER = SleepConfig.preset("paper/split_mnist").simulation
AUTO = Simulation()
SLEEPS = {"paper": (PAPER, (3e-5, 3e-5, 3e-5)), "auto": (AUTO, AUTO.target_rates)}  # fractions firing, per layer
WANTED_RATIO = 100


def synthetic_mean_image() -> NDArray[np.float64]:
    """Return a centred blob, (28, 28), with the mean (0.13) and about the peak (0.6) of MNIST's mean image."""
    distance = np.hypot(*(np.indices((28, 28)) - 13.5))
    blob: NDArray[np.float64] = np.exp(-0.5 * (distance / 5.2) ** 2)
    blob *= 0.13 / blob.mean()
    return blob


def measure(
    steps_event: int,
    steps_reference: int,
    *,
    mean_image: NDArray[np.floating[Any]] | None = None,
    widths: Sequence[int] = (WIDTH,),
    repeats: int = 3,
    seed: int = 0,
) -> dict[str, Any]:
    """Time all backends on both sleeps, in float64 and float32.

    Args:
        steps_event: Steps of the event backend per timing; `auto` runs a tenth of them.
        steps_reference: Steps of the reference per timing; the first of the same steps.
        mean_image: Mean input, (28, 28) in [0, 1]; `None` takes a synthetic one.
        widths: Units in each of the two hidden layers; the head is timed at every one.
        repeats: Timings of each; the median counts.
        seed: Of the weights and the stimulus.

    Returns:
        `threads` (OMP_NUM_THREADS or None) and `rows`, each with the width, the sleep, the dtype, input spikes per
        step, the fraction of hidden units firing per step, `us`, microseconds per step of each backend, and `ratio`,
        how many times each takes that of `event`: medians over the turns. Times are those of whole calls of
        `simulate`, checks and copies included; compilation is not.
    """
    image = synthetic_mean_image() if mean_image is None else mean_image
    rows = []
    for width, (sleep, (config, targets)) in itertools.product(widths, SLEEPS.items()):
        rng = np.random.default_rng(seed)
        n_event = steps_event if sleep == "paper" else max(1, steps_event // AUTO_SHARE)
        n_steps = PROBE_STEPS + max(n_event, steps_reference)
        probability = spike_probability(image.ravel(), config)
        spikes = draw_spikes(probability, n_steps=n_steps, generator=rng, patch=config.patch)
        probe, spikes = spikes[:PROBE_STEPS], spikes[PROBE_STEPS:]
        sizes = (INPUTS, width, width, OUTPUTS)
        weights = [rng.normal(0.0, WEIGHT_SPREAD, (post, pre)) for pre, post in itertools.pairwise(sizes)]
        rule = _rule(config)
        rule["scales"], state = _scales(weights, probe, rule, targets=targets)
        for dtype in (np.float64, np.float32):
            start = [w.astype(dtype, order="F") for w in weights]  # as a sleep hands them over
            seconds: dict[str, list[float]] = {name: [] for name in BACKENDS}
            for name in BACKENDS:
                simulate(start, spikes[:1], state=state, backend=name, **rule)  # compiles
            for _ in range(repeats):
                for name in BACKENDS:
                    steps = steps_reference if name == "reference" else n_event
                    begin = time.perf_counter()
                    trace = simulate(start, spikes[:steps], state=state, backend=name, **rule)
                    seconds[name].append((time.perf_counter() - begin) / steps)
                    if name == "event":
                        fired = np.concatenate(trace.spike_counts[1:-1]) / steps
            rows.append(
                {
                    "width": width,
                    "sleep": sleep,
                    "dtype": np.dtype(dtype).name,
                    "input_spikes_per_step": float(spikes[:n_event].sum(axis=1).mean()),
                    "hidden_fraction": float(fired.mean()),
                    "us": {name: 1e6 * statistics.median(each) for name, each in seconds.items()},
                    "ratio": {
                        name: statistics.median(a / b for a, b in zip(each, seconds["event"], strict=True))
                        for name, each in seconds.items()
                    },
                }
            )
    return {"threads": os.environ.get("OMP_NUM_THREADS"), "rows": rows}


def _rule(config: Simulation) -> dict[str, Any]:
    # For `auto` steps so small that the rates stay where they are, which its own would not; they cost the same.
    steps = {"inc": config.inc or 1e-8, "dec": config.dec or 1e-8}
    return {**steps, "decay": config.decay, "gate_width": config.gate_width, "thresholds": PAPER.thresholds}


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
    others = [name for name in result["rows"][0]["us"] if name != "event"]
    table = Table(
        title=f"Kernel, {INPUTS}-width-width-{OUTPUTS}, one step",
        caption=f"Medians of whole calls. OMP_NUM_THREADS: {threads or 'not set'}; event has one thread.",
    )
    for heading in ("sleep", "type", "width", "input spikes", "hidden firing", "event", *others):
        table.add_column(heading, justify="left" if heading in ("sleep", "type") else "right")
    for row in result["rows"]:
        table.add_row(
            row["sleep"],
            row["dtype"],
            str(row["width"]),
            f"{row['input_spikes_per_step']:.1f}",
            f"{100 * row['hidden_fraction']:.2g} %",
            f"{row['us']['event']:.1f} us",
            *[f"{row['us'][name]:.1f} us = {row['ratio'][name]:.1f}x" for name in others],
        )
    return table


def load_backend(path: Path) -> Callable[..., Any]:
    """Return the `run` of another version of event.py.

    Raises:
        ConfigError: It is no Python file.
    """
    spec = importlib.util.spec_from_file_location("event_before", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ConfigError(f"--before must be a Python file; got {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # Numba's cache looks it up
    spec.loader.exec_module(module)
    run: Callable[..., Any] = module.run
    return run
