"""SRC in plain loops: what it sees, when it sleeps, and that it is the same sleep as through every other door."""

import copy
import io

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from avalanche.benchmarks import benchmark_from_datasets
from avalanche.benchmarks.utils import as_classification_dataset
from torch import nn
from torch.utils.data import TensorDataset

from loop_samples import TASKS, accuracy, adam, batches, network, same, train
from places import ROOT
from plugin_samples import Watcher, build
from src_plugin import SRC, SRCPlugin, find_head
from src_plugin.errors import ConfigError, HeadNotFoundError
from src_plugin.night.sleep import sleep


def learn(model, src, tasks=TASKS, *, epochs=3, **kwargs):
    optimizer = adam(model)
    for i, classes in enumerate(tasks):
        with src.task():
            for parts in batches(classes, epochs=epochs, seed=i):
                train(model, optimizer, parts, **kwargs)
    return model


def test_four_lines_keep_what_plain_training_forgets():
    plain, model = network(), network()
    optimizer = adam(plain)
    for i, classes in enumerate(TASKS):
        for parts in batches(classes, epochs=3, seed=i):
            train(plain, optimizer, parts)
    src = SRC(model)
    learn(model, src)
    assert accuracy(plain) < 0.25
    assert accuracy(model) > 0.6
    assert [report.reason.split(":")[0] for report in src.reports][:1] == ["first sleep"]
    assert src.report is src.reports[-1]
    assert src.summary() == "5 nights: 5 slept"


class Recorder(nn.CrossEntropyLoss):
    """Cross entropy that keeps the batches it was given."""

    def __init__(self, model):
        super().__init__()
        self.tasks = []
        model.register_forward_pre_hook(lambda module, args: setattr(self, "x", args[0]) if module.training else None)

    def forward(self, out, y):
        if torch.is_grad_enabled():
            self.tasks[-1][-1].append((self.x, y))
        return super().forward(out, y)


@pytest.mark.parametrize("config", [None, "src_only"])
@pytest.mark.parametrize("n_old", [0, 4], ids=["plain", "rehearsal"])
def test_the_plugin_and_the_plain_loop_give_the_same_bits(config, n_old):
    first, second = network(), network()
    loss = Recorder(first)
    strategy = build(SRCPlugin(config), model=first, optimizer=adam(first), criterion=loss, train_epochs=2)

    def begin_epoch(strategy):
        loss.tasks[-1].append([])

    strategy.plugins.append(Watcher(before_training_epoch=begin_epoch))
    sets = []
    for i, classes in enumerate(TASKS[:3]):
        old = tuple(c for task in TASKS[:i] for c in task)
        x, y = (torch.cat(part) for part in zip(*batches(classes, seed=i, old=old, n_old=n_old)[0], strict=True))
        sets.append(TensorDataset(x, y))
        sets[-1].targets = y.tolist()
    for experience in benchmark_from_datasets(train=[as_classification_dataset(s) for s in sets]).train_stream:
        loss.tasks.append([])
        strategy.train(experience)
    src, optimizer = SRC(second, config), adam(second)
    for task in loss.tasks:
        with src.task():
            for parts in task:
                src.begin_epoch()
                train(second, optimizer, parts)
    assert same(first, second)
    reports = [[{**r.to_dict(), "seconds": 0} for r in door.reports] for door in (strategy.plugins[0], src)]
    assert reports[0] == reports[1]


ONE_HOT_LOSSES = {
    "mse": lambda out, y: F.mse_loss(out, F.one_hot(y, 10).float()),
    "bce": lambda out, y: F.binary_cross_entropy_with_logits(out, F.one_hot(y, 10).float()),
}


@pytest.mark.parametrize("loss", ONE_HOT_LOSSES.values(), ids=ONE_HOT_LOSSES)
def test_one_hot_targets_are_seen(loss):
    src = SRC(model := network())
    learn(model, src, TASKS[:2], loss=loss)
    assert sorted(src._sleeper.waking.ledger.seen) == [0, 1, 2, 3]


