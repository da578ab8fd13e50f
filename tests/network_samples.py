"""The standing battery: kinds of networks that people have, and what sleep does to each on scikit-learn's digits.

A kind is tested by being a row here. `docs/networks.md` is the table that `networks_table.py` makes of it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from avalanche.benchmarks import nc_benchmark
from avalanche.models import IncrementalClassifier, SimpleMLP
from avalanche.training import Naive
from avalanche.training.plugins import EvaluationPlugin
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune
from torch.utils.data import TensorDataset

from plugin_samples import NoLogger
from src_plugin.config import SleepConfig
from src_plugin.errors import SRCError
from src_plugin.plugin import SRCPlugin

HIDDEN = 512


def whole(output):
    """An output that is the scores."""
    return output


@dataclass(frozen=True)
class Kind:
    """A kind of network.

    Attributes:
        build: Makes it, for 64 inputs and 10 classes.
        layers: So many layers sleep; 0 if it is refused.
        refused: What the refusal says.
        scores: Takes the class scores out of its output.
        loss: Of scores and classes.
        gains: Whether sleep is worth points; where layers below the head are trained, it is not.
    """

    build: Callable[[], nn.Module]
    layers: int = 2
    refused: str = ""
    scores: Callable[[object], Tensor] = whole
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy
    gains: bool = True


class Net(nn.Module):
    """Layers fc1 and fc2, and others given by name, in a forward pass of its own."""

    def __init__(self, forward, **modules):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(64, HIDDEN), nn.Linear(HIDDEN, 10)
        for name, module in modules.items():
            setattr(self, name, module)
        self.run = forward

    def forward(self, x):
        return self.run(self, x)


class Swish(nn.Module):
    def forward(self, x):
        return x * x.sigmoid()


class SimpleLinear(nn.Module):
    """A layer without nn.Linear, whose output is a dictionary, as growing networks have it."""

    def __init__(self, n_inputs, n_outputs):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_outputs, n_inputs))
        self.bias = nn.Parameter(torch.zeros(n_outputs))
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)

    def forward(self, x):
        return {"logits": F.linear(x, self.weight, self.bias)}


class Transposed(nn.Module):
    """A layer whose weight has the shape (n_pre, n_post), as language models have it."""

    def __init__(self, n_inputs, n_outputs):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_inputs, n_outputs) * n_inputs**-0.5)
        self.bias = nn.Parameter(torch.zeros(n_outputs))

    def forward(self, x):
        return torch.addmm(self.bias, x, self.weight)


class OwnLinear(nn.Linear):
    """A subclass with a forward of its own that does the same."""

    def forward(self, x):
        return x @ self.weight.T + self.bias


class Cosine(nn.Module):
    def __init__(self, n_inputs, n_outputs):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_outputs, n_inputs))

    def forward(self, x):
        return 10 * F.linear(F.normalize(x), F.normalize(self.weight))


class Lora(nn.Module):
    """A Linear with a low-rank adapter beside it, under the names that `peft` uses."""

    def __init__(self, base, rank=4, *, frozen=False):
        super().__init__()
        self.base_layer = base.requires_grad_(not frozen)
        self.lora_A = nn.ModuleDict({"default": nn.Linear(base.in_features, rank, bias=False)})
        self.lora_B = nn.ModuleDict({"default": nn.Linear(rank, base.out_features, bias=False)})
        nn.init.zeros_(self.lora_B["default"].weight)
        self.scaling = {"default": 2.0}

    def forward(self, x):
        return self.base_layer(x) + self.scaling["default"] * self.lora_B["default"](self.lora_A["default"](x))


class Last(nn.Module):
    """The last step of a recurrent network over eight rows of a digit."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(8, 10, batch_first=True)

    def forward(self, x):
        return self.rnn(x.view(-1, 8, 8))[0][:, -1]


