"""Configs: the shipped ones load, and a mistake is answered with its file, its key and the nearest known name."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.configs.files import load_config
from benchmarks.configs.run import RunConfig, SleepSection, resolve
from benchmarks.records.packed import exists
from benchmarks.records.record import config_hash
from benchmarks.streams.loading import check_dataset
from places import CONFIGS
from src_plugin.config import SleepConfig, simulation_only
from src_plugin.errors import ConfigError
from strategies import find_row

NO_RUNS = {"base.yaml", *(path.name for path in CONFIGS.glob("*.yaml") if "\nregimes:" in path.read_text("utf-8"))}
OTHERS = {"backbones", "sweeps", "unseen"}  # folders of configs for other commands
RUNNABLE = sorted(
    path for path in CONFIGS.rglob("*.yaml") if path.name not in NO_RUNS and path.parent.name not in OTHERS
)

COMPLETE = """
stream: {dataset: digits, n_experiences: 5}
model: {hidden: [20]}
training: {lr: 0.1, batch_size: 10, epochs: 1}
strategies: [naive]
"""


def write(folder: Path, text: str, *, name: str = "mine.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_the_promised_configs_are_there() -> None:
    names = {path.stem for path in RUNNABLE}
    assert {"split_digits", "split_mnist", "split_fashion_mnist", "split_mnist_bias"} <= names
    assert {"split_mnist_simple_mlp", "paper_split_mnist", "paper_split_fashion_mnist"} <= names


@pytest.mark.parametrize("path", RUNNABLE, ids=lambda path: path.stem)
def test_shipped_configs_load_and_name_what_exists(path: Path) -> None:
    config = load_config(path)
    assert config.name == path.stem
    check_dataset(config)
    for strategy in config.strategies:
        find_row(strategy)
        resolve(config, strategy)


def test_the_paper_protocol_is_the_authors_code() -> None:
    config = load_config(CONFIGS / "paper_split_fashion_mnist.yaml")
    training, model = config.training, config.model
    assert (training.optimizer, training.lr, training.momentum) == ("sgd", 0.1, 0.5)
    assert (training.batch_size, training.epochs, training.loss) == (100, 2, "squared_error")
    assert (model.hidden, model.bias, model.output) == ([1200, 1200], False, "relu")
    assert (model.dropout, model.dropout_style, model.init_half_range) == (0.25, "paper", 0.01)
    assert (config.stream.samples_per_experience, config.stream.class_order) == (5000, "fixed")
    assert (config.sleep.preset, config.sleep.reference) == ("paper/split_fashion_mnist", "seen_classes")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (COMPLETE + "trainings: {}", "unknown key 'trainings'; did you mean 'training'"),
        (COMPLETE + "extend: base.yaml", "unknown key 'extend'; did you mean 'extends'"),
        (COMPLETE.replace("epochs", "epoch"), "unknown key 'training.epoch'; did you mean 'epochs'"),
        (
            COMPLETE + "sleep: {replay: false}",
            "is a setting of the sleep; write sleep: {set: {replay: False}}",
        ),
        (COMPLETE + "sleep: {presets: auto}", "unknown key 'sleep.presets'; did you mean 'preset'"),
        (COMPLETE + "sleep: {preset: paper/split_mnits}", "did you mean 'paper/split_mnist'"),
        (COMPLETE + "sleep: {set: {step: 3}}", "did you mean 'steps'"),
    ],
)
def test_an_unknown_name_is_answered_with_the_file_and_the_nearest_one(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("lr: 0.1", "lr: 1e-1"), "training.lr.*write 0.001 or 1.0e-3"),
        (("lr: 0.1", "lr: -0.1"), "training.lr.*greater than 0.*-0.1"),
        (("lr: 0.1", "lr: .nan"), r"training.lr: must be a number greater than 0 \(got nan\)"),
        (("epochs: 1", "epochs: '1'"), r"training.epochs: must be a whole number .*\(got '1'; in quotes .*: write 1\)"),
        (("epochs: 1", "epochs: 1.5"), r"training.epochs: must be a whole number of 1 or more \(got 1.5\)"),
        (("epochs: 1", "epochs: 1, optimizer: adam, momentum: 0.9"), "momentum is a setting of sgd"),
        (("hidden: [20]", "hidden: [20], output: relux"), "model.output.*'relu'"),
        (("hidden: [20]", "hidden: [20, 30], kind: simple_mlp, bias: true"), "all of the same size"),
        (
            ("n_experiences: 5", "n_experiences: 5, permutations: 3"),
            "one of them.*here is n_experiences and permutations",
        ),
        (("n_experiences: 5", "samples_per_experience: 5"), "one of them.*here is none"),
        (("n_experiences: 5", "permutations: 3, task_labels: true"), "permutations .* takes no task_labels"),
        (
            ("n_experiences: 5", "experiences: [[0], [1]], class_order: seeded"),
            "experiences leaves no choice of class_",
        ),
        (("n_experiences: 5", "experiences: [[0, 1], [2, 3, 2]]"), r"\[2, 3, 2\] names a class twice"),
        (
            ("[20]}", "[20], output: relu}\nsettings: {memory_fraction: 2}"),
            r"settings.memory_fraction: must be a number greater than 0 and at most 1 \(got 2\)",
        ),
        (("5}\nmodel: {", "5, task_labels: true}\nmodel: {output: relu, "), "model.output must be linear"),
        (("5}", "5, task_labels: true}\nsleep: {reference: seen_classes}"), "use reference: none"),
        (
            ("5}", "5}\nbackbone: {name: toy, unreadable: skip, cached: false}"),
            "backbone: .*use cached: true, or unread",
        ),
        (("strategies: [naive]", ""), "strategies: is missing; it must be a list of one or more texts$"),
    ],
)
def test_a_wrong_value_is_answered_with_its_key(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    path = write(tmp_path, COMPLETE.replace(*change))
    with pytest.raises(ConfigError, match=message):
        load_config(path)


WHOLE = "a whole number of 1 or more"
MISTAKES = {
    "wrong type": (("batch_size: 10", "batch_size: many"), f"training.batch_size: must be {WHOLE} (got 'many')"),
    "truth for a number": (("epochs: 1", "epochs: yes"), f"training.epochs: must be {WHOLE} (got true)"),
    "negative number": (("epochs: 1", "epochs: -3"), f"training.epochs: must be {WHOLE} (got -3)"),
    "missing key": (("lr: 0.1, ", ""), "training.lr: is missing; it must be a number greater than 0"),
    "wrong word": (
        ("epochs: 1", "epochs: 1, optimizer: sdg"),
        "training.optimizer: must be 'sgd', 'adam' or 'adamw' (got 'sdg'; did you mean 'sgd'?)",
    ),
    "text for a section": (("{hidden: [20]}", "big"), "model: must be a mapping with the keys kind, hidden, bias,"),
    "nothing for a section": (("{hidden: [20]}", ""), "dropout_style, output, init_half_range (got null)"),
    "wrong entry of a list": (
        ("[20]", "[20, -3]"),
        "hidden: must be a list of whole numbers of 1 or more (got [20, -3]",
    ),
    "a long list": (("[20]", f"{[-3] * 99}"), f"(got [{'-3, ' * 19}..."),
    "neither of two kinds": (
        ("5}", "5, images_per_experience: -3}"),
        f"stream.images_per_experience: must be {WHOLE}; or a number greater than 0 and less than 1; or a list of one "
        "or more whole numbers of 1 or more or numbers greater than 0 and less than 1; or null (got -3)",
    ),
    "a digit of a hash": (
        ("strategies", "backbone: {name: resnet18, weights_sha256: abc}\nstrategies"),
        "backbone.weights_sha256: must be a SHA-256: 64 digits 0-9 and a-f; or null (got 'abc')",
    ),
    "data set": (
        ("dataset: digits", "dataset: image_foldr, folder: [x]"),
        "stream: dataset: unknown dataset 'image_foldr'; did you mean 'image_folder'?",
    ),
    "folder of a named set": (
        ("dataset: digits", "dataset: cifar10, folder: [x]"),
        "stream: folder is for dataset: image_folder, and cifar10 is found by its own name",
    ),
    "no folder": (("dataset: digits", "dataset: image_folder"), "needs folder: [...], e.g. folder: [photos.zip]"),
}


@pytest.mark.parametrize(("change", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_answered_with_file_key_what_must_be_there_and_what_was(
    tmp_path: Path, change: tuple[str, str], message: str
) -> None:
    path = write(tmp_path, COMPLETE.replace(*change))
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    said = str(caught.value)
    assert said.startswith(f"{path}: ")
    assert message in said
    for word in ("Input", "valid", "Field", "Value error", "instance"):  # words of pydantic's
        assert word not in said


@pytest.mark.parametrize(
    ("parent", "said"),
    [
        ("configs/base.yaml", r"there is no folder .*configs, either"),
        ("bese.yaml", r"did you mean 'base\.yaml'\?"),
    ],
)
def test_a_file_that_is_extended_and_is_not_there_is_named_with_the_one_that_says_so(
    tmp_path: Path, parent: str, said: str
) -> None:
    write(tmp_path, COMPLETE, name="base.yaml")
    leaf = write(tmp_path, f"extends: {parent}", name="leaf.yaml")
    with pytest.raises(ConfigError, match=rf"leaf\.yaml: extends: there is no config .*{said}"):
        load_config(leaf)


def test_extends_merges_mappings_and_replaces_the_rest(tmp_path: Path) -> None:
    write(tmp_path, COMPLETE + "name: first", name="base.yaml")
    write(tmp_path, "extends: base.yaml\nmodel: {bias: true}", name="middle.yaml")
    leaf = write(tmp_path, "extends: middle.yaml\nmodel: {hidden: [7, 8]}\ntraining: {lr: 0.2}", name="leaf.yaml")
    config = load_config(leaf)
    assert config.name == "leaf"  # a name is not inherited: two configs would share their records
    assert config.model.hidden == [7, 8]
    assert config.model.bias is True
    assert (config.training.lr, config.training.batch_size) == (0.2, 10)


def test_an_error_in_an_extended_file_names_that_file(tmp_path: Path) -> None:
    write(tmp_path, COMPLETE.replace("lr: 0.1", "lr: -1"), name="base.yaml")
    leaf = write(tmp_path, "extends: base.yaml\ntraining: {epochs: 2}", name="leaf.yaml")
    with pytest.raises(ConfigError, match=r"base\.yaml: training\.lr"):
        load_config(leaf)


def test_files_that_extend_each_other_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "extends: b.yaml", name="a.yaml")
    path = write(tmp_path, "extends: a.yaml", name="b.yaml")
    with pytest.raises(ConfigError, match=r"extends itself: b\.yaml -> a\.yaml -> b\.yaml"):
        load_config(path)


def test_a_missing_file_names_the_nearest(tmp_path: Path) -> None:
    write(tmp_path, COMPLETE, name="split_digits.yaml")
    with pytest.raises(ConfigError, match=r"did you mean 'split_digits\.yaml'"):
        load_config(tmp_path / "split_digit.yaml")


def test_a_name_without_its_folder_is_looked_for_among_the_configs(tmp_path: Path) -> None:
    (tmp_path / "configs").mkdir()
    write(tmp_path / "configs", COMPLETE, name="split_digits.yaml")
    with pytest.raises(ConfigError, match=r"did you mean 'configs/split_digits\.yaml'"):
        load_config(tmp_path / "split_digits")


@pytest.mark.parametrize("text", ["- a list", "a: [", "just text", ""])
def test_what_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"mine\.yaml"):
        load_config(write(tmp_path, text))


def _hash(config: RunConfig, strategy: str) -> str:
    return config_hash(resolve(config, strategy))


def test_the_hash_follows_what_can_move_a_number_and_nothing_else(tiny: RunConfig) -> None:
    def changed(**sections: dict[str, object]) -> RunConfig:
        raw = tiny.model_dump()
        for name, change in sections.items():
            raw[name] = {**raw[name], **change}
        return RunConfig.model_validate(raw)

    same = tiny.model_copy(update={"description": "other words", "strategies": ["joint"], "name": "other"})
    assert _hash(same, "naive") == _hash(tiny, "naive")
    assert _hash(tiny, "joint") != _hash(tiny, "naive")
    assert _hash(changed(training={"lr": 0.051}), "naive") != _hash(tiny, "naive")
    deeper = changed(sleep={"set": {"depth": 0.4}})
    assert _hash(deeper, "naive+src") != _hash(tiny, "naive+src")
    assert _hash(deeper, "naive") == _hash(tiny, "naive")  # naive does not sleep


def test_only_the_settings_a_strategy_reads_are_part_of_its_hash(tiny: RunConfig) -> None:
    raw = tiny.model_dump()
    other = RunConfig.model_validate({**raw, "settings": {"memory_fraction": 0.02, "ewc_lambda": 7.0}})
    assert resolve(other, "replay+src")["settings"] == {"memory_fraction": 0.02}
    assert resolve(other, "lwf")["settings"] == {"lwf_alpha": 1.0, "lwf_temperature": 2.0}
    assert "settings" not in resolve(other, "naive+src")
    assert _hash(other, "replay") != _hash(tiny, "replay")
    assert _hash(other, "lwf") == _hash(tiny, "lwf")
    assert _hash(other, "naive") == _hash(tiny, "naive")


@pytest.mark.parametrize(
    ("strategy", "sleep", "idle"),
    [
        ("naive+settle", {}, {"depression": [0.5, 0.5, 0.5], "depth": 0.9}),
        (
            "naive+src",
            {"preset": "paper/split_mnist"},
            {"depth": 0.9, "depression": [0.5, 0.5, 0.5], "target_rates": [0.1, 0.1, 0.1]},
        ),
    ],
    ids=["no sleep itself", "published steps and thresholds"],
)
def test_numbers_that_a_sleep_does_not_read_are_no_part_of_it(
    tiny: RunConfig, strategy: str, sleep: dict, idle: dict
) -> None:
    plain = RunConfig.model_validate({**tiny.model_dump(), "sleep": sleep})
    other = RunConfig.model_validate({**tiny.model_dump(), "sleep": {**sleep, "set": idle}})
    numbers = resolve(plain, strategy)["sleep"]["numbers"]
    assert numbers == resolve(other, strategy)["sleep"]["numbers"]
    assert not idle.keys() & numbers.keys()
    assert {"steps", "replay", "settle", "level"} <= numbers.keys()


def test_every_number_that_a_sleep_reads_is_part_of_it(tiny: RunConfig) -> None:
    closed, simulated = (resolve(tiny, name)["sleep"]["numbers"] for name in ("naive+src", "naive+simulated"))
    came_later_and_are_as_then = {"new_classes_gate", "hidden_gate", "keep"}
    known = SleepConfig().to_dict().keys() - came_later_and_are_as_then
    assert closed.keys() == known - (set(simulation_only()) - {"steps"}) - {"depth", "depression"}
    assert simulated.keys() == known - {"engine", "fractions"}


def test_a_sleep_in_closed_form_by_step_sizes_is_told_as_it_was_while_that_was_the_default(tiny: RunConfig) -> None:
    then = SleepSection(set={"depth": 0.25})
    sleep = resolve(tiny.model_copy(update={"sleep": then}), "naive+src")["sleep"]
    assert sleep["changed"] == []
    told = {key: sleep["numbers"].get(key, "absent") for key in ("engine", "depth", "depression", "fractions")}
    assert told == {"engine": "closed_form", "depth": None, "depression": [0.29, 0.25, 0.03], "fractions": "absent"}


def test_records_of_a_time_when_every_sleep_was_simulated_are_those_of_a_config_today(tiny: RunConfig) -> None:
    then = SleepSection(set={"engine": "simulated", "input_share": 1.0})
    sleep = resolve(tiny.model_copy(update={"sleep": then}), "naive+src")["sleep"]
    assert sleep["changed"] == []
    assert not {"engine", "input_share"} & sleep["numbers"].keys()
    assert {"depth", "input_spikes", "target_rates"} <= sleep["numbers"].keys()


def test_a_field_that_came_later_counts_only_where_it_is_not_as_before(tiny: RunConfig) -> None:
    assert "new_classes_gate" not in resolve(tiny, "naive+src")["sleep"]["numbers"]
    section = SleepSection(set={"new_classes_gate": False})
    off = resolve(tiny.model_copy(update={"sleep": section}), "naive+src")["sleep"]["numbers"]
    assert off["new_classes_gate"] is False


def test_fields_that_came_later_are_resolved_only_where_they_are_used(tiny: RunConfig) -> None:
    later = {"experiences", "permutations", "task_labels"}
    assert not later & resolve(tiny, "naive")["stream"].keys()
    raw = {**tiny.model_dump(), "stream": {"dataset": "digits", "n_experiences": 5, "task_labels": True}}
    assert later & resolve(RunConfig.model_validate(raw), "naive")["stream"].keys() == {"task_labels"}


def test_records_that_exist_keep_their_names() -> None:
    folder = CONFIGS.parent / "benchmarks" / "results" / "suites" / "split_digits"
    config = load_config(CONFIGS / "split_digits.yaml")
    for strategy in ("naive", "joint", "average"):
        assert exists(folder / strategy / f"seed0-{_hash(config, strategy)}.json")


# -- changes on the command line ---------------------------------------------------------------------------------------


def test_a_change_comes_last_and_stands_in_the_name() -> None:
    plain = load_config(CONFIGS / "split_digits.yaml")
    changed = load_config(
        CONFIGS / "split_digits.yaml", changes=["training.lr=0.25", "sleep.set.depth=0.5", "model.hidden=[20, 20]"]
    )
    assert (changed.training.lr, changed.sleep.set, changed.model.hidden) == (0.25, {"depth": 0.5}, [20, 20])
    assert changed.name == f"{plain.name}-lr-0.25-depth-0.5-hidden-_20_20"
    assert changed.stream == plain.stream


CHANGES = {
    "no value": ("training.lr", r"--set training.lr: write KEY=VALUE"),
    "no key": ("=3", r"write KEY=VALUE"),
    "unknown key": ("training.rate=1", r"--set: unknown key 'training.rate'"),
    "a setting of the sleep": (
        "sleep.depth=1",
        r"'depth' is a setting of the sleep; write sleep: \{set: \{depth: 1\}\}",
    ),
    "a value of another kind": ("training.epochs=many", r"--set: training.epochs: .*got 'many'"),
    "a name": ("name=mine", r"named after its changes"),
}


@pytest.mark.parametrize(("change", "message"), CHANGES.values(), ids=CHANGES)
def test_a_change_that_cannot_be_meant_is_refused(change: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(CONFIGS / "split_digits.yaml", changes=[change])


def test_an_unknown_key_of_a_section_that_may_be_left_out_is_answered_with_the_nearest(tmp_path: Path) -> None:
    path = write(tmp_path, COMPLETE + "backbone: {name: resnet18, image_sise: 64}\n")
    with pytest.raises(ConfigError, match=r"unknown key 'backbone.image_sise'.*image_size"):
        load_config(path)
