"""The picture: phases in order, labels apart, and a file of the promised width."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib import image
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from benchmarks.tables.picture import draw, phases, slept, spread_labels
from lab_samples import FAILED, finished, make_record


def test_phases_alternate_training_and_sleep() -> None:
    slept = make_record(config={"sleep": {"preset": "auto"}})
    names, values = phases(slept)
    assert names == ["T1", "S1", "T2", "S2"]
    np.testing.assert_array_equal(values, [[1.0, 0.0], [1.0, 0.0], [0.1, 0.9], [1 / 3, 0.8]])


def test_without_sleep_there_are_trainings_only() -> None:
    names, values = phases(make_record())
    assert names == ["T1", "T2"]
    np.testing.assert_array_equal(values, [[1.0, 0.0], [1 / 3, 0.8]])


def test_nights_are_counted_that_were_kept() -> None:
    asleep, awake = {"decision": "slept"}, {"decision": "awake"}
    config = {"sleep": {"preset": "auto"}}
    records = [make_record(config=config, sleep_reports=reports) for reports in ([asleep, asleep], [asleep, awake])]
    assert slept(records) == [2, 1]
    every_second = make_record(config={"sleep": {"preset": "auto", "every": 2}}, sleep_reports=[asleep])
    assert slept([every_second]) == [0, 1]


@pytest.mark.parametrize(
    ("heights", "placed"),
    [
        ([10.0, 50.0], [10.0, 50.0]),
        ([50.0, 52.0], [48.5, 53.5]),  # centre 51, gap 5
        ([50.0, 50.0, 50.0], [45.0, 50.0, 55.0]),
        ([0.0, 0.0], [0.0, 5.0]),  # the floor pushes both up
        ([0.0, 0.0, 6.0], [0.0, 5.0, 10.0]),
        ([], []),
    ],
)
def test_labels_are_spread(heights: list[float], placed: list[float]) -> None:
    assert spread_labels(heights, gap=5.0, floor=0.0) == pytest.approx(placed)


def test_the_picture_is_wide_enough(tmp_path: Path) -> None:
    records = [
        finished("naive", 0, 0.2),
        finished("naive", 1, 0.3),
        finished("naive+src", 0, 0.6),
        finished("joint", 0, 0.9),
    ]
    path = draw(records, tmp_path / "new" / "accuracy.png")
    assert path == tmp_path / "new" / "accuracy.png"
    pixels = image.imread(path)
    assert pixels.shape[1] >= 1200
    assert pixels.std() > 0.05  # something is drawn


def test_nothing_is_drawn_of_runs_that_failed(tmp_path: Path) -> None:
    path = tmp_path / "accuracy.png"
    assert draw([finished("naive", 0, 0.0, **FAILED), finished("joint", 0, 0.9)], path) is None
    assert not path.exists()


def test_experiences_are_named_by_their_classes_only_where_all_seeds_share_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts: list[list[str]] = []
    close = plt.close

    def keep(figure: Figure) -> None:
        texts.append([text.get_text() for text in figure.axes[0].texts])
        close(figure)

    monkeypatch.setattr(plt, "close", keep)
    for other in ([["0"], ["1"]], [["1"], ["0"]]):
        draw([finished("naive", 0, 0.2), finished("naive", 1, 0.3, experiences=other)], tmp_path / "a.png")
    assert texts[0][:2] == ["0", "1"]
    assert texts[1][:2] == ["experience 1", "experience 2"]
