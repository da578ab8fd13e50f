"""Targets are read from the loss that goes backward, or not at all."""

import threading

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from src_plugin.waking.targets import on_backward, targets_of

Y = torch.tensor([0, 2, 1, 2])
ONE_HOT = F.one_hot(Y, 3).float()

READ = {
    "cross entropy": lambda out: F.cross_entropy(out, Y),
    "its module": lambda out: nn.CrossEntropyLoss()(out, Y),
    "smoothed": lambda out: F.cross_entropy(out, Y, label_smoothing=0.1),
    "weighted": lambda out: F.cross_entropy(out, Y, weight=torch.tensor([1.0, 2.0, 3.0])),
    "nll of log softmax": lambda out: F.nll_loss(out.log_softmax(1), Y),
    "at a temperature": lambda out: F.cross_entropy(out / 2.0, Y),
    "scaled, as mixed precision does": lambda out: F.cross_entropy(out, Y) * 65536.0,
    "each sample's, then a mean": lambda out: F.cross_entropy(out, Y, reduction="none").mean(),
    "focal": lambda out: (
        ((1 - (-F.cross_entropy(out, Y, reduction="none")).exp()) ** 2).mean() + F.cross_entropy(out, Y)
    ),
    "with a penalty": lambda out: F.cross_entropy(out, Y) + 0.1 * out.square().mean(),
    "with distillation": lambda out: F.mse_loss(out, torch.randn(4, 3)) + F.cross_entropy(out, Y),
    "multi margin": lambda out: F.multi_margin_loss(out, Y),
    "mse on one-hot": lambda out: F.mse_loss(out, ONE_HOT),
    "mse the other way round": lambda out: F.mse_loss(ONE_HOT, out),
    "bce on one-hot": lambda out: F.binary_cross_entropy_with_logits(out, ONE_HOT),
    "bce of a sigmoid": lambda out: F.binary_cross_entropy(out.sigmoid(), ONE_HOT),
    "cross entropy on one-hot": lambda out: F.cross_entropy(out, ONE_HOT),
    "one-hot, smoothed": lambda out: F.mse_loss(out, 0.9 * ONE_HOT + 0.1 / 3),
    "gathered by hand": lambda out: -out.log_softmax(1).gather(1, Y[:, None]).mean(),
    "indexed by hand": lambda out: -out.log_softmax(1)[torch.arange(4), Y].mean(),
    "columns before the new ones cut off": lambda out: F.cross_entropy(out[:, 1:], Y - 1, ignore_index=-1),
}


def read(loss_of, out=None):
    out = torch.randn(4, 3, requires_grad=True) * 1.0 if out is None else out
    return targets_of([loss_of(out).grad_fn], out.grad_fn, n=len(out), n_classes=out.shape[1])


@pytest.mark.parametrize("loss_of", READ.values(), ids=READ)
def test_a_loss_tells_its_targets(loss_of):
    assert torch.equal(read(loss_of), Y)


NOT_READ = {
    "distilled logits": lambda out: F.mse_loss(out, torch.randn(4, 3)),
    "mixed labels": lambda out: F.cross_entropy(out, 0.7 * ONE_HOT + 0.3 * ONE_HOT.roll(1, 0)),
    "another order of columns": lambda out: F.cross_entropy(out[:, [2, 0, 1]], Y),
    "some of the samples": lambda out: F.cross_entropy(out[:2], Y[:2]),
    "a loss of something else": lambda out: F.cross_entropy(torch.randn(4, 3, requires_grad=True), Y) + out.mean(),
    "entropy": lambda out: -(out.softmax(1) * out.log_softmax(1)).sum(1).mean(),
}


@pytest.mark.parametrize("loss_of", NOT_READ.values(), ids=NOT_READ)
def test_what_are_no_targets_of_these_outputs_is_not_read(loss_of):
    assert read(loss_of) is None


def test_the_graph_below_the_outputs_is_not_walked():
    # The weights' own loss is older than the outputs: its targets are not theirs.
    x = torch.randn(4, 3, requires_grad=True) * 1.0
    older = F.cross_entropy(x, Y)
    out = x * 2.0
    assert targets_of([(older + out.mean()).grad_fn], out.grad_fn, n=4, n_classes=3) is None


def test_every_way_backward_is_heard_and_nothing_stays():
    own = torch.autograd.backward, torch.autograd.grad
    heard = []
    x = torch.ones(2, requires_grad=True)
    with on_backward(heard.extend):
        (x * 2).sum().backward()
        torch.autograd.backward([(x * 2).sum(), (x * 3).sum()])
        torch.autograd.grad((x * 2).sum(), x)
        with on_backward(heard.extend):
            pass
    (x * 2).sum().backward()
    assert len(heard) == 4
    assert (torch.autograd.backward, torch.autograd.grad) == own


def test_a_wrapper_of_someone_else_stays_and_works(monkeypatch):
    heard = []
    monkeypatch.setattr(torch.autograd, "backward", torch.autograd.backward)  # put back afterwards
    with on_backward(heard.extend):
        ours = torch.autograd.backward
        theirs = lambda *args, **kwargs: ours(*args, **kwargs)  # noqa: E731
        torch.autograd.backward = theirs
    assert torch.autograd.backward is theirs
    torch.ones(2, requires_grad=True).sum().backward()
    assert heard == []


def test_another_thread_may_train_beside_it():
    heard = []
    with on_backward(heard.extend):
        thread = threading.Thread(target=lambda: torch.ones(2, requires_grad=True).sum().backward())
        thread.start()
        thread.join()
    assert len(heard) == 1
