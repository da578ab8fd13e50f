"""SRCCallback in a plain Lightning Trainer: one sleep per fit, on the mean of the training batches, and no trace."""

import copy
import warnings
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from numpy.testing import assert_allclose
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import nn
from torch.overrides import _len_torch_function_stack
from torch.utils.data import DataLoader, TensorDataset

from models import N_CLASSES, N_INPUTS, Blobs, changed, copies, global_states, hooks, mlp
from src_plugin import callback as callback_module
from src_plugin.callback import SRCCallback
from src_plugin.config import SleepConfig
from src_plugin.errors import ConfigError, HeadNotFoundError, SRCError, StimulusError, WeightsError
from src_plugin.waking import ONE_HEAD_PER_TASK

# Lightning gives advice: to use workers, a GPU, a validation set. Three batches in memory need none of it.
pytestmark = [
    pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no:UserWarning"),
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers:UserWarning"),
    pytest.mark.filterwarnings("ignore:GPU available but not used:UserWarning"),
]

QUICK = SleepConfig(steps=60)
PURE = SleepConfig.preset("src_only", steps=60)


class Whole(LightningModule):
    """A plain module: it is itself what maps inputs to class scores."""

    def __init__(self, net=None):
        super().__init__()
        self.net = mlp(N_INPUTS, 16, N_CLASSES) if net is None else net

    def forward(self, x):
        return self.net(x)

    def scores(self, x):
        return self(x)

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self.scores(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        self.scores(batch[0] + 5.0)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.5)


class Part(Whole):
    """Its training step calls a part of it, never the whole."""

    def forward(self, x):
        raise AssertionError("never called")

    def scores(self, x):
        return self.net(x)


WAYS = {"the module itself": (Whole, None), "a part of it": (Part, "net")}
ways = pytest.mark.parametrize(("module", "model"), WAYS.values(), ids=WAYS)


def data(classes):
    x, y = Blobs(10, 0).tensors
    rows = torch.isin(y, torch.tensor(classes))
    return TensorDataset(x[rows], y[rows])


def loader(dataset, shuffle=False):
    return DataLoader(dataset, batch_size=8, shuffle=shuffle)


def fit(module, *callbacks, classes=(0, 1), validate=False, dataset=None, shuffle=False, **settings):
    trainer = Trainer(
        **{"max_epochs": 2, **settings}, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=list(callbacks),
    )  # fmt: skip
    dataset = data(list(classes)) if dataset is None else dataset
    trainer.fit(module, loader(dataset, shuffle), loader(data([2])) if validate else None)
    return trainer


@pytest.fixture
def nights(monkeypatch):
    """What every sleep was given; the sleep itself is the real one."""
    given, real = [], callback_module.sleep_head

    def watched(head, mean, config, **settings):
        given.append(SimpleNamespace(mean=mean, state=head.read(), **settings))
        return real(head, mean, config, **settings)

    monkeypatch.setattr(callback_module, "sleep_head", watched)
    return given


@ways
def test_a_fit_ends_in_one_sleep_that_changes_the_head(module, model):
    torch.manual_seed(0)
    slept, awake = module(), module()
    callback = SRCCallback(QUICK, model=model)
    fit(slept, callback)
    fit(awake)
    assert [report.decision for report in callback.reports] == ["slept"]
    assert changed(slept, copies(awake)) != []


@ways
@pytest.mark.parametrize("validate", [False, True], ids=["training only", "with validation"])
def test_the_mean_is_that_of_the_training_batches(nights, module, model, validate):
    # Validation shows other, shifted inputs, before training (the sanity check) and in every epoch.
    fit(module(), SRCCallback(QUICK, model=model), validate=validate)
    assert_allclose(nights[0].mean, data([0, 1]).tensors[0].double().mean(0), rtol=1e-6)


