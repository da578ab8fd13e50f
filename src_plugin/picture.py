"""plot_sleeps: the nights of one run as a picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from src_plugin.errors import ConfigError
from src_plugin.report import SleepReport, Status

# Okabe & Ito's colours, told apart by colour-blind readers too.
COLOURS = {Status.SLEPT: "#0072B2", Status.SETTLED: "#009E73", Status.LEVELLED: "#CC79A7", Status.AWAKE: "#BBBBBB"}
BEFORE, OTHERS, INK, GREY = "#E69F00", ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9"), "#444444", "#E2E2E2"
STAGES = (
    ("share_trained", "after training", BEFORE, "o"),
    ("share_slept", "after the sleep", COLOURS[Status.SLEPT], "s"),
    ("share_settled", "settled", COLOURS[Status.SETTLED], "^"),
    ("share_levelled", "levelled", COLOURS[Status.LEVELLED], "D"),
)
"""What reports the share of noise that new classes win, its name, colour and marker."""


def plot_sleeps(nights: Any, *, accuracy: Iterable[tuple[float, float]] | None = None, width: float = 3.5) -> Figure:
    """Draw what each night did: status, how far each layer moved, settling and levelling.

    Args:
        nights: What slept (`SRC`, `SRCPlugin` or `SRCCallback`), or its reports.
        accuracy: Fractions right before and after each night, from wherever they were measured; None draws none.
        width: Of the picture, in inches; the default is a column of a paper, or a phone.

    Returns:
        A figure of matplotlib; `figure.savefig("sleeps.png", dpi=200)` writes it.

    Raises:
        ConfigError: There are no nights, or not as many accuracies.

    Example:
        >>> plot_sleeps(src).savefig("sleeps.png", dpi=200)  # doctest: +SKIP
    """
    reports = _reports_of(nights)
    pairs = None if accuracy is None else list(accuracy)
    if pairs is not None and len(pairs) != len(reports):
        raise ConfigError(
            f"plot_sleeps: {len(reports)} nights and {len(pairs)} accuracies; give accuracy=[(before, after), ...], a "
            "pair for each night"
        )
    panels = [_moved, *([_shares] if any(report.balance for report in reports) else [])]
    heights = [0.6, *(1.75 for _ in panels), *([1.6] if pairs else [])]
    figure = Figure(figsize=(width, sum(heights)), layout="constrained")
    axes = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    _status(axes[0], reports)
    for axis, panel in zip(axes[1:], panels, strict=False):
        panel(axis, reports)
    if pairs:
        _accuracy(axes[-1], pairs)
    axes[-1].set_xlabel("night", fontsize=8, labelpad=1, loc="right")
    axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True, nbins=10, min_n_ticks=1))
    axes[-1].set_xlim(0.4, len(reports) + 0.6)
    if legend := axes[-1].get_legend():
        legend.set_bbox_to_anchor((-0.02, -0.14))  # below the numbers of the nights
    return figure


def _reports_of(nights: Any) -> list[SleepReport]:
    reports = list(getattr(nights, "reports", nights))
    if not reports or not all(isinstance(report, SleepReport) for report in reports):
        raise ConfigError("plot_sleeps: there are no nights; give what has slept, or its reports, after training")
    return reports


def _status(axis: Axes, reports: Sequence[SleepReport]) -> None:
    status = [report.status for report in reports]
    counts = Counter(status)
    handles = [Patch(color=COLOURS[kind], label=f"{counts[kind]} {kind}") for kind in Status if counts[kind]]
    axis.bar(range(1, len(status) + 1), 1, width=0.9, color=[COLOURS[one] for one in status])
    _tidy(axis, f"{len(reports)} night{'s' if len(reports) > 1 else ''}", handles=handles)
    axis.set_ylim(0, 1)
    axis.set_yticks([])
    axis.spines[["left", "bottom"]].set_visible(False)
    axis.tick_params(axis="x", length=0)


def _moved(axis: Axes, reports: Sequence[SleepReport]) -> None:
    """Draw how much the weights of each layer changed over the night."""
    told = [dict(zip(report.layers, _changes(report), strict=False)) for report in reports]  # none if awake
    for k, layer in enumerate(dict.fromkeys(layer for night in told for layer in night)):
        values = [night.get(layer) for night in told]
        _line(axis, values, OTHERS[k % len(OTHERS)], "os^Dv"[k % 5], layer or "output")
    _tidy(axis, "Change of weights, % of their norm")
    axis.set_ylim(bottom=0)


def _changes(report: SleepReport) -> list[float]:
    pairs = zip(report.weight_change, report.weight_norm, strict=True)
    return [change / norm if norm else 0.0 for change, norm in pairs]


def _shares(axis: Axes, reports: Sequence[SleepReport]) -> None:
    for key, words, colour, marker in STAGES:
        shares = [getattr(report, key) for report in reports]
        if key == "share_slept":  # it is that after training where there was no sleep
            shares = [s if r.status == Status.SLEPT else None for s, r in zip(shares, reports, strict=True)]
        _line(axis, shares, colour, marker, words)
    wanted = [(night, 100 * report.expected_share) for night, report in enumerate(reports, 1) if report.balance]
    axis.plot(*zip(*wanted, strict=True), "_", color="black", markersize=11, markeredgewidth=1.4, label="their share")
    _tidy(axis, "Noise that new classes win, %")
    axis.set_ylim(0, 104)


def _accuracy(axis: Axes, pairs: Sequence[tuple[float, float]]) -> None:
    _line(axis, [before for before, _ in pairs], BEFORE, "o", "before the sleep")
    _line(axis, [after for _, after in pairs], OTHERS[0], "s", "after")
    _tidy(axis, "Accuracy, %")
    axis.set_ylim(0, 104)


def _line(axis: Axes, fractions: Sequence[float | None], colour: str, marker: str, words: str) -> None:
    """Draw a fraction of each night as percent, with a gap where there is none."""
    values = [float("nan") if fraction is None else 100 * fraction for fraction in fractions]
    if any(fraction is not None for fraction in fractions):
        hollow = {"markersize": 7, "fillstyle": "none"} if colour == BEFORE else {"markersize": 4}  # seen below others
        axis.plot(
            range(1, len(values) + 1), values, color=colour, marker=marker, linewidth=1.3, label=words,
            clip_on=False, **hollow,
        )  # fmt: skip


def _tidy(axis: Axes, title: str, *, handles: list[Patch] | None = None) -> None:
    """Give a panel its words, at a size that can be read on a phone, and take away what says nothing."""
    axis.set_title(title, fontsize=8, loc="left", fontweight="bold", pad=4)
    axis.tick_params(labelsize=7.5, length=2)
    axis.grid(axis="y", color=GREY, linewidth=0.6)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    shown = handles or axis.get_legend_handles_labels()[0]
    if shown:
        columns = 3 if axis.bbox.width < 600 else 5  # at 100 dots per inch
        axis.legend(
            handles=shown, frameon=False, fontsize=7, loc="upper left", bbox_to_anchor=(-0.02, -0.04), ncols=columns,
            handlelength=1.3, columnspacing=1.2, labelcolor=INK,
        )  # fmt: skip
