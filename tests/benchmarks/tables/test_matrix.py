"""The tables of a matrix: numbers by hand from made-up records."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.configs.matrix import Matrix, load_matrix
from benchmarks.markdown import BEGIN, END, write_between_marks
from benchmarks.records.record import Record, Seconds
from benchmarks.tables.matrix import Row, columns, describe_matrix, make_rows, make_tables, markdown_tables, mean_row
from lab_samples import FAILED
from matrix_samples import cell_records, write_matrix_file

SGD = {
    "naive": (0.2, 0.2, 0.2),
    "naive+settle": (0.5, 0.3, 0.5),
    "naive+src": (0.6, 0.5, 0.8),  # 0.1, 0.2 and 0.3 more than settled
    "joint": (0.9, 0.9, 0.9),
}
SLOW = {"naive": (0.1, 0.1), "naive+settle": (0.4, 0.4), "naive+src": (0.5, 0.7), "joint": (0.8,)}
REPLAY = {"naive": (0.9, 0.8), "naive+src": (0.88, 0.79)}  # 1.5 points less


@pytest.fixture
def matrix(tmp_path: Path) -> Matrix:
    return load_matrix(write_matrix_file(tmp_path))


@pytest.fixture
def records(matrix: Matrix) -> list[Record]:
    return [
        *cell_records(matrix, "sgd", SGD),
        *cell_records(matrix, "slow", SLOW),
        *cell_records(matrix, "replay_5", REPLAY),
    ]


def texts(row: Row, rows: list[Row]) -> dict[str, str]:
    return {heading: text(row) for heading, text in columns(rows).items()}


OVER_RIVAL = "auto vs settle + level, ±\N{NO-BREAK SPACE}95\N{NO-BREAK SPACE}%"


def test_a_row_says_means_and_what_auto_gains(matrix: Matrix, records: list[Record]) -> None:
    rows = make_rows(matrix, records)
    assert [row.title for row in rows] == ["plain", "lower rate", "replay", "mean of training"]
    assert texts(rows[0], rows) == {
        "naive": "20.0",
        "settle + level": "43.3",  # 1.3 / 3
        "auto": "63.3",  # 1.9 / 3
        "joint": "90.0",
        "n": "3",
        OVER_RIVAL: "+20.0 ± 24.8",  # sd 10, t(0.975, 2) = 4.3027, / sqrt(3)
        "auto vs naive": "+43.3",
        "sleep / training": "0\N{NO-BREAK SPACE}%",
        "no harm": "",
    }


def test_the_last_row_averages_training_over_the_seeds_that_all_rows_have(
    matrix: Matrix, records: list[Record]
) -> None:
    rows = make_rows(matrix, records)
    mean = rows[-1]
    assert mean.finals["naive+src"] == {0: pytest.approx(0.55), 1: pytest.approx(0.6)}  # seed 2: one row only
    assert mean.finals["joint"] == {0: pytest.approx(0.85)}
    # auto 0.55, 0.60; settled 0.45, 0.35; differences 0.10, 0.25, half width 12.7062 * 0.075
    assert texts(mean, rows) == {
        "naive": "15.0",
        "settle + level": "40.0",
        "auto": "57.5",
        "joint": "85.0",
        "n": "1-2",
        OVER_RIVAL: "+17.5 ± 95.3",
        "auto vs naive": "+42.5",
        "sleep / training": "",
        "no harm": "",
    }


def test_a_method_that_one_row_does_not_have_is_not_averaged() -> None:
    rows = [Row("digits", "training", "a", {"naive": {0: 0.1}}), Row("digits", "training", "b", {"naive": {}})]
    assert mean_row(rows).finals == {"naive": {}}
    assert mean_row([*rows, Row("digits", "training", "c", {})]).finals == {}


def test_nothing_stands_where_nothing_was_planned_and_a_dash_where_a_run_is_missing(matrix: Matrix) -> None:
    rows = make_rows(matrix, cell_records(matrix, "sgd", {"naive": (0.2,), "naive+src": (0.5,)}))
    plain, _, replay, mean = (texts(row, rows) for row in rows)
    assert (plain["naive"], plain["settle + level"], plain["n"]) == ("20.0", "-", "0-1")
    assert (plain[OVER_RIVAL], plain["auto vs naive"]) == ("-", "+30.0")
    assert (replay["naive"], replay["settle + level"], replay["joint"]) == ("-", "", "")
    assert (replay[OVER_RIVAL], replay["auto vs naive"], replay["no harm"]) == ("", "-", "-")
    assert (mean["naive"], mean["auto vs naive"]) == ("-", "-")  # not the mean of the one row there is


def test_one_pair_has_no_interval(matrix: Matrix) -> None:
    rows = make_rows(matrix, cell_records(matrix, "sgd", {"naive+settle": (0.2,), "naive+src": (0.5,)}))
    assert texts(rows[0], rows)[OVER_RIVAL] == "+30.0"


@pytest.mark.parametrize(
    ("slept", "said"),
    [((0.91, 0.80), "kept"), ((0.89, 0.79), "kept"), ((0.88, 0.79), "BROKEN"), ((0.86, 0.83), "kept")],
    ids=["better", "a point less", "more than a point", "4 points less and 3 more"],
)
def test_harm_is_more_than_a_point_in_the_mean(matrix: Matrix, slept: tuple[float, ...], said: str) -> None:
    rows = make_rows(matrix, cell_records(matrix, "replay_5", {"naive": (0.9, 0.8), "naive+src": slept}))
    assert texts(rows[2], rows)["no harm"] == said


def test_runs_that_were_lost_are_counted_and_not_averaged(matrix: Matrix) -> None:
    lost = cell_records(matrix, "sgd", {"naive": (0.0, 0.0)}, **FAILED)[1:]
    rows = make_rows(matrix, [*cell_records(matrix, "sgd", {"naive": (0.2,)}), *lost])
    shown = texts(rows[0], rows)
    assert (shown["naive"], shown["lost"]) == ("20.0", "1")
    assert texts(rows[1], rows)["lost"] == ""


def test_records_of_another_config_are_left_out(matrix: Matrix) -> None:
    (record,) = cell_records(matrix, "sgd", {"naive": (0.2,)})
    earlier = {**record.config, "training": {**record.config["training"], "lr": 0.9}}
    rows = make_rows(matrix, [record.model_copy(update={"config": earlier})])
    assert all(not by_seed for row in rows for by_seed in row.finals.values())


def test_the_printed_table_separates_groups(matrix: Matrix, records: list[Record]) -> None:
    (table,) = make_tables(matrix, make_rows(matrix, records))
    console = Console(width=120)
    with console.capture() as captured:
        console.print(table)
    lines = [line.rstrip() for line in captured.get().splitlines()]
    assert lines[0] == "Small, Digits: accuracy in percent after the last experience"
    starts = [line.split()[0] if line else "" for line in lines]
    assert starts[-7:] == ["plain", "lower", "", "replay", "", "mean", ""]
    assert "+20.0 ± 24.8" in next(line for line in lines if line.startswith(" plain"))
    assert "BROKEN" in next(line for line in lines if line.startswith(" replay"))


def test_the_same_table_is_written_between_the_marks(matrix: Matrix, records: list[Record], tmp_path: Path) -> None:
    document = tmp_path / "regimes.md"
    document.write_text(f"above\n{BEGIN}\nold\n{END}\nbelow\n", encoding="utf-8")
    rows = make_rows(matrix, records)
    write_between_marks(document, markdown_tables(rows, records))
    once = document.read_text(encoding="utf-8")
    assert once == f"above\n{BEGIN}\n{markdown_tables(rows, records)}\n{END}\nbelow\n"
    lines = once.splitlines()
    assert "### Digits" in lines
    assert "| plain | 20.0 | 43.3 | 63.3 | 90.0 | 3 | +20.0 ± 24.8 | +43.3 | 0\N{NO-BREAK SPACE}% |  |" in lines
    first = [line.split("|")[1].strip() for line in lines if line.startswith("| ")]
    assert first == [
        "regime",
        "**training**",
        "plain",
        "lower rate",
        "**underneath**",
        "replay",
        "**mean of training**",
    ]
    write_between_marks(document, markdown_tables(rows, records))
    assert document.read_text(encoding="utf-8") == once


def test_sleep_is_measured_against_the_training_of_the_same_runs(matrix: Matrix) -> None:
    records = [
        record.model_copy(update={"seconds": Seconds(train=train, sleep=sleep, total=9.0)})
        for record, train, sleep in zip(
            cell_records(matrix, "sgd", {"naive+src": (0.2, 0.3)}), (4.0, 6.0), (0.5, 1.0), strict=True
        )
    ]
    rows = make_rows(matrix, records)
    assert rows[0].asleep == pytest.approx(1.5 / 10.0)
    assert columns(rows)["sleep / training"](rows[0]) == "15\N{NO-BREAK SPACE}%"
    assert rows[1].asleep is None


def test_the_origin_names_seeds_images_and_commit(matrix: Matrix, records: list[Record]) -> None:
    line = describe_matrix(records)
    assert line.startswith("3 seeds (0, 1, 2); 20 test images; commit unknown")
    larger = cell_records(matrix, "sgd", {"naive": (0.2,)}, n_test=[600, 600])
    assert describe_matrix(larger).startswith("1 seed (0); 1,200 test images; ")
    assert "; 20 to 1,200 test images; " in describe_matrix([*records, *larger])


@pytest.mark.parametrize(("width", "n_lines"), [(60, 3), (80, 3), (150, 1)])
def test_headings_are_broken_between_words_and_only_as_far_as_they_must(
    matrix: Matrix, records: list[Record], width: int, n_lines: int
) -> None:
    (table,) = make_tables(matrix, make_rows(matrix, records), width=width)
    headings = [str(column.header) for column in table.columns[1:]]
    assert [heading.replace("\n", " ") for heading in headings] == list(columns(make_rows(matrix, records)))
    assert max(heading.count("\n") + 1 for heading in headings) == n_lines


def test_where_classes_are_of_uneven_size_the_mean_over_them_stands_in_brackets() -> None:
    row = Row("digits", "streams", "uneven", {"naive": {0: 0.5, 1: 0.7}}, class_means={"naive": {0: 0.4, 1: 0.5}})
    assert columns([row])["naive"](row) == "60.0 (45.0)"