def test_two_fits_are_two_tasks(nights):
    module, callback = Whole(), SRCCallback(QUICK)
    fit(module, callback, classes=(0, 1))
    left = module.net[0].weight.detach().clone()
    fit(module, callback, classes=(2, 3))
    first, second = nights
    assert (first.new_classes, first.old_classes) == ((0, 1), ())
    assert (second.new_classes, second.old_classes) == ((2, 3), (0, 1))
    assert torch.equal(second.before.weights[0], left)
    assert [n.index for n in nights] == [0, 1]
    assert_allclose(second.mean, data([0, 1, 2, 3]).tensors[0].double().mean(0), rtol=1e-6)
    assert len(callback.reports) == 2


def test_zero_steps_are_bit_identical_to_no_callback():
    torch.manual_seed(0)
    without = Whole()
    fit(without, shuffle=True)
    states = global_states()
    torch.manual_seed(0)
    module, callback = Whole(), SRCCallback(SleepConfig(steps=0))
    fit(module, callback, shuffle=True)
    assert changed(module, copies(without)) == []
    assert global_states() == states
    assert callback.reports[0].reason == "zero steps"


FIRES = SleepConfig.preset("src_only", steps=400)  # so small a head needs a while until a unit fires


def on_a_backbone():
    torch.manual_seed(0)
    return nn.Sequential(nn.Sequential(nn.Linear(N_INPUTS, 8), nn.BatchNorm1d(8), nn.ReLU()), mlp(8, N_CLASSES))


def test_all_below_the_head_stays_bit_identical_in_the_sleep():
    module = Whole(on_a_backbone())
    twin = copy.deepcopy(module)
    with pytest.warns(UserWarning, match="below the head"):
        fit(module, SRCCallback(FIRES))
    fit(twin)
    assert {name.rsplit(".", 1)[0] for name in changed(module, copies(twin))} == {"net.1.0"}


def test_a_backbone_that_is_trained_is_warned_of_once_at_the_line_of_the_user_and_told_in_every_report():
    module, callback = Whole(on_a_backbone()), SRCCallback(FIRES)
    with pytest.warns(UserWarning, match="SRCCallback: 4 parameters below the head.*'net.0.0.weight'") as caught:
        fit(module, callback, classes=(0, 1))
    (ours,) = (
        warning for warning in caught if "SRCCallback" in str(warning.message)
    )  # Lightning warns of this and that
    assert ours.filename == __file__
    fit(module, callback, classes=(2, 3))
    assert [report.backbone_trained for report in callback.reports] == [True, True]


class OnlyHead(Whole):
    """Gradients reach the backbone, but its optimizer has the head alone."""

    def configure_optimizers(self):
        return torch.optim.SGD(self.net[1].parameters(), lr=0.1)


def test_a_backbone_that_the_optimizer_does_not_have_is_not_warned_of():
    module, callback = OnlyHead(on_a_backbone()), SRCCallback(FIRES)
    fit(module, callback)
    assert module.net[0][0].weight.grad.any()
    assert not callback.reports[0].backbone_trained