def chain(*between, hidden=1, **settings):
    """Layers with the given modules behind each hidden one."""

    def build():
        parts, n = [], 64
        for _ in range(hidden):
            parts += [nn.Linear(n, HIDDEN, **settings), *(make() for make in between)]
            n = HIDDEN
        return nn.Sequential(*parts, nn.Linear(n, 10))

    return build


def net(forward, **modules):
    return lambda: Net(forward, **{name: make() for name, make in modules.items()})


def hidden(m, x):
    return m.fc1(x).relu()


def frozen(model, *names):
    for name in names:
        model.get_submodule(name).requires_grad_(False)
    return model


def batch_norm():
    return nn.BatchNorm1d(HIDDEN)


def square_layer():
    return nn.Linear(HIDDEN, HIDDEN)


def one_hot_loss(loss):
    return lambda scores, y: loss(scores, F.one_hot(y, 10).float())


def joined(m, x):
    h = hidden(m, x)
    return torch.cat([head(h) for head in m.heads], 1)


def timm_linear():
    from timm.layers import Linear

    return nn.Sequential(Linear(64, HIDDEN), nn.ReLU(), Linear(HIDDEN, 10))


def old_weight_norm():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return nn.Sequential(nn.Linear(64, HIDDEN), nn.ReLU(), nn.utils.weight_norm(nn.Linear(HIDDEN, 10)))


def tied():
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64))
    model[4].weight = model[0].weight
    return model


class Scaled(nn.Module):
    """A network whose inputs are scaled by a number that is learnt."""

    def __init__(self):
        super().__init__()
        self.scale, self.net = nn.Parameter(torch.ones(1)), chain(nn.ReLU)()

    def forward(self, x):
        return self.net(self.scale * x)


ACTIVATIONS = (
    nn.ReLU, nn.ReLU6, nn.GELU, nn.SiLU, nn.LeakyReLU, nn.ELU, nn.CELU, nn.SELU, nn.Mish, nn.Hardswish, nn.Softplus,
    nn.Sigmoid, nn.Tanh, nn.Hardtanh, nn.Softsign, nn.PReLU, nn.RReLU,
)  # fmt: skip

