"""The YAML of a matrix: merged as it says, and refused with file, regime and key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.configs.files import load_config
from benchmarks.configs.matrix import load_matrix
from benchmarks.configs.run import resolve
from benchmarks.records.packed import find_files, is_folder
from benchmarks.records.record import config_hash
from matrix_samples import small, small_with, write_matrix_file
from places import CONFIGS
from src_plugin.errors import ConfigError


def test_a_regime_changes_the_base_and_nothing_else(tmp_path: Path) -> None:
    plain, slow, _ = load_matrix(write_matrix_file(tmp_path)).cells
    assert (plain.config.name, slow.config.name) == ("small-digits-sgd", "small-digits-slow")
    assert plain.config.stream.dataset == "digits"
    assert plain.config.training.lr == 0.1
    assert slow.config.training.model_dump() == {**plain.config.training.model_dump(), "lr": 0.05}
    assert slow.config.model == plain.config.model
    assert slow.config.stream == plain.config.stream


def test_a_data_set_changes_the_base_and_a_regime_the_data_set(tmp_path: Path) -> None:
    raw = small(datasets={"digits": {"training": {"lr": 0.3, "epochs": 2}}})
    plain, slow, _ = load_matrix(write_matrix_file(tmp_path, raw)).cells
    assert (plain.config.training.lr, plain.config.training.epochs) == (0.3, 2)
    assert (slow.config.training.lr, slow.config.training.epochs) == (0.05, 2)


def test_a_data_set_by_another_name_brings_its_backbone(tmp_path: Path) -> None:
    parts = {"stream": {"dataset": "cifar10", "scale": "first"}, "backbone": {"name": "resnet18", "weights": "random"}}
    raw = small(datasets={"cifar10_resnet": parts})
    raw["regimes"][1]["datasets"] = ["cifar10_resnet"]
    plain, slow, _ = load_matrix(write_matrix_file(tmp_path, raw)).cells
    assert (plain.dataset, plain.config.name) == ("cifar10_resnet", "small-cifar10_resnet-sgd")
    assert plain.config.stream.dataset == slow.config.stream.dataset == "cifar10"
    assert plain.config.backbone is not None
    assert plain.config.backbone.name == "resnet18"


def test_what_is_underneath_takes_the_place_of_naive(tmp_path: Path) -> None:
    raw = small()
    raw["regimes"][2] |= {"methods": ["naive", "naive+src", "average", "joint"]}
    cell = load_matrix(write_matrix_file(tmp_path, raw)).cells[2]
    assert cell.strategies == {"naive": "replay", "naive+src": "replay+src", "average": "average", "joint": "joint"}
    assert cell.config.strategies == list(cell.strategies.values())
    assert cell.config.settings.memory_fraction == 0.05


def test_cells_come_by_data_set_and_group(tmp_path: Path) -> None:
    raw = small(datasets={"mnist": {}, "digits": {}})
    raw["regimes"].reverse()  # underneath first
    raw["regimes"][0]["datasets"] = ["digits"]
    cells = load_matrix(write_matrix_file(tmp_path, raw)).cells
    assert [(cell.dataset, cell.regime.name) for cell in cells] == [
        ("mnist", "slow"),
        ("mnist", "sgd"),
        ("digits", "slow"),
        ("digits", "sgd"),
        ("digits", "replay_5"),
    ]


def test_a_part_of_a_matrix_can_be_selected(tmp_path: Path) -> None:
    matrix = load_matrix(write_matrix_file(tmp_path, small(datasets={"mnist": {}, "digits": {}})))
    assert [c.config.name for c in matrix.select(regimes=["slow"]).cells] == ["small-mnist-slow", "small-digits-slow"]
    assert len(matrix.select(datasets=["mnist"]).cells) == 3
    assert matrix.select() == matrix
    with pytest.raises(ConfigError, match=r"small has no regime 'slo'; did you mean 'slow'\?"):
        matrix.select(regimes=["slo"])
    with pytest.raises(ConfigError, match=r"small has no dataset 'mnits'; did you mean 'mnist'\?"):
        matrix.select(datasets=["mnits"])


def test_a_selection_that_leaves_nothing_is_refused(tmp_path: Path) -> None:
    raw = small(datasets={"mnist": {}, "digits": {}})
    raw["regimes"][2]["datasets"] = ["digits"]
    matrix = load_matrix(write_matrix_file(tmp_path, raw))
    with pytest.raises(ConfigError, match="none of these regimes"):
        matrix.select(regimes=["replay_5"], datasets=["mnist"])


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "key of the file": (small(regime=[]), r"unknown key 'regime'; did you mean 'regimes'\?"),
    "key of a regime": (small_with(titel="x"), r"unknown key 'regimes.slow.titel'; did you mean 'title'\?"),
    "part": (small_with(set={"modle": {}}), r"unknown key 'regimes.slow.set.modle'; did you mean 'model'\?"),
    "part that is no mapping": (small_with(set={"model": 3}), r"regimes.slow.set.model must be a mapping; got 3"),
    "key of a part": (
        small_with(set={"training": {"momentun": 0.9}}),
        r"unknown key 'regimes.slow.set.training.momentun'; did you mean 'momentum'\?",
    ),
    "key of the base": (
        small(base={"stream": {"n_experience": 5}}),
        r"unknown key 'base.stream.n_experience'; did you mean 'n_experiences'\?",
    ),
    "key of a data set": (
        small(datasets={"digits": {"training": {"l": 1}}}),
        r"unknown key 'datasets.digits.training.l'",
    ),
    "data set in the base": (small(base={"stream": {"dataset": "mnist"}}), r"base.stream.dataset: .* keys of"),
    "data set in a regime": (small_with(set={"stream": {"dataset": "mnist"}}), r"slow.set.stream.dataset"),
    "data set": (small(datasets={"digit": {}}), r"datasets: unknown dataset 'digit'; did you mean 'digits'\?"),
    "data set by another name": (
        small(datasets={"small": {"stream": {"dataset": "digit"}}}),
        r"datasets: unknown dataset 'digit'; did you mean 'digits'\?",
    ),
    "images without a backbone": (
        small(datasets={"cifar10": {}}),
        r"datasets.cifar10: .*add datasets.cifar10.backbone",
    ),
    "backbone of a regime": (small_with(set={"backbone": {}}), r"unknown key 'regimes.slow.set.backbone'"),
    "data set of a regime": (small_with(datasets=["mnist"]), r"regimes.slow.datasets: unknown 'mnist'; known: digits"),
    "method": (
        small(methods=["naive", "naive+scr"]),
        r"methods: unknown strategy 'naive\+scr'.*in regime 'sgd' on digits",
    ),
    "strategy": (small_with(strategy="reply"), r"methods: unknown strategy 'reply'.*in regime 'slow' on digits"),
    "method twice": (small_with(methods=["naive", "naive"]), r"methods: one is named twice, in regime 'slow'"),
    "title": (small(titles={"digit": "Digits"}), r"titles: unknown 'digit'; did you mean 'digits'"),
    "regime twice": (small_with(name="sgd"), r"two regimes are called 'sgd'"),
    "group": (small_with(group="trainin"), r"group: .*'training', 'one layer', 'streams' or .*in regime 'slow'"),
    "name": (small_with(name="a b"), r"name: .*in regime 'a b'"),
    "value": (small_with(set={"training": {"lr": -1.0}}), r"training.lr: .*greater than 0 .*in regime 'slow' on"),
    "values that do not fit": (
        small_with(set={"stream": {"n_experiences": 5}}),
        r"give .*classes_per_experience.*in regime 'slow' on digits",
    ),
    "sleep": (small_with(set={"sleep": {"preset": "atuo"}}), r"sleep: .*in regime 'slow' on digits"),
    "no regimes": (small(regimes=[]), r"regimes: "),
    "regimes that are none": (small(regimes=["sgd"]), r"regimes: "),
    "no title": (small(name=None), r"name: "),
}


@pytest.mark.parametrize(
    ("titles", "title"), [({}, "Digits"), ({"digits": "Numbers"}, "Numbers")], ids=["own", "given"]
)
def test_a_data_set_is_called_by_the_title_of_its_row_or_of_the_matrix(
    titles: dict[str, str], title: str, tmp_path: Path
) -> None:
    cells = load_matrix(write_matrix_file(tmp_path, small(titles=titles))).cells
    assert {cell.title for cell in cells} == {title}


@pytest.mark.parametrize(("raw", "message"), REFUSED.values(), ids=REFUSED)
def test_a_mistake_is_named_with_its_place(tmp_path: Path, raw: dict[str, Any], message: str) -> None:
    path = write_matrix_file(tmp_path, raw)
    with pytest.raises(ConfigError, match=message) as refusal:
        load_matrix(path)
    assert str(refusal.value).startswith(f"{path}: ")


def test_a_file_that_is_no_matrix_is_refused(tmp_path: Path) -> None:
    write_matrix_file(tmp_path)
    with pytest.raises(ConfigError, match=r"there is no matrix .*smal.yaml; did you mean 'small.yaml'\?"):
        load_matrix(tmp_path / "smal.yaml")
    path = tmp_path / "small.yaml"
    path.write_text("- naive\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="must hold a mapping with keys like base"):
        load_matrix(path)
    path.write_text("{", encoding="utf-8")
    with pytest.raises(ConfigError, match="cannot be read as YAML"):
        load_matrix(path)


@pytest.mark.parametrize("file", ["regimes.yaml", "regimes_digits.yaml"])
def test_the_matrices_of_the_laboratory_can_be_read(file: str) -> None:
    matrix = load_matrix(CONFIGS / file)
    names = [cell.config.name for cell in matrix.cells]
    assert len(set(names)) == len(names)
    assert {cell.regime.group for cell in matrix.cells} - {"one layer"} == {"training", "streams", "underneath"}
    assert all((cell.regime.group == "one layer") == (not cell.config.model.hidden) for cell in matrix.cells)
    assert all({"naive", "naive+settle", "naive+src"} <= cell.strategies.keys() for cell in matrix.cells)


# The matrix says which sleep its records are of; the configs have the default of today.
OF_THEN = "sleep.set={engine: simulated, input_share: 1.0, noise: binary, prior: equal}"
SAME = {"sgd_1200": "split_mnist.yaml", "simple_mlp_adam": "split_mnist_simple_mlp.yaml"}


@pytest.mark.parametrize(("regime", "file"), SAME.items(), ids=SAME)
@pytest.mark.parametrize("strategy", ["naive", "naive+src", "joint"])
def test_a_regime_that_is_also_a_config_is_the_same_run(regime: str, file: str, strategy: str) -> None:
    (cell,) = load_matrix(CONFIGS / "regimes.yaml").select(regimes=[regime], datasets=["mnist"]).cells
    config = load_config(CONFIGS / file, changes=[OF_THEN])
    assert config_hash(resolve(cell.config, strategy)) == config_hash(resolve(config, strategy))


@pytest.mark.parametrize("name", ["regimes", "rehearsal"])
def test_records_of_the_matrices_keep_their_names(name: str) -> None:
    folder = CONFIGS.parent / "benchmarks" / "results" / name
    checked = set()
    for cell in load_matrix(CONFIGS / f"{name}.yaml").cells:
        for strategy in cell.strategies:
            place = folder / cell.config.name / strategy
            if is_folder(place):
                names = [path.stem for path in find_files(place, "seed*.json")]
                assert {stem.split("-")[-1] for stem in names} >= {config_hash(resolve(cell.config, strategy))}
                checked.add(strategy)
    assert {"naive", "naive+src"} <= checked


def test_a_config_is_sent_to_the_command_that_runs_it_and_a_matrix_to_its_own() -> None:
    configs = CONFIGS
    with pytest.raises(ConfigError, match=r"split_mnist.yaml is the config of one benchmark.*benchmarks run "):
        load_matrix(configs / "split_mnist.yaml")
    with pytest.raises(ConfigError, match=r"regimes.yaml is a matrix of regimes: python -m benchmarks regimes "):
        load_config(configs / "regimes.yaml")
