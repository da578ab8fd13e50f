"""Four charts as Vega-Lite, the same for every benchmark: what is written into a page is their data alone.

Colours, fonts and widths are not in them: the page's script takes these from its style sheet, light or dark.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import altair as alt

from benchmarks.report.points import SLEEPS, STORES

JOINT = "joint"
HEIGHT_PX, PADDING_PX = 340, 14
NO_BYTES, KILO, MEGA = 0, 1e3, 1e6
BYTE_TICKS = [NO_BYTES, 10, 100, KILO, 10 * KILO, 100 * KILO, MEGA, 10 * MEGA, 100 * MEGA, 1e3 * MEGA]
BYTE_LABELS = (
    f"datum.value < {KILO:.0f} ? format(datum.value, ',') + ' B' : datum.value < {MEGA:.0f} "
    f"? datum.value / {KILO:.0f} + ' kB' : format(datum.value / {MEGA:.0f}, ',') + ' MB'"
)
CHOSEN = alt.param(name="chosen", value="")  # the strategy that the reader looks at


@cache
def chart_specs() -> dict[str, dict[str, Any]]:
    """Return the charts by name, as Vega-Lite: what they draw are the data sets of `points.chart_data`.

    "stored": accuracy against bytes kept, "time": against seconds, "seen": after each experience, all strategies,
    "phases": of the chosen strategy, experience by experience, after each training and each sleep.
    """
    bytes_axis = alt.X(
        "kept:Q",
        title="bytes kept between experiences",
        scale=alt.Scale(type="symlog", constant=1, nice=False, padding=PADDING_PX),
        axis=alt.Axis(grid=False, values=BYTE_TICKS, labelExpr=BYTE_LABELS, labelOverlap="greedy"),
    )
    seconds_axis = alt.X(
        "seconds:Q",
        title="training and sleep, s per run",
        scale=alt.Scale(type="log", nice=False, padding=PADDING_PX),
        axis=alt.Axis(grid=False, format="~g", tickCount=6, labelOverlap="greedy"),
    )
    charts = {
        "stored": _scatter("kept", bytes_axis),
        "time": _scatter("seconds", seconds_axis),
        "seen": _seen(),
        "phases": _phases(),
    }
    specs = {name: chart.properties(height=HEIGHT_PX, width="container").to_dict() for name, chart in charts.items()}
    for spec in specs.values():
        del spec["config"]  # the page has its own
    return specs


def _percent(field: str, title: str) -> alt.Y:
    return alt.Y(field, title=title, scale=alt.Scale(domain=[0, 100]), axis=alt.Axis(tickCount=5))


def _scatter(field: str, x: alt.X) -> alt.LayerChart | alt.FacetChart:
    """Return accuracy against a field: a point per row with its interval, joined to the same strategy without sleep."""
    data = alt.Chart(alt.NamedData("rows")).transform_filter(f"isValid(datum.{field}) && isValid(datum.mean)")
    joint = alt.Chart(alt.NamedData("rows")).transform_filter(f"datum.strategy == '{JOINT}' && isValid(datum.mean)")
    y = _percent("mean:Q", "accuracy, %")
    colour = alt.Color("sleeps:N", title=None, scale=alt.Scale(domain=list(SLEEPS.values())))
    shape = alt.Shape(
        "stores:N", title=None, scale=alt.Scale(domain=list(STORES.values())[:2], range=["square", "circle"])
    )
    tooltip = [
        alt.Tooltip("name:N", title="strategy"),
        alt.Tooltip("mean:Q", title="accuracy, %", format=".1f"),
        alt.Tooltip("low:Q", title="from", format=".1f"),
        alt.Tooltip("high:Q", title="to", format=".1f"),
        alt.Tooltip("kept:Q", title="bytes kept", format=","),
        alt.Tooltip("seconds:Q", title="seconds", format=".3~g"),
        alt.Tooltip("n:Q", title="runs"),
    ]
    bound = joint.mark_rule(style="bound").encode(y=y)
    bound_label = joint.mark_text(style="bound-label").encode(y=y, x=alt.value(0), text=alt.value("joint training"))
    pairs = data.transform_filter(f"isValid(datum.base_{field})")
    links = pairs.mark_rule(style="link").encode(x=x, y=y, x2=f"base_{field}:Q", y2="base_mean:Q")
    whiskers = data.mark_rule(style="whisker").encode(x=x, y=alt.Y("low:Q"), y2="high:Q", color=colour)
    points = data.mark_point(style="dot", filled=True).encode(x=x, y=y, color=colour, shape=shape, tooltip=tooltip)
    labels = data.transform_filter("datum.label || datum.id == chosen")
    at = alt.Y(f"{field}_name_y:Q")
    right, left = (
        labels.transform_filter(side).mark_text(style=style).encode(x=x, y=at, text="name:N")
        for side, style in ((f"!datum.{field}_is_left", "name-right"), (f"datum.{field}_is_left", "name-left"))
    )
    ring = data.transform_filter("datum.id == chosen").mark_point(style="ring").encode(x=x, y=y)
    return alt.layer(bound, bound_label, links, whiskers, points, ring, right, left).add_params(CHOSEN)


def _seen() -> alt.LayerChart | alt.FacetChart:
    """Return the accuracy on the classes seen so far after each experience: a line per strategy, the chosen above."""
    data = alt.Chart(alt.NamedData("seen"))
    chosen = data.transform_filter("datum.id == chosen")
    x = alt.X("experience:Q", title="experiences learnt", axis=alt.Axis(tickMinStep=1, format="d", grid=False))
    y = _percent("mean:Q", "accuracy on the classes seen, %")
    tooltip = [alt.Tooltip("name:N", title="strategy"), "experience:Q", alt.Tooltip("mean:Q", format=".1f")]
    others = data.mark_line(style="faint").encode(x=x, y=y, detail="id:N", tooltip=tooltip)
    band = chosen.mark_area(style="faint-band").encode(x=x, y=alt.Y("low:Q"), y2="high:Q")
    line = chosen.mark_line(style="chosen").encode(x=x, y=y, detail="id:N")
    dots = chosen.mark_point(style="chosen-dot", filled=True).encode(x=x, y=y, tooltip=tooltip)
    return alt.layer(others, band, line, dots).add_params(CHOSEN)


def _phases() -> alt.LayerChart | alt.FacetChart:
    """Return the accuracy on each experience after each training and sleep of the chosen strategy."""
    data = alt.Chart(alt.NamedData("phases")).transform_filter("datum.id == chosen")
    each = data.transform_filter("datum.experience > 0")
    overall = data.transform_filter("datum.experience == 0")
    x = alt.X("phase:O", title="T: after training, S: after the sleep", sort=alt.SortField("order"))
    x = x.axis(labelAngle=0, labelOverlap="greedy")
    y = _percent("mean:Q", "accuracy, %")
    colour = alt.Color("experience:O", title="experience")
    tooltip = [
        alt.Tooltip("phase:O", title="after"),
        alt.Tooltip("classes:N", title="test images of"),
        alt.Tooltip("mean:Q", title="accuracy, %", format=".1f"),
    ]
    band = each.mark_area(style="band").encode(x=x, y=alt.Y("low:Q"), y2="high:Q", color=colour)
    lines = each.mark_line(style="experience").encode(x=x, y=y, color=colour)
    dots = each.mark_point(style="experience-dot", filled=True).encode(x=x, y=y, color=colour, tooltip=tooltip)
    all_classes = overall.mark_line(style="overall").encode(x=x, y=y, tooltip=tooltip)
    return alt.layer(band, lines, dots, all_classes).add_params(CHOSEN)