KINDS: dict[str, Kind] = {
    **{activation.__name__: Kind(chain(activation)) for activation in ACTIVATIONS},
    "GELU by tanh": Kind(chain(lambda: nn.GELU("tanh"))),
    "ReLU in place": Kind(chain(lambda: nn.ReLU(inplace=True))),
    "SiLU in place": Kind(chain(lambda: nn.SiLU(inplace=True))),
    "Swish, a module of one's own": Kind(chain(Swish)),
    "F.relu": Kind(net(lambda m, x: m.fc2(F.relu(m.fc1(x))))),
    "clamp(min=0)": Kind(net(lambda m, x: m.fc2(m.fc1(x).clamp(min=0)))),
    "maximum(x, 0)": Kind(net(lambda m, x: m.fc2(torch.maximum(h := m.fc1(x), torch.zeros_like(h))))),
    "max(x, tensor(0.))": Kind(net(lambda m, x: m.fc2(torch.max(m.fc1(x), torch.tensor(0.0))))),
    "x * (x > 0)": Kind(net(lambda m, x: m.fc2((h := m.fc1(x)) * (h > 0)))),
    "where(x > 0, x, 0)": Kind(net(lambda m, x: m.fc2(torch.where((h := m.fc1(x)) > 0, h, torch.zeros_like(h))))),
    "F.threshold": Kind(net(lambda m, x: m.fc2(F.threshold(m.fc1(x), 0.0, 0.0)))),
    "F.hardtanh(x, 0, 6)": Kind(net(lambda m, x: m.fc2(F.hardtanh(m.fc1(x), 0.0, 6.0)))),
    "F.gelu": Kind(net(lambda m, x: m.fc2(F.gelu(m.fc1(x))))),
    "F.leaky_relu": Kind(net(lambda m, x: m.fc2(F.leaky_relu(m.fc1(x), 0.2)))),
    "squared ReLU": Kind(net(lambda m, x: m.fc2(hidden(m, x).square()))),
    "Dropout": Kind(chain(nn.ReLU, nn.Dropout)),
    "AlphaDropout": Kind(chain(nn.SELU, lambda: nn.AlphaDropout(0.1))),
    "F.dropout": Kind(net(lambda m, x: m.fc2(F.dropout(hidden(m, x), 0.5, m.training)))),
    "BatchNorm before ReLU": Kind(chain(batch_norm, nn.ReLU)),
    "BatchNorm before GELU": Kind(chain(batch_norm, nn.GELU)),
    "BatchNorm, Linear without bias": Kind(chain(batch_norm, nn.ReLU, bias=False)),
    "BatchNorm without gains": Kind(chain(lambda: nn.BatchNorm1d(HIDDEN, affine=False), nn.ReLU)),
    "BatchNorm behind ReLU": Kind(chain(nn.ReLU, batch_norm)),
    "BatchNorm at the input": Kind(lambda: nn.Sequential(nn.BatchNorm1d(64), chain(nn.ReLU)())),
    "LayerNorm before ReLU": Kind(chain(lambda: nn.LayerNorm(HIDDEN), nn.ReLU)),
    "LayerNorm behind ReLU": Kind(chain(nn.ReLU, lambda: nn.LayerNorm(HIDDEN))),
    "LayerNorm before GELU": Kind(chain(lambda: nn.LayerNorm(HIDDEN), nn.GELU)),
    "RMSNorm before SiLU": Kind(chain(lambda: nn.RMSNorm(HIDDEN), nn.SiLU)),
    "two hidden layers, ReLU": Kind(chain(nn.ReLU, hidden=2), 3),
    "two hidden layers, GELU": Kind(chain(nn.GELU, hidden=2), 3),
    "residual sum": Kind(net(lambda m, x: m.fc2((h := hidden(m, x)) + m.mid(h).relu()), mid=square_layer), 3),
    "residual sum before ReLU": Kind(
        net(lambda m, x: m.fc2(((h := m.fc1(x)) + m.mid(h.relu())).relu()), mid=square_layer), 3
    ),
    "subclass of Linear": Kind(net(lambda m, x: m.fc2(m.own(x).relu()), own=lambda: OwnLinear(64, HIDDEN))),
    "Linear of timm": Kind(timm_linear),
    "weight norm": Kind(
        lambda: nn.Sequential(
            parametrizations.weight_norm(nn.Linear(64, HIDDEN)), nn.ReLU(),
            parametrizations.weight_norm(nn.Linear(HIDDEN, 10)),
        )
    ),
    "weight norm, the old one": Kind(old_weight_norm),
    "orthogonal weights": Kind(
        lambda: nn.Sequential(nn.Linear(64, 64), nn.ReLU(), parametrizations.orthogonal(nn.Linear(64, 10))), 0,
        "a parametrisation .* that cannot hold every weight",
    ),
    "spectral norm": Kind(
        lambda: nn.Sequential(nn.Linear(64, HIDDEN), nn.ReLU(), parametrizations.spectral_norm(nn.Linear(HIDDEN, 10))),
        0, r"a parametrisation \(SpectralNorm\) that cannot hold every weight",
    ),
    "pruned": Kind(
        lambda: nn.Sequential(
            nn.Linear(64, HIDDEN), nn.ReLU(), prune.random_unstructured(nn.Linear(HIDDEN, 10), "weight", 0.2)
        ), 0, "is pruned",
    ),
    "LoRA beside a trained Linear": Kind(
        net(lambda m, x: m.lora(hidden(m, x)), lora=lambda: Lora(nn.Linear(HIDDEN, 10)))
    ),
    "LoRA beside a frozen Linear": Kind(
        net(lambda m, x: m.lora(hidden(m, x)), lora=lambda: Lora(nn.Linear(HIDDEN, 10), frozen=True)), 0,
        "LoRA adapters; merge these first.* is frozen",
    ),
    "weights of shape (n_pre, n_post)": Kind(
        net(lambda m, x: m.up(m.low(x).relu()), low=lambda: Transposed(64, HIDDEN), up=lambda: Transposed(HIDDEN, 10))
    ),
    "a layer without nn.Linear, in a dictionary": Kind(
        net(lambda m, x: m.last(hidden(m, x)), last=lambda: SimpleLinear(HIDDEN, 10)), scores=lambda o: o["logits"]
    ),
    "without biases": Kind(lambda: nn.Sequential(
        nn.Linear(64, HIDDEN, bias=False), nn.ReLU(), nn.Linear(HIDDEN, 10, bias=False)
    )),
    "first layer frozen": Kind(lambda: frozen(chain(nn.ReLU)(), "0"), 1),
    "second of three frozen": Kind(lambda: frozen(chain(nn.ReLU, hidden=2)(), "2"), 1, gains=False),
    "all frozen": Kind(lambda: frozen(Scaled(), "net"), 0, "is frozen .* changes no frozen parameter"),
    "one layer": Kind(lambda: nn.Linear(64, 10), 1),
    "SimpleMLP of Avalanche": Kind(lambda: SimpleMLP(num_classes=10, input_size=64)),
    "IncrementalClassifier of Avalanche": Kind(
        net(lambda m, x: m.last(hidden(m, x)), last=lambda: IncrementalClassifier(HIDDEN, 10))
    ),
    "heads put together": Kind(
        net(joined, heads=lambda: nn.ModuleList(nn.Linear(HIDDEN, 2) for _ in range(5)))
    ),
    "squeeze": Kind(net(lambda m, x: m.fc2(hidden(m, x)).unsqueeze(2).squeeze(2))),
    "divided by a temperature": Kind(net(lambda m, x: m.fc2(hidden(m, x)) / 0.5)),
    "first classes of more": Kind(
        net(lambda m, x: m.more(hidden(m, x))[:, :10], more=lambda: nn.Linear(HIDDEN, 15))
    ),
    "log_softmax": Kind(net(lambda m, x: F.log_softmax(m.fc2(hidden(m, x)), 1)), loss=F.nll_loss),
    "softmax": Kind(
        net(lambda m, x: F.softmax(m.fc2(hidden(m, x)), 1)), loss=lambda p, y: F.nll_loss((p + 1e-9).log(), y)
    ),
    "sigmoid": Kind(
        net(lambda m, x: torch.sigmoid(m.fc2(hidden(m, x)))), loss=one_hot_loss(F.binary_cross_entropy)
    ),
    "BatchNorm at the output": Kind(lambda: nn.Sequential(chain(nn.ReLU)(), nn.BatchNorm1d(10))),
    "a tuple": Kind(net(lambda m, x: (m.fc2(h := hidden(m, x)), h)), scores=lambda o: o[0]),
    "a tuple, features first": Kind(net(lambda m, x: ((h := hidden(m, x)), m.fc2(h))), scores=lambda o: o[1]),
    "a dictionary": Kind(
        net(lambda m, x: {"features": (h := hidden(m, x)), "logits": m.fc2(h)}), scores=lambda o: o["logits"]
    ),
    "two answers": Kind(
        net(lambda m, x: (m.fc2(h := hidden(m, x)), m.aux(h)), aux=lambda: nn.Linear(HIDDEN, 10)), 0,
        "holds 2 tensors that could be class scores", scores=lambda o: o[0],
    ),
    "GELU at the output": Kind(net(lambda m, x: F.gelu(m.fc2(hidden(m, x)))), 0, "does not keep the order"),
    "LayerNorm at the output": Kind(
        net(lambda m, x: m.norm(m.fc2(hidden(m, x))), norm=lambda: nn.LayerNorm(10)), 0, "does not keep the order"
    ),
    "a cosine head": Kind(net(lambda m, x: m.last(hidden(m, x)), last=lambda: Cosine(HIDDEN, 10)), 0, "a cosine head"),
    "a bilinear head": Kind(
        net(lambda m, x: m.last(h := hidden(m, x), h), last=lambda: nn.Bilinear(HIDDEN, HIDDEN, 10)), 0,
        "a bilinear head",
    ),
    "a recurrent network": Kind(Last, 0, "a recurrent layer|getitem"),
    "no classes": Kind(net(lambda m, x: m.fc2(hidden(m, x))[:, 0]), 0, "no dimension of classes|getitem"),
    "tied weights": Kind(tied, 0, "is shared"),
}  # fmt: skip


