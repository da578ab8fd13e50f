"""plot_sleeps: what the picture of one's own run shows, and that it can be read."""

import re

import pytest
from matplotlib import pyplot as plt
from matplotlib.backends.backend_agg import FigureCanvasAgg

from places import ROOT
from plugin_samples import QUICK, build, train
from src_plugin import SleepConfig, plot_sleeps
from src_plugin.errors import ConfigError
from src_plugin.picture import COLOURS
from src_plugin.plugin import SRCPlugin
from src_plugin.report import SleepReport, Status


def slept(config=QUICK):
    plugin = SRCPlugin(config)
    train(build(plugin, train_epochs=5))
    return plugin


def titles(figure):
    return [axis.get_title(loc="left") for axis in figure.axes]


def lines(axis):
    return {line.get_label(): line.get_ydata().tolist() for line in axis.lines}


def labels(axis):
    return [text.get_text() for text in axis.get_legend().get_texts()]


def test_each_night_has_its_status_and_how_far_each_layer_moved():
    plugin = slept()
    figure = plot_sleeps(plugin)
    assert titles(figure) == [
        "2 nights",
        "Change of weights, % of their norm",
        "Noise that new classes win, %",
    ]
    assert labels(figure.axes[0]) == ["2 slept"]
    moved = {name: [100 * r.weight_change[k] / r.weight_norm[k] for r in plugin.reports] for k, name in enumerate("02")}
    assert lines(figure.axes[1]) == {name: pytest.approx(values) for name, values in moved.items()}
    second = {name: values[-1] for name, values in lines(figure.axes[2]).items()}
    report = plugin.reports[1]
    assert second == {
        "after training": 100 * report.share_trained, "after the sleep": 100 * report.share_slept,
        "settled": 100 * report.share_settled, "levelled": 100 * report.share_levelled,
        "their share": 100 * report.expected_share,
    }  # fmt: skip


def test_of_a_run_without_sleep_the_change_of_weights_is_shown_and_no_share_after_a_sleep():
    figure = plot_sleeps(slept(SleepConfig(sleep=None)))
    assert labels(figure.axes[0]) == ["1 settled", "1 awake"]
    assert titles(figure)[1] == "Change of weights, % of their norm"
    assert "after the sleep" not in lines(figure.axes[2])


def test_accuracies_have_a_panel_of_their_own():
    figure = plot_sleeps(slept().reports, accuracy=[(0.5, 0.5), (0.25, 0.75)])
    assert lines(figure.axes[-1]) == {"before the sleep": [50, 25], "after": [50, 75]}


@pytest.mark.parametrize("width", [3.5, 7.0])
def test_no_words_are_cut_off_or_lie_on_others(width):
    figure = plot_sleeps(slept(), accuracy=[(0.5, 0.5), (0.25, 0.75)], width=width)
    FigureCanvasAgg(figure).draw()
    words = [axis.get_legend() for axis in figure.axes]
    words += [text for axis in figure.axes for text in (axis._left_title, axis.xaxis.label) if text.get_text()]
    words += [text for text in figure.axes[-1].get_xticklabels() if text.get_position()[0] in (1, 2)]
    boxes = [text.get_window_extent() for text in words]
    assert all(box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1 for box in boxes)
    assert not [(a, b) for i, a in enumerate(boxes) for b in boxes[:i] if a.overlaps(b)]


def test_every_status_has_a_colour_and_no_figure_stays_open():
    assert set(COLOURS) == set(Status)
    plot_sleeps([SleepReport("awake", "why", [], [])])
    assert plt.get_fignums() == []


REFUSED = {
    "no nights yet": (SRCPlugin(), None, "there are no nights"),
    "no reports": ([1], None, "give what has slept, or its reports"),
    "too few accuracies": ([SleepReport("awake", "", [], [])] * 2, [(0.1, 0.2)], "2 nights and 1 accuracies"),
}


@pytest.mark.parametrize(("nights", "accuracy", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_drawn_is_refused(nights, accuracy, message):
    with pytest.raises(ConfigError, match=message):
        plot_sleeps(nights, accuracy=accuracy)


@pytest.mark.slow
def test_the_picture_of_the_page_is_drawn(tmp_path, monkeypatch):
    page = (ROOT / "docs" / "using.md").read_text("utf-8").split("### What loggers show")[1]
    monkeypatch.chdir(tmp_path)
    names = {}
    for script in re.findall(r"```python\n(.*?)```", page, re.DOTALL)[:2]:
        exec(compile(script, "docs/using.md", "exec"), names)
    for logger in names["evaluator"].loggers[:1]:
        logger.close()
    assert (tmp_path / "sleeps.png").stat().st_size > 10_000
