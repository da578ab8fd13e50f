"""sleep(): the same seed and the same mean input give the same sleep."""

import numpy as np
import pytest
import torch

from models import copies, same_bits
from sleep_samples import PURE, night, trained
from src_plugin.config import SleepConfig
from src_plugin.night import stimulus
from src_plugin.night.sleep import sleep


def slept_weights(**changes):
    model, before = trained()
    night(model, before, **changes)
    return copies(model)


SEEDS = {
    "number": lambda: 7,
    "numpy": lambda: np.random.default_rng(7),
    "torch": lambda: torch.Generator().manual_seed(7),
}


@pytest.mark.parametrize("seed", SEEDS.values(), ids=SEEDS)
def test_the_same_seed_gives_the_same_sleep_and_another_another(seed):
    first = slept_weights(generator=seed())
    again = slept_weights(generator=seed())
    other = slept_weights(generator=8)
    assert all(same_bits(first[name], again[name]) for name in first)
    assert not all(same_bits(first[name], other[name]) for name in first)


NOTHING_TO_DRAW = {
    "a first sleep": {"old_classes": ()},
    "a pure sleep in closed form": {"config": SleepConfig(settle=False, level=False)},
}


@pytest.mark.parametrize("arguments", NOTHING_TO_DRAW.values(), ids=NOTHING_TO_DRAW)
def test_a_sleep_in_closed_form_draws_nothing(arguments):
    generator = np.random.default_rng(7)
    state = generator.bit_generator.state
    model, before = trained()
    report = night(model, before, generator=generator, **arguments)
    assert (report.decision, report.engine) == ("slept", "closed_form")
    assert generator.bit_generator.state == state


def test_a_simulated_sleep_does():
    generator = np.random.default_rng(7)
    state = generator.bit_generator.state
    night(*trained(), PURE, generator=generator)
    assert generator.bit_generator.state != state


def test_a_generator_goes_on_from_where_it_is():
    generator = np.random.default_rng(7)
    first, second = slept_weights(generator=generator), slept_weights(generator=generator)
    assert not all(same_bits(first[name], second[name]) for name in first)


def test_cutting_the_stimulus_into_chunks_does_not_change_a_sleep(monkeypatch):
    whole = slept_weights(config=PURE)
    monkeypatch.setattr(stimulus, "CHUNK", 33)
    parts = slept_weights(config=PURE)
    for name in whole:
        torch.testing.assert_close(parts[name], whole[name], rtol=0, atol=1e-6)


def test_mean_input_may_be_a_list_an_array_or_a_tensor():
    mean = [0.5] * 6 + [0.25] * 6  # exact in every float type
    results = []
    for given in (mean, np.array(mean), torch.tensor(mean), torch.tensor(mean, dtype=torch.float16)):
        model, _ = trained()
        sleep(model, given, PURE)
        results.append(copies(model))
    for other in results[1:]:
        assert all(same_bits(results[0][name], other[name]) for name in other)


KINDS = {"bfloat16": torch.full((12,), 0.5, dtype=torch.bfloat16), "reversed": np.full(12, 0.5)[::-1]}


@pytest.mark.parametrize("mean", KINDS.values(), ids=KINDS)
def test_mean_input_may_be_of_any_layout_and_precision(mean):
    assert sleep(trained()[0], mean, PURE).decision == "slept"
