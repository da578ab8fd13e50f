"""Walk a traced forward pass from its output down, and tell which layers of it make a head.

A layer belongs to the head if all that the layers above it take comes from it or from layers above it, with an
activation before each of them: a chain, residual sums included.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from src_plugin.errors import HeadNotFoundError
from src_plugin.head.layers import Block, Layer, Plain
from src_plugin.head.norms import WithNorm
from src_plugin.head.recognise import layer_of
from src_plugin.head.state import FROZEN
from src_plugin.head.steps import FunctionCall, Joint, Slot, Step, unchanged
from src_plugin.head.trace import Kind, Node, Trace

TAIL = (Kind.ACTIVATION, Kind.PASSIVE, Kind.UNCHANGED, Kind.SOFTMAX, Kind.MASK, Kind.SLICE)
RAMP = 20.0, 401
"""Largest score and number of scores with which it is looked whether a tail keeps their order."""


@dataclass(eq=False)
class Met:
    """A layer that was met on the walk.

    Attributes:
        name: Its name in the model.
        part: The layer.
        answer: The step whose result it answers.
        nodes: The steps that it consists of.
        bottom: The step that made its input; None for what is not followed.
    """

    name: str
    part: Layer
    answer: Node
    nodes: tuple[Node, ...]
    bottom: Node | None


@dataclass
class Walk:
    """What a walk has found.

    Attributes:
        layers: The head's layers, input side first.
        tail: The steps behind the last one, in order.
        below: What ended the walk; "" if that was the model's input.
        why: Why it did, as a part of a sentence.
    """

    layers: list[Met]
    tail: list[Node]
    below: str = ""
    why: str = "cannot sleep"


Refusal = Callable[[Layer, str], str]
"""Why a layer cannot be changed alone, by itself and its name; "" if it can."""


def walk(record: Trace, top: Node, *, refusal: Refusal, among: Collection[nn.Module] | None = None) -> Walk:
    """Return the longest head that ends in a step of a pass.

    Args:
        record: The pass.
        top: The step that made the class scores.
        refusal: Says why a layer cannot be changed alone.
        among: Only these modules can be layers; None takes any.

    Raises:
        HeadNotFoundError: No layer made the scores, it cannot be changed, or what stands behind it does not keep
            the order of its outputs.
    """
    last, tail = _last_layer(record, top, refusal)
    _check_tail(last, tail)
    descent = _Descent(record, last, refusal, among)
    while descent.waiting and descent.takes(descent.waiting.pop(max(descent.waiting))):
        pass
    return Walk(descent.layers, tail, descent.below, descent.why)


class _Descent:
    """A walk from the last layer down, a step at a time, the latest step of the pass first."""

    def __init__(self, record: Trace, last: Met, refusal: Refusal, among: Collection[nn.Module] | None) -> None:
        self.layers, self.below, self.why = [last], "", "cannot sleep"
        self.waiting: dict[int, Node] = {}
        self._record, self._refusal, self._among = record, refusal, among
        self._met = [last]
        self._consumers: dict[Node, list[Node]] = {}
        self._lacks: dict[Node, bool] = {}  # whether a step reaches a layer without an activation
        self._descend(last.nodes[-1], lacking=True)

    def _descend(self, node: Node, *, lacking: bool) -> None:
        for parent in node.parents:
            self.waiting[parent.index] = parent
            self._consumers.setdefault(parent, []).append(node)
            self._lacks[parent] = self._lacks.get(parent, False) or lacking

    def takes(self, node: Node) -> bool:
        """Whether a step may be in a head; says in `below` and `why` what else it is."""
        if node.kind is Kind.LINEAR:
            return self._takes_layer(node)
        if node.kind is Kind.BATCH_NORM:
            return self._takes_norm(node)
        if node.kind in (Kind.ACTIVATION, Kind.PASSIVE, Kind.UNCHANGED) and node.call is not None:
            self._descend(node, lacking=self._lacks[node] and node.kind is not Kind.ACTIVATION)
            return True
        if node.kind is Kind.INPUT:
            self.below = "" if not self.waiting else "a sum that the model's input is a part of"
        else:
            self.below = node.describe()
        return False

    def _takes_layer(self, node: Node) -> bool:
        consumers = self._consumers.get(node, [])
        try:
            now = _met(self._record, node, consumers)
            why = self._why_not(now)
        except HeadNotFoundError as error:
            why = f"cannot be changed: {error}"
        if why:
            self.below, self.why = node.describe(), why
            return False
        self._met.insert(0, now)
        if not self.waiting:  # all that is above it takes comes from it
            self.layers = list(self._met)
        self._descend(node, lacking=True)
        return True

    def _why_not(self, now: Met) -> str:
        """Return why a layer does not belong to the head, as a part of a sentence; "" if it does."""
        if self._among is not None and not set(now.part.modules) & set(self._among):
            return "is not among the layers that were named"
        if now.part.frozen:
            return f"{FROZEN} (requires_grad=False)"
        if self._lacks[now.answer]:
            return "is followed by no activation before the next layer"
        why = self._refusal(now.part, now.name)
        return f"cannot be changed alone: {why}" if why else ""

    def _takes_norm(self, node: Node) -> bool:
        assert node.module is not None
        taker = _folds_before(node, self._consumers, self._met)
        if taker is not None:
            core = taker.part.core if isinstance(taker.part, WithNorm) else taker.part
            behind = taker.part.behind if isinstance(taker.part, WithNorm) else None
            assert isinstance(core, Plain)
            taker.part, taker.bottom = WithNorm(core, before=node.module, behind=behind), node.parent
        elif not _is_trained(node.module) and (node.parent is None or node.parent.kind is not Kind.LINEAR):
            self.below, self.why = node.describe(), FROZEN
            return False
        self._descend(node, lacking=self._lacks[node])
        return True


def joints_of(found: Walk) -> tuple[Joint, ...]:
    """Return what stands behind each layer of a walk, in order."""
    layers = found.layers
    joints = []
    for i, after in enumerate(layers[1:], start=1):
        assert after.bottom is not None
        joints.append(_compile(after.bottom, layers[:i]))
    top = [node for node in found.tail if node.kind not in (Kind.MASK, Kind.SLICE) and node.call is not None]
    steps: list[Step] = []
    last = len(layers) - 1
    for node in top:
        if node.call is not None and node.call is not unchanged:
            steps.append(Step(node.call, (last,)))
            last = len(layers) + len(steps) - 1
    return (*joints, Joint(len(layers), tuple(steps), last))


def _compile(node: Node, layers: Sequence[Met]) -> Joint:
    """Return the joint that makes what a step made, of the answers of layers."""
    steps: list[Step] = []
    n = len(layers)
    numbers: dict[Node, int] = {}
    for i, layer in enumerate(layers):
        numbers[layer.answer] = i
        bias = layer.part.frozen_bias if isinstance(layer.part, Plain) else None
        if bias is not None:
            steps.append(Step(FunctionCall(torch.add, (Slot(0), bias), {}, in_place=False), (i,)))
            numbers[layer.answer] = n + len(steps) - 1

    def number(of: Node) -> int:
        if of not in numbers:
            inputs = tuple(number(parent) for parent in of.parents)
            if of.call is unchanged:
                numbers[of] = inputs[0]
            else:
                assert of.call is not None
                steps.append(Step(of.call, inputs))
                numbers[of] = n + len(steps) - 1
        return numbers[of]

    result = number(node)
    return Joint(n, tuple(steps), result)


def _last_layer(record: Trace, top: Node, refusal: Refusal) -> tuple[Met, list[Node]]:
    """Return the layer that made the scores, and what stands behind it."""
    tail: list[Node] = []
    node: Node | None = top
    while node is not None and node.kind in TAIL and len(node.parents) == 1:
        tail.insert(0, node)
        node = node.parent
    behind: list[Node] = []
    if node is not None and node.kind is Kind.BATCH_NORM and node.parent is not None:
        behind, node = [node], node.parent
    if node is not None and node.kind is Kind.JOIN:
        met = _block(record, node, refusal)
        if met is not None:
            return met, tail
    if node is None or node.kind is not Kind.LINEAR or node.module is None:
        raise NoLayerError("nothing" if node is None or node.kind is Kind.INPUT else node.describe(), node)
    met = _met(record, node, behind)
    if behind and met.answer is node:
        raise NoLayerError(behind[0].describe(), behind[0])
    why = refusal(met.part, met.name)
    if why:
        raise HeadNotFoundError(why)
    if isinstance(met.part, Plain) and met.part.frozen_bias is not None and not met.part.frozen:
        raise HeadNotFoundError(
            f"the bias of {met.name!r} is frozen while its weights are not, and levelling changes both. Freeze both, "
            "or none"
        )
    return met, tail


class NoLayerError(HeadNotFoundError):
    """No layer made the scores.

    Attributes:
        what: What made them.
        node: The step.
    """

    def __init__(self, what: str, node: Node | None) -> None:
        super().__init__(what)
        self.what, self.node = what, node


def _met(record: Trace, node: Node, consumers: Sequence[Node]) -> Met:
    """Return the layer that a step is, with batch norm behind it."""
    assert node.module is not None
    part: Layer = layer_of(node.module, node.name, transposed=node.module in record.transposed)
    bottom = node.parent
    if len(consumers) == 1 and consumers[0].kind is Kind.BATCH_NORM and isinstance(part, Plain):
        norm = consumers[0].module
        if norm is not None and WithNorm.can_fold(part, norm, behind=True):
            return Met(node.name, WithNorm(part, behind=norm), consumers[0], (consumers[0], node), bottom)
    return Met(node.name, part, node, (node,), bottom)


def _block(record: Trace, node: Node, refusal: Refusal) -> Met | None:
    """Return the layers side by side whose outputs a step puts together; None if it does more than that."""
    parts: list[Plain] = []
    bottoms: set[Node | None] = set()
    nodes: list[Node] = [node]
    waiting = list(node.parents)
    while waiting:
        one = waiting.pop(0)
        if one.kind is Kind.JOIN:
            nodes.append(one)
            waiting[:0] = one.parents
        elif one.kind is Kind.UNCHANGED:
            waiting[:0] = one.parents[:1]
        elif one.kind is Kind.LINEAR and one.module is not None:
            why = refusal(layer_of(one.module, one.name), one.name)
            if why:
                raise HeadNotFoundError(why)
            parts.append(layer_of(one.module, one.name, transposed=one.module in record.transposed))
            bottoms.add(one.parent)
            nodes.append(one)
        else:
            return None
    if len(bottoms) != 1 or len({id(part.module) for part in parts}) != len(parts):
        return None
    if any(part.frozen_bias is not None for part in parts):
        return None
    return Met(nodes[-len(parts)].name, Block(parts), node, (nodes[0], *nodes), next(iter(bottoms)))


def _folds_before(norm: Node, consumers: dict[Node, list[Node]], met: Sequence[Met]) -> Met | None:
    """Return the layer that batch norm is folded into since nothing else takes what it makes; None if there is none."""
    if norm.module is None or not _is_trained(norm.module) or (norm.parent and norm.parent.kind is Kind.LINEAR):
        return None
    takers = consumers.get(norm, [])
    while len(takers) == 1 and takers[0].kind is Kind.UNCHANGED:
        takers = consumers.get(takers[0], [])
    if len(takers) != 1:
        return None
    for one in met:
        core = one.part.core if isinstance(one.part, WithNorm) else one.part
        if takers[0] in one.nodes and isinstance(core, Plain):
            has_place = core.bias is not None or (isinstance(one.part, WithNorm) and one.part.behind is not None)
            return one if has_place and core.frozen_bias is None else None
    return None


def _is_trained(norm: nn.Module | None) -> bool:
    """Whether batch norm is trained with the head: a frozen one belongs to what lies below."""
    assert isinstance(norm, _BatchNorm)
    own = list(norm.parameters())
    return not own or any(p.requires_grad for p in own)


def _check_tail(last: Met, tail: Sequence[Node]) -> None:
    """Refuse a tail that does not keep the order of the classes.

    Raises:
        HeadNotFoundError: One of its steps is not monotone, or is another for each class.
    """
    weight = last.part.read()[0]
    ramp = torch.linspace(-RAMP[0], RAMP[0], RAMP[1], device=weight.device, dtype=torch.float32)
    x = ramp[:, None].expand(-1, len(weight)).contiguous()
    for node in tail:
        if node.kind not in (Kind.ACTIVATION, Kind.PASSIVE) or node.call is None:
            continue
        try:
            with torch.no_grad():
                y = node.call(x)
            keeps = y.shape == x.shape and bool((y - y[:, :1]).abs().max() <= 1e-5 * y.abs().max())
            rises = keeps and bool((y[1:, 0] - y[:-1, 0]).min() >= -1e-6) and float(y[-1, 0]) > float(y[0, 0])
        except Exception:  # a function of the user's, on inputs it was not made for
            rises = False
        if not rises:
            raise HeadNotFoundError(
                f"behind the last layer {last.name!r} stands {node.describe()}, which does not keep the order of the "
                "scores: it is not rising, or it is another for each class. Apply it outside of the model"
            )
