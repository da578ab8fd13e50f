"""Every paper/ preset has the numbers of the authors' scripts: by a table in here, and by the golden file."""

import json

import pytest

from places import GOLDEN
from src_plugin.config import SleepConfig
from src_plugin.config.presets import PRESETS
from src_plugin.errors import ConfigError

# max_rate Hz, inc, dec, thresholds, gain, steps after task 1, 2, ..., patch in pixels
PAPER = {
    "paper/split_mnist": (
        239.515363, 0.032064, 0.003344, (14.548273, 44.560317, 38.046326), 55.882454,
        [15000, 20000, 25000, 30000, 35000], 11,
    ),
    "paper/split_fashion_mnist": (
        181.047258, 0.041001, 0.003344, (40.446884, 27.596929, 33.109393), 31.592987,
        [15000, 20000, 25000, 30000, 35000], 11,
    ),
    "paper/split_cifar10": (453.020604, 0.078129, 0.003005, (8.070491, 0.907842, 1.72884), 4.131109, [15000] * 5, None),
    "paper/cub200": (32.0, 0.01, 0.001, (1.0, 1.0, 1.0), 1.0, [5000, 5000], None),
    # 8-bit lengths saturate at 255 in the script
    "paper/cross_modal_mnist": (
        227.437205, 0.050052, 0.005592, (4.700579, 7.750487, 7.055086), 9.284002, [255, 255], 11,
    ),
    "paper/split_mnist_icarl_50": (
        95.654279, 0.058705, 0.009112, (27.477005, 21.155469, 22.567029), 19.001764,
        [15000, 20000, 25000, 30000, 35000], 11,
    ),
    "paper/split_mnist_icarl_100": (
        114.36572, 0.042289, 0.005498, (38.451454, 22.198208, 6.89345), 4.253433,
        [15000, 20000, 25000, 30000, 35000], 11,
    ),
    "paper/split_mnist_icarl_1000": (
        27.39365, 0.019093, 0.060217, (9.62552, 34.73761, 31.296881), 2.023822,
        [15000, 20000, 25000, 30000, 35000], 11,
    ),
    "paper/split_fashion_mnist_icarl_50": (
        142.945655, 0.003775, 0.009083, (39.917543, 39.468197, 12.18852), 5.5737,
        [15000, 20000, 25000, 30000, 35000], 11,
    ),
    "paper/split_fashion_mnist_icarl_100": (
        42.162268, 0.060285, 0.003577, (36.717054, 20.800337, 30.249532), 12.25368,
        [15000, 20000, 25000, 30000, 35000], 11,
    ),
    "paper/split_fashion_mnist_icarl_1000": (
        20.0, 0.1, 0.000001, (0.862173, 0.318765, 0.0), 0.1, [15000, 20000, 25000, 30000, 35000], 11,
    ),
    "paper/patches": (64.0, 0.0035, 0.0002, (1.045,), 4.25, [0, 30000], None),
}  # fmt: skip


@pytest.mark.parametrize("name", PAPER)
def test_numbers_of_the_authors_scripts(name):
    config = SleepConfig.preset(name)
    max_rate, inc, dec, thresholds, gain, steps, patch = PAPER[name]
    assert (config.simulation.max_rate, config.simulation.inc, config.simulation.dec) == (max_rate, inc, dec)
    assert (config.simulation.thresholds, config.simulation.gain, config.simulation.patch) == (thresholds, gain, patch)
    assert [config.simulation.steps_at(k) for k in range(len(steps))] == steps


@pytest.mark.parametrize("name", PAPER)
def test_what_all_scripts_share(name):
    config = SleepConfig.preset(name)
    assert (
        config.simulation.decay,
        config.simulation.gate_width,
        config.simulation.dt,
        config.simulation.inhibition,
    ) == (0.999, 0.001, 0.001, 0.0)
    assert config.simulation.normalise


def test_every_paper_preset_is_in_the_table():
    assert {name for name in PRESETS if name.startswith("paper/")} == set(PAPER)


GOLDEN_NUMBERS = json.loads((GOLDEN / "paper_presets.json").read_text("utf-8"))


def test_every_paper_preset_was_read_from_a_script():
    assert GOLDEN_NUMBERS.keys() == PAPER.keys()
    assert all(numbers["script"].endswith(".m") for numbers in GOLDEN_NUMBERS.values())


@pytest.mark.parametrize("name", PAPER)
def test_the_golden_file_says_the_same(name):
    golden, config = GOLDEN_NUMBERS[name], SleepConfig.preset(name)
    ours = {
        "input_rate": config.simulation.max_rate,
        "inc": config.simulation.inc,
        "dec": config.simulation.dec,
        "beta": [threshold / golden["threshold"] for threshold in config.simulation.thresholds],
        "alpha_scale": config.simulation.gain,
        "decay": config.simulation.decay,
        "w_inh": config.simulation.inhibition,
        "dt": config.simulation.dt,
        "gate_width": config.simulation.gate_width,
        "steps": [config.simulation.steps_at(k) for k in range(len(golden["steps"]))],
        "patch": config.simulation.patch,
    }
    assert ours == {field: value for field, value in golden.items() if field not in ("script", "threshold")}


@pytest.mark.parametrize("name", [*PAPER, "src_only"])
def test_a_paper_preset_is_pure_and_behind_no_gate(name):
    # The paper has sleep and nothing else; whatever this project adds must be off.
    config = SleepConfig.preset(name)
    assert config.is_pure
    assert config.sleep
    assert not any((config.gates.rehearsal, config.gates.balance, config.simulation.first_gate))


def test_auto_is_the_default():
    assert SleepConfig.preset("auto") == SleepConfig()


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_makes_a_config_and_names_its_source(name):
    assert SleepConfig.preset(name).why_off(1) is None
    assert PRESETS[name].source


def test_a_preset_can_be_changed_in_part():
    config = SleepConfig.preset("paper/cub200", steps=9)
    assert config.simulation.steps == 9
    assert config.simulation.thresholds == (1.0, 1.0, 1.0)
    assert SleepConfig.preset("paper/cub200").simulation.steps == 5000


@pytest.mark.parametrize(
    ("name", "nearest"), [("paper/split_minst", "paper/split_mnist"), ("atuo", "auto"), ("src-only", "src_only")]
)
def test_an_unknown_preset_is_refused_with_the_nearest(name, nearest):
    with pytest.raises(ConfigError, match=f"unknown preset '{name}'; did you mean '{nearest}'"):
        SleepConfig.preset(name)


def test_presets_cannot_be_overwritten():
    with pytest.raises(TypeError):
        PRESETS["auto"] = None
