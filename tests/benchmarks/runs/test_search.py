"""The search: six candidates, three experiences, training images only; the best wins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from benchmarks.__main__ import main
from benchmarks.configs.files import load_config
from benchmarks.configs.run import RunConfig
from benchmarks.data.dataset import Dataset
from benchmarks.runs.search import choose, make_search_table, plan_search, seen_by_search, settings_file
from benchmarks.streams.splitting import hold_out
from benchmarks.streams.stream import build_stream
from lab_samples import FAILED, finished, make_record
from src_plugin.errors import ConfigError
from strategies import STRATEGIES

RAW: dict[str, Any] = {
    "name": "pairs",
    "stream": {"dataset": "digits", "n_experiences": 5},
    "model": {"hidden": [20]},
    "training": {"lr": 0.1, "batch_size": 10, "epochs": 1},
    "strategies": ["naive"],
}
CONFIG = RunConfig.model_validate(RAW)


def test_a_sixth_of_each_class_is_held_out_and_test_images_are_gone(digits: Dataset) -> None:
    split = hold_out(digits)
    both = torch.cat([split.train_images, split.test_images])
    assert sorted(map(tuple, both.tolist())) == sorted(map(tuple, digits.train_images.tolist()))
    for label in range(10):
        n = int((digits.train_labels == label).sum())
        assert int((split.test_labels == label).sum()) == n // 6


def test_the_stream_of_a_search_ends_after_three_experiences_and_holds_no_test_image(digits: Dataset) -> None:
    (trial, *_) = plan_search(CONFIG, strategies=["ewc"], seeds=[100], out=Path("runs"))
    stream = build_stream(trial.jobs[0].config.stream, data=digits, seed=100)
    assert stream.classes == [[0, 1], [2, 3], [4, 5]]
    assert len(stream.train_stream) == 3
    tests = {tuple(image) for image in digits.test_images.tolist()}
    shown = [dataset.dataset[i][0] for dataset in stream.train_stream for i in range(len(dataset.dataset))]
    seen = {tuple(image.tolist()) for image in [*shown, *torch.cat([test.images for test in stream.tests])]}
    assert not seen & tests
    assert {tuple(image.tolist()) for image in shown}.isdisjoint(
        {tuple(image) for test in stream.tests for image in test.images.tolist()}
    )


CROSS_MODAL = RunConfig.model_validate(RAW | {"stream": {"dataset": "mnist", "then": ["fashion_mnist"]}})


@pytest.mark.parametrize(
    ("config", "first", "seen"),
    [
        (CONFIG, 3, "held-out training images of the first 3 experiences"),
        (CROSS_MODAL, 2, "held-out training images of all 2 experiences (none is later)"),
        (
            RunConfig.model_validate(RAW | {"stream": {"dataset": "digits", "classes_per_experience": [2, 2, 6]}}),
            3,
            "held-out training images of all 3 experiences (none is later)",
        ),
    ],
    ids=["five", "two data sets", "three"],
)
def test_a_short_stream_is_searched_on_all_of_it_and_still_on_no_test_image(
    config: RunConfig, first: int, seen: str
) -> None:
    for trial in plan_search(config, strategies=["ewc"], seeds=[100], out=Path("runs")):
        stream = trial.jobs[0].config.stream
        assert (stream.first, stream.validation) == (first, True)
    assert seen_by_search(config) == seen


def test_every_method_has_the_same_budget() -> None:
    searched = {name: row for name, row in STRATEGIES.items() if row.candidates}
    assert {len(row.candidates) for row in searched.values()} == {6}
    for name, row in searched.items():
        assert {key for candidate in row.candidates for key in candidate} <= set(row.settings), name
        assert len({tuple(candidate.values()) for candidate in row.candidates}) == 6, name
    keys = [sorted({key for candidate in row.candidates for key in candidate}) for row in searched.values()]
    assert len(set(map(tuple, keys))) == len(keys)  # none overwrites what another one found
    trials = plan_search(CONFIG, strategies=list(searched), seeds=[100, 101], out=Path("runs"))
    assert len(trials) == 6 * len(searched)
    assert len({job.path for trial in trials for job in trial.jobs}) == 12 * len(searched)


def test_the_best_mean_wins_and_a_divergence_counts_nothing() -> None:
    trials = plan_search(CONFIG, strategies=["ewc", "mas"], seeds=[100, 101], out=Path("runs"))
    finals = iter([0.2, 0.3, 0.5, 0.5, 0.9, 0.0, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4] + [0.1] * 10 + [0.2] * 2)
    records = {job: finished(trial.strategy, job.seed, next(finals)) for trial in trials for job in trial.jobs}
    bad = trials[2].jobs[1]
    records[bad] = make_record(
        status="diverged", error="no", accuracy=[], accuracy_before_sleep=[], final_accuracy=None
    )
    ewc, mas = choose(trials, records)
    assert (ewc.strategy, ewc.best, ewc.scores[1], ewc.scores[2]) == ("ewc", 1, 0.5, 0.45)
    assert (mas.best, mas.is_at_the_edge, ewc.is_at_the_edge) == (5, True, False)
    assert (ewc.diverged, ewc.remark) == ([0, 0, 1, 0, 0, 0], "chosen, beside one that diverged")
    assert mas.remark == "chosen, at the edge"
    table = make_search_table([ewc, mas], "found")
    assert list(table.columns[2].cells)[1:4] == ["50.0 ± 0.0", "1 of 2 diverged", "40.0 ± 0.0"]
    assert table.row_count == 12


def test_a_failed_run_is_no_choice() -> None:
    trials = plan_search(CONFIG, strategies=["ewc"], seeds=[100], out=Path("runs"))
    records = {job: make_record(**FAILED) for trial in trials for job in trial.jobs}
    with pytest.raises(ConfigError, match="ewc with ewc_lambda 1, seed 3, failed: no"):
        choose(trials, records)


def test_what_has_no_numbers_is_refused() -> None:
    for name in ("naive", "ewc+src"):
        with pytest.raises(ConfigError, match="has no numbers of its own to search for"):
            plan_search(CONFIG, strategies=[name], seeds=[100], out=Path("runs"))


@pytest.mark.slow
def test_the_command_searches_a_stream_of_two_experiences(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, found = tmp_path / "twice.yaml", tmp_path / "twice_found.yaml"
    raw = RAW | {"name": "twice", "stream": {"dataset": "digits", "permutations": 2, "samples_per_experience": 100}}
    config.write_text(yaml.safe_dump(raw), encoding="utf-8")
    arguments = ["search", str(config), "--strategies", "ewc", "--seeds", "100", "--out", str(tmp_path / "runs")]
    assert main([*arguments, "--dry-run"]) == 0
    assert "6 of 6 runs to make" in capsys.readouterr().out
    assert main([*arguments, "--write", str(found)]) == 0
    title = "twice: held-out training images of all 2 experiences (none is later)"
    assert title in " ".join(capsys.readouterr().out.split())
    comment = found.read_text(encoding="utf-8").splitlines()[0]
    assert comment == "# Found on held-out training images of all 2 experiences (none is later) by"


def test_the_command_writes_a_config_with_what_it_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, found = tmp_path / "pairs.yaml", tmp_path / "pairs_found.yaml"
    config.write_text(yaml.safe_dump(RAW), encoding="utf-8")
    arguments = ["search", str(config), "--strategies", "lwf", "--seeds", "100", "--out", str(tmp_path / "runs")]
    assert main([*arguments, "--write", str(found)]) == 0
    assert "chosen" in capsys.readouterr().out
    alpha = yaml.safe_load(found.read_text(encoding="utf-8"))["settings"]["lwf_alpha"]
    assert {"lwf_alpha": alpha} in STRATEGIES["lwf"].candidates
    assert load_config(found).settings.lwf_alpha == alpha
    assert load_config(found).stream == CONFIG.stream  # the whole stream, and its test images
    assert f"python -m benchmarks search {config.as_posix()} --strategies lwf --seeds 100" in found.read_text(
        encoding="utf-8"
    )
    assert settings_file([], extends="a.yaml", seen="c", command="b") == (
        "# Found on c by\n#   b\nextends: a.yaml\nsettings: {}\n"
    )