def test_eval_passes_and_passes_without_gradients_are_no_training():
    first, second = network(), network()
    one, other = SRC(first), SRC(second)
    learn(first, one, TASKS[:2])
    optimizer = adam(second)
    for i, classes in enumerate(TASKS[:2]):
        with other.task():
            for parts in batches(classes, epochs=3, seed=i):
                train(second, optimizer, parts)
                accuracy(second)
                second.eval()
                second(torch.rand(3, 64))
                second.train()
                with torch.no_grad():
                    second(torch.rand(3, 64))
                second(torch.rand(3, 64))  # nobody trains on it
    assert same(first, second)


def test_two_passes_into_one_loss_and_gradients_summed_over_passes_all_count():
    model = network()
    src, optimizer = SRC(model), adam(model)
    (x, y), (u, v) = batches(TASKS[0])[0][:2]
    with src.task():
        (F.cross_entropy(model(x), y) + F.cross_entropy(model(u), v)).backward()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
        assert src._sleeper.waking._inputs.n == 2 * len(x) + len(u)


def test_a_loss_inside_the_model_is_seen():
    class WithLoss(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = network()

        def forward(self, x, y):
            logits = self.inner(x)
            return {"loss": F.cross_entropy(logits, y), "logits": logits}

    model = WithLoss()
    src = SRC(model)
    for classes in TASKS[:2]:
        with src.task():
            for x, y in batches(classes)[0]:
                model(x, y)["loss"].backward()
    assert src._sleeper.waking.ledger.seen == {0, 1, 2, 3}


def unread(out, y):
    return -(out.log_softmax(1) * F.one_hot(y, 10).roll(1, 0).roll(-1, 0).bool().float().clone().mul(0.5)).sum(1).mean()


def test_a_loss_that_tells_nothing_keeps_the_model_awake_with_the_reason_and_the_cure():
    src = SRC(model := network())
    with pytest.warns(UserWarning, match=r"SRC: stays awake: training passes had losses from which no targets can be "):
        learn(model, src, TASKS[:1], loss=unread)
    assert "src.task(classes=[...])" in src.report.reason


def test_the_cure_works_classes_of_the_task_are_enough():
    model = network()
    src, optimizer = SRC(model), adam(model)
    for i, classes in enumerate(TASKS):
        with src.task(classes=classes):
            for parts in batches(classes, epochs=3, seed=i):
                train(model, optimizer, parts, loss=unread)
    assert accuracy(model) > 0.5


def test_a_model_left_in_eval_mode_is_told_of():
    src = SRC(model := network().eval())
    with pytest.warns(UserWarning, match=r"is in eval mode: call model.train\(\) before training"), src.task():
        F.cross_entropy(model(torch.rand(4, 64)), torch.zeros(4, dtype=torch.long)).backward()


def test_a_pure_sleep_needs_no_targets():
    src = SRC(model := network(), "src_only")
    before = copy.deepcopy(model)
    learn(model, src, TASKS[:1], loss=unread)
    awake = copy.deepcopy(before)
    train(awake, adam(awake), [part for parts in batches(TASKS[0], epochs=3) for part in parts], loss=unread)
    assert src.report.decision == "slept"
    assert not same(model, awake)


def test_after_an_exception_nothing_sleeps_nothing_stays_and_the_next_block_goes_on():
    model = network()
    src, own = SRC(model), (torch.autograd.backward, torch.autograd.grad)

    def interrupt():
        with src.task():
            train(model, adam(model), batches(TASKS[0])[0])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupt()
    assert src.reports == []
    assert (torch.autograd.backward, torch.autograd.grad) == own
    assert "forward" not in vars(model)
    learn(model, src, TASKS[:2])
    assert len(src.reports) == 2


def test_a_batch_that_breaks_off_is_skipped_and_the_rest_is_seen():
    model = network()
    src = SRC(model)
    with src.task():
        with pytest.raises(RuntimeError):
            model(torch.rand(4, 63))
        train(model, adam(model), batches(TASKS[0])[0])
    assert src._sleeper.waking.ledger.seen == {0, 1}


def test_copies_and_files_made_within_a_task_are_plain_models():
    model = network()
    src = SRC(model)
    with src.task():
        train(model, adam(model), batches(TASKS[0])[0])
        copied, file = copy.deepcopy(model), io.BytesIO()
        torch.save(model, file)
        file.seek(0)
        loaded = torch.load(file, weights_only=False)
        for other in (copied, loaded):
            other(torch.rand(2, 64))
            assert same(other, model)
        n = src._sleeper.waking._inputs.n
        F.cross_entropy(copied(torch.rand(2, 64)), torch.tensor([0, 1])).backward()
        assert src._sleeper.waking._inputs.n == n


def test_a_second_task_inside_of_one_is_refused():
    src = SRC(network())

    def twice():
        with src.task(classes=[0]), src.task():
            pass

    with pytest.raises(ConfigError, match="the task before is not over yet"):
        twice()


@pytest.mark.parametrize("classes", [[], ["a"], 3, [-1], [0.5]])
def test_classes_that_are_no_numbers_are_refused(classes):
    with pytest.raises(ConfigError, match="give class numbers from 0"), SRC(network()).task(classes=classes):
        pass


def test_a_class_without_an_output_is_refused_in_the_first_pass():
    src = SRC(model := network())
    with pytest.raises(ConfigError, match=r"classes \[10\] have no output"), src.task(classes=[0, 10]):
        model(torch.rand(2, 64))


def test_what_has_no_head_is_refused_in_the_first_pass_and_what_is_no_model_at_once():
    with pytest.raises(ConfigError, match="the first argument is the model"):
        SRC("auto")
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten())
    src = SRC(model)
    with pytest.raises(HeadNotFoundError), src.task():
        F.cross_entropy(model(torch.rand(2, 1, 3, 3)), torch.tensor([0, 1])).backward()


