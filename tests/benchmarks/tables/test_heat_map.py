"""The heat map: its numbers by hand, and a picture in which something is drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib import image
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from benchmarks.tables import heat_map
from benchmarks.tables.heat_map import INK, PALE, accuracies, differences, draw_heat_map
from benchmarks.tables.matrix import METHODS, Row

ROWS = [
    Row("digits", "training", "plain", {"naive": {0: 0.2, 1: 0.3}, "naive+src": {0: 0.6, 1: 0.5}, "joint": {1: 0.9}}),
    Row("digits", "underneath", "replay", {"naive": {0: 0.9}, "naive+src": {0: 0.85}}, no_harm=True),
    Row("digits", "", "mean of training", {"naive": {}, "naive+src": {0: 0.5}}),
]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What stands in each panel: its texts, then the labels of its rows and columns."""
    panels: list[list[str]] = []

    close = plt.close

    def keep(figure: Figure) -> None:
        for axis in figure.axes:
            labels = [label.get_text() for label in (*axis.get_xticklabels(), *axis.get_yticklabels())]
            panels.append([text.get_text() for text in axis.texts] + labels)
        close(figure)

    monkeypatch.setattr(plt, "close", keep)
    return panels


def test_accuracies_are_means_in_percent_and_nan_without_a_run() -> None:
    expected = [[25.0, 55.0, 90.0], [90.0, 85.0, np.nan], [np.nan, 50.0, np.nan]]
    np.testing.assert_allclose(accuracies(ROWS, ["naive", "naive+src", "joint"]), expected)


def test_differences_are_paired_by_seed() -> None:
    # 0.5 - 0.9 for the only shared seed, not 0.55 - 0.9
    np.testing.assert_allclose(
        differences(ROWS, ["naive", "joint"]), [[30.0, -40.0], [-5.0, np.nan], [np.nan, np.nan]], atol=1e-12
    )


def test_every_cell_shows_its_number(tmp_path: Path, drawn: list[list[str]]) -> None:
    path = draw_heat_map(ROWS, tmp_path / "new" / "heat_map.png", title="Small", note="2 seeds")
    left, right = drawn[:2]
    assert left[:9] == ["25.0", "55.0", "90.0", "90.0", "85.0", "", "-", "50.0", ""]
    assert right[:6] == ["+30.0", "-40.0", "-5.0", "", "-", ""]
    assert {"plain", "replay (harmed)", "mean of training", "naive", "auto", "joint", "underneath"} <= set(left)
    assert path == tmp_path / "new" / "heat_map.png"
    pixels = image.imread(path)
    assert pixels.shape[1] > 900
    assert pixels.std() > 0.05  # something is drawn


def test_without_auto_there_is_nothing_to_compare(tmp_path: Path, drawn: list[list[str]]) -> None:
    draw_heat_map([Row("mnist", "training", "plain", {"naive": {0: 0.2}})], tmp_path / "a.png", title="", note="")
    assert len(drawn) == 2  # one panel, one bar of colours


def test_no_difference_has_no_sign_of_loss(tmp_path: Path, drawn: list[list[str]]) -> None:
    row = Row("mnist", "training", "plain", {"naive": {0: 0.5}, "naive+src": {0: 0.4999}})
    draw_heat_map([row], tmp_path / "a.png", title="", note="")
    assert "+0.0" in drawn[1]


@pytest.mark.parametrize(("place", "ink"), [(0.0, PALE), (1.0, INK), (2.0, INK)])
def test_numbers_are_dark_on_light_and_light_on_dark(place: float, ink: str) -> None:
    assert heat_map._ink(plt.get_cmap("viridis"), place) == ink  # dark violet to yellow


def test_headings_are_broken_between_words_so_that_none_lies_on_its_neighbour() -> None:
    figure, axis = plt.subplots()
    columns = list(METHODS)
    rows = [Row("mnist", "training", "plain", {column: {0: 0.2} for column in columns})]
    heat_map._panel(axis, np.full((1, len(columns)), 20.0), rows=rows, columns=columns, limits=(0, 100))
    assert max(len(line) for label in axis.get_xticklabels() for line in label.get_text().split("\n")) <= 12
    plt.close(figure)
