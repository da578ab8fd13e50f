"""Figure 1 of the article: images that overlap, what is lost of them, and what a sleep brings back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.__main__ import main
from benchmarks.explain.patches.images import check_overlap, draw_patches
from benchmarks.explain.patches.running import check_request
from benchmarks.explain.patches.table import curve, first_lost
from benchmarks.explain.patches.trials import PUBLISHED, SETTINGS, SLEEPS, told, try_once
from src_plugin.errors import ConfigError


def test_images_share_as_many_pixels_as_asked_and_no_others():
    patches = draw_patches(12, pixels=16, side=10, generator=np.random.default_rng(0))
    assert patches.images.sum(1).tolist() == [16.0] * 4
    for a in range(4):
        for b in range(a):
            assert int((patches.images[a] * patches.images[b]).sum()) == 12
        assert int(patches.is_unique(a).sum()) == 4


def test_from_all_pixels_shared_on_all_images_are_the_same_as_in_the_released_generator():
    patches = draw_patches(17, pixels=16, side=10, generator=np.random.default_rng(0))
    assert patches.images.sum(1).tolist() == [17.0] * 4
    assert (patches.images == patches.images[0]).all()


REFUSED = {
    "below 0": (-1, 16, "give 0 or more"),
    "no room": (2, 30, "share 7 or more"),  # 4 * 30 - 3 * 7 = 99
    "larger than an image": (101, 16, "share 100 or fewer"),
}


@pytest.mark.parametrize(("overlap", "pixels", "cure"), REFUSED.values(), ids=REFUSED)
def test_an_overlap_that_cannot_be_made_is_refused(overlap: int, pixels: int, cure: str):
    with pytest.raises(ConfigError, match=cure):
        check_overlap(overlap, pixels=pixels, side=10)


def test_the_cure_of_a_refused_overlap_can_be_made():
    check_overlap(7, pixels=30, side=10)
    check_overlap(100, pixels=16, side=10)


def test_a_curve_ascends_though_json_sorts_numbers_as_text():
    rows = {str(overlap): [[[1.0, 1.0], [0.5, 1.0]]] for overlap in (0, 10, 2)}
    record = {"accuracy": {"weights": {"auto": rows}}}
    assert list(curve(record, "weights", "auto", 1)) == [0, 2, 10]
    assert curve(record, "weights", "auto", 1, task=0)[10] == 0.5


def test_the_first_lost_overlap_is_the_end_of_what_is_kept():
    assert first_lost({0: 1.0, 4: 0.4, 8: 1.0, 12: 0.4, 16: 0.3}, threshold=0.5) == 12
    assert first_lost({0: 1.0}, threshold=0.5) is None
    assert first_lost({3: 0.0, 4: 0.0}, threshold=0.5) == 3


def test_the_script_of_the_weights_forgets_task_1_and_both_sleeps_bring_it_back():
    slept = try_once(SETTINGS["weights"], SLEEPS[PUBLISHED], overlap=14, seed=0)
    assert slept.accuracy == [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]
    assert try_once(SETTINGS["weights"], SLEEPS["auto"], overlap=14, seed=0).accuracy[2] == [1.0, 1.0]
    shown = told(slept)
    before, after = (np.mean(night["other"][1]) for night in shown["weights"])
    assert after < 5 * before < 0  # weights from pixels of other images to the newer outputs turn inhibitory
    before, after = (np.mean(night["shared"][1]) for night in shown["weights"])
    assert after == pytest.approx(before, abs=1e-4)  # those from shared pixels are above 0, where the gate is shut
    assert np.array(shown["inputs"]).shape == (2, 4, 4)


def test_the_script_of_the_overlaps_forgets_nothing_but_has_not_learnt_task_2():
    accuracy = try_once(SETTINGS["overlaps"], SLEEPS[PUBLISHED], overlap=12, seed=0).accuracy
    assert accuracy == [[1.0, 0.0], [1.0, 0.0], [1.0, 1.0]]


def test_requests_that_show_nothing_are_refused():
    with pytest.raises(ConfigError, match="no image has more than 25"):
        check_request((4, 30), 10)
    with pytest.raises(ConfigError, match="add an overlap below 16"):
        check_request((16, 20), 10)
    with pytest.raises(ConfigError, match="--trials must be 1 or more"):
        check_request((4,), 0)


@pytest.mark.slow
def test_the_command_leaves_a_record_a_picture_and_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    document = tmp_path / "doc.md"
    document.write_text("<!-- table: begin -->\n<!-- table: end -->\n", encoding="utf-8")
    command = ["explain", "patches", "--overlaps", "4", "14", "--trials", "1", "--out", str(tmp_path)]
    assert main([*command, "--write", str(document)]) == 0
    folder = tmp_path / "patches"
    (path,) = folder.glob("*.json")
    record = json.loads(path.read_text(encoding="utf-8"))
    assert record["accuracy"]["weights"][PUBLISHED]["14"] == [[[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]]
    assert path.with_suffix(".png").stat().st_size > 10_000
    assert path.with_suffix(".svg").exists()
    table = document.read_text(encoding="utf-8")
    assert all(f"`{sleep}`" in table for sleep in SLEEPS)
    assert "| half of the images are right where it is lost | 50 % | 50 % | yes |" in table
    assert "| sleep is clearly better there | 12 to 16 | 14 to 14 | not told |" in table
    capsys.readouterr()
    assert main(command) == 0  # the record is there, and is read
    assert ".json" not in capsys.readouterr().out