def test_src_is_sleep_with_what_it_has_seen():
    # By hand: the mean, the weights before, the classes and their images, the inputs.
    first, second = network(), network()
    src = SRC(first)
    learn(first, src, TASKS[:2], epochs=1)
    optimizer, total, n, counts = adam(second), torch.zeros(64, dtype=torch.float64), 0, {}
    rng = np.random.default_rng(0)
    for i, classes in enumerate(TASKS[:2]):
        before = find_head(second, torch.rand(1, 64)).read()
        (parts,) = batches(classes, seed=i)
        train(second, optimizer, parts)
        for x, y in parts:
            total, n = total + x.sum(0, dtype=torch.float64), n + len(x)
            for c in y.tolist():
                counts[c] = counts.get(c, 0) + 1
        old = [c for task in TASKS[:i] for c in task]
        x = torch.cat([x for x, _ in parts])
        sleep(second, total / n, generator=rng, before=before, new_classes=classes, old_classes=old,
              class_counts=counts, inputs=x, example=x[:1], lowest=torch.zeros(64), index=i)  # fmt: skip
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.slow
def test_the_example_of_the_docs_runs_and_keeps_what_it_says(capsys):
    page = (ROOT / "docs" / "using.md").read_text("utf-8")
    script = page.split("```python\n")[1].split("```")[0]
    exec(compile(script, "docs/using.md", "exec"), {})
    percent, summary, report = capsys.readouterr().out.split("\n", 2)
    assert 70 <= int(percent.split(" ")[0].rstrip("%")) <= 90
    assert summary.startswith("5 nights: ")
    assert report.startswith("slept: the classes of this experience crowd out others")
    assert int(run_without_sleep(script).rstrip("%")) <= 25


def run_without_sleep(script):
    printed = []
    awake = script.replace("with src.task():", "if True:").replace("src.report", "''").replace("src.summary()", "''")
    exec(awake, {"print": lambda text, *_, **__: printed.append(text)})
    return printed[0].split(" ")[0]


def test_layers_that_are_frozen_between_tasks_are_told_of_and_it_stays_awake_from_then_on():
    model = network()
    src = SRC(model)
    learn(model, src, TASKS[:1], epochs=1)
    model[0].requires_grad_(False)
    with pytest.warns(UserWarning, match="SRC: no sleep after this experience: the head has 100 inputs now and had 64"):
        learn(model, src, TASKS[1:3], epochs=1)
    assert [report.decision for report in src.reports] == ["slept", "awake", "awake"]


def test_training_that_diverged_in_a_loop_is_told_by_name_and_it_stays_awake():
    model = network()
    src = SRC(model)

    def diverge():
        with src.task():
            train(model, adam(model), batches((0, 1))[0])
            nn.init.constant_(model[2].bias, float("nan"))

    with pytest.warns(UserWarning, match=r"no sleep after this experience: .*nothing was changed"):
        diverge()
    assert src.report.decision == "awake"
