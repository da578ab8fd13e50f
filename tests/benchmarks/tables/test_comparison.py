"""Tables with and without sleep, beside what was published."""

from __future__ import annotations

import pytest

from benchmarks.configs.files import load_config
from benchmarks.configs.matrix import load_matrix
from benchmarks.records.metrics import sign_flip_p
from benchmarks.records.published import Published, load_published
from benchmarks.records.record import Record
from benchmarks.tables.comparison import comparison, gain_of_sleep
from benchmarks.tables.results import results_of
from lab_samples import CONFIG, FAILED, finished
from places import ROOT

HEAD = (
    "| strategy | accuracy, % | n | published | reproduced | sleep - none, ± 95 % | p | forgets | kept | seconds |",
    "|---|---:|---:|---:|---|---:|---:|---:|---:|---:|",
)
HEAD_WITH_SLEEP = (
    HEAD[0].replace("| strategy |", "| strategy | sleep |"),
    HEAD[1].replace("|---|", "|---|---|", 1),
)
NAIVE = [finished("naive", seed, final) for seed, final in enumerate((0.20, 0.22, 0.18))]
SLEPT = [finished("naive+src", seed, final) for seed, final in enumerate((0.60, 0.63, 0.57))]


def test_the_gain_of_sleep_is_paired_by_seed() -> None:
    plain, slept = results_of([*NAIVE, *SLEPT])
    assert gain_of_sleep(plain) is None
    gain = gain_of_sleep(slept)
    assert gain is not None
    difference, p = gain
    assert difference.mean == pytest.approx(0.40)
    assert difference.half_width == pytest.approx(4.302653 * 0.01 / 3**0.5)  # Student, two degrees of freedom
    assert p == 0.25  # two of eight sign patterns
    assert gain_of_sleep(results_of(SLEPT)[0]) is None  # nothing to pair with


def test_a_row_says_what_was_published_and_whether_it_agrees() -> None:
    published = {
        "tiny": {
            "naive": Published(mean=25.0, source="Table 1"),
            "naive+src": Published(mean=55.0, sd=5.0, source="Table 1"),
        }
    }
    text = comparison([*NAIVE, *SLEPT], published)
    heading, _, sleep, _, *rest = text.splitlines()
    assert heading == "### tiny"
    assert sleep == "Sleep: `+src` is auto."
    assert tuple(rest[:2]) == HEAD
    assert rest[2].startswith("| `naive` | 20.0 ± 2.0 | 3 | 25.0 | no |  |  |")
    (two,) = (line for line in comparison(NAIVE[:2], published).splitlines() if "`naive`" in line)
    assert "| 2 | 25.0 |  |" in two  # too few runs to say
    assert rest[3].startswith("| `naive+src` | 60.0 ± 3.0 | 3 | 55.0 ± 5.0 | yes | +40.0 ± 2.5 |  |")


def slept(strategy: str, seed: int, preset: str, *stages: str) -> Record:
    numbers = {stage: stage in stages for stage in ("replay", "settle", "level")}
    sleep = {"preset": preset, "changed": [], "numbers": numbers}
    return finished(strategy, seed, 0.5, config={**CONFIG, "strategy": strategy, "sleep": sleep})


def test_what_sleep_was_stands_once_above_the_table() -> None:
    records = [
        slept("naive+settle", 0, "auto", "settle", "level"),
        slept("naive+src", 0, "auto", "replay", "settle", "level"),
        slept("ewc+src", 0, "auto", "replay", "settle", "level"),
        *NAIVE,
    ]
    assert "Sleep: `+src` is SRC + settle + level, `+settle` is settle + level.\n" in comparison(records, {})
    assert "| sleep |" not in comparison(records, {})
    assert "Sleep:" not in comparison(NAIVE, {})  # nothing slept


def test_sleeps_that_differ_stand_in_a_column() -> None:
    records = [
        slept("naive+src", 0, "paper/split_mnist", "replay"),
        slept("naive+src", 0, "src_only", "replay"),
        *NAIVE,
    ]
    head, line, *rows = comparison(records, {}).splitlines()[2:7]
    assert (head, line) == HEAD_WITH_SLEEP
    assert {len(row.split("|")) for row in (head, line, *rows)} == {13}
    assert rows[0].startswith("| `naive` |  | 20.0 ± 2.0 |")
    assert {row.split(" | ")[1] for row in rows[1:]} == {"paper/split_mnist", "SRC only"}


