"""Curves along a matrix: means and bands of all lines, in the order of the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib import image
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from benchmarks.tables.curves import draw_curves
from benchmarks.tables.matrix import Row

ROWS = [
    Row("MNIST", "underneath", "1 %", {"naive": {0: 0.2, 1: 0.4}, "naive+src": {0: 0.6, 1: 0.5}}),
    Row("MNIST", "underneath", "2 %", {"naive": {0: 0.5}, "naive+src": {}}),
    Row("MNIST", "underneath", "3 %", {"naive": {0: 0.7}, "naive+src": {0: 0.9}}),
    Row("Digits", "underneath", "1 %", {"naive": {0: 0.1}, "naive+only": {0: 0.3, 1: 0.4}}),
    Row("Fashion-MNIST", "underneath", "1 %", {"naive": {}}),
]


def test_lines_are_means_in_percent_and_leave_out_what_has_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: dict[str, dict[str, tuple[list[float], list[float]]]] = {}
    close = plt.close

    def keep(figure: Figure) -> None:
        for axis in figure.axes:
            drawn = {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axis.get_lines()}
            lines[axis.get_title(loc="left")] = drawn
        close(figure)

    monkeypatch.setattr(plt, "close", keep)
    path = draw_curves(ROWS, tmp_path / "new" / "curves.png", title="Small", note="2 seeds")
    assert lines["MNIST"]["without sleep"] == ([0, 1, 2], pytest.approx([30.0, 50.0, 70.0]))
    assert lines["MNIST"]["with sleep"] == ([0, 2], pytest.approx([55.0, 90.0]))
    assert lines["Digits"] == {"without sleep": ([0], pytest.approx([10.0])), "SRC only": ([0], pytest.approx([35.0]))}
    assert lines["Fashion-MNIST"] == {}
    pixels = image.imread(path)
    assert pixels.shape[1] > 900
    assert np.std(pixels) > 0.05  # something is drawn
