"""What several processes saw is put together as if one had seen it, batch by batch and row by row."""

import pytest
import torch

from models import N_CLASSES, N_INPUTS, Blobs, mlp
from src_plugin.ranks import of_this_rank
from src_plugin.waking.merge import merge
from src_plugin.waking.observer import Waking
from src_plugin.waking.snapshot import absorb, restore, snapshot

MODEL = mlp(N_INPUTS, 16, N_CLASSES)


def show(waking, x, y):
    waking.begin_forward(MODEL)
    waking.end_forward(MODEL, MODEL(x), y)


def see(tasks, rank=0, processes=1):
    """What a process knows, within the last of some tasks, after its share of each batch."""
    x, y = Blobs(40, 0).tensors
    waking = Waking()
    for number, classes in enumerate(tasks):
        if number:
            waking.forget(slept=True)
        waking.begin_epoch(MODEL)
        rows = torch.isin(y, torch.tensor(classes)).nonzero()[:, 0]
        for batch in rows.split(8) if len(rows) else ():
            share = batch[rank::processes] if number == len(tasks) - 1 else batch  # all know the past
            show(waking, x[share], y[share])
    return waking


def together(parts):
    absorb(parts[0], merge([snapshot(part)["now"] for part in parts]))
    return parts[0].summary(index=1)


@pytest.mark.parametrize("tasks", [[(0, 1)], [(0, 1), (2, 3)], [(0, 1), (0, 1, 2, 3)]], ids=str)
def test_two_processes_together_know_what_one_does(tasks):
    one = see(tasks).summary(index=1)
    both = together([see(tasks, rank, 2) for rank in range(2)])
    torch.testing.assert_close(torch.from_numpy(both.mean), torch.from_numpy(one.mean))
    assert torch.equal(both.inputs, one.inputs)
    assert (both.classes, both.iterations, both.exemplars) == (one.classes, one.iterations, one.exemplars)
    assert (both.samples is None) == (one.samples is None)
    if one.samples is not None:
        assert sorted(both.samples[1].tolist()) == sorted(one.samples[1].tolist())


def test_a_process_that_saw_no_batch_adds_nothing():
    idle = see([(0, 1), ()])
    tasks = [(0, 1), (2, 3)]
    assert str(together([see(tasks), idle])) == str(see(tasks).summary(index=1))


def test_classes_that_only_one_process_saw_are_classes_of_all():
    apart = together([see([(0, 1), (2,)]), see([(0, 1), (3,)])])
    assert (apart.classes.new, apart.classes.old) == ((2, 3), (0, 1))


def test_a_state_of_two_processes_goes_on_in_one():
    tasks = [(0, 1), (2, 3)]
    parts = [see(tasks, rank, 2) for rank in range(2)]
    state = {"waking": snapshot(parts[0]), "ranks": [snapshot(part)["now"] for part in parts]}
    alone = Waking()
    restore(alone, of_this_rank(state)["waking"])
    show(alone, *Blobs(2, 0).tensors)  # finds the head
    assert alone.ledger.shown == {0, 1, 2, 3}
    assert alone.summary().classes.counts[2] == see(tasks).summary().classes.counts[2] + 2


@pytest.mark.parametrize("blind", [(1,), (0, 1)], ids=["one process", "both"])
def test_what_one_process_could_not_go_on_with_keeps_all_awake(blind):
    parts = [see([(0, 1), ()], rank, 2) for rank in range(2)]
    x, y = Blobs(40, 0).tensors
    for rank, part in enumerate(parts):
        show(part, x[:8] / 0.0 if rank in blind else x[:8], y[:8])
    absorb(parts[0], merge([snapshot(part)["now"] for part in parts]))
    assert "not finite" in parts[0].doubts()
