"""Tables: numbers by hand from made-up records."""

from __future__ import annotations

import pytest
from rich.console import Console

from benchmarks.records.record import Record
from benchmarks.tables.results import group_records, group_strategies, sleep_label, what_differs
from benchmarks.tables.summary import describe, main_results, make_table, over_baseline
from lab_samples import CONFIG, FAILED, finished


def test_mean_spread_and_paired_difference() -> None:
    naive = [finished("naive", seed, final) for seed, final in enumerate((0.2, 0.3, 0.1))]
    slept = [finished("naive+src", seed, final) for seed, final in enumerate((0.5, 0.7))]
    first, second = main_results([*naive, *slept])
    assert (first.name, len(first.finals), first.sleep, first.over_baseline) == ("naive", 3, "", [])
    assert (first.mean, first.sd) == (pytest.approx(0.2), pytest.approx(0.1))
    assert (second.name, len(second.finals), second.sleep) == ("naive+src", 2, "auto")
    assert second.mean == pytest.approx(0.6)
    assert second.over_baseline == pytest.approx([0.3, 0.4])
    assert over_baseline(second) == "+35.0 ± 7.1"  # (0.3 + 0.4) / 2, not 0.6 - 0.2; 0.1 / sqrt 2
    assert second.forgetting == pytest.approx(0.4)  # (1 - 0.5 + 1 - 0.7) / 2


def test_what_keeps_all_images_is_no_number_of_bytes() -> None:
    records = [finished("naive", 0, 0.2, kept_bytes=1200), finished("joint", 0, 0.9, kept_bytes=None)]
    naive, joint = main_results(records)
    assert (naive.kept_bytes, naive.kept_text) == (1200, "1,200 B")
    assert (joint.kept_bytes, joint.kept_text) == (None, "all images")
    assert "all images" in _printed(records)


def test_naive_comes_first_and_joint_last() -> None:
    rows = main_results([finished(name, 0, 0.5) for name in ("joint", "naive+src", "naive")])
    assert [row.name for row in rows] == ["naive", "naive+src", "joint"]


def test_one_seed_has_no_spread_and_no_shared_seed_no_difference() -> None:
    rows = main_results([finished("naive", 0, 0.2), finished("joint", 1, 0.9)])
    assert [row.sd for row in rows] == [None, None]
    assert (rows[1].over_baseline, over_baseline(rows[1])) == ([], "-")


def test_lost_runs_are_counted_and_not_averaged() -> None:
    diverged = {**FAILED, "status": "diverged", "error": "nan", "accuracy": [], "accuracy_before_sleep": []}
    rows = main_results(
        [finished("naive", 0, 0.2), finished("naive", 1, 0.0, **FAILED), finished("naive", 2, 0.0, **diverged)]
    )
    assert (len(rows[0].finals), rows[0].mean, rows[0].lost) == (1, 0.2, "1 diverged, 1 failed")


def test_only_equal_settings_stand_in_one_table() -> None:
    other = {"config": {**CONFIG, "training": {"lr": 0.2}}}
    records = [finished("naive", 0, 0.2), finished("joint", 0, 0.9), finished("naive", 0, 0.2, **other)]
    assert sorted(len(group) for group in group_records(records).values()) == [1, 2]


def test_numbers_in_names_of_configs_count_as_numbers() -> None:
    names = ["k50", "k200", "k1000", "f0.05", "f0.1", "f10", "e"]
    groups = group_records([finished("naive", 0, 0.2, config_name=name) for name in names])
    assert [name for name, _ in groups] == ["e", "f0.05", "f0.1", "f10", "k50", "k200", "k1000"]


