"""Checkpoints: all or nothing, of this code or not used, and images are not copied."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.runs.checkpoint import load, pack, save, unpack

KEY = {"seed": 1}


def draws() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(1))


def test_generators_go_on_where_they_were() -> None:
    packed = pack(None, shared={})
    wanted = draws()
    assert draws() != wanted
    unpack(packed, shared={})
    assert draws() == wanted


def test_shared_objects_are_named_and_not_copied() -> None:
    images = torch.zeros(1000, 1000)
    packed = pack({"model": torch.ones(3), "images": images}, shared={"images": images})
    assert len(packed) < 50_000
    again = unpack(packed, shared={"images": images})
    assert again["images"] is images
    assert torch.equal(again["model"], torch.ones(3))


def test_optimizers_survive() -> None:
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.Adam([weight], lr=0.5)
    weight.grad = torch.ones(2)
    optimizer.step()
    again_weight, again = unpack(pack((weight, optimizer), shared={}), shared={})
    assert again.param_groups[0]["params"][0] is again_weight
    assert torch.equal(again.state[again_weight]["exp_avg"], optimizer.state[weight]["exp_avg"])


def test_a_file_of_another_key_a_torn_one_and_none_are_no_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "a.checkpoint"
    assert load(path, key=KEY, shared={}) is None
    save(path, [1, 2], key=KEY, shared={})
    assert load(path, key=KEY, shared={}) == [1, 2]
    assert load(path, key={"seed": 2}, shared={}) is None
    whole = path.read_bytes()
    for size in (0, 1, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        assert load(path, key=KEY, shared={}) is None


def test_an_interrupted_write_leaves_the_old_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.checkpoint"
    save(path, "old", key=KEY, shared={})

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("benchmarks.files.os.replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save(path, "new", key=KEY, shared={})
    monkeypatch.undo()
    assert load(path, key=KEY, shared={}) == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.checkpoint"]
