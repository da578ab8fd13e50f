"""Waking goes on in the middle of an experience, from plain numbers and tensors that a checkpoint holds."""

import io

import pytest
import torch
from torch import nn

from models import N_CLASSES, N_INPUTS, Blobs, mlp
from src_plugin.errors import HeadNotFoundError
from src_plugin.waking.observer import Waking
from src_plugin.waking.snapshot import check_same_head, restore, snapshot


def normed():
    return nn.Sequential(nn.Linear(N_INPUTS, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, N_CLASSES))


def show(waking, model, *batches):
    for x, y in batches:
        waking.begin_forward(model)
        waking.end_forward(model, model(x), y)
        with torch.no_grad():
            model[0].weight += 0.01


def batches(*classes):
    x, y = Blobs(10, 0).tensors
    rows = torch.isin(y, torch.tensor(classes))
    return list(zip(x[rows].split(8), y[rows].split(8), strict=True))


def through_a_file(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize(
    "make", [lambda: mlp(N_INPUTS, 16, N_CLASSES), normed], ids=["plain", "batch norm in the head"]
)
@pytest.mark.parametrize("now", [(2, 3), (0, 1, 2, 3)], ids=["without rehearsal", "with rehearsal"])
def test_what_goes_on_from_a_snapshot_knows_the_same(make, now):
    torch.manual_seed(0)
    model, one, other = make(), Waking(), Waking()
    one.begin_epoch(model)
    show(one, model, *batches(0, 1))
    one.forget(slept=True)
    one.begin_epoch(model)
    first, *rest = batches(*now)
    show(one, model, first)
    restore(other, through_a_file(snapshot(one)))
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    show(one, model, *rest)
    trained = one.summary(index=1)
    model.load_state_dict(weights)
    show(other, model, *rest)
    assert str(other.summary(index=1)) == str(trained)
    assert (other.summary().mean == trained.mean).all()
    assert torch.equal(other.summary().inputs, trained.inputs)
    assert str(snapshot(other)) == str(snapshot(one))


def as_before(state):
    """A snapshot as earlier versions of this package wrote it."""
    now = state["now"]
    older = {name: {f"_{key}": value for key, value in now[name].items()} for name in ("recent", "counters")}
    return state | {"now": now | older | {"recalled": [torch.tensor(pair) for pair in now["recalled"]]}}


def test_a_snapshot_of_earlier_versions_is_gone_on_from():
    torch.manual_seed(0)
    model, waking, other = mlp(N_INPUTS, 16, N_CLASSES), Waking(), Waking()
    show(waking, model, *batches(0, 1))
    waking.forget(slept=True)
    show(waking, model, *batches(0, 1, 2, 3))
    assert waking.ledger.recall is not None
    restore(other, through_a_file(as_before(snapshot(waking))))
    assert str(snapshot(other)) == str(snapshot(waking))


def test_a_snapshot_stays_as_it_is_when_training_goes_on():
    torch.manual_seed(0)
    model, waking = mlp(N_INPUTS, 16, N_CLASSES), Waking()
    first, *rest = batches(0, 1)
    show(waking, model, first)
    state = snapshot(waking)
    told = str(state)
    show(waking, model, *rest)
    assert str(state) == told


def test_after_an_experience_a_snapshot_holds_no_input():
    torch.manual_seed(0)
    model, waking = mlp(N_INPUTS, 16, N_CLASSES), Waking()
    show(waking, model, *batches(0, 1))
    waking.forget(slept=True)
    now = snapshot(waking)["now"]
    assert (now["before"], now["sum"], now["n"]) == (None, None, 0)
    assert set(map(len, now["recent"].values())) == {0}


def test_another_head_within_an_experience_is_refused_by_its_name():
    torch.manual_seed(0)
    model, waking = mlp(N_INPUTS, 16, N_CLASSES), Waking()
    show(waking, model, *batches(0, 1))
    other = Waking(head=["2"])
    restore(other, snapshot(waking))
    with pytest.raises(HeadNotFoundError, match="began with the head 0, 2, and goes on with 2: name the same one"):
        check_same_head(other)