def test_tables_of_one_config_name_say_what_tells_them_apart() -> None:
    other = {"config": {**CONFIG, "training": {"lr": 0.2}}}
    groups = group_records([finished("naive", 0, 0.2), finished("naive", 0, 0.3, **other)])
    assert sorted(what_differs(groups).values()) == ["training.lr 0.1", "training.lr 0.2"]
    (alone,) = what_differs(group_records([finished("naive", 0, 0.2)])).values()
    assert alone == ""
    console = Console(width=120)
    with console.capture() as captured:
        console.print(make_table([finished("naive", 0, 0.2)], note="training.lr 0.1"))
    assert "(training.lr 0.1): accuracy in percent" in captured.get()


def test_two_sleeps_of_one_strategy_are_kept_apart() -> None:
    deeper = finished("naive+src", 0, 0.5)
    config = {**deeper.config, "sleep": {"preset": "auto", "changed": ["depth"]}}
    groups = group_strategies([deeper, finished("naive+src", 0, 0.6, config=config)])
    assert len(groups) == 2
    assert all(name.startswith("naive+src (") for name in groups)
    assert [row.sleep for row in main_results([r for g in groups.values() for r in g])] == ["auto", "auto, changed"]


def test_the_printed_table_is_in_percent() -> None:
    records = [finished("naive", 0, 0.2), finished("naive", 1, 0.3), finished("joint", 0, 0.9)]
    table = _printed(records)
    assert "25.0 ± 7.1" in table
    assert "+70.0 (1)" in table


def test_a_narrow_window_goes_without_columns_and_never_without_a_number() -> None:
    config = {**CONFIG, "sleep": {"preset": "auto", "numbers": {"replay": True, "settle": True, "level": True}}}
    records = [finished("naive", seed, 0.2 + seed / 100) for seed in range(12)]
    records += [finished("naive+src", seed, 0.7 + seed / 50, config=config) for seed in range(12)]
    wide, narrow = _printed(records, width=130), _printed(records, width=60)
    assert "left out" not in wide
    assert "SRC + settle + level" in wide
    assert "left out for lack of room: sleep, sleep s, train s" in narrow
    assert "…" not in narrow
    for number in ("25.5 ± 3.6", "81.0 ± 7.2", "+55.5 ± 3.6 (12)"):
        assert number in wide
        assert number in narrow
    assert max(map(len, narrow.splitlines())) <= 60


def _printed(records: list[Record], *, width: int = 120) -> str:
    console = Console(width=width)
    with console.capture() as captured:
        console.print(make_table(records, width=console.width))
    return captured.get()


def test_records_of_several_environments_are_said_to_be() -> None:
    same = [finished("naive", seed, 0.2, hardware=h) for seed, h in enumerate(({"a": 1, "b": 2}, {"b": 2, "a": 1}))]
    assert "more commits" not in describe(same)
    assert "and 1 more commits or machines" in describe([*same, finished("naive", 2, 0.2, commit="abc")])


@pytest.mark.parametrize(
    ("each", "said"), [(1.5, "2 runs took 3 s"), (150.0, "2 runs took 5 min"), (5400.0, "2 runs took 3.0 h")]
)
def test_what_runs_cost_is_said(each: float, said: str) -> None:
    seconds = {"train": 1.0, "sleep": 0.0, "total": each}
    assert f"; {said}, one after the other" in describe([finished("naive", k, 0.2, seconds=seconds) for k in (0, 1)])


@pytest.mark.parametrize(
    ("preset", "stages", "label"),
    [
        ("auto", (True, True, True), "SRC + settle + level"),
        ("auto", (False, True, True), "settle + level"),
        ("src_only", (True, False, False), "SRC only"),
        ("paper/patches", (True, False, False), "paper/patches"),
    ],
)
def test_a_sleep_is_called_by_what_it_did(preset: str, stages: tuple[bool, bool, bool], label: str) -> None:
    numbers = dict(zip(("replay", "settle", "level"), stages, strict=True))
    assert sleep_label({"preset": preset, "numbers": numbers}) == label
    assert sleep_label({"preset": preset, "numbers": numbers, "changed": ["depth"]}) == f"{label}, changed"