@ways
@pytest.mark.parametrize("name", ["net.0.0.bias", "net.1.0.weight"], ids=["below the head", "in the head"])
def test_training_that_diverged_is_refused_by_the_name_in_the_module(module, model, name):
    class Diverge(Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            with torch.no_grad():
                pl_module.get_parameter(name).view(-1)[2] = float("nan")

    with pytest.raises(WeightsError, match=rf"'{name}' has 1 of .* NaN or infinite.*nothing was changed"):
        fit(module(on_a_backbone()), SRCCallback(PURE, model=model), Diverge(), max_epochs=1)


class TaskHeads(Whole):
    """One output layer per task."""

    def __init__(self):
        super().__init__(mlp(N_INPUTS, 16))
        self.heads, self.task = nn.ModuleList(nn.Linear(16, N_CLASSES) for _ in range(2)), 0

    def forward(self, x):
        return self.heads[self.task](torch.relu(self.net(x)))


def test_one_output_layer_per_task_is_left_alone_from_the_second_on():
    module, twin = TaskHeads(), TaskHeads()
    twin.load_state_dict(module.state_dict())
    callback = SRCCallback(QUICK)
    fit(module, callback, classes=(0, 1))
    twin.load_state_dict(module.state_dict())
    module.task = twin.task = 1
    with pytest.warns(UserWarning, match="SRCCallback: TaskHeads has one head per task"):
        fit(module, callback, classes=(2, 3))
    fit(twin, classes=(2, 3))
    assert [report.decision for report in callback.reports] == ["slept", "awake"]
    assert callback.reports[1].reason == ONE_HEAD_PER_TASK
    assert callback.reports[1].layers == ["net.0", "heads.1"]
    assert changed(module, copies(twin)) == []


def test_no_hook_is_left_after_a_fit():
    module, stack = Whole(), _len_torch_function_stack()
    fit(module, SRCCallback(QUICK), validate=True)
    assert hooks(module) == 0
    assert _len_torch_function_stack() == stack


class BreakDown(Callback):
    """Raises in a training batch, after or before the callback has set up its watch."""

    def __init__(self, error, batch, at):
        self.error, self.batch = error, batch
        setattr(self, at, self.strike)

    def strike(self, trainer, pl_module, *args, **kwargs):
        if self.batch == 0:
            raise self.error
        self.batch -= 1


@pytest.mark.parametrize("at", ["on_train_batch_start", "on_before_zero_grad"])
@pytest.mark.parametrize("batch", [0, 2])
def test_an_exception_in_training_leaves_no_hook_and_no_sleep(nights, batch, at):
    module, callback, stack = Whole(), SRCCallback(QUICK), _len_torch_function_stack()
    with pytest.raises(RuntimeError, match="out of memory"):
        fit(module, callback, BreakDown(RuntimeError("out of memory"), batch, at))
    assert hooks(module) == 0
    assert _len_torch_function_stack() == stack
    assert nights == callback.reports == []


class Broken(nn.Module):
    def forward(self, x):
        raise RuntimeError("out of memory")


def test_a_forward_pass_that_raises_leaves_no_hook_and_no_mode():
    module, stack = Whole(nn.Sequential(mlp(N_INPUTS, N_CLASSES), Broken())), _len_torch_function_stack()
    with pytest.raises(RuntimeError, match="out of memory"):
        fit(module, SRCCallback(QUICK))
    assert hooks(module) == 0
    assert _len_torch_function_stack() == stack


def test_an_interrupt_by_the_user_leaves_no_hook_and_no_sleep(nights):
    module, callback, stack = Whole(), SRCCallback(QUICK), _len_torch_function_stack()
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        fit(module, callback, BreakDown(KeyboardInterrupt(), 1, "on_train_batch_start"))
    assert hooks(module) == 0
    assert _len_torch_function_stack() == stack
    assert nights == []


def test_an_exception_in_the_sleep_leaves_the_trained_network(monkeypatch):
    module, seen = Whole(), []

    def broken(*args, **kwargs):
        seen.append(copies(module))
        raise RuntimeError("broken")

    monkeypatch.setattr("src_plugin.consolidation.simulate", broken)
    with pytest.raises(RuntimeError, match="broken"):
        fit(module, SRCCallback(QUICK))
    assert changed(module, seen[0]) == []


def test_its_state_carries_mean_classes_and_noise_to_another_process(nights):
    torch.manual_seed(0)
    one, other = Whole(), Whole()
    first = SRCCallback(QUICK)
    fit(one, first, classes=(0, 1))
    other.load_state_dict(one.state_dict())
    second = SRCCallback(QUICK, seed=99)
    second.load_state_dict(first.state_dict())
    fit(one, first, classes=(2, 3))
    fit(other, second, classes=(2, 3))
    assert changed(other, copies(one)) == []
    assert nights[2].old_classes == (0, 1)
    assert_allclose(nights[2].mean, nights[1].mean, rtol=0)


def test_its_state_is_in_the_checkpoints_of_the_trainer(nights, tmp_path):
    module, callback = Whole(), SRCCallback(QUICK)
    fit(module, callback).save_checkpoint(tmp_path / "task.ckpt")
    saved = torch.load(tmp_path / "task.ckpt", weights_only=False)["callbacks"]["SRCCallback"]
    fresh = SRCCallback(QUICK, seed=99)
    fresh.load_state_dict(saved)
    fit(module, fresh, classes=(2, 3))
    assert nights[1].old_classes == (0, 1)


def test_targets_are_found_where_the_user_says():
    class Keyed(Whole):
        def training_step(self, batch, batch_idx):
            return super().training_step((batch[1], batch[0]), batch_idx)

    x, y = data([0, 1]).tensors
    callback = SRCCallback(QUICK, targets=lambda batch: batch[0])
    fit(Keyed(), callback, dataset=TensorDataset(y, x))
    assert callback.reports[0].decision == "slept"


# -- refusals: in the first batch, before any weight changed -----------------------------------------------------------


class OnlyInputs(Whole):
    def training_step(self, batch, batch_idx):
        return self(batch[0]).square().sum()


def test_a_batch_without_targets_asks_where_they_are():
    module = OnlyInputs()
    state = copies(module)
    with pytest.raises(ConfigError, match=r"no targets in a batch.*SRCCallback\(targets=lambda batch"):
        fit(module, SRCCallback(QUICK), dataset=TensorDataset(data([0]).tensors[0]))
    assert changed(module, state) == []


def test_a_pure_sleep_needs_no_targets():
    callback = SRCCallback(PURE)
    fit(OnlyInputs(), callback, dataset=TensorDataset(data([0]).tensors[0]), max_epochs=1)
    assert callback.reports[0].decision == "slept"


def test_a_training_step_that_never_calls_the_model_asks_for_its_name():
    with pytest.raises(HeadNotFoundError, match=r"never called Part; name.*SRCCallback\(model='net'\)"):
        fit(Part(), SRCCallback(QUICK))


def test_an_unknown_part_is_refused_with_those_there_are():
    with pytest.raises(SRCError, match=r"SRCCallback\(model='nett'\): Whole has no such [a-z]+; it has \['net'\]"):
        fit(Whole(), SRCCallback(QUICK, model="nett"))


def test_negative_inputs_are_refused_before_any_weight_changed():
    module, (x, y) = Whole(), data([0, 1]).tensors
    state = copies(module)
    with pytest.raises(StimulusError, match=r"negative at 12 of 12 inputs.*Scale the features"):
        fit(module, SRCCallback(QUICK), dataset=TensorDataset(x - 2.0, y))
    assert changed(module, state) == []
    assert hooks(module) == 0


def test_a_model_without_a_head_is_refused_before_any_weight_changed():
    module = Whole(nn.Sequential(mlp(N_INPUTS, N_CLASSES), nn.Tanh()))
    state = copies(module)
    with pytest.raises(HeadNotFoundError, match=r"'net.1' \(Tanh\)"):
        fit(module, SRCCallback(QUICK))
    assert changed(module, state) == []
    assert hooks(module) == 0


class Bypass(nn.Module):
    """Has a head, and does not use it."""

    def __init__(self):
        super().__init__()
        self.used, self.head = nn.Linear(N_INPUTS, N_CLASSES), nn.Linear(N_INPUTS, N_CLASSES)

    def forward(self, x):
        return self.used(x)


def test_a_fit_of_which_nothing_passed_the_head_is_refused():
    with pytest.raises(StimulusError, match="this fit trained on nothing"):
        fit(Whole(Bypass()), SRCCallback(QUICK, head="net.head"))


def test_a_fit_that_trains_nothing_does_not_sleep():
    module, callback = Whole(), SRCCallback(QUICK)
    trainer = fit(module, callback)
    state = copies(module)
    trainer.fit(module, loader(data([2, 3])))  # the same trainer again: its two epochs are over
    assert len(callback.reports) == 1
    assert changed(module, state) == []


def test_a_model_left_in_eval_mode_between_two_fits_is_seen_all_the_same():
    # Lightning trains a module in the mode it finds it in, and evaluating between tasks is what everyone does.
    module, callback = Whole(), SRCCallback(QUICK)
    fit(module, callback)
    module.eval()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*in eval mode at the start of training", category=UserWarning)
        fit(module, callback, classes=(2, 3))
    assert [report.decision for report in callback.reports] == ["slept", "slept"]
