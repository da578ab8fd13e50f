"""Rows of a benchmark: every number from the records, beside what was published."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from benchmarks.errors import RecordError
from benchmarks.records.published import Published
from benchmarks.records.record import write_record
from benchmarks.report.rows import make_benchmarks
from benchmarks.report.runs import Run, columns_of, read_runs, slug, unique
from benchmarks.tables.results import mean_matrix
from benchmarks.verification.marks import write_mark
from benchmarks.verification.repeating import compare
from lab_samples import CONFIG, finished
from report_samples import LEADERBOARD, WAYS, diverged, runs_of, with_settings, write_runs
from src_plugin.errors import SRCError


@pytest.fixture
def rows_of(tmp_path, console):
    """Return a function that gives the rows of some records of one benchmark, by their titles."""

    def rows(*records, published=None):
        write_runs(tmp_path, {"": records})
        (benchmark,) = make_benchmarks(read_runs([tmp_path], console=console), published or {})
        return {row.title: row for row in benchmark.rows}

    return rows


def test_a_row_has_the_numbers_of_its_records(rows_of):
    row = rows_of(*LEADERBOARD["suites"])["naive"]
    assert row.finals == pytest.approx({0: 0.20, 1: 0.22, 2: 0.18, 3: 0.21, 4: 0.19, 5: 0.20})
    assert row.mean == pytest.approx(0.20)
    assert row.sd == pytest.approx((0.001 / 5) ** 0.5)  # squares of 0, 2, 2, 1, 1, 0 hundredths: 0.001
    assert row.interval is not None
    assert 0.18 < row.interval[0] < 0.20 < row.interval[1] < 0.22
    assert row.forgetting == pytest.approx(0.80)  # 1.0 at first, 0.2 in the end
    assert (row.kept_bytes, row.train, row.asleep) == (0, 1.0, 0.0)
    assert (row.sleeps, row.stores, row.gain) == ("off", False, None)
    assert [run.record.seed for run in row.runs] == [0, 1, 2, 3, 4, 5]


def test_sleep_is_compared_with_the_same_strategy_without_it(rows_of):
    rows = rows_of(*LEADERBOARD["suites"])
    slept = rows["naive+src"].gain
    assert slept is not None
    assert slept.difference.mean == pytest.approx(0.40)
    assert slept.p == 2 / 64
    assert slept.p_holm == 2 / 64  # replay+src has three pairs, so this is the only comparison with a p
    rehearsed = rows["replay+src"].gain
    assert rehearsed is not None
    assert (rehearsed.p, rehearsed.p_holm) == (None, None)
    assert rehearsed.difference.mean == pytest.approx(0.15)
    assert rows["replay+src"].against.name == "replay"


def test_holm_corrects_over_the_comparisons_of_a_benchmark(rows_of):
    steady = (0.5,) * 6
    rows = rows_of(
        *runs_of("naive", steady),
        *runs_of("naive+src", (0.6,) * 6),
        *runs_of("ewc", steady),
        *runs_of("ewc+src", (0.6, 0.6, 0.6, 0.6, 0.6, 0.45)),
    )
    # naive: p = 2/64, times 2. ewc: five of +0.1, one of -0.05; its sum 0.45 or more has only that pattern, the one
    # with all signs +, and their mirrors: 4/64, times 1, but not below the other's 4/64.
    assert rows["naive+src"].gain.p_holm == pytest.approx(4 / 64)
    assert rows["ewc+src"].gain.p == pytest.approx(4 / 64)
    assert rows["ewc+src"].gain.p_holm == pytest.approx(4 / 64)


def test_settings_tell_namesakes_apart_and_each_is_compared_with_its_own(rows_of):
    sleep = {"preset": "auto", "changed": []}
    rows = rows_of(
        *with_settings("ewc", (0.2, 0.2), ewc_lambda=1.0),
        *with_settings("ewc", (0.4, 0.4), ewc_lambda=100.0),
        *with_settings("ewc+src", (0.5, 0.5), ewc_lambda=100.0, sleep=sleep),
    )
    variants = {row.variant: row for row in rows.values() if row.base == "ewc" and row.sleeps == "off"}
    assert set(variants) == {"ewc_lambda 1", "ewc_lambda 100"}
    slept = rows["ewc+src"]
    assert slept.gain.difference.mean == pytest.approx(0.1)
    assert slept.against.name == variants["ewc_lambda 100"].name


def test_every_way_of_answering_is_a_row(rows_of):
    rows = rows_of(*LEADERBOARD["regimes"])
    assert rows["icarl, nearest mean"].mean == pytest.approx(0.5)
    assert rows["icarl, outputs"].mean == pytest.approx(0.3)
    assert rows["icarl, outputs"].after == WAYS["outputs"]
    assert rows["icarl, nearest mean"].before is not None
    assert rows["icarl, outputs"].before is None  # nobody measured it


def test_what_is_lost_is_counted(rows_of):
    rows = rows_of(*runs_of("naive", (0.2, 0.4)), diverged("naive", 2), diverged("ewc", 0))
    assert rows["naive"].counts == {"done": 2, "diverged": 1}
    assert rows["naive"].lost == "1 diverged"
    assert rows["naive"].mean == pytest.approx(0.3)
    lost = rows["ewc"]
    assert (lost.mean, lost.sd, lost.interval, lost.train, lost.after) == (None, None, None, None, None)


@pytest.mark.parametrize(
    ("strategy", "sleep", "sleeps", "stores"),
    [
        ("naive", None, "off", False),
        ("ncm", None, "off", False),
        ("replay", None, "off", True),
        ("joint", None, "off", True),
        ("mine", None, "off", None),
        ("naive+src", {"preset": "auto", "changed": []}, "on", False),
        ("naive+src", {"preset": "paper/split_mnist", "reference": "seen_classes", "changed": []}, "on", True),
        (
            "naive+settle",
            {"preset": "auto", "numbers": {"replay": False, "settle": True, "level": True}},
            "settling",
            False,
        ),
    ],
)
def test_what_sleeps_and_what_has_earlier_images(rows_of, strategy, sleep, sleeps, stores):
    config = {**CONFIG, "strategy": strategy, "sleep": sleep}
    row = rows_of(*runs_of(strategy, (0.5,), config=config))[strategy]
    assert (row.sleeps, row.stores) == (sleeps, stores)


def test_kept_is_in_words_where_there_is_no_number(rows_of):
    again = {"preset": "paper/split_mnist", "reference": "seen_classes", "changed": []}
    config = {**CONFIG, "strategy": "naive+src", "sleep": again}
    rows = rows_of(*runs_of("joint", (0.9,), kept_bytes=None), *runs_of("naive+src", (0.5,), config=config))
    assert (rows["joint"].kept_bytes, rows["joint"].kept) == (None, "all images")
    assert (rows["naive+src"].kept_bytes, rows["naive+src"].kept) == (None, "all images")


def test_published_numbers_stand_beside_ours_or_alone(rows_of):
    published = {
        "tiny": {
            "naive": Published(mean=21.0, source="Table 1"),
            "replay": Published(mean=90.0, source="Table 1"),
            "owm+src": Published(mean=80.0, sd=2.0, source="Table 2"),
        }
    }
    rows = rows_of(*LEADERBOARD["suites"], published=published)
    assert rows["naive"].reproduced is True  # 20 against 21
    assert rows["replay"].reproduced is False
    assert rows["naive+src"].published is None
    alone = rows["owm+src"]
    assert (alone.provenance, alone.published.mean, alone.runs, alone.sleeps) == ("published", 80.0, (), "on")
    assert list(rows)[-1] == "owm+src"
    assert rows["naive"].provenance == "self-reported"


def test_two_runs_do_not_tell_whether_they_reproduce(rows_of):
    published = {"tiny": {"naive": Published(mean=20.0, source="Table 1")}}
    assert rows_of(*runs_of("naive", (0.2, 0.2)), published=published)["naive"].reproduced is None


def test_what_was_measured_on_something_else_is_not_judged(rows_of):
    published = {"tiny": {"naive": Published(mean=20.0, source="Table 1", differs="other features")}}
    row = rows_of(*runs_of("naive", (0.2, 0.2, 0.2)), published=published)["naive"]
    assert (row.reproduced, row.published.mean) == (None, 20.0)


def test_a_row_is_verified_if_all_of_its_runs_are(tmp_path):
    def rows(folder, *repeated):
        runs = []
        for seed, has_mark in enumerate(repeated):
            record = finished("naive", seed, 0.5)
            path = tmp_path / folder / f"seed{seed}-{record.hash}.json"
            write_record(record, path)
            if has_mark:
                write_mark(path, record, compare(record, record))
            runs.append(Run(record, path, ""))
        return make_benchmarks(runs, {})[0].rows[0].provenance

    assert rows("both", True, True) == "verified"
    assert rows("one", True, False) == "self-reported"


def test_settings_of_one_config_name_are_benchmarks_of_their_own(tmp_path, console):
    other = {**CONFIG, "training": {"lr": 0.2}}
    write_runs(tmp_path, {"": [*runs_of("naive", (0.2,)), *runs_of("naive", (0.4,), config=other)]})
    benchmarks = make_benchmarks(read_runs([tmp_path], console=console), {})
    assert len(benchmarks) == len({benchmark.slug for benchmark in benchmarks}) == 2
    assert all(benchmark.name.startswith("tiny (") for benchmark in benchmarks)
    assert sorted(benchmark.rows[0].mean for benchmark in benchmarks) == [0.2, 0.4]


def test_matrices_of_other_shapes_have_no_mean():
    assert mean_matrix([[[0.0, 1.0]], [[1.0, 1.0]]]) == [[0.5, 1.0]]
    assert mean_matrix([[[0.0, 1.0]], [[1.0]]]) is None
    assert mean_matrix([]) is None


def test_a_run_that_was_read_before_is_left_out_and_said(tmp_path):
    out = StringIO()
    write_runs(tmp_path / "a", {"suites": runs_of("naive", (0.2,))})
    write_runs(tmp_path / "b", {"": runs_of("naive", (0.9, 0.3))})
    runs = read_runs([tmp_path / "a", tmp_path / "b"], console=Console(file=out, width=300))
    assert [(run.record.final_accuracy, run.family) for run in runs] == [(0.2, "suites"), (0.3, "")]
    assert "1 record is of a run that was read before and left out" in out.getvalue()


def test_where_there_is_nothing_to_read(tmp_path, console):
    with pytest.raises(RecordError, match=r"is no folder; `python -m benchmarks run"):
        read_runs([tmp_path / "none"], console=console)
    with pytest.raises(SRCError, match=r"there are no records in .*; `python -m benchmarks run"):
        read_runs([tmp_path], console=console)


def test_columns_are_named_after_the_classes_they_hold():
    returning = finished("naive", 0, 0.5, experiences=[["0", "1"], ["2", "0"]])
    assert columns_of([returning]) == [(0, "0, 1"), (1, "2")]
    permuted = finished("naive", 0, 0.5, experiences=[["0", "1"], ["0", "1"]])
    assert columns_of([permuted]) == [(0, "experience 1"), (1, "experience 2")]
    other_order = finished("naive", 1, 0.5, experiences=[["1"], ["0"]])
    assert columns_of([finished("naive", 0, 0.5), other_order]) == [(0, "experience 1"), (1, "experience 2")]


def test_names_become_parts_of_paths():
    assert slug("naive+src") == "naive+src"
    assert slug("../x y/<b>") == "_x_y__b_"
    assert slug("..") == "_"
    assert unique(["a", "b", "a", "a-2", "a"]) == ["a", "b", "a-2", "a-2-2", "a-3"]