@cache
def digits():
    """Images, shape (1797, 64), in [0, 1], and classes; the last 450 are for tests."""
    data = load_digits()
    return torch.tensor(data.data / 16, dtype=torch.float32), torch.tensor(data.target)


@cache
def stream(n_experiences=5):
    """Experiences of two digits, or of all."""
    x, y = digits()
    parts = [TensorDataset(x[part], y[part]) for part in (slice(1347), slice(1347, None))]
    for part in parts:
        part.targets = part.tensors[1].tolist()
    return nc_benchmark(*parts, n_experiences=n_experiences, task_labels=False, seed=0).train_stream


@dataclass(frozen=True)
class Outcome:
    """What became of a network.

    Attributes:
        accuracy: On all ten digits at the end, in percent.
        layers: So many layers slept at last.
        changed: Names of parameters and buffers outside the head that a sleep changed.
        refusal: What the refusal said, "" without one.
    """

    accuracy: float
    layers: int = 0
    changed: tuple[str, ...] = ()
    refusal: str = ""


class Below:
    """Tells which parameters and buffers outside the head a sleep changes."""

    def __init__(self, plugin):
        self.plugin, self.changed, self._before = plugin, set(), {}

    def before_sleep(self, strategy):
        self._before = {name: tensor.clone() for name, tensor in strategy.model.state_dict().items()}

    def after_sleep(self, strategy):
        head = self.plugin._waking.head
        own = {f"{name}." if name else "" for name in head.inner}
        for name, tensor in strategy.model.state_dict().items():
            is_below = not any(name.startswith(prefix) for prefix in own)
            if is_below and not torch.equal(tensor, self._before[name]):
                self.changed.add(name)