def test_what_has_all_images_at_hand_says_so() -> None:
    again = {"preset": "paper/split_mnist", "reference": "seen_classes", "changed": []}
    records = [
        finished("joint", 0, 0.9, kept_bytes=None),
        finished("naive+src", 0, 0.5, config={**CONFIG, "strategy": "naive+src", "sleep": again}, kept_bytes=600),
        finished("naive", 0, 0.2, kept_bytes=1200),
        finished("ewc", 0, 0.2, **FAILED, kept_bytes=None),
    ]
    rows = [row.split(" | ") for row in comparison(records, {}).splitlines() if row.startswith("| `")]
    kept = {row[0]: row[8] for row in rows}
    assert kept["| `joint`"] == kept["| `naive+src`"] == "all images"
    assert (kept["| `naive`"], kept["| `ewc`"]) == ("1,200 B", "")


def test_every_seed_is_weighed_by_its_own_test_images() -> None:
    matrix = [[1.0, 0.0], [0.5, 1.0]]
    records = [
        finished("naive", 0, 0.75, accuracy=matrix, accuracy_before_sleep=matrix, n_test=[10, 10]),
        finished("naive", 1, 0.625, accuracy=matrix, accuracy_before_sleep=matrix, n_test=[30, 10]),
    ]
    (line,) = results_of(records)
    assert line.finals == {0: 0.75, 1: 0.625}


def test_every_way_of_answering_has_its_row() -> None:
    both = {"nearest_mean": [[1.0, 0.0], [0.5, 0.5]], "outputs": [[1.0, 0.0], [0.2, 0.4]]}
    records = [finished("naive", seed, 0.5, accuracy_by=both) for seed in range(2)]
    first, second = results_of(records)
    assert (first.title, second.title) == ("naive, nearest mean", "naive, outputs")
    assert list(first.finals.values()) == [0.5, 0.5]
    assert list(second.finals.values()) == pytest.approx([0.3, 0.3])
    assert (first.forgetting, second.forgetting) == (0.5, pytest.approx(0.8))


@pytest.mark.parametrize(
    ("differences", "p"),
    [([], None), ([1.0], 1.0), ([1.0] * 6, 2 / 64), ([1.0, -1.0], 1.0), ([3.0, 1.0, -1.0], 0.75), ([0.0] * 3, 1.0)],
)
def test_exact_p_of_flipped_signs(differences: list[float], p: float | None) -> None:
    assert sign_flip_p(differences) == p


@pytest.mark.parametrize(
    ("mean", "sd", "agrees"),
    [(48.47, 0.0, True), (46.5, 0.1, True), (46.3, 0.1, False), (40.0, 4.0, True), (38.0, 4.0, False)],
)
def test_agreement_is_two_standard_deviations_or_two_points(mean: float, sd: float, agrees: bool) -> None:
    wide = Published(mean=48.47, sd=2.0 if sd == 4.0 else None, source="Table 1")
    assert wide.agrees_with(mean, sd) is agrees


def test_what_is_published_belongs_to_a_config_and_to_strategies_it_runs() -> None:
    runs = {path.stem: set(load_config(path).strategies) for path in (ROOT / "configs" / "table1").glob("*.yaml")}
    for path in (ROOT / "configs").glob("table2_*.yaml"):
        runs |= {cell.config.name: set(cell.strategies.values()) for cell in load_matrix(path).cells}
    for name, rows in load_published().items():
        assert set(rows) <= runs[name]


def test_what_was_measured_on_something_else_is_shown_and_not_judged() -> None:
    records = [finished("naive", seed, 0.5) for seed in range(3)]
    same, other = (Published(mean=50.0, source="Table 1", differs=why) for why in (None, "other features"))
    assert "| 50.0 | yes |" in comparison(records, {"tiny": {"naive": same}})
    assert "| 50.0 | - (other features) |" in comparison(records, {"tiny": {"naive": other}})
