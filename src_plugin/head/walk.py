"""Walk a traced forward pass from its output down, and tell which layers of it make a head.

A layer belongs to the head if all that the layers above it take comes from it or from layers above it, with an
activation before each of them: a chain, residual sums included.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from src_plugin.errors import HeadNotFoundError
from src_plugin.head.layers import Block, Layer, Plain, WithNorm, layer_of
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
        bottom: The steps that make its input; one, but for what is not followed.
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
    consumers: dict[Node, list[Node]] = field(default_factory=dict)


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
    found = Walk([last], tail)
    if last.bottom is None:
        return found
    waiting: dict[int, Node] = {last.bottom.index: last.bottom}
    consumers: dict[Node, list[Node]] = {last.bottom: [last.nodes[-1]]}
    lacks = {last.bottom: True}  # steps that reach a layer without an activation
    met: list[Met] = [last]

    def descend(node: Node, *, lacking: bool) -> None:
        for parent in node.parents:
            waiting[parent.index] = parent
            consumers.setdefault(parent, []).append(node)
            lacks[parent] = lacks.get(parent, False) or lacking

    while waiting:
        node = waiting.pop(max(waiting))
        if node.kind is Kind.BATCH_NORM:
            taker = _folds_before(node, consumers, met)
            if taker is not None:
                assert isinstance(taker.part, (Plain, WithNorm)) and node.module is not None
                core = taker.part.core if isinstance(taker.part, WithNorm) else taker.part
                behind = taker.part.behind if isinstance(taker.part, WithNorm) else None
                taker.part = WithNorm(core, before=node.module, behind=behind)
                taker.bottom = node.parent
                descend(node, lacking=lacks[node])
                continue
            if _is_trained(node.module) or (node.parent is not None and node.parent.kind is Kind.LINEAR):
                descend(node, lacking=lacks[node])
                continue
            found.below, found.why = node.describe(), FROZEN
        elif node.kind is Kind.LINEAR:
            try:
                now = _met(record, node, consumers.get(node, []))
                why = _why_not(now, lacks[now.answer], refusal, among, consumers)
            except HeadNotFoundError as error:
                why = f"cannot be changed: {error}"
            if not why:
                met.insert(0, now)
                if not waiting:
                    found.layers = list(met)
                descend(node, lacking=True)
                continue
            found.below, found.why = node.describe(), why
        elif node.kind in (Kind.ACTIVATION, Kind.PASSIVE, Kind.UNCHANGED) and node.call is not None:
            descend(node, lacking=lacks[node] and node.kind is not Kind.ACTIVATION)
            continue
        elif node.kind is Kind.INPUT:
            found.below = "" if not waiting else "a sum that the model's input is a part of"
        else:
            found.below = node.describe()
        break
    return found


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


def _why_not(
    now: Met,
    lacking: bool,
    refusal: Refusal,
    among: Collection[nn.Module] | None,
    consumers: dict[Node, list[Node]],
) -> str:
    """Return why a layer does not belong to the head, as a part of a sentence; "" if it does."""
    if among is not None and not set(now.part.modules) & set(among):
        return "is not among the layers that were named"
    if now.part.frozen:
        return f"{FROZEN} (requires_grad=False)"
    if lacking:
        return "is followed by no activation before the next layer"
    if any(taker.kind is Kind.JOIN for taker in consumers.get(now.answer, [])):
        return "is joined with others"
    why = refusal(now.part, now.name)
    return f"cannot be changed alone: {why}" if why else ""


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