WAYS: dict[str, SleepConfig | None] = {
    "alone": None,
    "settled": SleepConfig(sleep=None),
    "slept": SleepConfig(),
    "joint": None,
}
"""How a network is trained: without sleep, with settling and levelling, with `SRCPlugin()`, on all digits at once."""


def train(kind: Kind, way: str = "slept", *, seed: int = 0, experiences: int = 5, epochs: int = 5) -> Outcome:
    """Train a network on digits, two at a time, in one of the `WAYS`."""
    experiences_now = stream(1 if way == "joint" else 5)[:experiences]  # draws numbers when it is made
    torch.manual_seed(seed)
    model = kind.build()
    plugin = SRCPlugin(WAYS[way], seed=seed)
    below = Below(plugin)
    strategy = Naive(
        model=model,
        optimizer=torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.001),
        criterion=lambda output, y: kind.loss(kind.scores(output), y),
        train_mb_size=16,
        train_epochs=epochs,
        plugins=[plugin] if WAYS[way] else [],
        evaluator=EvaluationPlugin(loggers=[NoLogger()]),
    )
    strategy.plugins.append(below)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of what is trained below the head
        for experience in experiences_now:
            try:
                strategy.train(experience, drop_last=True)
            except SRCError as error:
                return Outcome(0.0, refusal=str(error))
    x, y = digits()
    with torch.no_grad():
        right = kind.scores(model.eval()(x[1347:])).argmax(1) == y[1347:]
    slept = plugin.reports[-1] if plugin.reports else None
    return Outcome(100 * float(right.float().mean()), len(slept.layers) if slept else 0, tuple(below.changed))
